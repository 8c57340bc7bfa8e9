// kill -9 under load, again and again: what a sender outside of the broker saw acknowledged is there afterwards.
#include <atomic>
#include <chrono>
#include <map>
#include <mutex>
#include <sstream>
#include <thread>
#include <unordered_map>

#include "common/base/hash.h"
#include "common/message/batch.h"
#include "common/message/message_id.h"
#include "common/message/message_record.h"
#include "common/message/properties.h"
#include "common/message/property_names.h"
#include "test/support/catch.h"
#include "test/support/cluster.h"
#include "test/support/random.h"
#include "test/support/raw_requests.h"
#include "test/support/wait.h"

namespace apogee::test {
namespace {

using remoting::Command;
using remoting::RequestCode;

constexpr const char* kTopic = "Crash";
constexpr const char* kGroup = "crash_readers";
constexpr int32_t kQueues = 4;
constexpr int kSenders = 4;

struct Acknowledged {
  std::string id;  ///< of the message, as its sender named it in the body
  uint64_t body_hash = 0;
  std::string message_id;
};

/// What the senders know, and what has been seen of it. Thread: any.
class Ledger {
 public:
  void about_to_send(const std::string& id, uint64_t body_hash) {
    std::lock_guard lock(mutex_);
    sent_[id] = body_hash;
  }
  void acknowledged(int32_t queue, int64_t offset, Acknowledged message) {
    std::lock_guard lock(mutex_);
    auto [at, fresh] = acknowledged_[queue].emplace(offset, message);
    if (!fresh) fail("offset " + std::to_string(offset) + " was given to " + at->second.id + " and " + message.id);
  }
  void fail(std::string what) {
    std::lock_guard lock(failures_mutex_);
    if (failures_.size() < 10) failures_.push_back(std::move(what));
  }
  size_t acknowledged_count() {
    std::lock_guard lock(mutex_);
    size_t count = 0;
    for (auto& [queue, messages] : acknowledged_) count += messages.size();
    return count;
  }

  // After the senders have ended:
  std::unordered_map<std::string, uint64_t> sent_;
  std::map<int32_t, std::map<int64_t, Acknowledged>> acknowledged_;
  std::vector<std::string> failures_;

 private:
  std::mutex mutex_, failures_mutex_;
};

std::string id_in(std::string_view body) { return std::string(body.substr(0, body.find(':'))); }

/// Sends until the broker is gone: single messages, some of which wait for no sync, batches, and one-way ones, of
/// which nothing is known.
void run_sender(uint16_t port, std::string name, uint64_t seed, Ledger& ledger) {
  Random random(seed);
  RawClient client(port);
  auto next_body = [&, number = 0]() mutable {
    std::string body = name + "-" + std::to_string(number++) + ":";
    body +=
        random.bytes(static_cast<size_t>(random.chance(0.02) ? random.between(0, 40'000) : random.between(0, 1'500)));
    ledger.about_to_send(id_in(body), fnv1a_64(body));
    return body;
  };
  for (;;) {
    const auto queue = static_cast<int32_t>(random.below(kQueues));
    std::vector<std::string> bodies(random.chance(0.2) ? static_cast<size_t>(random.between(2, 8)) : 1);
    for (auto& body : bodies) body = next_body();
    RawSend send{kTopic, queue, bodies[0]};
    std::string properties;
    if (random.chance(0.2)) message::append_property(properties, message::property::kWait, "false");
    send.properties = properties;
    if (bodies.size() > 1) {
      send.batch = true;
      send.body.clear();
      for (const auto& body : bodies) message::append_batch_message(send.body, {0, body, {}});
    } else if (random.chance(0.1)) {
      send.oneway = true;
      client.send(send_request(std::move(send)));
      continue;
    }
    auto reply = client.call(send_request(std::move(send)), std::chrono::seconds(60));
    if (!reply) return;
    if (reply->code != remoting::response_code::kSuccess) continue;  // not SEND_OK: nothing is promised
    const auto first = reply->ext.get_int<int64_t>("queueOffset");
    std::stringstream ids{std::string(reply->ext.get("msgId").value_or(""))};
    for (size_t i = 0; i < bodies.size(); ++i) {
      Acknowledged message{id_in(bodies[i]), fnv1a_64(bodies[i]), {}};
      std::getline(ids, message.message_id, ',');
      ledger.acknowledged(queue, first.value_or(-1) + static_cast<int64_t>(i), std::move(message));
    }
  }
}

/// Members of one group, one after another: each goes on where the broker says that the group was.
class Group {
 public:
  /// Consumes until the broker is gone or, with ends, until everything has been consumed up to them.
  void run(uint16_t port, const std::vector<int64_t>* ends, Ledger& ledger) {
    RawClient client(port);
    std::vector<int64_t> next(kQueues, 0);
    for (int32_t queue = 0; queue < kQueues; ++queue) {
      auto where = offset_request(RequestCode::kQueryConsumerOffset, queue);
      auto reply = client.call(where);
      if (!reply) return;
      if (reply->code == remoting::response_code::kQueryNotFound) continue;
      auto& at = next[static_cast<size_t>(queue)];
      at = reply->ext.get_int<int64_t>("offset").value_or(-1);
      if (at > 0) ++resumed;
      // Behind what was consumed: a gap.
      if (at < 0 || at > consumed_[queue])
        ledger.fail("the group resumes queue " + std::to_string(queue) + " at " + std::to_string(at) +
                    ", consumed are " + std::to_string(consumed_[queue]));
    }
    for (bool complete = false; !complete;) {
      complete = ends != nullptr;
      for (int32_t queue = 0; queue < kQueues; ++queue) {
        auto& at = next[static_cast<size_t>(queue)];
        auto reply = client.call(pull_request(kGroup, kTopic, queue, at));
        if (!reply) return;
        auto begin = reply->ext.get_int<int64_t>("nextBeginOffset");
        if (reply->code == remoting::response_code::kSuccess) {
          auto records = message::split_records(reply->body.bytes);
          if (!records) return ledger.fail(records.error().message);
          at += static_cast<int64_t>(records->size());
          if (begin != at) return ledger.fail("a pull up to " + std::to_string(at) + " goes on elsewhere");
          auto commit = offset_request(RequestCode::kUpdateConsumerOffset, queue);
          commit.ext.set("commitOffset", at);
          consumed_[queue] = std::max(consumed_[queue], at);
          if (!client.call(commit)) return;
        }
        complete = complete && at >= (*ends)[static_cast<size_t>(queue)];
      }
    }
  }
  int resumed = 0;

