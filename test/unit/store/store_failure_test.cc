// What the store does when calls on files fail, wait, or were cut short by a crash.
#include <atomic>
#include <fstream>
#include <set>
#include <thread>

#include "common/base/bytes.h"
#include "common/message/sys_flag.h"
#include "store/file_names.h"
#include "test/support/wait.h"
#include "test/unit/store/fault_file_system.h"
#include "test/unit/store/store_bench.h"

namespace apogee::store {
namespace {

MessageDraft draft_of(std::string_view topic, std::string_view body) {
  MessageDraft draft;
  draft.topic = topic;
  draft.body = body;
  return draft;
}

/// An answer that comes when it comes.
struct Answer {
  std::mutex mutex;
  std::condition_variable changed;
  std::optional<PutResult> result;  // guarded by mutex
  PutCallback callback() {
    return [this](PutResult r) {
      std::lock_guard lock(mutex);
      result = std::move(r);
      changed.notify_all();
    };
  }
  bool is_there() {
    std::lock_guard lock(mutex);
    return result.has_value();
  }
  /// Thread: any; nothing when none came.
  std::optional<PutResult> wait_if_it_comes() {
    std::unique_lock lock(mutex);
    changed.wait_for(lock, std::chrono::seconds(20), [this] { return result.has_value(); });
    return result;
  }
  /// Thread: the test's own.
  PutResult wait() {
    auto came = wait_if_it_comes();
    REQUIRE(came);
    return *came;
  }
};

StoreOptions sync_options(const fs::path& root) {
  auto options = small_options(root);
  options.flush_disk_type = FlushDiskType::kSync;
  return options;
}

void overwrite(const fs::path& path, int64_t position, const std::string& bytes) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(position);
  file << bytes;
  REQUIRE(file.good());
}

/// The directory as a crash at this moment would leave it, in front of a loss of power.
fs::path crashed_copy(const Directory& from, const Directory& to) {
  fs::copy(from.path, to.path / "copy", fs::copy_options::recursive);
  return to.path / "copy";
}

void check_bodies(Running& running, const std::string& topic, const std::vector<std::string>& bodies) {
  CHECK(running.store->max_offset(topic, 0) == static_cast<QueueOffset>(bodies.size()));
  for (QueueOffset at = 0; at < static_cast<QueueOffset>(bodies.size());) {
    auto got = running.store->get(topic, 0, at, {}, nullptr);
    REQUIRE(got.status == GetStatus::kFound);
    for (const auto& record : got.records) REQUIRE(body_of(record) == bodies[static_cast<size_t>(at++)]);
  }
}

}  // namespace

TEST_CASE("SYNC_FLUSH: an answer leaves after the sync that covers it, and readers see nothing before", "[store]") {
  Directory directory;
  FaultFileSystem files;
  Running running(sync_options(directory.path), files);
  put(*running.store, "S", 0, "first");
  files.hold_syncs("commitlog");
  Answer waits, does_not_wait;
  running.store->append(draft_of("S", "second"), waits.callback());
  REQUIRE(files.wait_for_held_sync());
  auto draft = draft_of("S", "third");
  draft.wait_store_ok = false;
  running.store->append(draft, does_not_wait.callback());
  CHECK(does_not_wait.wait().status == PutStatus::kOk);
  CHECK(!waits.is_there());
  CHECK(running.store->max_offset("S", 0) <= 1);
  CHECK(!running.store->record_at(does_not_wait.wait().offsets[0]));
  files.release_syncs();
  CHECK(waits.wait().status == PutStatus::kOk);
  REQUIRE(running.wait_for("S-0", 3));
}

TEST_CASE("SYNC_FLUSH: a sync that hangs gives FLUSH_DISK_TIMEOUT, and the message is stored", "[store]") {
  Directory directory;
  FaultFileSystem files;
  auto options = sync_options(directory.path);
  options.sync_flush_timeout_ms = 30;
  Running running(options, files);
  put(*running.store, "S", 0, "first");
  files.hold_syncs("commitlog");
  Answer answer;
  running.store->append(draft_of("S", "late"), answer.callback());
  CHECK(answer.wait().status == PutStatus::kFlushDiskTimeout);
  CHECK(answer.wait().queue_offset == 1);
  files.release_syncs();
  REQUIRE(running.wait_for("S-0", 2));
}

