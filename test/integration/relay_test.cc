// What a broker carries from an admin to a running consumer and back.
#include <atomic>
#include <stdexcept>

#include "test/integration/sdk_bench.h"

namespace apogee::test {

using namespace std::chrono_literals;

namespace {

/// A cluster with one topic, messages in it, and an admin.
struct Bench {
  explicit Bench(const std::string& topic, int queues = 1) : topic(topic) {
    cluster.create_topic(topic, queues);
    REQUIRE(producer.start());
  }
  SendReceipt send(const std::string& body) {
    auto receipt = producer.send(Message(topic, body).set_tags("A").set_keys("key of " + body));
    if (!receipt) FAIL(receipt.error().message);
    return *receipt;
  }
  admin::ConsumedDirectly consume(const PushConsumer& consumer, const SendReceipt& receipt) {
    auto consumed = admin.consume_directly("relay_group", consumer.client_id(), receipt.offset_msg_id);
    if (!consumed) FAIL(consumed.error().message);
    return *consumed;
  }
  std::string topic;
  Cluster cluster;
  Producer producer{producer_config(cluster)};
  AdminClient admin{admin_config(cluster)};
};

}  // namespace

TEST_CASE("a stored message is consumed directly: success, later, an exception", "[integration][relay]") {
  Bench bench("Direct");
  const auto good = bench.send("good"), later = bench.send("later"), bad = bench.send("bad"), odd = bench.send("odd");
  std::atomic<int> goods{0};
  PushConsumer consumer(consumer_config<PushConsumerConfig>(bench.cluster, "relay_group", "one"));
  consumer.set_concurrent_listener([&](const std::vector<ReceivedMessage>& messages, ConcurrentContext&) {
    const auto& message = messages.front();
    if (message.body() == "good" && message.topic() == "Direct" && message.keys() == "key of good" &&
        message.tags() == "A" && message.offset_msg_id() == good.offset_msg_id && message.msg_id() == good.msg_id) {
      ++goods;
    }
    if (message.body() == "bad") throw std::runtime_error("cannot be booked");
    if (message.body() == "odd") throw 7;
    return message.body() == "good" ? ConsumeResult::kSuccess : ConsumeResult::kLater;
  });
  REQUIRE(consumer.subscribe("Direct"));
  REQUIRE(consumer.start());
  REQUIRE(eventually([&] { return goods == 1; }));

  auto consumed = bench.consume(consumer, good);
  CHECK(consumed.result == "CR_SUCCESS");
  CHECK_FALSE(consumed.order);
  CHECK(consumed.spent_ms >= 0);
  CHECK(goods == 2);
  CHECK(bench.consume(consumer, later).result == "CR_LATER");
  consumed = bench.consume(consumer, bad);
  CHECK(consumed.result == "CR_THROW_EXCEPTION");
  CHECK(consumed.remark == "cannot be booked");
  CHECK(bench.consume(consumer, odd).result == "CR_THROW_EXCEPTION");

  auto refused = bench.admin.consume_directly("relay_group", "nobody", good.offset_msg_id);
  REQUIRE_FALSE(refused);
  CHECK(refused.error().message.find("not online") != std::string::npos);
  CHECK_FALSE(bench.admin.consume_directly("relay_group", consumer.client_id(), "no id"));
}

TEST_CASE("a stored message is consumed directly by an orderly consumer", "[integration][relay]") {
  Bench bench("DirectOrder");
  const auto good = bench.send("good"), later = bench.send("later");
  std::atomic<int> calls{0};
  PushConsumer consumer(consumer_config<PushConsumerConfig>(bench.cluster, "relay_group", "one"));
  consumer.set_orderly_listener([&](const std::vector<ReceivedMessage>& messages, OrderlyContext&) {
    ++calls;
    return messages.front().body() == "good" ? OrderlyResult::kSuccess : OrderlyResult::kSuspend;
  });
  REQUIRE(consumer.subscribe("DirectOrder"));
  REQUIRE(consumer.start());
  REQUIRE(eventually([&] { return calls >= 2; }));
  auto consumed = bench.consume(consumer, good);
  CHECK(consumed.result == "CR_SUCCESS");
  CHECK(consumed.order);
  CHECK(bench.consume(consumer, later).result == "CR_LATER");
}

TEST_CASE("a running consumer says what it does", "[integration][relay]") {
  Bench bench("Running", 2);
  Seen seen;
  auto config = consumer_config<PushConsumerConfig>(bench.cluster, "relay_group", "one");
  config.consume_threads = 3;
  auto consumer = listen(config, "Running", "A || B", seen);
  for (int i = 0; i < 10; ++i) bench.send(std::to_string(i));
  REQUIRE(eventually([&] { return seen.count() == 10; }));
  REQUIRE(eventually([&] {
    auto state = bench.admin.consumer_state("relay_group", consumer->client_id(), false);
    if (!state) return false;  // the group's retry topic is with the NameServer a moment later
    int64_t committed = 0;
    for (const auto& [queue, held] : state->queues) {
      if (queue.topic == "Running") committed += held.commit_offset;
    }
    return committed == 10;
  }));
  auto state = bench.admin.consumer_state("relay_group", consumer->client_id(), false);
  REQUIRE(state);
  CHECK(state->properties.at("PROP_CONSUMEORDERLY") == "false");
  CHECK(state->properties.at("PROP_THREADPOOL_CORE_SIZE") == "3");
  REQUIRE(state->subscriptions.size() == 2);
  CHECK(state->queues.count({"Running", "broker-a", 1}) == 1);
  for (const auto& [queue, held] : state->queues) {
    CHECK(held.cached_messages == 0);
    CHECK_FALSE(held.dropped);
    CHECK(held.last_pull_ms > 0);
  }
  CHECK(state->topics.count("Running") == 1);
  auto status = bench.admin.consumer_status("relay_group", "Running");
  REQUIRE(status);
  REQUIRE(status->count(consumer->client_id()) == 1);
  CHECK(status->at(consumer->client_id()).size() == 2);
}

TEST_CASE("offsets are reset while a consumer runs: it gets everything again, and nothing of what it skips",
          "[integration][relay]") {
  Bench bench("Reset", 2);
  Seen seen;
  auto consumer = listen(consumer_config<PushConsumerConfig>(bench.cluster, "relay_group", "one"), "Reset", "*", seen);
  for (int i = 0; i < 20; ++i) bench.send(std::to_string(i));
  REQUIRE(eventually([&] { return seen.count() == 20; }));
  auto committed = [&] {
    auto progress = bench.admin.group_progress("relay_group", "Reset");
    if (!progress) FAIL(progress.error().message);
    int64_t sum = 0;
    for (const auto& [queue, offsets] : progress->queues) sum += offsets.consumer_offset;
    return sum;
  };
  REQUIRE(eventually([&] { return committed() == 20; }));

  admin::OffsetReset reset;
  reset.group = "relay_group";
  reset.topic = "Reset";
  reset.timestamp_ms = 0;
  auto offsets = bench.admin.reset_offset_by_time(reset);
  if (!offsets) FAIL(offsets.error().message);
  CHECK(offsets->size() == 2);
  for (const auto& [queue, offset] : *offsets) CHECK(offset == 0);
  CHECK(eventually([&] { return seen.count() == 40; }));
  CHECK(eventually([&] { return committed() == 20; }));
  CHECK(seen.distinct().size() == 20);

  // Past what a paused consumer has not seen yet.
  consumer->pause();
  for (int i = 20; i < 30; ++i) bench.send("skipped " + std::to_string(i));
  reset.timestamp_ms = -1;
  REQUIRE(bench.admin.reset_offset_by_time(reset));
  CHECK(eventually([&] { return committed() == 30; }));
  consumer->resume();
  bench.send("seen");
  CHECK(eventually([&] { return seen.distinct().count("seen") == 1; }));
  CHECK(eventually([&] { return committed() == 31; }));
}

}  // namespace apogee::test
