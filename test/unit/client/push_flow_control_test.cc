// Push consumers: pulling stops while too much is cached, or while the consumer is paused.

#include <algorithm>
#include <atomic>

#include "test/support/catch.h"
#include "test/unit/client/consumer_bench.h"

namespace apogee::test {

using remoting::RequestCode;

namespace {

/// Pulls of topic T that the broker got.
int pulls(FakeCluster& cluster) {
  int count = 0;
  for (const auto& request : cluster.broker().requests(RequestCode::kPullMessage))
    count += request.ext.get("topic") == "T";
  return count;
}

/// Subscribes to T; no more than two pulls come before `open` is set.
void start_and_open(FakeCluster& cluster, PushConsumer& consumer, std::atomic<bool>& open) {
  REQUIRE(consumer.subscribe("T"));
  REQUIRE(consumer.start());
  REQUIRE(eventually([&] { return pulls(cluster) == 2; }));
  REQUIRE(time_passes(cluster));
  CHECK(pulls(cluster) == 2);
  open = true;
}

}  // namespace

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
  start_and_open(cluster, consumer, open);
  REQUIRE(eventually([&] { return seen.count() == 200; }));
}

TEST_CASE("an orderly consumer pulls again when it has made room, by bytes too", "[client][push]") {
  FakeCluster cluster;
  cluster.add_topic("T", 1);
  for (int i = 0; i < 100; ++i) cluster.broker().append("T", 0, std::string(100, 'x'));
  auto config = push_config(cluster);
  config.cached_bytes_max = 1'000;
  config.pull_batch = 5;
  config.consume_batch_max = 3;
  Seen seen;
  std::atomic<bool> open{false};
  std::atomic<size_t> handed_out_max{0};
  PushConsumer consumer(config);
  consumer.set_orderly_listener([&](const std::vector<ReceivedMessage>& messages, OrderlyContext&) {
    eventually([&] { return open.load(); });
    for (const auto& message : messages) seen.add(message);
    handed_out_max = std::max(handed_out_max.load(), messages.size());
    return OrderlyResult::kSuccess;
  });
  start_and_open(cluster, consumer, open);
  REQUIRE(eventually([&] { return seen.count() == 100; }));
  CHECK(handed_out_max == 3);
  CHECK(eventually([&] { return cluster.broker().offset("G", "T", 0) == 100; }));
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
  cluster.broker().append("T", 0, "y");  // it pulls again
  CHECK(eventually([&] { return seen.count() == 2; }));
}

}  // namespace apogee::test
