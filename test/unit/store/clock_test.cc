// A clock that is set back or forward: store times never go back, so order and questions by time stay sane.
#include <algorithm>
#include <atomic>
#include <vector>

#include "test/support/catch.h"
#include "test/unit/store/store_bench.h"

namespace apogee::store {
namespace {

constexpr int64_t kMinute = 60'000;
constexpr int64_t kStart = 1'800'000'000'000;

struct Clocked {
  Directory directory;
  std::atomic<int64_t> now{kStart};
  std::unique_ptr<Running> running;
  std::vector<int64_t> times;  ///< as the answers to the sends said, by queue offset

  Clocked() { start(); }
  void start(bool crash = false) {
    running.reset();
    if (crash) REQUIRE(io::posix_file_system().open((directory.path / "abort").string(), io::OpenMode::kCreate));
    auto options = small_options(directory.path);
    options.now_ms = [this] { return now.load(); };
    running = std::make_unique<Running>(options);
  }
  MessageStore& store() { return *running->store; }
  void send(int count) {
    for (int i = 0; i < count; ++i) {
      auto result = put(store(), "T", 0, std::to_string(times.size()));
      REQUIRE(result.status == PutStatus::kOk);
      REQUIRE(result.queue_offset == static_cast<QueueOffset>(times.size()));
      times.push_back(result.store_timestamp_ms);
    }
    REQUIRE(running->wait_for("T-0", static_cast<QueueOffset>(times.size())));
  }
  /// Every time at which an answer could change, against a walk over all messages.
  void check() {
    const auto count = static_cast<QueueOffset>(times.size());
    for (size_t i = 1; i < times.size(); ++i) REQUIRE(times[i - 1] <= times[i]);
    for (QueueOffset at = 0; at < count; ++at) {
      CHECK(store().store_time_ms("T", 0, at) == times[static_cast<size_t>(at)]);
      auto got = store().get("T", 0, at, {1, 1'000}, nullptr);
      REQUIRE(got.records.size() == 1);
      CHECK(body_of(got.records[0]) == std::to_string(at));
    }
    for (int64_t time : times) {
      for (int64_t asked : {time - 1, time, time + 1}) {
        auto lower = std::lower_bound(times.begin(), times.end(), asked) - times.begin();
        auto upper = std::upper_bound(times.begin(), times.end(), asked) - times.begin();
        CHECK(store().offset_by_time("T", 0, asked, TimeBoundary::kLower) == lower);
        CHECK(store().offset_by_time("T", 0, asked, TimeBoundary::kUpper) == std::max<QueueOffset>(0, upper - 1));
      }
    }
  }
};

}  // namespace

TEST_CASE("Clock: set back by a minute, store times stand still until it has caught up", "[store][clock]") {
  Clocked bench;
  bench.send(5);
  bench.now += 10;
  bench.send(5);
  bench.now -= kMinute;
  bench.send(20);
  CHECK(bench.times.back() == kStart + 10);
  bench.check();
  bench.now += kMinute + 1;
  bench.send(5);
  CHECK(bench.times.back() == kStart + 11);
  bench.check();
}

TEST_CASE("Clock: set back and forward, with restarts in between", "[store][clock]") {
  Clocked bench;
  bench.send(3);
  bench.now -= kMinute;
  SECTION("after a stop") { bench.start(); }
  SECTION("after a crash") { bench.start(true); }
  bench.send(3);
  CHECK(bench.times.back() == kStart);  // nothing is stored before what was stored before the restart
  bench.check();
  bench.now += 30 * kMinute;  // far ahead, and back again
  bench.send(3);
  bench.now -= 29 * kMinute;
  bench.send(3);
  CHECK(bench.times.back() == bench.times[6]);
  bench.start(true);
  bench.check();
  bench.now -= 5 * kMinute;
  bench.send(200);  // files roll
  bench.check();
  bench.start();
  bench.check();
  bench.now += 60 * kMinute;
  bench.send(1);
  CHECK(bench.times.back() == bench.now);
  bench.check();
}

TEST_CASE("Clock: the queues of one log share its order", "[store][clock]") {
  Clocked bench;
  int64_t last = 0;
  for (int round = 0; round < 20; ++round) {
    bench.now += (round % 3 == 0 ? -kMinute : kMinute / 2);
    for (int queue = 0; queue < 3; ++queue) {
      auto result = put(bench.store(), "Many", queue, "body");
      REQUIRE(result.status == PutStatus::kOk);
      CHECK(result.store_timestamp_ms >= last);
      last = result.store_timestamp_ms;
    }
  }
}

}  // namespace apogee::store