TEST_CASE("SYNC_FLUSH: after a failed sync nothing claims to be on disk any more", "[store]") {
  Directory directory;
  {
    FaultFileSystem files;
    Running running(sync_options(directory.path), files);
    CHECK(put(*running.store, "S", 0, "first").status == PutStatus::kOk);
    files.fail(FileCall::kSync, "commitlog", Errc::kIo);
    CHECK(put(*running.store, "S", 0, "second").status == PutStatus::kFlushDiskTimeout);
    files.allow(FileCall::kSync);  // the next one would succeed, and prove nothing
    std::string why;
    REQUIRE(test::eventually([&] { return !running.store->writable(&why); }));
    CHECK(why.find("sync") != std::string::npos);
    auto refused = put(*running.store, "S", 0, "third");
    CHECK(refused.status == PutStatus::kServiceNotAvailable);
    CHECK(refused.detail == why);
    CHECK(test::eventually([&] { return running.store->get("S", 0, 0, {}, nullptr).status == GetStatus::kFound; }));
  }
  CHECK(fs::exists(directory.path / "abort"));
}

TEST_CASE("SYNC_FLUSH: many senders at once all get their answer from a sync", "[store]") {
  Directory directory;
  auto options = sync_options(directory.path);
  options.commit_log_file_bytes = 1 << 20;
  options.sync_flush_timeout_ms = 60'000;  // an answer that waits for this fails the wait below
  Running running(options);
  constexpr int kSenders = 8, kEach = 60;
  std::atomic<int> good{0};
  std::vector<std::thread> senders;
  for (int s = 0; s < kSenders; ++s)
    senders.emplace_back([&] {
      for (int i = 0; i < kEach; ++i) {
        Answer answer;
        running.store->append(draft_of("S", "x"), answer.callback());
        auto came = answer.wait_if_it_comes();
        if (came && came->status == PutStatus::kOk) ++good;
      }
    });
  for (auto& sender : senders) sender.join();
  CHECK(good == kSenders * kEach);
}

TEST_CASE("SYNC_FLUSH: every answer comes although the store stops meanwhile", "[store]") {
  Directory directory;
  Running running(sync_options(directory.path));
  std::atomic<int> asked{0}, answered{0};
  std::vector<std::thread> senders;
  std::atomic<bool> stopped{false};
  for (int s = 0; s < 4; ++s)
    senders.emplace_back([&] {
      while (!stopped) {
        ++asked;
        running.store->append(draft_of("S", "x"), [&](const PutResult&) { ++answered; });
      }
    });
  REQUIRE(test::eventually([&] { return answered > 50; }));
  running.store->stop();
  stopped = true;
  for (auto& sender : senders) sender.join();
  CHECK(answered == asked);
}

TEST_CASE("Full disk: no room for the next file refuses writes, and they come back by themselves", "[store]") {
  Directory directory;
  FaultFileSystem files;
  std::vector<std::string> bodies;
  {
    Running running(small_options(directory.path), files);
    auto send = [&] {
      std::string body = std::to_string(bodies.size()) + std::string(3000, 'x');
      auto result = put(*running.store, "D", 0, body);
      if (result.status == PutStatus::kOk) bodies.push_back(body);
      return result;
    };
    CHECK(send().status == PutStatus::kOk);
    files.fail(FileCall::kAllocate, "commitlog", Errc::kDiskFull);
    PutResult refused;
    do refused = send();
    while (refused.status == PutStatus::kOk && bodies.size() < 100);
    CHECK(refused.status == PutStatus::kServiceNotAvailable);
    CHECK(refused.detail.find("made to fail") != std::string::npos);
    CHECK(send().status == PutStatus::kServiceNotAvailable);
    CHECK(!running.store->writable());
    REQUIRE(running.wait_for("D-0", 1));
    CHECK(running.store->get("D", 0, 0, {}, nullptr).status == GetStatus::kFound);
    CHECK(!fs::exists(directory.path / "commitlog" / file_name_of(64 * 1024)));
    files.allow(FileCall::kAllocate);
    REQUIRE(test::eventually([&] { return running.store->writable(); }));
    for (int i = 0; i < 50; ++i) REQUIRE(send().status == PutStatus::kOk);
    REQUIRE(running.wait_for("D-0", static_cast<QueueOffset>(bodies.size())));
    check_bodies(running, "D", bodies);
  }
  Running again(small_options(directory.path));
  check_bodies(again, "D", bodies);
}

