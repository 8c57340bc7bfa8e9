#include "test/replication/checker.h"

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <sstream>

#include "common/base/bytes.h"
#include "common/base/hash.h"
#include "common/message/message_record.h"
#include "common/remoting/response_code.h"
#include "test/support/catch.h"
#include "test/support/raw_requests.h"
#include "test/support/wait.h"

namespace apogee::test {

using remoting::RequestCode;

LogFiles::LogFiles(const std::filesystem::path& directory) {
  std::error_code none;
  for (const auto& entry : std::filesystem::directory_iterator(directory, none)) {
    const auto name = entry.path().filename().string();
    if (name.size() == 20 && std::all_of(name.begin(), name.end(), [](char c) { return c >= '0' && c <= '9'; }))
      files_[std::stoll(name)] = entry.path();
  }
}

std::string LogFiles::read(int64_t from, int64_t bytes) const {
  std::string all;
  while (static_cast<int64_t>(all.size()) < bytes) {
    const int64_t at = from + static_cast<int64_t>(all.size());
    auto file = files_.upper_bound(at);
    if (file == files_.begin()) break;
    --file;
    std::ifstream in(file->second, std::ios::binary);
    in.seekg(at - file->first);
    std::string part(static_cast<size_t>(std::min<int64_t>(bytes - static_cast<int64_t>(all.size()), 1 << 20)), '\0');
    in.read(part.data(), static_cast<std::streamsize>(part.size()));
    part.resize(static_cast<size_t>(std::max<std::streamsize>(in.gcount(), 0)));
    if (part.empty()) break;
    all += part;
  }
  return all;
}

int64_t LogFiles::end() const {
  int64_t at = begin();
  for (const auto& [start, path] : files_) {
    if (at != start && at > begin()) return at;  // what the file before ends with is no whole record
    const auto bytes = read(start, static_cast<int64_t>(std::filesystem::file_size(path)));
    for (size_t place = 0; place + 8 <= bytes.size();) {
      const auto size = load_be<int32_t>(bytes.data() + place);
      const auto magic = load_be<int32_t>(bytes.data() + place + 4);
      const bool known =
          magic == message::kRecordMagicV1 || magic == message::kRecordMagicV2 || magic == message::kBlankMagic;
      if (!known || size <= 0) return at;
      at += size;
      place += static_cast<size_t>(size);
    }
  }
  return at;
}

std::string compare_logs(const std::filesystem::path& one, const std::filesystem::path& other, int64_t end) {
  const LogFiles first(one), second(other);
  constexpr int64_t kPiece = 1 << 20;
  for (int64_t at = std::max(first.begin(), second.begin()); at < end; at += kPiece) {
    const auto bytes = std::min(kPiece, end - at);
    const auto a = first.read(at, bytes), b = second.read(at, bytes);
    if (a == b && static_cast<int64_t>(a.size()) == bytes) continue;
    const auto same =
        std::mismatch(a.begin(), a.begin() + static_cast<ptrdiff_t>(std::min(a.size(), b.size())), b.begin()).first -
        a.begin();
    std::ostringstream text;
    text << "logs part at " << at + same << " of " << end << ": one has " << a.size() << ", the other " << b.size()
         << " bytes from " << at;
    return text.str();
  }
  return {};
}

namespace {

/// Reads one queue of a node. Where it does not hold what is expected, `wrong` says so.
struct QueueReader {
  const ReplicatedCluster& cluster;
  size_t node;
  const Ledger& ledger;
  const Expectation& expectation;
  std::map<std::string, int> copies = {};
  ReadBack found = {};

