#include <atomic>
#include <filesystem>
#include <string>
#include <thread>
#include <utility>

#include "test/support/memory_file_system.h"
#include "test/support/wait.h"
#include "test/unit/store/store_bench.h"

// Entries of queues that are in memory, and in no file yet.

using namespace apogee;
using namespace apogee::store;

TEST_CASE("MessageStore: entries are read before they are written to files, with those that are in them",
          "[store][queues]") {
  Directory directory;
  Running running(small_options(directory.path));
  constexpr int kMessages = 300;  // more than stay in memory, over several files
  for (int i = 0; i < kMessages; ++i) {
    REQUIRE(put(*running.store, "T", 0, std::to_string(i)).stored());
    if (i % 50 != 0) continue;
    REQUIRE(running.wait_for("T-0", i + 1));
    const auto entries = running.store->queue_entries("T", 0, 0, kMessages);
    REQUIRE(entries.size() == static_cast<size_t>(i + 1));
    for (size_t at = 1; at < entries.size(); ++at) CHECK(entries[at].physical_offset > entries[at - 1].physical_offset);
  }
  REQUIRE(running.wait_for("T-0", kMessages));
  GetLimits limits;
  limits.count_max = kMessages;
  const auto got = running.store->get("T", 0, 0, limits, {});
  REQUIRE(got.records.size() == kMessages);
  for (size_t i = 0; i < got.records.size(); ++i) CHECK(body_of(got.records[i]) == std::to_string(i));
}

TEST_CASE("MessageStore: while somebody waits, who appends adds to the queue before the answer", "[store][queues]") {
  Directory directory;
  StoreOptions options = small_options(directory.path);
  const Logger quiet;
  auto opened = MessageStore::open(options, quiet);
  REQUIRE(opened);
  auto store = std::move(*opened);
  std::atomic<bool> waiting{true};
  store->set_waiting([&] { return waiting.load(); });
  REQUIRE(store->start());
  for (int i = 0; i < 100; ++i) {
    REQUIRE(put(*store, "T", i % 3, "x").stored());
    // Another thread may be at it in the first moments only.
    CHECK(test::eventually([&] { return store->max_offset("T", i % 3) == i / 3 + 1; }));
  }
  waiting = false;
  REQUIRE(put(*store, "T", 0, "x").stored());
  CHECK(test::eventually([&] { return store->max_offset("T", 0) == 35; }));
  store->stop();
  store = nullptr;
  auto again = MessageStore::open(options, quiet);
  REQUIRE(again);
  CHECK((*again)->max_offset("T", 0) == 35);
  CHECK((*again)->queue_entries("T", 0, 0, 100).size() == 35);
}

TEST_CASE("MessageStore: entries go to files also while appends never pause and nobody waits", "[store][queues]") {
  Directory directory;
  StoreOptions options = small_options(directory.path);
  options.commit_log_file_bytes = 64 << 20;
  options.keep_interval_ms = 3'600'000;  // the store keeper writes them too
  const Logger quiet;
  auto opened = MessageStore::open(options, quiet);
  REQUIRE(opened);
  auto store = std::move(*opened);
  // The dispatcher asks this whenever it has added something. Each time there is more when it looks again.
  std::atomic<bool> enough{false};
  const auto own_thread = std::this_thread::get_id();
  store->set_waiting([&] {
    if (!enough && std::this_thread::get_id() != own_thread) {
      thread_local bool appending = false;
      if (!std::exchange(appending, true)) {
        (void)put_if_answered(*store, "T", 0, "x");
        appending = false;
      }
    }
    return false;
  });
  REQUIRE(store->start());
  REQUIRE(put(*store, "T", 0, "x").stored());
  const auto file = directory.path / "consumequeue" / "T" / "0" / std::string(20, '0');
  CHECK(test::eventually([&] { return std::filesystem::exists(file); }));
  enough = true;
  CHECK(test::eventually([&] { return store->max_offset("T", 0) > 10; }));
  store->stop();
}

TEST_CASE("MessageStore: who begins to wait has what was appended before in the queues", "[store][queues]") {
  Directory directory;
  const Logger quiet;
  auto opened = MessageStore::open(small_options(directory.path), quiet);
  REQUIRE(opened);
  auto store = std::move(*opened);
  store->set_waiting([] { return false; });
  REQUIRE(store->start());
  constexpr int kMessages = 200;
  int at_once = 0;
  for (int i = 0; i < kMessages; ++i) {
    REQUIRE(put(*store, "T", 0, "x").stored());
    store->dispatch_appended();
    if (store->max_offset("T", 0) == i + 1) ++at_once;
    CHECK(test::eventually([&] { return store->max_offset("T", 0) == i + 1; }));
  }
  // Now and then the dispatcher is at it itself.
  CHECK(at_once > kMessages / 2);
  store->stop();
}

TEST_CASE("MessageStore: who reads in small steps sees what is there, whatever is written meanwhile",
          "[store][queues]") {
  Directory directory;
  Running running(small_options(directory.path));
  int64_t written = 0;
  const auto write = [&](int64_t count) {
    for (int64_t i = 0; i < count; ++i) REQUIRE(put(*running.store, "T", 0, std::to_string(written++)).stored());
    REQUIRE(running.wait_for("T-0", written));
  };
  GetLimits limits;
  GetResult got;
  QueueOffset next = 0;
  int64_t number = 0;  // of the message that comes next
  const auto read = [&](int32_t count) {
    limits.count_max = count;
    limits.joined = count % 2 == 0;
    running.store->get_into("T", 0, next, limits, {}, got);
    if (got.status != GetStatus::kFound) return 0;
    CHECK(got.next_begin_offset == next + got.messages);
    int32_t seen = 0;
    for (const auto& part : got.records)
      for (std::string_view rest = part.bytes; !rest.empty(); ++seen) {
        auto record = message::decode_record(rest);
        REQUIRE(record);
        CHECK(record->body == std::to_string(number++));
        CHECK(record->queue_offset == next + seen);
        if (seen + 1 == got.messages) CHECK(got.last_record == record->bytes);
        rest.remove_prefix(record->bytes.size());
      }
    CHECK(seen == got.messages);
    next = got.next_begin_offset;
    return seen;
  };
  write(700);
  for (int32_t count : {1, 2, 3, 32, 32, 32, 7, 64, 65, 100, 32, 31, 32, 32}) CHECK(read(count) == count);
  write(300);
  while (read(17) > 0) {
  }
  CHECK(next == written);
  // Back to the beginning, and here and there.
  for (QueueOffset from : {0, 500, 20, 52, 84, 999, 0}) {
    next = number = from;
    CHECK(read(32) == std::min<int64_t>(32, written - from));
    if (next < written) CHECK(read(32) > 0);
  }
  // The same queue with other messages: those of before are gone.
  next = number = 64;
  CHECK(read(32) == 32);
  CHECK(read(32) == 32);
  running.store->delete_topic("T");
  write(200);
  limits.count_max = 32;
  running.store->get_into("T", 0, 128, limits, {}, got);
  CHECK(got.status == GetStatus::kOffsetTooSmall);
  next = number = got.min_offset;
  CHECK(number == 1'000);
  while (read(32) > 0) {
  }
  CHECK(next == written);
}