TEST_CASE("Full disk: a used ratio above the limit refuses writes until it falls", "[store]") {
  Directory directory;
  FaultFileSystem files;
  auto options = small_options(directory.path);
  options.disk_used_ratio_max = 0.9;
  Running running(options, files);
  CHECK(put(*running.store, "D", 0, "x").status == PutStatus::kOk);
  files.set_used_ratio(0.95);
  REQUIRE(test::eventually([&] { return !running.store->writable(); }));
  CHECK(put(*running.store, "D", 0, "x").status == PutStatus::kServiceNotAvailable);
  CHECK(running.store->get("D", 0, 0, {}, nullptr).status == GetStatus::kFound);
  files.set_used_ratio(0.5);
  REQUIRE(test::eventually([&] { return running.store->writable(); }));
  CHECK(put(*running.store, "D", 0, "x").queue_offset == 1);
}

TEST_CASE("Full disk: a queue that cannot be written stops writes, not for ever and without a gap", "[store]") {
  Directory directory;
  FaultFileSystem files;
  std::vector<std::string> bodies;
  {
    Running running(small_options(directory.path), files);
    auto send = [&] {
      auto body = std::to_string(bodies.size());
      auto result = put(*running.store, "Q", 0, body);
      if (result.status == PutStatus::kOk) bodies.push_back(body);
      return result.status;
    };
    for (int i = 0; i < 10; ++i) send();
    REQUIRE(running.wait_for("Q-0", 10));
    files.fail(FileCall::kWrite, "consumequeue", Errc::kDiskFull);
    send();
    REQUIRE(test::eventually([&] { return !running.store->writable(); }));
    CHECK(send() == PutStatus::kServiceNotAvailable);
    check_bodies(running, "Q", bodies);  // readers have what was stored
    files.allow(FileCall::kWrite);
    REQUIRE(test::eventually([&] { return running.store->writable(); }));
    for (int i = 0; i < 10; ++i) CHECK(send() == PutStatus::kOk);
    REQUIRE(running.wait_for("Q-0", static_cast<QueueOffset>(bodies.size())));
    check_bodies(running, "Q", bodies);
  }
  Running again(small_options(directory.path));
  check_bodies(again, "Q", bodies);
}

TEST_CASE("Crash: a torn record in a later file is cut and zeroed, and said", "[store]") {
  Directory directory, copies;
  std::vector<std::string> bodies;
  LogOffset last = 0;
  fs::path copy;
  {
    Running running(small_options(directory.path));
    do {
      bodies.push_back(std::to_string(bodies.size()) + std::string(700, 'b'));
      last = put(*running.store, "T", 0, bodies.back()).offsets[0];
    } while (last < 3 * 64 * 1024 + 5000);
    REQUIRE(running.wait_for("T-0", static_cast<QueueOffset>(bodies.size())));
    copy = crashed_copy(directory, copies);
  }
  const int64_t file_begin = last / (64 * 1024) * 64 * 1024;
  const fs::path file = copy / "commitlog" / file_name_of(file_begin);
  overwrite(file, last - file_begin + 400, std::string(200, '\0'));
  bodies.pop_back();
  {
    Running running(small_options(copy));
    CHECK(running.logged("the log was cut at " + std::to_string(last)));
    CHECK(running.store->figures().log_max_offset == last);
    check_bodies(running, "T", bodies);
    std::ifstream raw(file, std::ios::binary);
    std::string bytes((std::istreambuf_iterator<char>(raw)), {});
    CHECK(bytes.size() == 64 * 1024);
    CHECK(bytes.find_first_not_of('\0', static_cast<size_t>(last - file_begin)) == std::string::npos);
    bodies.emplace_back("in its place");
    CHECK(put(*running.store, "T", 0, bodies.back()).offsets[0] == last);
    REQUIRE(running.wait_for("T-0", static_cast<QueueOffset>(bodies.size())));
  }
  Running again(small_options(copy));
  check_bodies(again, "T", bodies);
}

TEST_CASE("Crash: entries that were torn, point nowhere or follow a hole are built again", "[store]") {
  Directory directory, copies;
  std::vector<std::string> bodies;
  fs::path copy;
  {
    Running running(small_options(directory.path));
    for (int i = 0; i < 350; ++i) {
      bodies.push_back(std::to_string(i));
      put(*running.store, "T", 0, bodies.back());
    }
    REQUIRE(running.wait_for("T-0", 350));
    copy = crashed_copy(directory, copies);
  }
  const fs::path queue = copy / "consumequeue" / "T" / "0";
  std::string foreign;
  append_be<int64_t>(foreign, 4);
  append_be<int32_t>(foreign, 77);
  append_be<int64_t>(foreign, 0);
  switch (GENERATE(0, 1, 2, 3)) {
    case 0: overwrite(queue / file_name_of(6000), 20 * 49 + 8, std::string(12, '\0')); break;  // torn
    case 1: overwrite(queue / file_name_of(2000), 0, std::string(400, '\0')); break;           // hole
    case 2: fs::remove(queue / file_name_of(2000)); break;
    case 3: overwrite(queue / file_name_of(6000), 20 * 50, foreign + foreign); break;  // of an earlier life
  }
  Running running(small_options(copy));
  check_bodies(running, "T", bodies);
  CHECK(put(*running.store, "T", 0, "next").queue_offset == 350);
}