  void wrong(std::string what) {
    ++found.lost;
    if (found.first_loss.empty()) found.first_loss = std::move(what);
  }
  void check(std::string_view bytes, int32_t queue, int64_t at, const Ledger::Queue& acknowledged) {
    const auto here = "queue " + std::to_string(queue) + " offset " + std::to_string(at) + ": ";
    auto record = message::decode_record(bytes);
    if (!record) return wrong(here + record.error().message);
    const auto id = id_in(record->body);
    const auto hash = fnv1a_64(record->body);
    ++found.read;
    if (++copies[id] > 1) ++found.duplicated;
    if (!ledger.was_sent(id, hash)) wrong(here + "was never sent");
    if (record->queue_offset != at || record->queue_id != queue || !message::body_crc_matches(*record))
      wrong(here + "is not what was stored there, but " + id + " of queue " + std::to_string(record->queue_id) +
            " offset " + std::to_string(record->queue_offset) + ", log offset " +
            std::to_string(record->physical_offset));
    auto expected = acknowledged.find(at);
    if (expected == acknowledged.end() || expectation.codes.count(expected->second.code) == 0) return;
    if (expected->second.id != id) wrong(here + expected->second.id + " was acknowledged, there is " + id);
  }
  void run(int32_t queue, const Ledger::Queue& acknowledged) {
    int64_t end = 0;
    for (const auto& [offset, message] : acknowledged)
      if (expectation.codes.count(message.code) != 0) end = offset + 1;
    int64_t at = 0;
    std::unique_ptr<RawClient> client;
    std::string last = "nothing was answered";
    const bool complete = eventually(
        [&] {
          try {
            if (!client) client = cluster.connect(node);
          } catch (const std::exception& failure) {
            last = failure.what();
            return false;
          }
          auto reply = client->call(pull_request("checkers", expectation.topic, queue, at));
          if (!reply) {
            last = reply.error().message;
            client.reset();
            return false;
          }
          if (reply->code != remoting::response_code::kSuccess) {
            last = "answer " + std::to_string(reply->code) + " " + reply->remark.value_or("");
            return at >= end;
          }
          auto records = message::split_records(reply->body.bytes);
          if (!records) return wrong(records.error().message), true;
          for (auto bytes : *records) check(bytes, queue, at++, acknowledged);
          return false;
        },
        expectation.limit);
    if (complete || at >= end) return;
    for (const auto& [offset, message] : acknowledged)
      if (offset >= at && expectation.codes.count(message.code) != 0)
        wrong("queue " + std::to_string(queue) + " ends at " + std::to_string(at) + " (" + last + "), " + message.id +
              " was acknowledged at " + std::to_string(offset) + ", log offset " + std::to_string(message.log_offset));
  }
};

}  // namespace

ReadBack read_back(const ReplicatedCluster& cluster, size_t node, const Ledger& ledger,
                   const Expectation& expectation) {
  QueueReader reader{cluster, node, ledger, expectation};
  for (const auto& [queue, acknowledged] : ledger.queues()) reader.run(queue, acknowledged);
  return reader.found;
}

void check_logs(const ReplicatedCluster& cluster, const Ledger& ledger) {
  int64_t last = -1;
  for (const int code : {0, 10, 11, 12}) last = std::max(last, ledger.last_log_offset(code));
  REQUIRE(last >= 0);
  const LogFiles master(cluster.commit_log(ReplicatedCluster::kMaster));
  const auto end = last + load_be<int32_t>(master.read(last, 4).data());
  for (size_t slave = 1; slave < cluster.nodes(); ++slave) {
    if (!cluster.follows(slave)) continue;
    std::string apart;
    const bool same = eventually(
        [&] {
          apart = compare_logs(cluster.commit_log(ReplicatedCluster::kMaster), cluster.commit_log(slave), end);
          return apart.empty();
        },
        std::chrono::seconds(60));
    INFO("slave " << slave << ": " << apart);
    CHECK(same);
  }
}

void print_figures(const std::string& bad_day, const Ledger& ledger, const ReadBack& back, int64_t resumed_after_ms) {
  const auto stored = ledger.count(10) + ledger.count(11) + ledger.count(12);
  std::printf("%s: %zu acknowledged, %zu lost, %zu duplicated, ", bad_day.c_str(), ledger.count(0), back.lost,
              back.duplicated);
  if (resumed_after_ms >= 0) std::printf("resumed after %lld ms, ", static_cast<long long>(resumed_after_ms));
  std::printf("%zu stored without a slave\n", stored);
  std::fflush(stdout);
}

void check_after(ReplicatedCluster& cluster, Load& load, const Ledger& ledger, const std::string& bad_day,
                 const Expectation& expectation) {
  load.stop();
  check_logs(cluster, ledger);
  const auto back = read_back(cluster, ReplicatedCluster::kMaster, ledger, expectation);
  INFO(back.first_loss);
  CHECK(back.lost == 0);
  CHECK(ledger.contradictions().empty());
  print_figures(bad_day, ledger, back, load.resumed_after_ms());
}

bool logged(const ReplicatedCluster& cluster, size_t node, const std::vector<std::string>& words,
            std::chrono::milliseconds limit) {
  return eventually(
      [&] {
        std::stringstream lines(cluster.log(node));
        for (std::string line; std::getline(lines, line);)
          if (std::all_of(words.begin(), words.end(),
                          [&](const std::string& word) { return line.find(word) != std::string::npos; }))
            return true;
        return false;
      },
      limit);
}

void prepare(ReplicatedCluster& cluster, Ledger& ledger, int32_t queues) {
  cluster.create_topic("Replicated", queues);
  Load::Options one;
  one.senders = 1;
  one.queues = queues;
  one.pace = std::chrono::milliseconds(20);
  Load load(cluster, ledger, one);
  const bool there = load.more(1);
  load.stop();
  REQUIRE(there);
  // Messages come with the log, topics a moment later.
  for (size_t slave = 1; slave < cluster.nodes(); ++slave) {
    if (!cluster.follows(slave)) continue;
    REQUIRE(eventually(
        [&] {
          auto reply = cluster.connect(slave)->call(pull_request("checkers", "Replicated", 0, 0));
          return reply && reply->code != remoting::response_code::kTopicNotExist;
        },
        std::chrono::seconds(60)));
  }
}

}  // namespace apogee::test