 private:
  static Command offset_request(RequestCode code, int32_t queue) {
    auto request = queue_request(code, kTopic, queue);
    request.ext.set("consumerGroup", kGroup);
    return request;
  }
  std::map<int32_t, int64_t> consumed_;
};

/// Reads queues and compares them with the ledger.
class Reader {
 public:
  explicit Reader(Ledger& ledger) : ledger_(ledger), looked_at_(kQueues, 0) {}

  /// whole: from the beginning, else from a little before where it ended the last time. Returns the queues' ends.
  std::vector<int64_t> check(uint16_t port, bool whole) {
    constexpr int64_t kAgain = 200;
    RawClient client(port);
    std::vector<int64_t> ends(kQueues, 0);
    if (whole) places_.clear();
    for (int32_t queue = 0; queue < kQueues; ++queue) {
      const auto i = static_cast<size_t>(queue);
      auto& acknowledged = ledger_.acknowledged_[queue];
      const int64_t expected_end = acknowledged.empty() ? 0 : acknowledged.rbegin()->first + 1;
      auto min = client.call(queue_request(RequestCode::kGetMinOffset, kTopic, queue));
      if (!min || min->ext.get_int<int64_t>("offset") != 0) ledger_.fail("the queue does not begin at 0");
      const int64_t from = whole ? 0 : std::max<int64_t>(0, looked_at_[i] - kAgain);
      int64_t at = from;
      auto expected = acknowledged.lower_bound(at);
      for (;;) {
        auto reply = client.call(pull_request("crash_checker", kTopic, queue, at));
        if (!reply) return ledger_.fail(reply.error().message), ends;
        if (reply->code == remoting::response_code::kPullNotFound) break;
        if (reply->code != remoting::response_code::kSuccess) {
          ledger_.fail("queue " + std::to_string(queue) + " at " + std::to_string(at) + ": " +
                       std::to_string(reply->code) + " " + reply->remark.value_or(""));
          break;
        }
        auto records = message::split_records(reply->body.bytes);
        if (!records) return ledger_.fail(records.error().message), ends;
        for (auto bytes : *records) {
          check_record(bytes, queue, at);
          if (expected != acknowledged.end() && expected->first == at) {
            if (auto record = message::decode_record(bytes); record && id_in(record->body) != expected->second.id)
              ledger_.fail("offset " + std::to_string(at) + " of " + expected->second.id + " holds " +
                           id_in(record->body));
            ++expected;
          }
          ++at;
        }
      }
      if (at < expected_end)
        ledger_.fail("queue " + std::to_string(queue) + " ends at " + std::to_string(at) + ", acknowledged is " +
                     std::to_string(expected_end - 1));
      looked_at_[i] = ends[i] = at;
    }
    check_some_ids(client);
    return ends;
  }

