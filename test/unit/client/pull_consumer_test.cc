#include "apogee/pull_consumer.h"

#include <atomic>
#include <mutex>
#include <thread>

#include "common/remoting/bodies/client_bodies.h"
#include "test/support/catch.h"
#include "test/unit/client/consumer_bench.h"

namespace apogee::test {

using remoting::Command;
using remoting::RequestCode;

namespace {

const MessageQueue kFirst{"T", "broker-a", 0};
const MessageQueue kSecond{"T", "broker-a", 1};

PullConsumerConfig pull_config(const FakeCluster& cluster) {
  auto config = quick_config<PullConsumerConfig>(cluster);
  config.auto_commit_interval = Milliseconds(20);
  return config;
}

/// Polls until so many messages came; their bodies.
std::vector<std::string> poll_for(PullConsumer& consumer, size_t count) {
  std::vector<std::string> bodies;
  CHECK(eventually([&] {
    auto messages = consumer.poll(Milliseconds(100));
    REQUIRE(messages);
    for (const auto& message : *messages) bodies.emplace_back(message.body());
    return bodies.size() >= count;
  }));
  return bodies;
}

using Bodies = std::vector<std::string>;

}  // namespace

TEST_CASE("assigned queues are polled, sought and committed", "[client][pull_consumer]") {
  FakeCluster cluster;
  cluster.add_topic("T", 2);
  fill(cluster, 0, 5);
  auto config = pull_config(cluster);
  config.auto_commit = false;
  PullConsumer consumer(config);
  CHECK(consumer.poll(Milliseconds(1)).error().code == Errc::kClosed);
  REQUIRE(consumer.start());
  CHECK(consumer.queues("T").value() == std::vector<MessageQueue>{kFirst, kSecond});
  CHECK(consumer.queues("Unknown").error().code == Errc::kNotFound);
  REQUIRE(consumer.assign({kFirst}));
  CHECK(consumer.subscribe("T").error().code == Errc::kInvalidArgument);
  CHECK(poll_for(consumer, 5) == Bodies{"0", "1", "2", "3", "4"});
  CHECK(consumer.position(kFirst) == 5);
  CHECK(consumer.position(kSecond) == -1);
  CHECK(consumer.committed(kFirst).error().code == Errc::kNotFound);
  REQUIRE(consumer.commit());
  CHECK(consumer.committed(kFirst).value() == 5);
  CHECK(cluster.broker().offset("G", "T", 0) == 5);

  REQUIRE(consumer.seek(kFirst, 3));  // while a pull is held
  CHECK(poll_for(consumer, 2) == Bodies{"3", "4"});
  REQUIRE(consumer.seek_to_begin(kFirst));
  CHECK(poll_for(consumer, 5).front() == "0");
  REQUIRE(consumer.seek_to_begin(kFirst));
  REQUIRE(consumer.seek_to_end(kFirst));
  cluster.broker().append("T", 0, "new");
  CHECK(poll_for(consumer, 1) == Bodies{"new"});
  CHECK(consumer.seek(kFirst, 7).error().code == Errc::kInvalidArgument);
  CHECK(consumer.seek(kFirst, -1).error().code == Errc::kInvalidArgument);
  CHECK(consumer.seek(kSecond, 0).error().code == Errc::kInvalidArgument);
  CHECK(consumer.offset_for_time(kFirst, 12345).value() == 1);
  REQUIRE(consumer.commit({{kSecond, 0}, {kFirst, 2}}));
  CHECK(consumer.committed(kFirst).value() == 2);

  const auto pull = cluster.broker().requests(RequestCode::kPullMessage).front();
  CHECK(pull.ext.get("sysFlag") == "22");
  CHECK(pull.ext.get("subscription") == "*");
  CHECK(consumer.shutdown());
  CHECK(cluster.broker().offset("G", "T", 0) == 2);  // no auto-commit
  CHECK(consumer.poll(Milliseconds(1)).error().code == Errc::kClosed);
}

TEST_CASE("what a poll returned is committed after the next poll, or at the end", "[client][pull_consumer]") {
  FakeCluster cluster;
  cluster.add_topic("T", 1);
  fill(cluster, 0, 4);
  auto config = pull_config(cluster);
  config.poll_batch_max = 2;
  PullConsumer consumer(config);
  REQUIRE(consumer.start());
  REQUIRE(consumer.subscribe("T"));
  CHECK(consumer.assign({kFirst}).error().code == Errc::kInvalidArgument);
  CHECK(poll_for(consumer, 2) == Bodies{"0", "1"});
  REQUIRE(time_passes(cluster));
  CHECK(cluster.broker().offset("G", "T", 0).value_or(0) == 0);
  CHECK(poll_for(consumer, 2) == Bodies{"2", "3"});
  CHECK(eventually([&] { return cluster.broker().offset("G", "T", 0) == 2; }));
  CHECK(consumer.shutdown());
  CHECK(cluster.broker().offset("G", "T", 0) == 4);
}

TEST_CASE("subscribed queues are shared by the members of a group", "[client][pull_consumer]") {
  FakeCluster cluster;
  cluster.add_topic("T", 4);
  std::mutex mutex;
  std::vector<size_t> told;
  PullConsumer first(pull_config(cluster));
  first.set_assignment_listener([&](const std::string& topic, const std::vector<MessageQueue>& queues) {
    std::lock_guard lock(mutex);
    told.push_back(topic == "T" ? queues.size() : 999);
  });
  REQUIRE(first.subscribe("T", "A"));
  REQUIRE(first.start());
  REQUIRE(eventually([&] { return first.assignment().size() == 4; }));
  {
    PullConsumer second(pull_config(cluster));
    REQUIRE(second.subscribe("T", "A"));
    REQUIRE(second.start());
    REQUIRE(eventually([&] { return first.assignment().size() == 2 && second.assignment().size() == 2; }));
  }
  REQUIRE(eventually([&] { return first.assignment().size() == 4; }));
  cluster.broker().append("T", 0, "yes", "A");
  cluster.broker().append("T", 0, "no", "B");
  cluster.broker().append("T", 3, "yes", "A");
  CHECK(poll_for(first, 2) == Bodies{"yes", "yes"});
  CHECK(eventually([&] {  // told after the queues are there to be polled
    std::lock_guard lock(mutex);
    return told == std::vector<size_t>{4, 2, 4};
  }));
}

TEST_CASE("paused queues return nothing", "[client][pull_consumer]") {
  FakeCluster cluster;
  cluster.add_topic("T", 2);
  PullConsumer consumer(pull_config(cluster));
  REQUIRE(consumer.start());
  REQUIRE(consumer.assign({kFirst, kSecond}));
  REQUIRE(eventually([&] { return consumer.assignment().size() == 2; }));
  consumer.pause({kFirst});
  cluster.broker().append("T", 0, "first");
  cluster.broker().append("T", 1, "second");
  CHECK(poll_for(consumer, 1) == Bodies{"second"});
  CHECK(consumer.poll(Milliseconds(20)).value().empty());
  consumer.resume({kFirst});
  CHECK(poll_for(consumer, 1) == Bodies{"first"});
}

TEST_CASE("a poll that waits ends with the consumer", "[client][pull_consumer]") {
  FakeCluster cluster;
  cluster.add_topic("T", 1);
  PullConsumer consumer(pull_config(cluster));
  REQUIRE(consumer.start());
  REQUIRE(consumer.assign({kFirst}));
  REQUIRE(eventually([&] { return consumer.position(kFirst) == 0; }));
  std::atomic<bool> ended{false};
  std::thread poller([&] {
    auto messages = consumer.poll(std::chrono::seconds(60));
    ended = !messages && messages.error().code == Errc::kClosed;
  });
  CHECK(consumer.shutdown());
  poller.join();
  CHECK(ended);
}

TEST_CASE("pulling ahead stops at the limits", "[client][pull_consumer]") {
  FakeCluster cluster;
  cluster.add_topic("T", 1);
  fill(cluster, 0, 100);
  auto config = pull_config(cluster);
  config.cached_messages_max = 20;
  config.pull_batch = 10;
  PullConsumer consumer(config);
  REQUIRE(consumer.start());
  REQUIRE(consumer.assign({kFirst}));
  REQUIRE(eventually([&] { return cluster.broker().count(RequestCode::kPullMessage) == 2; }));
  REQUIRE(time_passes(cluster));
  CHECK(cluster.broker().count(RequestCode::kPullMessage) == 2);
  CHECK(poll_for(consumer, 100).size() == 100);
}

TEST_CASE("offsets can be reset by the broker", "[client][pull_consumer]") {
  FakeCluster cluster;
  cluster.add_topic("T", 1);
  fill(cluster, 0, 5);
  PullConsumer consumer(pull_config(cluster));
  REQUIRE(consumer.subscribe("T"));
  REQUIRE(consumer.start());
  CHECK(poll_for(consumer, 5).size() == 5);
  auto request = Command::request(RequestCode::kResetConsumerClientOffset);
  request.ext.set("topic", "T");
  request.ext.set("group", "G");
  request.body = SharedBytes::from(encode(remoting::ResetOffsetBody{{{kFirst, 3}}}));
  cluster.broker().ask_members("G", request, true);
  CHECK(poll_for(consumer, 2) == Bodies{"3", "4"});
  auto info = Command::request(RequestCode::kGetConsumerRunningInfo);
  info.ext.set("consumerGroup", "G");
  auto reply = cluster.broker().ask_members("G", info, false);
  REQUIRE(reply);
  auto body = remoting::decode_consumer_running_info(reply->body.bytes);
  REQUIRE(body);
  CHECK(body->properties.at("PROP_CONSUME_TYPE") == "CONSUME_ACTIVELY");
}

}  // namespace apogee::test