TEST_CASE("Store times go on from the log's last record, whatever the clock says", "[store]") {
  Directory directory;
  LogOffset at = 0;
  { at = put(*Running(small_options(directory.path)).store, "T", 0, "b").offsets[0]; }
  std::string future;
  append_be<int64_t>(future, 4'000'000'000'000);
  overwrite(directory.path / "commitlog" / file_name_of(0), at + 56, future);
  Running running(small_options(directory.path));
  CHECK(put(*running.store, "T", 0, "b").store_timestamp_ms == 4'000'000'000'000);
}

TEST_CASE("Half messages take no queue offset and are in no queue", "[store]") {
  Directory directory;
  Running running(small_options(directory.path));
  auto send = [&](int32_t sys_flag) {
    auto draft = draft_of("H", "half");
    draft.sys_flag = sys_flag;
    Answer answer;
    running.store->append(draft, answer.callback());
    return answer.wait().queue_offset;
  };
  CHECK(send(0) == 0);
  CHECK(send(message::sys_flag::kTransactionPrepared) == 0);
  CHECK(send(message::sys_flag::kTransactionRollback) == 0);
  CHECK(send(message::sys_flag::kTransactionCommit) == 1);
  CHECK(send(0) == 2);
  REQUIRE(running.wait_for("H-0", 3));
  CHECK(running.store->max_offset("H", 0) == 3);
}

TEST_CASE("A directory in use is refused, also within the process, and stays locked", "[store]") {
  Directory directory;
  auto running = std::make_unique<Running>(small_options(directory.path));
  Logger logger;
  for (int i = 0; i < 2; ++i) {
    auto second = MessageStore::open(small_options(directory.path), logger);
    REQUIRE(!second);
    CHECK(second.error().code == Errc::kAlreadyExists);
    CHECK(second.error().message.find("process " + std::to_string(::getpid())) != std::string::npos);
  }
  std::ifstream lock(directory.path / "lock");
  std::string word;
  lock >> word;
  CHECK(word == "lock");
  running.reset();
  Running again(small_options(directory.path));
}

TEST_CASE("Queues follow the beginning of the log", "[store]") {
  Directory directory;
  QueueOffset count = 0;
  {
    Running running(small_options(directory.path));
    put(*running.store, "Old", 0, "only in the first file");
    while (put(*running.store, "T", 0, std::string(2000, 'x')).offsets[0] < 3 * 64 * 1024) ++count;
    ++count;
  }
  fs::remove(directory.path / "commitlog" / file_name_of(0));
  Running running(small_options(directory.path));
  auto& store = *running.store;
  CHECK(store.figures().log_min_offset == 64 * 1024);
  QueueOffset min = store.min_offset("T", 0);
  CHECK(min > 0);
  auto early = store.get("T", 0, min - 1, {}, nullptr);
  CHECK(early.status == GetStatus::kOffsetTooSmall);
  CHECK(early.next_begin_offset == min);
  auto first = store.get("T", 0, min, {1, 1}, nullptr);
  REQUIRE(first.status == GetStatus::kFound);
  CHECK(message::decode_record(first.records[0].bytes)->physical_offset == 64 * 1024);
  CHECK(store.max_offset("T", 0) == count);
  CHECK(store.min_offset("Old", 0) == 1);
  CHECK(store.max_offset("Old", 0) == 1);
  CHECK(put(store, "Old", 0, "next").queue_offset == 1);
  CHECK(store.offset_by_time("T", 0, 0, TimeBoundary::kLower) == min);
}