 private:
  void check_record(std::string_view bytes, int32_t queue, int64_t offset) {
    auto record = message::decode_record(bytes);
    if (!record) return ledger_.fail(record.error().message);
    if (record->queue_offset != offset || record->queue_id != queue)
      ledger_.fail("offset " + std::to_string(offset) + " holds a record of " + std::to_string(record->queue_offset));
    const auto id = id_in(record->body);
    auto sent = ledger_.sent_.find(id);
    if (sent == ledger_.sent_.end()) return ledger_.fail("offset " + std::to_string(offset) + " was never sent");
    if (sent->second != fnv1a_64(record->body) || !message::body_crc_matches(*record)) ledger_.fail(id + " is damaged");
    auto [place, fresh] = places_.emplace(id, std::pair(queue, offset));
    if (!fresh && place->second != std::pair(queue, offset)) ledger_.fail(id + " is there twice");
  }
  /// The last ones are those that a crash endangers.
  void check_some_ids(RawClient& client) {
    constexpr int kEach = 5;
    for (auto& [queue, messages] : ledger_.acknowledged_) {
      int left = kEach;
      for (auto at = messages.rbegin(); at != messages.rend() && left-- > 0; ++at) {
        auto id = message::decode_offset_message_id(at->second.message_id);
        if (!id) {
          ledger_.fail("message id " + at->second.message_id);
          continue;
        }
        auto request = Command::request(RequestCode::kViewMessageById);
        request.ext.set("offset", id->physical_offset);
        auto reply = client.call(request);
        auto record = reply ? message::decode_record(reply->body.bytes) : reply.error();
        if (!record || fnv1a_64(record->body) != at->second.body_hash || record->queue_offset != at->first)
          ledger_.fail(at->second.id + " is not found by its id " + at->second.message_id);
      }
    }
  }

  Ledger& ledger_;
  std::vector<int64_t> looked_at_;
  std::unordered_map<std::string, std::pair<int32_t, int64_t>> places_;  // by the sender's id
};

void kill_again_and_again(const char* flush_disk_type) {
  const int cycles = is_soak() ? 200 : 10;
  const uint64_t seed = run_seed("crash");
  Random random(seed);
  Cluster cluster({"--flushDiskType", flush_disk_type, "--mappedFileSizeCommitLog", "262144",
                   "--mappedFileSizeConsumeQueue", "20000", "--maxMessageSize", "65536"});
  cluster.create_topic(kTopic, kQueues);
  Ledger ledger;
  Reader reader(ledger);
  Group group;
  size_t acknowledged_before = 0;
  std::vector<int64_t> ends;
  for (int cycle = 0; cycle < cycles && ledger.failures_.empty(); ++cycle) {
    std::vector<std::thread> threads;
    const uint16_t port = cluster.broker_port();
    for (int i = 0; i < kSenders; ++i)
      threads.emplace_back([&, name = std::to_string(cycle) + "." + std::to_string(i), own = random.next()] {
        run_sender(port, name, own, ledger);
      });
    threads.emplace_back([&] { group.run(port, nullptr, ledger); });
    // Some seconds are hit right at the start of the load, some when files have rolled.
    const auto enough = static_cast<size_t>(random.between(20, 600));
    const bool loaded = eventually([&] { return ledger.acknowledged_count() >= acknowledged_before + enough; },
                                   std::chrono::seconds(60));
    cluster.kill_broker();
    for (auto& thread : threads) thread.join();
    CHECK(loaded);
    acknowledged_before = ledger.acknowledged_count();
    cluster.start_broker();
    ends = reader.check(cluster.broker_port(), cycle % 10 == 9 || cycle == cycles - 1);
  }
  group.run(cluster.broker_port(), &ends, ledger);
  for (const auto& failure : ledger.failures_) UNSCOPED_INFO(failure);
  CHECK(ledger.failures_.empty());
  CHECK(group.resumed > cycles);  // the group did not begin anew each time
  int64_t stored = 0;
  for (int64_t end : ends) stored += end;
  WARN(flush_disk_type << ": " << cycles << " kills, " << ledger.acknowledged_count() << " acknowledged messages, "
                       << stored << " stored of " << ledger.sent_.size() << " sent");
}

}  // namespace

TEST_CASE("kill -9 under load with ASYNC_FLUSH: what was acknowledged is there, once, undamaged", "[kill-load]") {
  kill_again_and_again("ASYNC_FLUSH");
}

TEST_CASE("kill -9 under load with SYNC_FLUSH: what was acknowledged is there, once, undamaged", "[kill-load]") {
  kill_again_and_again("SYNC_FLUSH");
}

}  // namespace apogee::test
