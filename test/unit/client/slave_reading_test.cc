#include "apogee/pull_consumer.h"
#include "client/src/pull_request.h"
#include "common/message/sys_flag.h"
#include "test/support/catch.h"
#include "test/unit/client/consumer_bench.h"

using namespace apogee;
using namespace apogee::test;
using remoting::Command;
using remoting::RequestCode;
namespace flags = message::pull_sys_flag;

namespace {

/// A master, the cluster's own broker, and a slave of the same name.
struct Group {
  Group() {
    cluster.add_topic("T", 1);
    both();
  }
  void both() { cluster.set_addresses({{0, master().address()}, {1, slave.address()}}); }
  void slave_only() { cluster.set_addresses({{1, slave.address()}}); }
  FakeBroker& master() { return cluster.broker(); }
  /// Messages first ... to - 1 on both.
  void fill(int first, int to) {
    for (int i = first; i < to; ++i) {
      slave.append("T", 0, std::to_string(i));
      master().append("T", 0, std::to_string(i));
    }
  }

  FakeCluster cluster;
  FakeBroker slave{"broker-a"};
};

template <typename Config>
Config config_of(const Group& group) {
  auto config = quick_config<Config>(group.cluster);
  config.route_refresh_interval = Milliseconds(20);
  return config;
}

bool asked_commit(const Command& pull) {
  return (pull.ext.get_int<int32_t>("sysFlag").value_or(0) & flags::kCommitOffset) != 0;
}

void expect_each_once(Seen& seen, int count) {
  std::lock_guard lock(seen.mutex);
  std::map<std::string, int> times;
  for (const auto& body : seen.bodies) ++times[body];
  CHECK(times.size() == static_cast<size_t>(count));
  CHECK(seen.bodies.size() == static_cast<size_t>(count));
}

PushConsumerConfig push_config_of(const Group& group) {
  auto config = push_config(group.cluster);
  config.route_refresh_interval = Milliseconds(20);
  return config;
}

std::unique_ptr<PushConsumer> start_push(const Group& group, Seen& seen) {
  auto consumer = std::make_unique<PushConsumer>(push_config_of(group));
  consumer->set_concurrent_listener(keep(seen));
  REQUIRE(consumer->subscribe("T", "*"));
  REQUIRE(consumer->start());
  return consumer;
}

}  // namespace

TEST_CASE("a push consumer reads from the slave that the master suggests, and comes back", "[client][slave_reading]") {
  Group group;
  group.master().suggest(1);
  group.fill(0, 40);  // the first pull gets 32 of them
  Seen seen;
  auto consumer = start_push(group, seen);
  REQUIRE(eventually([&] { return seen.count() == 40; }));
  REQUIRE(eventually([&] { return group.slave.count(RequestCode::kPullMessage) > 0; }));
  group.master().suggest(0);
  group.slave.suggest(0);
  // The slave's answers send it back; the master's keep it there.
  const auto begun = group.master().count(RequestCode::kPullMessage);
  REQUIRE(eventually([&] { return group.master().count(RequestCode::kPullMessage) > begun + 1; }));
  group.fill(40, 50);
  REQUIRE(eventually([&] { return seen.count() >= 50; }));
  REQUIRE(eventually([&] { return group.master().offset("G", "T", 0) == 50; }));
  for (const auto& pull : group.slave.requests(RequestCode::kPullMessage)) CHECK_FALSE(asked_commit(pull));
  const auto pulls = group.master().requests(RequestCode::kPullMessage);
  CHECK(std::any_of(pulls.begin(), pulls.end(), asked_commit));
  CHECK(group.slave.count(RequestCode::kUpdateConsumerOffset) == 0);
  REQUIRE(consumer->shutdown());
  expect_each_once(seen, 50);
}

TEST_CASE("a pull consumer reads from the slave that the master suggests, and comes back", "[client][slave_reading]") {
  Group group;
  group.master().suggest(1);
  group.fill(0, 40);
  PullConsumer consumer(config_of<PullConsumerConfig>(group));
  REQUIRE(consumer.assign({{"T", "broker-a", 0}}));
  REQUIRE(consumer.start());
  std::vector<std::string> bodies;
  auto poll_until = [&](size_t count) {
    return eventually([&] {
      auto messages = consumer.poll(Milliseconds(20));
      REQUIRE(messages);
      for (const auto& message : *messages) bodies.emplace_back(message.body());
      return bodies.size() >= count;
    });
  };
  REQUIRE(poll_until(40));
  REQUIRE(eventually([&] { return group.slave.count(RequestCode::kPullMessage) > 0; }));
  group.master().suggest(0);
  const auto begun = group.master().count(RequestCode::kPullMessage);
  REQUIRE(eventually([&] { return group.master().count(RequestCode::kPullMessage) > begun; }));
  group.fill(40, 50);
  REQUIRE(poll_until(50));
  for (size_t i = 0; i < bodies.size(); ++i) CHECK(bodies[i] == std::to_string(i));
  REQUIRE(consumer.shutdown());
}

