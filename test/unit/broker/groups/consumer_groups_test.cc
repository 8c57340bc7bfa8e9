#include "broker/groups/consumer_groups.h"

#include "broker/groups/producer_groups.h"
#include "test/unit/broker/support/handler_bench.h"

namespace apogee::broker {
namespace {

ClientInfo client(remoting::ConnectionId connection, const std::string& id, int64_t now_ms) {
  ClientInfo info;
  info.connection = connection;
  info.client_id = id;
  info.address = "10.0.0.1:1";
  info.last_update_ms = now_ms;
  return info;
}

Subscription subscription(const std::string& topic, int64_t version, std::vector<int32_t> codes = {}) {
  Subscription s;
  s.topic = topic;
  s.version = version;
  s.codes = std::move(codes);
  return s;
}

ConsumerRegistration registration(std::vector<Subscription> subscriptions) {
  ConsumerRegistration r;
  r.group = "G";
  r.subscriptions = std::move(subscriptions);
  return r;
}

struct Bench {
  test::FakeClock clock;
  ConsumerGroups groups{clock.now()};
  std::vector<size_t> told;  // members at each change; 0: the group is gone

  Bench() {
    groups.set_change_listener([this](const std::string& name, std::shared_ptr<const ConsumerGroup> group) {
      CHECK(name == "G");
      told.push_back(group == nullptr ? 0 : group->members.size());
    });
  }
};

TEST_CASE("ConsumerGroups: members come, renew and go, and each change is told once", "[broker]") {
  Bench bench;
  CHECK(bench.groups.find("G") == nullptr);
  CHECK(bench.groups.register_consumer(client(1, "b", *bench.clock.ms), registration({subscription("T", 1)})));
  CHECK(bench.groups.register_consumer(client(2, "a", *bench.clock.ms), registration({subscription("T", 1)})));
  CHECK_FALSE(bench.groups.register_consumer(client(2, "a", *bench.clock.ms), registration({subscription("T", 1)})));
  CHECK(bench.told == std::vector<size_t>{1, 2});
  CHECK(bench.groups.find("G")->client_ids() == std::vector<std::string>{"a", "b"});
  bench.groups.unregister("G", 1);
  bench.groups.unregister("G", 1);
  bench.groups.unregister("other", 2);
  CHECK(bench.told == std::vector<size_t>{1, 2, 1});
  bench.groups.connection_closed(2);
  CHECK(bench.told == std::vector<size_t>{1, 2, 1, 0});
  CHECK(bench.groups.find("G") == nullptr);
}

TEST_CASE("ConsumerGroups: a snapshot stays as it was", "[broker]") {
  Bench bench;
  bench.groups.register_consumer(client(1, "a", *bench.clock.ms), registration({subscription("T", 1)}));
  auto before = bench.groups.find("G");
  bench.groups.register_consumer(client(2, "b", *bench.clock.ms), registration({subscription("T", 2)}));
  CHECK(before->members.size() == 1);
  CHECK(before->subscription("T")->version == 1);
  CHECK(bench.groups.find("G")->subscription("T")->version == 2);
}

TEST_CASE("ConsumerGroups: a subscription is replaced by a newer one only", "[broker]") {
  Bench bench;
  bench.groups.register_consumer(client(1, "a", *bench.clock.ms), registration({subscription("T", 5, {3, 1})}));
  bench.groups.register_consumer(client(1, "a", *bench.clock.ms), registration({subscription("T", 4, {9})}));
  auto group = bench.groups.find("G");
  CHECK(group->subscription("T")->version == 5);
  CHECK(group->subscription("T")->may_match(3));
  CHECK(group->subscription("T")->may_match(1));
  CHECK_FALSE(group->subscription("T")->may_match(9));
  bench.groups.register_consumer(client(1, "a", *bench.clock.ms), registration({subscription("T", 6)}));
  CHECK(bench.groups.find("G")->subscription("T")->version == 6);
  CHECK(bench.told == std::vector<size_t>{1});
}

TEST_CASE("Subscription: the low 32 bits of a tags code are compared; an address of the extension file matches",
          "[broker]") {
  Subscription wanted;
  wanted.topic = "T";
  wanted.tags = {"A", "B"};
  wanted.codes = {-7, 65};
  CHECK(wanted.may_match(65));
  CHECK(wanted.may_match(-7));
  CHECK_FALSE(wanted.may_match(66));
  CHECK_FALSE(wanted.may_match(0));  // no tag
  CHECK(wanted.may_match((1LL << 32) + 65));
  CHECK_FALSE(wanted.may_match((1LL << 32) + 66));
  CHECK_FALSE(wanted.may_match(INT32_MIN));
  CHECK(wanted.may_match(int64_t{INT32_MIN} - 1));
  CHECK(wanted.may_match(INT64_MIN + 4096));
  wanted.codes.clear();
  CHECK(wanted.may_match(66));
}

TEST_CASE("ConsumerGroups: topics that come and go are changes", "[broker]") {
  Bench bench;
  bench.groups.register_consumer(client(1, "a", *bench.clock.ms), registration({subscription("T", 1)}));
  CHECK(bench.groups.register_consumer(client(1, "a", *bench.clock.ms),
                                       registration({subscription("T", 1), subscription("U", 1)})));
  CHECK(bench.groups.groups_of_topic("U") == std::vector<std::string>{"G"});
  CHECK(bench.groups.register_consumer(client(1, "a", *bench.clock.ms), registration({subscription("U", 1)})));
  CHECK(bench.groups.groups_of_topic("T").empty());
  CHECK(bench.told == std::vector<size_t>{1, 1, 1});
}

TEST_CASE("ConsumerGroups: a member without heartbeats for 120 s is removed", "[broker]") {
  Bench bench;
  bench.groups.register_consumer(client(1, "a", *bench.clock.ms), registration({subscription("T", 1)}));
  bench.clock.advance(100'000);
  bench.groups.register_consumer(client(2, "b", *bench.clock.ms), registration({subscription("T", 1)}));
  CHECK(bench.groups.expire() == 0);
  bench.clock.advance(20'001);
  CHECK(bench.groups.expire() == 1);
  CHECK(bench.groups.find("G")->client_ids() == std::vector<std::string>{"b"});
  CHECK(bench.told == std::vector<size_t>{1, 2, 1});
}

TEST_CASE("ConsumerGroups: one client id on two connections is listed once and leaves with the last", "[broker]") {
  Bench bench;
  bench.groups.register_consumer(client(1, "a", *bench.clock.ms), registration({subscription("T", 1)}));
  bench.groups.register_consumer(client(2, "a", *bench.clock.ms), registration({subscription("T", 1)}));
  CHECK(bench.groups.find("G")->client_ids() == std::vector<std::string>{"a"});
  bench.groups.connection_closed(1);
  CHECK(bench.groups.find("G")->member("a") != nullptr);
  CHECK(bench.groups.find("G")->member("x") == nullptr);
}

TEST_CASE("ProducerGroups: members come, renew, go and expire", "[broker]") {
  test::FakeClock clock;
  ProducerGroups groups(clock.now());
  groups.register_producer("P", client(1, "a", *clock.ms));
  groups.register_producer("P", client(2, "b", *clock.ms));
  groups.register_producer("Q", client(1, "a", *clock.ms));
  CHECK(groups.members("P").size() == 2);
  CHECK(groups.all().size() == 2);
  CHECK(groups.find_client("b")->connection == 2);
  groups.unregister("P", 2);
  CHECK(groups.members("P").size() == 1);
  CHECK_FALSE(groups.find_client("b").has_value());
  clock.advance(60'000);
  groups.register_producer("P", client(1, "a", *clock.ms));
  clock.advance(60'001);
  CHECK(groups.expire() == 1);  // of Q
  CHECK(groups.all().size() == 1);
  groups.connection_closed(1);
  CHECK(groups.all().empty());
}

}  // namespace
}  // namespace apogee::broker
