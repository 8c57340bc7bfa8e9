// Push consumers: what brokers ask them.

#include "common/remoting/bodies/client_bodies.h"
#include "test/support/catch.h"
#include "test/unit/client/consumer_bench.h"

namespace apogee::test {

using remoting::Command;
using remoting::RequestCode;

TEST_CASE("requests of the broker", "[client][push]") {
  FakeCluster cluster;
  cluster.add_topic("T", 1);
  auto& broker = cluster.broker();
  for (int i = 0; i < 5; ++i) broker.append("T", 0, std::to_string(i));
  Seen seen;
  PushConsumer consumer(push_config(cluster));
  consumer.set_concurrent_listener(keep(seen));
  REQUIRE(consumer.subscribe("T"));
  REQUIRE(consumer.start());
  REQUIRE(eventually([&] { return seen.count() == 5 && broker.offset("G", "T", 0) == 5; }));

  SECTION("reset of offsets, as map and as list") {
    for (bool list : {false, true}) {
      const size_t before = seen.count();
      auto request = Command::request(RequestCode::kResetConsumerClientOffset);
      request.ext.set("topic", "T");
      request.ext.set("group", "G");
      const remoting::ResetOffsetBody body{{{{"T", "broker-a", 0}, 2}}};
      request.body = SharedBytes::from(list ? encode_as_list(body) : encode(body));
      broker.ask_members("G", request, true);
      REQUIRE(eventually([&] { return seen.count() == before + 3; }));
      CHECK(eventually([&] { return broker.offset("G", "T", 0) == 5; }));
    }
  }
  SECTION("status") {
    auto request = Command::request(RequestCode::kGetConsumerStatusFromClient);
    request.ext.set("topic", "T");
    request.ext.set("group", "G");
    auto reply = broker.ask_members("G", request, false);
    REQUIRE(reply);
    auto body = remoting::decode_get_consumer_status_body(reply->body.bytes);
    REQUIRE(body);
    CHECK(body->message_queue_table.at({"T", "broker-a", 0}) == 5);
  }
  SECTION("running info") {
    auto request = Command::request(RequestCode::kGetConsumerRunningInfo);
    request.ext.set("consumerGroup", "G");
    request.ext.set("clientId", consumer.client_id());
    auto reply = broker.ask_members("G", request, false);
    REQUIRE(reply);
    auto body = remoting::decode_consumer_running_info(reply->body.bytes);
    REQUIRE(body);
    CHECK(body->properties.at("PROP_CONSUMEORDERLY") == "false");
    CHECK(body->properties.at("PROP_CONSUME_TYPE") == "CONSUME_PASSIVELY");
    CHECK(body->properties.at("PROP_NAMESERVER_ADDR") == cluster.name_servers() + ";");
    CHECK(body->properties.at("PROP_THREADPOOL_CORE_SIZE") == "4");
    CHECK(body->properties.count("PROP_CONSUMER_START_TIMESTAMP") == 1);
    CHECK(body->subscription_set.size() == 2);
    CHECK(body->mq_table.at({"T", "broker-a", 0}).commit_offset == 5);
    CHECK(body->status_table.at("T").consume_failed_msgs == 0);
    request.ext.set("consumerGroup", "other");
    CHECK(broker.ask_members("G", request, false)->code == 1);
  }
  SECTION("a message to be consumed directly") {
    broker.set_intercept(nullptr);
    auto pull = Command::request(RequestCode::kConsumeMessageDirectly);
    pull.ext.set("consumerGroup", "G");
    pull.ext.set("brokerName", "broker-a");
    pull.body = SharedBytes::from("not a message");
    CHECK(broker.ask_members("G", pull, false)->code == 1);
  }
  SECTION("what is not supported is refused") {
    auto request = Command::request(RequestCode::kPushReplyMessageToClient);
    auto reply = broker.ask_members("G", request, false);
    REQUIRE(reply);
    CHECK(reply->code == 3);
    CHECK(reply->remark->find("326") != std::string::npos);
  }
}

}  // namespace apogee::test