TEST_CASE("without a master in the route the slave is read, and the master learns the offsets when it is back",
          "[client][slave_reading]") {
  Group group;
  group.slave_only();
  group.slave.set_offset("G", "T", 0, 10);
  group.fill(0, 30);
  Seen seen;
  auto consumer = start_push(group, seen);
  REQUIRE(eventually([&] { return seen.count() == 20; }));
  REQUIRE(eventually([&] { return group.slave.offset("G", "T", 0) == 30; }));
  CHECK(group.master().count(RequestCode::kPullMessage) == 0);
  CHECK(group.master().count(RequestCode::kHeartBeat) == 0);
  for (const auto& pull : group.slave.requests(RequestCode::kPullMessage)) CHECK_FALSE(asked_commit(pull));

  group.both();
  // Nothing new is consumed, and still it is told.
  REQUIRE(eventually([&] { return group.master().offset("G", "T", 0) == 30; }));
  REQUIRE(eventually([&] { return group.master().count(RequestCode::kPullMessage) > 1; }));
  group.fill(30, 35);
  REQUIRE(eventually([&] { return seen.count() >= 25; }));
  REQUIRE(eventually([&] { return group.master().offset("G", "T", 0) == 35; }));
  REQUIRE(consumer->shutdown());
  expect_each_once(seen, 25);
}

TEST_CASE("a master that is down but in the route is passed by until it answers", "[client][slave_reading]") {
  Group group;
  group.fill(0, 20);
  Seen seen;
  auto consumer = start_push(group, seen);
  REQUIRE(eventually([&] { return seen.count() == 20; }));
  REQUIRE(eventually([&] { return group.master().offset("G", "T", 0) == 20; }));
  group.master().stop();
  for (int i = 20; i < 30; ++i) group.slave.append("T", 0, std::to_string(i));
  REQUIRE(eventually([&] { return seen.count() == 30; }));
  REQUIRE(eventually([&] { return group.slave.offset("G", "T", 0) == 30; }));

  FakeBroker returned("broker-a");
  for (int i = 0; i < 33; ++i) returned.append("T", 0, std::to_string(i));
  returned.set_offset("G", "T", 0, 20);
  group.cluster.set_addresses({{0, returned.address()}, {1, group.slave.address()}});
  REQUIRE(eventually([&] { return seen.count() >= 33; }));
  REQUIRE(eventually([&] { return returned.offset("G", "T", 0) == 33; }));
  REQUIRE(consumer->shutdown());
  expect_each_once(seen, 33);
}

TEST_CASE("a master that hangs is passed by until heartbeats are answered", "[client][slave_reading]") {
  Group group;
  group.fill(0, 10);
  for (auto code : {RequestCode::kHeartBeat, RequestCode::kPullMessage, RequestCode::kGetConsumerListByGroup,
                    RequestCode::kQueryConsumerOffset, RequestCode::kUpdateConsumerOffset, RequestCode::kGetMinOffset})
    group.master().ignore(code);
  group.slave.set_offset("G", "T", 0, 0);
  auto config = push_config_of(group);
  config.pull_suspend = Milliseconds(100);
  config.pull_timeout = Milliseconds(300);
  config.request_timeout = Milliseconds(200);
  PushConsumer consumer(config);
  Seen seen;
  consumer.set_concurrent_listener(keep(seen));
  REQUIRE(consumer.subscribe("T", "*"));
  REQUIRE(consumer.start());
  REQUIRE(eventually([&] { return seen.count() == 10; }));
  CHECK(group.slave.count(RequestCode::kPullMessage) > 0);
  REQUIRE(consumer.shutdown());
  expect_each_once(seen, 10);
}

TEST_CASE("a slave that is behind is asked again until it has caught up", "[client][slave_reading]") {
  PullOutcome outcome;
  outcome.status = PullStatus::kNoMatchedMessage;
  outcome.next_offset = 7;
  CHECK(is_behind(outcome, 7));
  CHECK_FALSE(is_behind(outcome, 6));
  outcome.status = PullStatus::kNoNewMessage;
  CHECK_FALSE(is_behind(outcome, 7));

  Group group;
  group.slave_only();
  group.slave.set_offset("G", "T", 0, 3);
  for (int i = 0; i < 2; ++i) group.slave.append("T", 0, std::to_string(i));
  // As brokers that are slaves do: what is beyond their end moves no offset.
  group.slave.set_intercept([&](const Command& request) -> std::optional<Command> {
    if (request.request_code() != RequestCode::kPullMessage || group.slave.stored("T") > 2) return std::nullopt;
    auto reply = Command::response_to(request, remoting::response_code::kPullRetryImmediately);
    reply.ext.set("nextBeginOffset", request.ext.get_int<int64_t>("queueOffset").value_or(-1));
    reply.ext.set("minOffset", int64_t{0});
    reply.ext.set("maxOffset", int64_t{2});
    reply.ext.set("suggestWhichBrokerId", int64_t{0});
    return reply;
  });
  Seen seen;
  auto consumer = start_push(group, seen);
  REQUIRE(eventually([&] { return group.slave.count(RequestCode::kPullMessage) > 0; }));
  for (int i = 2; i < 6; ++i) group.slave.append("T", 0, std::to_string(i));
  REQUIRE(eventually([&] { return seen.count() == 3; }));
  REQUIRE(consumer->shutdown());
  expect_each_once(seen, 3);
}
