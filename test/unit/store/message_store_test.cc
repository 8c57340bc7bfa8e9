#include "store/message_store.h"

#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <filesystem>
#include <fstream>
#include <map>
#include <mutex>
#include <set>
#include <thread>

#include "common/message/batch.h"
#include "common/message/message_record.h"
#include "common/message/properties.h"
#include "common/message/property_names.h"
#include "store/file_names.h"
#include "test/support/catch.h"
#include "test/support/wait.h"
#include "test/unit/store/store_bench.h"

namespace apogee::store {

TEST_CASE("MessageStore: what is appended is found in its queue, across files", "[store]") {
  Directory directory;
  Running running(small_options(directory.path));
  std::vector<std::string> bodies;
  for (int i = 0; i < 300; ++i) {
    bodies.push_back("message " + std::to_string(i) + std::string(static_cast<size_t>(i * 7 % 1500), 'x'));
    auto result = put(*running.store, "Orders", i % 3, bodies.back());
    REQUIRE(result.status == PutStatus::kOk);
    CHECK(result.queue_offset == i / 3);
  }
  REQUIRE(running.wait_for("Orders-2", 100));
  REQUIRE(running.wait_for("Orders-0", 100));
  REQUIRE(running.wait_for("Orders-1", 100));
  std::set<std::string> files;
  for (int queue = 0; queue < 3; ++queue) {
    QueueOffset at = 0;
    while (at < 100) {
      auto got = running.store->get("Orders", queue, at, {}, nullptr);
      REQUIRE(got.status == GetStatus::kFound);
      for (const auto& record : got.records) CHECK(body_of(record) == bodies[static_cast<size_t>(at++ * 3 + queue)]);
      CHECK(got.next_begin_offset == at);
    }
  }
  CHECK(fs::exists(directory.path / "commitlog" / file_name_of(64 * 1024)));
  auto figures = running.store->figures();
  CHECK(figures.dispatched_offset == figures.log_max_offset);
}

TEST_CASE("MessageStore: the answers of get outside of a queue", "[store]") {
  Directory directory;
  Running running(small_options(directory.path));
  CHECK(running.store->get("Nobody", 0, 0, {}, nullptr).status == GetStatus::kNoMatchedLogicQueue);
  for (int i = 0; i < 5; ++i) put(*running.store, "T", 0, "b", std::string("TAGS\x01") + (i % 2 ? "A" : "B") + "\x02");
  REQUIRE(running.wait_for("T-0", 5));
  auto end = running.store->get("T", 0, 5, {}, nullptr);
  CHECK(end.status == GetStatus::kOffsetOverflowOne);
  CHECK(end.next_begin_offset == 5);
  auto beyond = running.store->get("T", 0, 99, {}, nullptr);
  CHECK(beyond.status == GetStatus::kOffsetOverflowBadly);
  CHECK(beyond.next_begin_offset == 5);
  CHECK(running.store->get("T", 0, -1, {}, nullptr).status == GetStatus::kOffsetTooSmall);
  auto some = running.store->get("T", 0, 0, {}, [](int64_t code) { return code == 'A'; });
  CHECK(some.status == GetStatus::kFound);
  CHECK(some.records.size() == 2);
  CHECK(some.next_begin_offset == 5);
  auto none = running.store->get("T", 0, 0, {}, [](int64_t) { return false; });
  CHECK(none.status == GetStatus::kNoMatchedMessage);
  CHECK(none.next_begin_offset == 5);
  auto one = running.store->get("T", 0, 0, {1, 1 << 20}, nullptr);
  CHECK(one.records.size() == 1);
  CHECK(running.store->get("T", 0, 0, {32, 1}, nullptr).records.size() == 1);
}

TEST_CASE("MessageStore: a batch is one unit with consecutive offsets", "[store]") {
  Directory directory;
  Running running(small_options(directory.path));
  std::string batch;
  for (const char* body : {"one", "two", "three"}) message::append_batch_message(batch, {7, body, "k\x01v\x02"});
  auto result = put(*running.store, "B", 1, batch,
                    "CLUSTER\x01"
                    "C\x02",
                    true);
  REQUIRE(result.status == PutStatus::kOk);
  CHECK(result.offsets.size() == 3);
  REQUIRE(running.wait_for("B-1", 3));
  auto got = running.store->get("B", 1, 0, {}, nullptr);
  REQUIRE(got.records.size() == 3);
  auto last = message::decode_record(got.records[2].bytes);
  REQUIRE(last);
  CHECK(last->body == "three");
  CHECK(last->flag == 7);
  CHECK(message::find_property(last->properties, "CLUSTER") == "C");
  CHECK(message::find_property(last->properties, "k") == "v");
  CHECK(put(*running.store, "B", 1, batch.substr(0, batch.size() - 3), "", true).status == PutStatus::kMessageIllegal);
}

TEST_CASE("MessageStore: queue offsets of concurrent senders are dense and unique", "[store]") {
  Directory directory;
  Running running(small_options(directory.path));
  std::mutex mutex;
  std::set<QueueOffset> offsets;
  std::vector<std::thread> senders;
  for (int s = 0; s < 4; ++s)
    senders.emplace_back([&] {
      for (int i = 0; i < 250; ++i) {
        MessageDraft draft;
        draft.topic = "C";
        draft.body = "x";
        running.store->append(draft, [&](PutResult r) {
          std::lock_guard lock(mutex);
          offsets.insert(r.queue_offset);
        });
      }
    });
  for (auto& sender : senders) sender.join();
  // Those that came before the log was ready are answered by the store's own thread.
  REQUIRE(test::eventually([&] {
    std::lock_guard lock(mutex);
    return offsets.size() == 1000;
  }));
  CHECK(*offsets.rbegin() == 999);
  REQUIRE(running.wait_for("C-0", 1000));
}

TEST_CASE("MessageStore: a restart finds everything and goes on where it was", "[store]") {
  Directory directory;
  {
    Running running(small_options(directory.path));
    for (int i = 0; i < 200; ++i) put(*running.store, "R", 0, "body " + std::to_string(i));
  }
  CHECK(!fs::exists(directory.path / "abort"));
  Running running(small_options(directory.path));
  CHECK(running.store->max_offset("R", 0) == 200);
  CHECK(put(*running.store, "R", 0, "next").queue_offset == 200);
  auto got = running.store->get("R", 0, 199, {}, nullptr);
  REQUIRE(got.status == GetStatus::kFound);
  CHECK(body_of(got.records[0]) == "body 199");
}

TEST_CASE("MessageStore: after a crash everything appended is there, whatever the queues knew", "[store]") {
  Directory directory, copies;
  int kept_queues = GENERATE(0, 1);
  fs::path copy = copies.path / "crashed";
  {
    Running running(small_options(directory.path));
    for (int i = 0; i < 300; ++i) put(*running.store, "K", i % 2, "body " + std::to_string(i));
    REQUIRE(running.wait_for("K-1", 150));
    REQUIRE(running.wait_for("K-0", 150));
    fs::copy(directory.path, copy, fs::copy_options::recursive);
  }
  REQUIRE(fs::exists(copy / "abort"));
  if (!kept_queues) fs::remove_all(copy / "consumequeue");
  Running running(small_options(copy));
  for (int queue = 0; queue < 2; ++queue) {
    CHECK(running.store->max_offset("K", queue) == 150);
    for (QueueOffset at = 0; at < 150;) {
      auto got = running.store->get("K", queue, at, {}, nullptr);
      REQUIRE(got.status == GetStatus::kFound);
      for (auto& record : got.records) CHECK(body_of(record) == "body " + std::to_string(at++ * 2 + queue));
    }
  }
  CHECK(put(*running.store, "K", 0, "next").queue_offset == 150);
}

TEST_CASE("MessageStore: a torn last record is cut and its place is used again", "[store]") {
  Directory directory, copies;
  fs::path copy = copies.path / "torn";
  LogOffset last = 0;
  {
    Running running(small_options(directory.path));
    for (int i = 0; i < 20; ++i) last = put(*running.store, "T", 0, std::string(500, 'b')).offsets[0];
    REQUIRE(running.wait_for("T-0", 20));
    fs::copy(directory.path, copy, fs::copy_options::recursive);
  }
  {
    std::fstream log(copy / "commitlog" / file_name_of(0), std::ios::in | std::ios::out | std::ios::binary);
    log.seekp(last + 300);
    log << std::string(400, '\0');
  }
  {
    Running running(small_options(copy));
    CHECK(running.store->figures().log_max_offset == last);
    CHECK(running.store->max_offset("T", 0) == 19);
    auto again = put(*running.store, "T", 0, "in its place");
    CHECK(again.queue_offset == 19);
    CHECK(again.offsets[0] == last);
  }
  Running running(small_options(copy));
  auto got = running.store->get("T", 0, 19, {}, nullptr);
  REQUIRE(got.status == GetStatus::kFound);
  CHECK(body_of(got.records[0]) == "in its place");
}

TEST_CASE("MessageStore: a directory is refused that was written with other sizes", "[store]") {
  Directory directory;
  {
    Running running(small_options(directory.path));
    put(*running.store, "T", 0, "b");
  }
  auto options = small_options(directory.path);
  options.commit_log_file_bytes *= 2;
  Logger logger;
  auto opened = MessageStore::open(options, logger);
  REQUIRE(!opened);
  CHECK(opened.error().message.find("mappedFileSizeCommitLog") != std::string::npos);
}

TEST_CASE("MessageStore: a directory in another form is refused by name", "[store]") {
  Directory directory;
  fs::create_directories(directory.path / "dledger-n0");
  Logger logger;
  auto opened = MessageStore::open(small_options(directory.path), logger);
  REQUIRE(!opened);
  CHECK(opened.error().code == Errc::kUnsupported);
  CHECK(opened.error().message.find("DLedger") != std::string::npos);
}

TEST_CASE("MessageStore: under SYNC_FLUSH an answer and the readers wait for the sync", "[store]") {
  Directory directory;
  auto options = small_options(directory.path);
  options.flush_disk_type = FlushDiskType::kSync;
  Running running(options);
  for (int i = 0; i < 20; ++i) {
    auto result = put(*running.store, "S", 0, "durable");
    REQUIRE(result.status == PutStatus::kOk);
    CHECK(running.store->figures().flushed_offset > result.offsets[0]);
  }
  REQUIRE(running.wait_for("S-0", 20));
}

TEST_CASE("MessageStore: offsets by time, both boundaries", "[store]") {
  Directory directory;
  Running running(small_options(directory.path));
  std::vector<int64_t> times;
  for (int i = 0; i < 50; ++i) times.push_back(put(*running.store, "T", 0, "b").store_timestamp_ms);
  REQUIRE(running.wait_for("T-0", 50));
  auto& store = *running.store;
  CHECK(store.offset_by_time("T", 0, 0, TimeBoundary::kLower) == 0);
  CHECK(store.offset_by_time("T", 0, times.back() + 1000, TimeBoundary::kLower) == 50);
  CHECK(store.offset_by_time("T", 0, times.back() + 1000, TimeBoundary::kUpper) == 49);
  for (auto time : times) {
    auto first = static_cast<QueueOffset>(std::lower_bound(times.begin(), times.end(), time) - times.begin());
    auto last = static_cast<QueueOffset>(std::upper_bound(times.begin(), times.end(), time) - times.begin()) - 1;
    CHECK(store.offset_by_time("T", 0, time, TimeBoundary::kLower) == first);
    CHECK(store.offset_by_time("T", 0, time, TimeBoundary::kUpper) == last);
  }
  CHECK(store.store_time_ms("T", 0, 3) == times[3]);
  CHECK(!store.store_time_ms("T", 0, 50));
}

TEST_CASE("MessageStore: long topics are stored as V2 and found by position", "[store]") {
  Directory directory;
  Running running(small_options(directory.path));
  std::string topic(200, 't');
  auto result = put(*running.store, topic, 0, "long");
  REQUIRE(result.status == PutStatus::kOk);
  REQUIRE(running.wait_for(topic + "-0", 1));
  auto record = running.store->record_at(result.offsets[0]);
  REQUIRE(record);
  auto decoded = message::decode_record(record->bytes);
  REQUIRE(decoded);
  CHECK(decoded->magic == message::kRecordMagicV2);
  CHECK(decoded->topic == topic);
  CHECK(!running.store->record_at(result.offsets[0] + 1));
  CHECK(!running.store->record_at(-5));
  CHECK(!running.store->record_at(1LL << 50));
}

TEST_CASE("MessageStore: what is too long is refused and named", "[store]") {
  Directory directory;
  auto options = small_options(directory.path);
  options.message_bytes_max = 1000;
  Running running(options);
  CHECK(put(*running.store, "T", 0, std::string(1001, 'x')).status == PutStatus::kMessageIllegal);
  CHECK(put(*running.store, "T", 0, "x", std::string(40'000, 'p')).status == PutStatus::kPropertiesSizeExceeded);
  CHECK(put(*running.store, "", 0, "x").status == PutStatus::kMessageIllegal);
  CHECK(put(*running.store, std::string(300, 't'), 0, "x").status == PutStatus::kMessageIllegal);
  CHECK(put(*running.store, "T", 0, "x").queue_offset == 0);
}

TEST_CASE("MessageStore: properties that recovery would take for lost are refused, others with zeros survive",
          "[store]") {
  Directory directory;
  const std::string zeros(512, '\0'), name("a\x01", 2), end("\x02", 1);
  std::vector<std::string> kept;
  {
    Running running(small_options(directory.path));
    for (const auto& bad : {std::string(1, '\0') + name + "b", name + std::string(1, '\0'), name + zeros + end}) {
      for (const bool batch : {false, true}) {
        std::string body = "body";
        if (batch) message::append_batch_message(body = "", {7, "body", bad});
        const auto put_one = put(*running.store, "T", 0, body, batch ? "" : bad, batch);
        CHECK(put_one.status == PutStatus::kMessageIllegal);
        CHECK(put_one.detail.find("zeros") != std::string::npos);
      }
    }
    // At whatever place in a sector they come to lie.
    for (int i = 0; i < 600; ++i) {
      kept.push_back("body " + std::to_string(i));
      REQUIRE(put(*running.store, "T", 0, kept.back(), name + zeros.substr(1) + end).status == PutStatus::kOk);
    }
    REQUIRE(running.wait_for("T-0", 600));
  }
  Running running(small_options(directory.path));
  for (int i = 0; i < 600; ++i) {
    auto got = running.store->get("T", 0, i, {}, nullptr);
    REQUIRE(got.status == GetStatus::kFound);
    CHECK(body_of(got.records[0]) == kept[static_cast<size_t>(i)]);
  }
}

TEST_CASE("MessageStore: two thousand queues, more than there are open files", "[store]") {
  Directory directory;
  Running running(small_options(directory.path));
  for (int round = 0; round < 2; ++round)
    for (int queue = 0; queue < 2000; ++queue) put(*running.store, "Many", queue, std::to_string(queue));
  for (int queue = 0; queue < 2000; ++queue) REQUIRE(running.wait_for("Many-" + std::to_string(queue), 2));
  for (int queue = 0; queue < 2000; queue += 37) {
    auto got = running.store->get("Many", queue, 1, {}, nullptr);
    REQUIRE(got.status == GetStatus::kFound);
    CHECK(body_of(got.records[0]) == std::to_string(queue));
  }
}

TEST_CASE("MessageStore: a deleted topic is gone and its records outlive the store for who holds them", "[store]") {
  Directory directory;
  std::vector<SharedBytes> held;
  {
    Running running(small_options(directory.path));
    put(*running.store, "Gone", 0, "still here");
    REQUIRE(running.wait_for("Gone-0", 1));
    held = running.store->get("Gone", 0, 0, {}, nullptr).records;
    running.store->delete_topic("Gone");
    CHECK(running.store->get("Gone", 0, 0, {}, nullptr).status == GetStatus::kNoMatchedLogicQueue);
    CHECK(!fs::exists(directory.path / "consumequeue" / "Gone"));
  }
  REQUIRE(held.size() == 1);
  CHECK(body_of(held[0]) == "still here");
}

TEST_CASE("MessageStore: a deleted topic stays deleted when the log is read again, and goes on with its offsets",
          "[store]") {
  Directory directory;
  {
    Running running(small_options(directory.path));
    for (int i = 0; i < 5; ++i) put(*running.store, "Gone", 0, "old");
    // Not waited for: the dispatcher may be behind.
    running.store->delete_topic("Gone");
    put(*running.store, "Other", 0, "body");
    REQUIRE(running.wait_for("Other-0", 1));
    CHECK(running.store->max_offset("Gone", 0) == 0);
  }
  // As after a crash before the first checkpoint: everything is dispatched again.
  fs::remove(directory.path / "checkpoint");
  REQUIRE(io::posix_file_system().open((directory.path / "abort").string(), io::OpenMode::kCreate));
  Running running(small_options(directory.path));
  CHECK(running.store->get("Other", 0, 0, {}, nullptr).records.size() == 1);
  CHECK(running.store->get("Gone", 0, 0, {}, nullptr).status == GetStatus::kNoMatchedLogicQueue);
  CHECK(!fs::exists(directory.path / "consumequeue" / "Gone"));
  CHECK(put(*running.store, "Gone", 0, "new").queue_offset == 5);
  REQUIRE(running.wait_for("Gone-0", 6));
  auto got = running.store->get("Gone", 0, 5, {}, nullptr);
  REQUIRE(got.records.size() == 1);
  CHECK(body_of(got.records[0]) == "new");
  CHECK(running.store->min_offset("Gone", 0) == 5);
}

}  // namespace apogee::store
