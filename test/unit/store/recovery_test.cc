// What recovery makes of damaged logs: holes are told from torn tails, and what follows a hole is kept.
#include "store/recovery.h"

#include <fstream>

#include "store/file_names.h"
#include "store/record_ends.h"
#include "store/record_sketch.h"
#include "test/support/wait.h"
#include "test/unit/store/fault_file_system.h"
#include "test/unit/store/store_bench.h"

namespace apogee::store {

namespace {

constexpr int64_t kFileBytes = 64 * 1024;

/// A store as a crash leaves it: with the file `abort`, and without a checkpoint.
struct Crashed {
  Directory directory;
  fs::path root = directory.path / "crashed";
  std::vector<LogOffset> offsets;
  LogOffset end = 0;

  explicit Crashed(int messages, size_t body_bytes = 500) {
    Running running(small_options(directory.path / "original"));
    for (int i = 0; i < messages; ++i) offsets.push_back(put(*running.store, "T", 0, body(i, body_bytes)).offsets[0]);
    REQUIRE(running.wait_for("T-0", messages));
    end = running.store->figures().log_max_offset;
    fs::copy(directory.path / "original", root, fs::copy_options::recursive);
    fs::remove(root / "checkpoint");
    REQUIRE(fs::exists(root / "abort"));
  }
  static std::string body(int i, size_t bytes = 500) {
    std::string text = "message " + std::to_string(i) + " ";
    text.resize(bytes, 'b');
    return text;
  }
  void overwrite(LogOffset at, std::string_view bytes) const {
    LogOffset begin = at / kFileBytes * kFileBytes;
    std::fstream log(root / "commitlog" / file_name_of(begin), std::ios::in | std::ios::out | std::ios::binary);
    log.seekp(at - begin);
    log << bytes;
    REQUIRE(log.good());
  }
  /// The last offset of a message that begins before `limit`, plus one.
  [[nodiscard]] QueueOffset count_before(LogOffset limit) const {
    return std::lower_bound(offsets.begin(), offsets.end(), limit) - offsets.begin();
  }
};

/// Everything that a consumer gets that reads from `from` on.
std::map<QueueOffset, std::string> read_all(MessageStore& store, QueueOffset from = 0) {
  std::map<QueueOffset, std::string> found;
  for (int rounds = 0; rounds < 10'000; ++rounds) {
    auto got = store.get("T", 0, from, {}, nullptr);
    for (const auto& record : got.records) {
      auto decoded = message::decode_record(record.bytes);
      REQUIRE(decoded);
      found[decoded->queue_offset] = std::string(decoded->body);
    }
    bool goes_on = got.status == GetStatus::kFound || got.status == GetStatus::kMessageWasRemoving ||
                   got.status == GetStatus::kOffsetTooSmall || got.status == GetStatus::kNoMatchedMessage;
    if (!goes_on) break;
    REQUIRE(got.next_begin_offset >= from);
    if (got.next_begin_offset == from) test::pause(std::chrono::milliseconds(2));  // waits for a repair
    from = got.next_begin_offset;
  }
  return found;
}

}  // namespace

TEST_CASE("Recovery: damage with messages behind it is a hole, and they are kept", "[store][recovery]") {
  Crashed crashed(20);
  crashed.overwrite(crashed.offsets[10] + 200, "damage");
  Running running(small_options(crashed.root));
  CHECK(running.store->figures().holes == 1);
  CHECK(running.store->figures().hole_bytes == crashed.offsets[11] - crashed.offsets[10]);
  CHECK(running.logged("from " + std::to_string(crashed.offsets[10]) + " to " + std::to_string(crashed.offsets[11])));
  CHECK(running.store->figures().log_max_offset == crashed.end);
  CHECK(running.store->max_offset("T", 0) == 20);
  auto found = read_all(*running.store);
  CHECK(found.size() == 19);
  CHECK(found.count(10) == 0);
  for (const auto& [offset, body] : found) CHECK(body == Crashed::body(static_cast<int>(offset)));
  CHECK(put(*running.store, "T", 0, "next").queue_offset == 20);
}

TEST_CASE("whole_records_end: the last end in front of any byte, over blanks and damage", "[store][recovery]") {
  Crashed crashed(300);
  const LogOffset damaged = crashed.offsets[20];
  crashed.overwrite(damaged + 4, "XXXX");
  Logger logger;
  LogFiles log((crashed.root / "commitlog").string(), kFileBytes, io::posix_file_system(), logger);
  REQUIRE(log.load());
  std::vector<LogOffset> ends;
  const auto bytes = [&](LogOffset at) { return load_be<int32_t>(log.at(at)->bytes_from(at).data()); };
  for (LogOffset at : crashed.offsets) {
    if (at % kFileBytes == 0) ends.push_back(at);  // that of a blank
    ends.push_back(at + bytes(at));
  }
  const LogOffset from = crashed.offsets[10];
  for (LogOffset to = from; to <= crashed.end; to += 13) {
    CAPTURE(to);
    REQUIRE(whole_records_end(log, from, to, crashed.end) ==
            *std::prev(std::upper_bound(ends.begin(), ends.end(), to)));
  }
  CHECK(whole_records_end(log, from, crashed.end, crashed.end) == crashed.end);
  CHECK(whole_records_end(log, crashed.end, crashed.end, crashed.end) == crashed.end);
}

TEST_CASE("RecordEnds: the nearest in front of a place, and no more of them than count", "[store]") {
  RecordEnds ends;
  CHECK(ends.nearest(7, 100) == 7);
  for (LogOffset end = 1'000; end <= 10'000; end += 1'000) ends.add(end);
  CHECK(ends.nearest(500, 999) == 500);
  CHECK(ends.nearest(500, 1'000) == 1'000);
  CHECK(ends.nearest(500, 7'999) == 7'000);
  CHECK(ends.nearest(3'500, 3'900) == 3'500);  // those in front are forgotten now
  CHECK(ends.nearest(0, 3'900) == 0);
  CHECK(ends.nearest(0, 4'100) == 4'000);
  CHECK(ends.nearest(4'000, 1'000'000) == 10'000);
}

TEST_CASE("Recovery: a wiped file in the middle of the log is a hole", "[store][recovery]") {
  // Its messages are more than a file of the queue has entries for.
  const bool kept_queues = GENERATE(false, true);
  Crashed crashed(2'000, 10);
  REQUIRE(crashed.end > 3 * kFileBytes);
  crashed.overwrite(kFileBytes, std::string(kFileBytes, '\0'));
  if (!kept_queues) fs::remove_all(crashed.root / "consumequeue");
  const QueueOffset first_lost = crashed.count_before(kFileBytes), first_kept = crashed.count_before(2 * kFileBytes);
  REQUIRE(first_kept - first_lost > 100);
  for (int start = 0; start < 2; ++start) {
    Running running(small_options(crashed.root));
    if (start == 0) CHECK(running.store->figures().holes == 1);
    CHECK(running.store->max_offset("T", 0) == 2'000 + start);
    auto found = read_all(*running.store);
    CHECK(static_cast<QueueOffset>(found.size()) == 2'000 + start - (first_kept - first_lost));
    CHECK(found.lower_bound(first_lost)->first == first_kept);
    CHECK(put(*running.store, "T", 0, "next").queue_offset == 2'000 + start);
  }
}

TEST_CASE("Recovery: garbage that no message follows is the torn tail, and is cut", "[store][recovery]") {
  Crashed crashed(300);
  const bool files_behind = GENERATE(false, true);
  const LogOffset cut_at = files_behind ? crashed.offsets[150] : crashed.offsets[290];
  crashed.overwrite(cut_at, std::string(static_cast<size_t>(kFileBytes - cut_at % kFileBytes), 'g'));
  if (files_behind)
    for (LogOffset begin = (cut_at / kFileBytes + 1) * kFileBytes; begin < crashed.end; begin += kFileBytes)
      crashed.overwrite(begin, std::string(kFileBytes, 'g'));
  Running running(small_options(crashed.root));
  CHECK(running.store->figures().holes == 0);
  CHECK(running.store->figures().log_max_offset == cut_at);
  CHECK(running.logged("the log was cut at " + std::to_string(cut_at)));
  CHECK(running.store->max_offset("T", 0) == crashed.count_before(cut_at));
  auto again = put(*running.store, "T", 0, "in its place");
  CHECK(again.offsets[0] == cut_at);
  CHECK(again.queue_offset == crashed.count_before(cut_at));
}

TEST_CASE("Recovery: a damaged message that only its queue knows is left out when it is read", "[store][recovery]") {
  Crashed crashed(20);
  { Running running(small_options(crashed.root)); }  // stops well: the next start does not walk the log
  crashed.overwrite(crashed.offsets[10] + 200, "damage");
  Running running(small_options(crashed.root));
  CHECK(running.logged("0 records looked at"));
  auto found = read_all(*running.store);
  CHECK(found.size() == 19);
  CHECK(found.count(10) == 0);
  CHECK(running.logged("1 messages from 10 to 10 are damaged in the log and lost"));
}

TEST_CASE("Recovery: a queue's entry that points to another message is not followed", "[store][recovery]") {
  Crashed crashed(20);
  { Running running(small_options(crashed.root)); }
  fs::path queue = crashed.root / "consumequeue" / "T" / "0" / file_name_of(0);
  std::string entry(20, '\0');
  std::fstream file(queue, std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(20 * 7);
  file.read(entry.data(), 20);
  file.seekp(20 * 3);
  file << entry;
  file.close();
  Running running(small_options(crashed.root));
  auto found = read_all(*running.store);
  CHECK(found.size() == 20);
  for (const auto& [offset, body] : found) CHECK(body == Crashed::body(static_cast<int>(offset)));
  CHECK(running.logged("1 wrong entries from 3 on were found in the log and written again"));
}

TEST_CASE("Recovery: entries that were wiped come back from the log", "[store][recovery]") {
  Crashed crashed(350);
  { Running running(small_options(crashed.root)); }
  const int part = GENERATE(0, 1, 2);
  fs::path file = crashed.root / "consumequeue" / "T" / "0" / file_name_of(part * 2'000);
  {
    std::fstream queue(file, std::ios::in | std::ios::out | std::ios::binary);
    queue.seekp(20 * 10);
    queue << std::string(20 * 60, '\0');
  }
  for (int start = 0; start < 2; ++start) {
    Running running(small_options(crashed.root));
    CHECK(running.store->min_offset("T", 0) == 0);
    CHECK(running.store->max_offset("T", 0) == 350 + start);
    auto found = read_all(*running.store);
    CHECK(static_cast<int>(found.size()) == 350 + start);
    for (int i = 0; i < 350; ++i) CHECK(found[i] == Crashed::body(i));
    CHECK(put(*running.store, "T", 0, "next").queue_offset == 350 + start);
  }
}

TEST_CASE("Recovery: missing files of a queue are built again from the log", "[store][recovery]") {
  Crashed crashed(350);
  const bool clean = GENERATE(false, true);
  { Running running(small_options(crashed.root)); }
  if (!clean) std::ofstream(crashed.root / "abort") << "1";
  const int part = GENERATE(-1, 0, 1, 3);
  fs::path queue = crashed.root / "consumequeue" / "T" / "0";
  fs::remove_all(part < 0 ? queue : queue / file_name_of(part * 2'000));
  Running running(small_options(crashed.root));
  CHECK(running.store->min_offset("T", 0) == 0);
  CHECK(running.store->max_offset("T", 0) == 350);
  CHECK(read_all(*running.store).size() == 350);
  CHECK(put(*running.store, "T", 0, "next").queue_offset == 350);
}

TEST_CASE("Recovery: the queues of a deleted topic do not come back", "[store][recovery]") {
  Directory directory;
  {
    Running running(small_options(directory.path));
    for (int i = 0; i < 20; ++i) put(*running.store, "T", 0, "b");
    for (int i = 0; i < 20; ++i) put(*running.store, "Other", 0, "b");
    REQUIRE(running.wait_for("Other-0", 20));
    running.store->delete_topic("T");
  }
  Running running(small_options(directory.path));
  CHECK(running.store->max_offset("T", 0) == 0);
  CHECK(running.store->max_offset("Other", 0) == 20);
  CHECK(put(*running.store, "T", 0, "b").queue_offset == 20);
}

TEST_CASE("Recovery: a checkpoint that is not of this log is not trusted", "[store][recovery]") {
  Crashed crashed(20);
  Directory other;
  {
    Running running(small_options(other.path));
    for (int i = 0; i < 200; ++i) put(*running.store, "T", 0, Crashed::body(i, 300));
  }
  fs::copy(other.path / "checkpoint", crashed.root / "checkpoint");
  Running running(small_options(crashed.root));
  CHECK(running.store->figures().log_max_offset == crashed.end);
  CHECK(running.store->figures().holes == 0);
  CHECK(read_all(*running.store).size() == 20);
}

TEST_CASE("Recovery: the walk begins where the checkpoint was, after a crash too", "[store][recovery]") {
  Directory directory, copies;
  fs::path copy = copies.path / "crashed";
  LogOffset position = -1;
  {
    Running running(small_options(directory.path));
    for (int i = 0; i < 100; ++i) put(*running.store, "T", 0, Crashed::body(i));
    REQUIRE(running.wait_for("T-0", 100));
    // The store writes it each second, when log and queues are on disk.
    REQUIRE(test::eventually([&] {
      auto checkpoint = read_checkpoint(io::posix_file_system(), directory.path / "checkpoint");
      return checkpoint && (position = checkpoint->log_position) == running.store->figures().log_max_offset;
    }));
    for (int i = 100; i < 110; ++i) put(*running.store, "T", 0, Crashed::body(i));
    fs::copy(directory.path, copy, fs::copy_options::recursive);
  }
  Running running(small_options(copy));
  CHECK(running.logged("looked at from " + std::to_string(position) + " on"));
  auto found = read_all(*running.store);
  CHECK(found.size() == 110);
  CHECK(running.store->max_offset("T", 0) == 110);
}

TEST_CASE("CommitLog: appends wait for the next file in order, and not for ever", "[store][recovery]") {
  Directory directory;
  FaultFileSystem files;
  auto options = small_options(directory.path);
  options.page_cache_busy_ms = 300;
  Running running(options, files);
  std::mutex mutex;
  std::vector<PutResult> results;
  auto send = [&](int i) {
    std::string body = Crashed::body(i);
    MessageDraft draft;
    draft.topic = "T";
    draft.body = body;
    running.store->append(draft, [&](PutResult result) {
      std::lock_guard lock(mutex);
      results.push_back(std::move(result));
    });
  };
  auto answered = [&](size_t count) {
    return test::eventually([&] {
      std::lock_guard lock(mutex);
      return results.size() == count;
    });
  };
  send(0);
  REQUIRE(answered(1));
  files.hold_syncs(file_name_of(kFileBytes));  // the second file takes its time
  size_t sent = 1;
  for (; sent < 100; ++sent) send(static_cast<int>(sent));  // fills the first file, which takes about 100
  for (; sent < 120; ++sent) send(static_cast<int>(sent));
  REQUIRE(files.wait_for_held_sync());
  files.release_syncs();
  REQUIRE(answered(sent));
  {
    std::lock_guard lock(mutex);
    QueueOffset next = 0;
    for (const auto& result : results) {
      CHECK(result.status == PutStatus::kOk);
      CHECK(result.queue_offset == next++);
    }
    results.clear();
  }
  files.hold_syncs(file_name_of(2 * kFileBytes));
  size_t more = 0;
  for (; more < 150; ++more) send(static_cast<int>(more));
  REQUIRE(files.wait_for_held_sync());
  CHECK(put(*running.store, "T", 0, "too long").status == PutStatus::kPageCacheBusy);
  REQUIRE(answered(more));  // before the disk is well again
  {
    std::lock_guard lock(mutex);
    CHECK(results.front().status == PutStatus::kOk);
    CHECK(results.back().status == PutStatus::kPageCacheBusy);
  }
  files.release_syncs();
  REQUIRE(test::eventually([&] { return running.store->writable(); }));
  CHECK(put(*running.store, "T", 0, "goes on").status == PutStatus::kOk);
}

}  // namespace apogee::store
