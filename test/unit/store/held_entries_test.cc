#include <atomic>

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
