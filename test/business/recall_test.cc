// Timers that are taken back by the handle of their send: the SDK, and clients of another make.
#include <chrono>

#include "common/base/base64.h"
#include "common/message/message_id.h"
#include "common/message/properties.h"
#include "common/message/property_names.h"
#include "common/message/recall_handle.h"
#include "test/business/transaction_bench.h"
#include "test/integration/sdk_bench.h"
#include "test/support/raw_requests.h"

namespace apogee::test {

using namespace std::chrono_literals;
namespace property = message::property;

namespace {

constexpr const char* kTopic = "Recalled";

remoting::Command recall_request(const std::string& topic, const std::string& handle) {
  auto request = remoting::Command::request(remoting::RequestCode::kRecallMessage);
  request.ext.set("producerGroup", "raw_producer");
  request.ext.set("topic", topic);
  request.ext.set("recallHandle", handle);
  return request;
}

}  // namespace

TEST_CASE("Recall by the SDK: what is taken back does not come, everything else does", "[business][timer][recall]") {
  Cluster cluster({"--recallMessageEnable", "true"});
  cluster.create_topic(kTopic, 1);
  Producer producer(producer_config(cluster));
  REQUIRE(producer.start());
  Seen seen;
  auto consumer = listen(consumer_config<PushConsumerConfig>(cluster, "recallers", "r1"), kTopic, "*", seen);
  const auto in_a_while = [] { return std::chrono::milliseconds(4'000); };
  auto gone = producer.send(Message(kTopic, "gone").set_deliver_after(in_a_while()));
  auto stays = producer.send(Message(kTopic, "stays").set_deliver_after(in_a_while()));
  REQUIRE(gone);
  REQUIRE(stays);
  const auto handle = message::decode_recall_handle(gone->recall_handle);
  REQUIRE(handle);
  CHECK(handle->topic == kTopic);
  CHECK(handle->broker_name == Cluster::broker_name(0));
  CHECK(handle->due_ms == gone->deliver_at_ms);
  CHECK(handle->unique_id == gone->msg_id);
  // Any producer may take it back.
  auto other_config = producer_config(cluster);
  other_config.group = "other_producers";
  other_config.instance_name = "other";
  Producer other(other_config);
  REQUIRE(other.start());
  auto recalled = other.recall(kTopic, gone->recall_handle);
  if (!recalled) FAIL(recalled.error().message);
  CHECK(*recalled == gone->msg_id);
  REQUIRE(eventually([&] { return seen.count() >= 1; }, 60s));
  REQUIRE(eventually([&] { return figure(cluster.broker_port(), "timerCancelledTotal") == 1; }, 60s));
  REQUIRE(eventually([&] { return figure(cluster.broker_port(), "timerPending") == 0; }, 60s));
  CHECK(seen.distinct() == std::set<std::string>{"stays"});

  CHECK(producer.recall(kTopic, "nonsense").error().code == Errc::kInvalidArgument);
  CHECK(producer.recall("Others", gone->recall_handle).error().code == Errc::kInvalidArgument);
  const auto over = producer.recall(kTopic, gone->recall_handle);
  REQUIRE_FALSE(over);
  CHECK(over.error().response_code == 604);
  const auto elsewhere = message::encode_recall_handle({kTopic, "nobody", wall_ms() + 60'000, "id"});
  CHECK(producer.recall(kTopic, elsewhere).error().code == Errc::kNotFound);
  // No timers: no handles.
  for (const auto& message : {Message(kTopic, "now"), Message(kTopic, "level").set_delay_level(1)}) {
    auto sent = producer.send(message);
    REQUIRE(sent);
    CHECK(sent->recall_handle.empty());
  }
  REQUIRE(producer.shutdown());
  CHECK(producer.recall(kTopic, gone->recall_handle).error().code == Errc::kClosed);
}

TEST_CASE("Recall by raw frames: the codes of RocketMQ 5.3", "[business][timer][recall]") {
  Cluster cluster;
  cluster.create_topic(kTopic, 1);
  AdminClient admin(admin_config(cluster));
  RawClient client(cluster.broker_port());
  auto send_timer = [&](const std::string& key, int64_t due_ms) {
    std::string properties;
    message::append_property(properties, property::kUniqueKey, key);
    message::append_property(properties, property::kTimerDeliverMs, std::to_string(due_ms));
    auto reply = client.call(send_request({kTopic, 0, "timed " + key, properties}), 60s);
    REQUIRE(reply);
    REQUIRE(reply->code == 0);
    return std::string(reply->ext.get("recallHandle").value_or(""));
  };
  auto code_of = [&](const remoting::Command& request) {
    auto reply = client.call(request, 60s);
    REQUIRE(reply);
    return reply->code;
  };
  const int64_t due = wall_ms() + 6'000;
  const auto own = [&](const std::string& id) {
    return message::encode_recall_handle({kTopic, Cluster::broker_name(0), due, id});
  };
  // As RocketMQ's default is.
  CHECK(send_timer("A", due).empty());
  CHECK(code_of(recall_request(kTopic, own("A"))) == 16);

  REQUIRE(admin.update_broker_config(cluster.broker(), "recallMessageEnable", "true"));
  const auto handle = send_timer("B", due);
  CHECK(handle == own("B"));
  CHECK(code_of(recall_request("Missing", own("B"))) == 17);
  CHECK(code_of(recall_request("TBW102", own("B"))) == 604);
  for (const auto& bad : {
           std::string("*"),
           message::encode_recall_handle({kTopic, "broker-x", due, "B"}),
           message::encode_recall_handle({kTopic, Cluster::broker_name(0), wall_ms() - 1, "B"}),
           message::encode_recall_handle({kTopic, Cluster::broker_name(0), due + 4LL * 86'400'000, "B"}),
           to_base64url(std::string("v1 ") + kTopic + " " + Cluster::broker_name(0) + " soon B"),
           own("B\x02REAL_TOPIC\x01Others"),
       }) {
    INFO(bad);
    CHECK(code_of(recall_request(kTopic, bad)) == 604);
  }
  auto without = remoting::Command::request(remoting::RequestCode::kRecallMessage);
  without.ext.set("topic", kTopic);
  CHECK(code_of(without) == 29);

  auto reply = client.call(recall_request(kTopic, handle), 60s);
  REQUIRE(reply);
  CHECK(reply->code == 0);
  CHECK(reply->ext.get("msgId") == "B");
  CHECK(reply->ext.get("MSG_REGION") == "DefaultRegion");
  CHECK(code_of(recall_request(kTopic, handle)) == 0);  // stored, without effect
  CHECK(code_of(recall_request(kTopic, own("never"))) == 0);

  // A broker that may not be written to takes timers back all the same, unless it is told otherwise.
  const auto late = send_timer("C", due);
  REQUIRE(admin.update_broker_config(cluster.broker(), "brokerPermission", "4"));
  REQUIRE(admin.update_broker_config(cluster.broker(), "allowRecallWhenBrokerNotWriteable", "false"));
  CHECK(code_of(recall_request(kTopic, late)) == 14);
  REQUIRE(admin.update_broker_config(cluster.broker(), "allowRecallWhenBrokerNotWriteable", "true"));
  CHECK(code_of(recall_request(kTopic, late)) == 0);

  REQUIRE(eventually([&] { return figure(cluster.broker_port(), "timerPending") == 0; }, 60s));
  CHECK(bodies_of(cluster.broker_port(), kTopic) == std::vector<std::string>{"timed A"});
}

}  // namespace apogee::test
