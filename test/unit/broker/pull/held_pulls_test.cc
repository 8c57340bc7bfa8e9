#include "broker/pull/held_pulls.h"

#include <atomic>
#include <thread>

#include "test/support/catch.h"

using namespace apogee;
using namespace apogee::broker;

namespace {

struct Bench {
  std::vector<std::function<void()>> posted;
  HeldPulls held{[this](remoting::ConnectionId, std::function<void()> task) { posted.push_back(std::move(task)); },
                 100};
  int resumed = 0;

  HeldPulls::Pull pull(int64_t offset, int64_t deadline_ms = 1'000, remoting::ConnectionId connection = 1) {
    HeldPulls::Pull made;
    made.connection = connection;
    made.topic = "T";
    made.offset = offset;
    made.deadline_ms = deadline_ms;
    made.resume = [this] { ++resumed; };
    return made;
  }
  int run() {
    for (auto& task : posted) task();
    posted.clear();
    return std::exchange(resumed, 0);
  }
};

}  // namespace

TEST_CASE("an arrival wakes the pulls of its queue, each once", "[broker][pull]") {
  Bench bench;
  CHECK(bench.held.hold(bench.pull(5)) != 0);
  CHECK(bench.held.hold(bench.pull(5)) != 0);
  bench.held.on_arrivals({{"T", 1, 6, 0}, {"U", 0, 6, 0}, {"T", 0, 5, 0}});
  CHECK(bench.run() == 0);
  bench.held.on_arrivals({{"T", 0, 6, 0}});
  CHECK(bench.run() == 2);
  CHECK(bench.held.size() == 0);
  bench.held.on_arrivals({{"T", 0, 7, 0}});
  bench.held.expire(10'000);
  CHECK(bench.run() == 0);
}

TEST_CASE("a tag that is not wanted does not wake, unless others may hide behind it", "[broker][pull]") {
  Bench bench;
  auto pull = bench.pull(5);
  pull.filter = [](int64_t code) { return code == 42; };
  CHECK(bench.held.hold(std::move(pull)) != 0);
  bench.held.on_arrivals({{"T", 0, 6, 1}});
  bench.held.on_arrivals({{"T", 0, 7, 1}});
  CHECK(bench.run() == 0);
  bench.held.on_arrivals({{"T", 0, 9, 1}});  // two at once: only the code of the last is known
  CHECK(bench.run() == 1);
  pull = bench.pull(9);
  pull.filter = [](int64_t code) { return code == 42; };
  CHECK(bench.held.hold(std::move(pull)) != 0);
  bench.held.on_arrivals({{"T", 0, 10, 42}});
  CHECK(bench.run() == 1);
}

TEST_CASE("pulls expire by their own deadlines", "[broker][pull]") {
  Bench bench;
  CHECK(bench.held.hold(bench.pull(0, 100)) != 0);
  CHECK(bench.held.hold(bench.pull(0, 200)) != 0);
  bench.held.expire(99);
  CHECK(bench.run() == 0);
  bench.held.expire(100);
  CHECK(bench.run() == 1);
  bench.held.expire(1'000);
  CHECK(bench.run() == 1);
}

TEST_CASE("pulls of a closed connection are dropped without an answer", "[broker][pull]") {
  Bench bench;
  CHECK(bench.held.hold(bench.pull(0, 100, 7)) != 0);
  CHECK(bench.held.hold(bench.pull(0, 100, 8)) != 0);
  bench.held.connection_closed(7);
  CHECK(bench.held.size() == 1);
  bench.held.on_arrivals({{"T", 0, 1, 0}});
  CHECK(bench.run() == 1);
}

TEST_CASE("no more pulls are held than allowed, and none while stopping", "[broker][pull]") {
  Bench bench;
  bench.held.set_max(1);
  CHECK(bench.held.hold(bench.pull(0)) != 0);
  CHECK(bench.held.hold(bench.pull(0)) == 0);
  CHECK(bench.held.size() == 1);
  bench.held.release_all();
  CHECK(bench.run() == 1);
  CHECK(bench.held.hold(bench.pull(0)) == 0);
  CHECK(bench.held.size() == 0);
}

TEST_CASE("each held pull ends exactly once whatever happens at the same time", "[broker][pull]") {
  std::atomic<int> resumed{0}, held_count{0};
  HeldPulls held([](remoting::ConnectionId, const std::function<void()>& task) { task(); }, 1'000'000);
  std::atomic<bool> stop{false};
  std::thread arrivals([&] {
    for (int64_t end = 1; !stop; ++end) held.on_arrivals({{"T", 0, end, 0}, {"T", 1, end, 0}});
  });
  std::thread deadlines([&] {
    while (!stop) held.expire(50);
  });
  std::vector<std::thread> holders;
  for (int t = 0; t < 2; ++t)
    holders.emplace_back([&, t] {
      for (int i = 0; i < 2'000; ++i) {
        HeldPulls::Pull pull;
        pull.connection = 1;
        pull.topic = "T";
        pull.queue_id = t;
        pull.offset = i % 2 == 0 ? 0 : INT64_MAX;
        pull.deadline_ms = i % 3 == 0 ? 50 : 100;
        pull.resume = [&resumed] { ++resumed; };
        if (held.hold(std::move(pull)) != 0) ++held_count;
      }
    });
  for (auto& holder : holders) holder.join();
  stop = true;
  arrivals.join();
  deadlines.join();
  held.release_all();
  CHECK(resumed == held_count);
  CHECK(held_count == 4'000);
  CHECK(held.size() == 0);
}

TEST_CASE("pulls of other queues and connections use the room of those before", "[broker][pull]") {
  Bench bench;
  for (int round = 0; round < 200; ++round) {
    const std::string topic = "a topic of round " + std::to_string(round % 7);
    for (int i = 0; i < 3; ++i) {
      auto pull = bench.pull(round, 100 + round, static_cast<remoting::ConnectionId>(round * 3 + i));
      pull.topic = topic;
      pull.queue_id = i % 2;
      REQUIRE(bench.held.hold(std::move(pull)) != 0);
    }
    bench.held.on_arrivals({{"a topic of round 9", 0, round + 1, 0}, {topic, 1, round, 0}});
    REQUIRE(bench.run() == 0);
    bench.held.on_arrivals({{topic, 1, round + 1, 0}});
    REQUIRE(bench.run() == 1);
    bench.held.connection_closed(static_cast<remoting::ConnectionId>(round * 3 + 1));  // its pull is answered
    bench.held.connection_closed(static_cast<remoting::ConnectionId>(round * 3 + 2));
    REQUIRE(bench.held.size() == 1);
    bench.held.expire(99 + round);
    REQUIRE(bench.run() == 0);
    bench.held.expire(100 + round);
    REQUIRE(bench.run() == 1);
    REQUIRE(bench.held.size() == 0);
  }
}