TEST_CASE("A queue rebuilt from a log without its beginning starts with blanks", "[store]") {
  Directory directory;
  {
    Running running(small_options(directory.path));
    while (put(*running.store, "T", 0, std::string(2000, 'x')).offsets[0] < 3 * 64 * 1024) {
    }
  }
  fs::remove(directory.path / "commitlog" / file_name_of(0));
  fs::remove_all(directory.path / "consumequeue");
  Running running(small_options(directory.path));
  auto& store = *running.store;
  QueueOffset min = store.min_offset("T", 0);
  CHECK(min > 0);
  CHECK(store.get("T", 0, min - 1, {}, nullptr).status == GetStatus::kOffsetTooSmall);
  REQUIRE(store.get("T", 0, min, {}, nullptr).status == GetStatus::kFound);
  std::ifstream raw(directory.path / "consumequeue" / "T" / "0" / file_name_of(0), std::ios::binary);
  char entry[20];
  raw.read(entry, sizeof entry);
  CHECK(load_be<int64_t>(entry) == 0);
  CHECK(load_be<int32_t>(entry + 8) == 0x7FFFFFFF);
  CHECK(load_be<int64_t>(entry + 12) == 0);
}

TEST_CASE("A topic that comes again after it was deleted goes on with its offsets", "[store]") {
  Directory directory;
  {
    Running running(small_options(directory.path));
    for (int i = 0; i < 5; ++i) put(*running.store, "Again", 0, "old");
    REQUIRE(running.wait_for("Again-0", 5));
    running.store->delete_topic("Again");
    CHECK(running.store->max_offset("Again", 0) == 0);
    CHECK(put(*running.store, "Again", 0, "new").queue_offset == 5);
    REQUIRE(running.wait_for("Again-0", 6));
    CHECK(running.store->get("Again", 0, 0, {}, nullptr).status == GetStatus::kOffsetTooSmall);
    CHECK(running.store->get("Again", 0, 5, {}, nullptr).status == GetStatus::kFound);
  }
  Running running(small_options(directory.path));
  CHECK(running.store->min_offset("Again", 0) == 5);
  CHECK(running.store->max_offset("Again", 0) == 6);
}

TEST_CASE("Topics are deleted while they are written and read", "[store]") {
  Directory directory;
  Running running(small_options(directory.path));
  std::atomic<bool> stop{false};
  std::thread sender([&] {
    for (int i = 0; !stop; ++i)
      running.store->append(draft_of("T" + std::to_string(i % 20), "x"), [](const PutResult&) {});
  });
  std::thread reader([&] {
    for (int i = 0; !stop; ++i) {
      std::string topic = "T" + std::to_string(i % 20);
      auto got = running.store->get(topic, 0, running.store->min_offset(topic, 0), {}, nullptr);
      for (const auto& record : got.records)
        if (!message::decode_record(record.bytes)) stop = true;
    }
  });
  for (int i = 0; i < 200; ++i) running.store->delete_topic("T" + std::to_string(i % 20));
  CHECK(!stop);
  stop = true;
  sender.join();
  reader.join();
  // What the sender has left waiting may be too much for the log at first.
  PutResult last;
  REQUIRE(test::eventually([&] {
    last = put(*running.store, "T3", 0, "after all");
    return last.stored();
  }));
  REQUIRE(running.wait_for("T3-0", last.queue_offset + 1));
  auto got = running.store->get("T3", 0, last.queue_offset, {}, nullptr);
  REQUIRE(got.status == GetStatus::kFound);
  CHECK(body_of(got.records[0]) == "after all");
}

TEST_CASE("A file ends with a blank that names what is left of it; hosts may be IPv6", "[store]") {
  Directory directory;
  Running running(small_options(directory.path));
  const std::string body(3000, '6');
  auto draft = draft_of("V6", body);
  draft.born_host = {std::string(16, '\x01'), 1234};
  draft.store_host = {std::string(16, '\x02'), 10911};
  LogOffset end = 0;
  for (LogOffset at = 0; at < 64 * 1024;) {
    Answer answer;
    running.store->append(draft, answer.callback());
    at = answer.wait().offsets[0];
    auto record = running.store->record_at(at);
    REQUIRE(record);
    auto decoded = message::decode_record(record->bytes);
    REQUIRE(decoded);
    CHECK(decoded->born_host.ip_bytes.size() == 16);
    CHECK(decoded->store_host.port == 10911);
    if (at < 64 * 1024) end = at + static_cast<LogOffset>(record->size());
    if (at >= 64 * 1024) CHECK(at == 64 * 1024);
  }
  std::ifstream raw(directory.path / "commitlog" / file_name_of(0), std::ios::binary);
  raw.seekg(end);
  char blank[8];
  raw.read(blank, sizeof blank);
  CHECK(load_be<int32_t>(blank) == 64 * 1024 - end);
  CHECK(load_be<int32_t>(blank + 4) == message::kBlankMagic);
}

}  // namespace apogee::store
