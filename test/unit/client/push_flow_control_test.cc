// Push consumers: pulling stops while too much is cached, or while the consumer is paused.

#include <atomic>

#include "test/support/catch.h"
#include "test/unit/client/consumer_bench.h"

namespace apogee::test {

using remoting::RequestCode;

TEST_CASE("pulling stops while too much is cached", "[client][push]") {
  FakeCluster cluster;
  cluster.add_topic("T", 1);
  for (int i = 0; i < 200; ++i) cluster.broker().append("T", 0, std::to_string(i));
  auto config = push_config(cluster);
  config.cached_messages_max = 20;
  config.pull_batch = 10;
  Seen seen;
  std::atomic<bool> open{false};
  PushConsumer consumer(config);
  consumer.set_concurrent_listener([&](const std::vector<ReceivedMessage>& messages, ConcurrentContext&) {
    eventually([&] { return open.load(); });
    seen.add(messages[0]);
    return ConsumeResult::kSuccess;
  });
  REQUIRE(consumer.subscribe("T"));
  REQUIRE(consumer.start());
  auto pulled = [&] {
    int count = 0;
    for (const auto& request : cluster.broker().requests(RequestCode::kPullMessage))
      count += request.ext.get("topic") == "T";
    return count;
  };
  REQUIRE(eventually([&] { return pulled() == 2; }));
  REQUIRE(time_passes(cluster));
  CHECK(pulled() == 2);
  open = true;
  REQUIRE(eventually([&] { return seen.count() == 200; }));
}

TEST_CASE("a paused consumer hands out nothing", "[client][push]") {
  FakeCluster cluster;
  cluster.add_topic("T", 1);
  Seen seen;
  PushConsumer consumer(push_config(cluster));
  consumer.set_concurrent_listener(keep(seen));
  REQUIRE(consumer.subscribe("T"));
  REQUIRE(consumer.start());
  REQUIRE(eventually([&] { return consumer.assignment().size() == 1; }));
  consumer.pause();
  cluster.broker().append("T", 0, "x");
  REQUIRE(time_passes(cluster));
  CHECK(seen.count() == 0);
  consumer.resume();
  CHECK(eventually([&] { return seen.count() == 1; }));
}

}  // namespace apogee::test
