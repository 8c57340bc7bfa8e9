// Where a group begins and goes on: resets of groups that run and that do not, skipping, one message once more.
#include <atomic>

#include "test/integration/sdk_bench.h"
#include "test/support/run_program.h"

namespace apogee::test {

using namespace std::chrono_literals;

namespace {

constexpr const char* kTopic = "Offsets";
constexpr const char* kGroup = "offset_readers";

/// One topic of one queue, so that what is consumed has one order.
struct Bench {
  Bench() {
    cluster.create_topic(kTopic, 1);
    REQUIRE(producer.start());
  }
  void send(const std::string& prefix, int count) {
    for (int i = 0; i < count; ++i) REQUIRE(producer.send(Message(kTopic, prefix + std::to_string(i))));
  }
  PushConsumerConfig config(const std::string& group, ConsumeFrom from = ConsumeFrom::kFirst) {
    auto made = consumer_config<PushConsumerConfig>(cluster, group, group + std::to_string(++members));
    made.consume_from = from;
    return made;
  }
  bool committed(const std::string& group, int64_t offset) {
    return eventually(
        [&] {
          auto stored = admin.consumer_offset(group, queue);
          return stored && *stored == offset;
        },
        60s);
  }
  Ran mqadmin(std::vector<std::string> arguments) {
    arguments.insert(arguments.end(), {"-n", cluster.namesrv()});
    return run_program("tools/mqadmin", arguments, {});
  }
  const MessageQueue queue{kTopic, "broker-a", 0};
  int members = 0;
  Cluster cluster;
  Producer producer{producer_config(cluster)};
  AdminClient admin{admin_config(cluster)};
};

std::unique_ptr<PushConsumer> listen_in_order(PushConsumerConfig config, Seen& seen) {
  auto consumer = std::make_unique<PushConsumer>(std::move(config));
  consumer->set_orderly_listener([&seen](const std::vector<ReceivedMessage>& messages, OrderlyContext&) {
    seen.add("orderly", messages);
    return OrderlyResult::kSuccess;
  });
  REQUIRE(consumer->subscribe(kTopic));
  REQUIRE(consumer->start());
  return consumer;
}

}  // namespace

// The broker answers 0 for a queue that still has its first message in memory; then nobody looks further. Where it
// answers 22 instead is tested without processes, on both sides.
TEST_CASE("Offsets: in a young queue a new group begins at the first message, whatever it asks for",
          "[business][offsets]") {
  Bench bench;
  bench.send("m", 20);
  for (const auto from : {ConsumeFrom::kFirst, ConsumeFrom::kLast, ConsumeFrom::kTimestamp}) {
    const auto group = "new_group_" + std::to_string(static_cast<int>(from));
    Seen seen;
    auto consumer = listen(bench.config(group, from), kTopic, "*", seen);
    CHECK(eventually([&] { return seen.distinct().size() == 20; }, 60s));
  }
}

TEST_CASE("Offsets: a group that runs is sent back, also an orderly one", "[business][offsets]") {
  Bench bench;
  const bool orderly = GENERATE(false, true);
  bench.send("m", 20);
  Seen seen;
  auto consumer =
      orderly ? listen_in_order(bench.config(kGroup), seen) : listen(bench.config(kGroup), kTopic, "*", seen);
  REQUIRE(bench.committed(kGroup, 20));
  CHECK(seen.count() == 20);

  admin::OffsetReset reset;
  reset.group = kGroup;
  reset.topic = kTopic;
  reset.timestamp_ms = 0;
  auto offsets = bench.admin.reset_offset_by_time(reset);
  REQUIRE(offsets);
  CHECK((*offsets)[bench.queue] == 0);
  REQUIRE(eventually([&] { return seen.count() >= 40; }, 60s));
  REQUIRE(bench.committed(kGroup, 20));
  CHECK(seen.count() == 40);
  {
    std::lock_guard lock(seen.mutex);
    for (size_t i = 0; orderly && i < seen.bodies.size(); ++i) CHECK(seen.bodies[i] == "m" + std::to_string(i % 20));
  }
  bench.send("n", 1);
  CHECK(eventually([&] { return seen.distinct().count("n0") == 1; }, 60s));
}

TEST_CASE("Offsets: a group that is offline is reset to a time, and skips what has gathered", "[business][offsets]") {
  Bench bench;
  Seen seen;
  bench.send("a", 10);
  {
    auto consumer = listen(bench.config(kGroup), kTopic, "*", seen);
    REQUIRE(bench.committed(kGroup, 10));
    REQUIRE(consumer->shutdown());
  }
  const int64_t before = wall_ms();
  REQUIRE(eventually([&] { return wall_ms() > before + 50; }));
  bench.send("b", 10);
  auto ran = bench.mqadmin({"resetOffsetByTime", "-g", kGroup, "-t", kTopic, "-s", std::to_string(before + 25)});
  INFO(ran.out << ran.err);
  REQUIRE(ran.exit_code == 0);
  CHECK(bench.committed(kGroup, 10));
  REQUIRE(bench.mqadmin({"resetOffsetByTime", "-g", kGroup, "-t", kTopic, "-s", "0"}).exit_code == 0);
  CHECK(bench.committed(kGroup, 0));
  // Without force a group never goes forward.
  REQUIRE(bench.mqadmin({"skipAccumulatedMessage", "-g", kGroup, "-t", kTopic, "-f", "false"}).exit_code == 0);
  CHECK(bench.committed(kGroup, 0));
  ran = bench.mqadmin({"skipAccumulatedMessage", "-g", kGroup, "-t", kTopic});
  CHECK(ran.exit_code == 0);
  CHECK(ran.out.find("20") != std::string::npos);
  CHECK(bench.committed(kGroup, 20));

  Seen after;
  auto consumer = listen(bench.config(kGroup), kTopic, "*", after);
  bench.send("c", 3);
  REQUIRE(eventually([&] { return after.distinct().count("c2") == 1; }, 60s));
  CHECK(after.distinct().size() == 3);

  CHECK(bench.mqadmin({"skipAccumulatedMessage", "-g", "nobody_knows", "-t", kTopic}).exit_code != 0);
}

TEST_CASE("Offsets: a group that runs skips what has gathered while its listener is busy", "[business][offsets]") {
  Bench bench;
  bench.send("m", 200);
  std::atomic<bool> go{false};
  Seen seen;
  auto config = bench.config(kGroup);
  config.consume_threads = 1;
  config.pull_batch = 8;
  PushConsumer consumer(config);
  consumer.set_orderly_listener([&](const std::vector<ReceivedMessage>& messages, OrderlyContext&) {
    seen.add("one", messages);
    return eventually([&] { return go.load(); }, 60s) ? OrderlyResult::kSuccess : OrderlyResult::kSuspend;
  });
  REQUIRE(consumer.subscribe(kTopic));
  REQUIRE(consumer.start());
  REQUIRE(eventually([&] { return seen.count() == 1; }, 60s));
  auto ran = bench.mqadmin({"skipAccumulatedMessage", "-g", kGroup, "-t", kTopic});
  INFO(ran.out << ran.err);
  CHECK(ran.exit_code == 0);
  // The request of the broker reaches the consumer before a question that is asked after it.
  REQUIRE(bench.admin.consumer_state(kGroup, consumer.client_id(), false));
  go = true;
  REQUIRE(bench.committed(kGroup, 200));
  bench.send("after", 2);
  REQUIRE(eventually([&] { return seen.distinct().count("after1") == 1; }, 60s));
  CHECK(seen.distinct().size() == 3);  // the one that was being handled, and those that came after
}

TEST_CASE("Offsets: a stored message is consumed once more by mqadmin", "[business][offsets]") {
  Bench bench;
  std::atomic<int> calls{0};
  PushConsumer consumer(bench.config(kGroup));
  consumer.set_concurrent_listener([&](const std::vector<ReceivedMessage>&, ConcurrentContext&) {
    ++calls;
    return ConsumeResult::kSuccess;
  });
  REQUIRE(consumer.subscribe(kTopic));
  REQUIRE(consumer.start());
  auto receipt = bench.producer.send(Message(kTopic, "again"));
  REQUIRE(receipt);
  REQUIRE(bench.committed(kGroup, 1));
  auto ran = bench.mqadmin({"queryMsgById", "-i", receipt->offset_msg_id, "-g", kGroup, "-d", consumer.client_id()});
  INFO(ran.out << ran.err);
  CHECK(ran.exit_code == 0);
  CHECK(ran.out.find("CR_SUCCESS") != std::string::npos);
  CHECK(calls == 2);
}

}  // namespace apogee::test
