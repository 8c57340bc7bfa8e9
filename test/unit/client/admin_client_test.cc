#include "apogee/admin_client.h"

#include <map>

#include "common/message/message_id.h"
#include "common/message/message_record.h"
#include "common/message/properties.h"
#include "common/remoting/bodies/client_bodies.h"
#include "common/remoting/bodies/group_bodies.h"
#include "common/remoting/bodies/kv_bodies.h"
#include "common/remoting/bodies/route_bodies.h"
#include "common/remoting/bodies/stats_bodies.h"
#include "common/remoting/bodies/topic_bodies.h"
#include "test/support/catch.h"
#include "test/unit/client/fake_admin_cluster.h"
#include "test/unit/client/fake_server.h"

namespace {

using apogee::AdminClient;
using apogee::AdminConfig;
using apogee::Errc;
using apogee::MessageQueue;
using apogee::SharedBytes;
using apogee::remoting::Command;
using apogee::remoting::RequestCode;
using apogee::test::FakeServer;
using FakeCluster = apogee::test::FakeAdminCluster;
namespace remoting = apogee::remoting;
namespace rc = apogee::remoting::response_code;

std::string record(const std::string& topic, int32_t queue_id, int64_t queue_offset, const std::string& tags) {
  std::string ip("\x7f\0\0\1", 4);
  std::string properties;
  apogee::message::append_property(properties, "TAGS", tags);
  apogee::message::append_property(properties, "UNIQ_KEY", "id" + std::to_string(queue_offset));
  apogee::message::RecordFields fields;
  fields.topic = topic;
  fields.queue_id = queue_id;
  fields.born_host = {ip, 1};
  fields.store_host = {ip, 10911};
  std::string body = "body" + std::to_string(queue_offset);
  fields.body = body;
  fields.properties = properties;
  return apogee::message::encode_record(fields, queue_offset, queue_offset * 100);
}

}  // namespace

TEST_CASE("admin: what a peer refuses comes with its code and the first line of its remark", "[admin]") {
  FakeCluster cluster;
  AdminClient client(cluster.config());
  auto missing = client.topic_route("Nothing");
  REQUIRE_FALSE(missing);
  CHECK(missing.error().code == Errc::kNotFound);
  CHECK(missing.error().response_code == rc::kTopicNotExist);
  CHECK(missing.error().message == cluster.namesrv.address() + " answered 17 TOPIC_NOT_EXIST: no topic Nothing");

  cluster.broker.refuse(RequestCode::kUpdateBrokerConfig, rc::kNoPermission, "black-listed key\n at Some.java");
  auto refused = client.update_broker_config(cluster.broker.address(), "brokerConfigPath", "x");
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == Errc::kPermission);
  CHECK(refused.error().message == cluster.broker.address() + " answered 16 NO_PERMISSION: black-listed key");
}

TEST_CASE("admin: nobody to ask", "[admin]") {
  AdminClient without{AdminConfig{}};
  auto no_address = without.topics();
  REQUIRE_FALSE(no_address);
  CHECK(no_address.error().code == Errc::kInvalidArgument);

  std::string closed;
  {
    FakeServer gone;
    closed = gone.address();
  }
  AdminConfig config;
  config.name_servers = closed;
  AdminClient alone(config);
  auto refused = alone.topics();
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == Errc::kNetwork);
  CHECK(refused.error().message.find(closed) != std::string::npos);

  // The next NameServer is asked instead.
  FakeCluster cluster;
  cluster.namesrv.on(RequestCode::kGetAllTopicListFromNameserver,
                     remoting::encode(remoting::TopicList{{"B", "A"}, ""}));
  config.name_servers = closed + ";" + cluster.namesrv.address();
  AdminClient both(config);
  auto topics = both.topics();
  REQUIRE(topics);
  CHECK(*topics == std::vector<std::string>{"A", "B"});
}

TEST_CASE("admin: a body that is no JSON is an error", "[admin]") {
  FakeCluster cluster;
  cluster.namesrv.on(RequestCode::kGetBrokerClusterInfo, std::string("{\"brokerAddrTable\":[[["));
  AdminClient client(cluster.config());
  auto info = client.cluster();
  REQUIRE_FALSE(info);
  CHECK(info.error().code == Errc::kCorrupt);
}

TEST_CASE("admin: an ordered topic is made on the masters and kept by the NameServers", "[admin]") {
  FakeCluster cluster;
  cluster.broker.on(RequestCode::kUpdateAndCreateTopic, "");
  cluster.namesrv.on(RequestCode::kPutKvConfig, "");
  AdminClient client(cluster.config());
  apogee::admin::TopicConfig config;
  config.topic = "T";
  config.write_queues = 3;
  config.order = true;
  std::vector<std::string> told;
  REQUIRE(client.create_topic_in_cluster("C", config, [&told](const std::string& address, size_t done, size_t total) {
    told.push_back(address);
    CHECK(done == 1);
    CHECK(total == 1);
  }));
  CHECK(told == std::vector<std::string>{cluster.broker.address()});
  auto created = cluster.broker.seen(RequestCode::kUpdateAndCreateTopic);
  REQUIRE(created.size() == 1);
  CHECK(created[0].ext.get("topic") == "T");
  CHECK(created[0].ext.get("readQueueNums") == "8");
  CHECK(created[0].ext.get("writeQueueNums") == "3");
  CHECK(created[0].ext.get("perm") == "6");
  CHECK(created[0].ext.get("order") == "true");
  CHECK(created[0].ext.get("topicFilterType") == "SINGLE_TAG");
  auto kept = cluster.namesrv.seen(RequestCode::kPutKvConfig);
  REQUIRE(kept.size() == 1);
  CHECK(kept[0].ext.get("namespace") == "ORDER_TOPIC_CONFIG");
  CHECK(kept[0].ext.get("key") == "T");
  CHECK(kept[0].ext.get("value") == "a:3");

  // A single broker's share joins what is there.
  cluster.namesrv.on(RequestCode::kGetKvConfig, [](const Command& request) {
    auto answer = Command::response_to(request, rc::kSuccess);
    answer.ext.set("value", "z:9;a:3");
    return answer;
  });
  REQUIRE(client.update_order_config("T", {{"a", 5}}, false));
  CHECK(cluster.namesrv.seen(RequestCode::kPutKvConfig)[1].ext.get("value") == "a:5;z:9");

  auto unknown = client.create_topic_in_cluster("D", config);
  REQUIRE_FALSE(unknown);
  CHECK(unknown.error().code == Errc::kNotFound);
  config.topic = "not a topic";
  CHECK(client.create_topic_in_cluster("C", config).error().code == Errc::kInvalidArgument);
}

TEST_CASE("admin: pulled messages are compared with the tags themselves", "[admin]") {
  FakeCluster cluster;
  cluster.broker.on(RequestCode::kPullMessage, [](const Command& request) {
    auto answer = Command::response_to(request, rc::kSuccess);
    answer.ext.set("nextBeginOffset", 9);
    answer.ext.set("minOffset", 7);
    answer.ext.set("maxOffset", 20);
    answer.ext.set("suggestWhichBrokerId", 0);
    answer.body = SharedBytes::from(record("T", 1, 7, "A") + record("T", 1, 8, "B"));
    return answer;
  });
  AdminClient client(cluster.config());
  apogee::admin::PullRequest request;
  request.queue = {"T", "a", 1};
  request.offset = 7;
  request.tags = "A || C";
  auto pulled = client.pull(request);
  REQUIRE(pulled);
  CHECK(pulled->status == apogee::admin::PullStatus::kFound);
  CHECK(pulled->next_offset == 9);
  CHECK(pulled->min_offset == 7);
  CHECK(pulled->max_offset == 20);
  REQUIRE(pulled->messages.size() == 1);
  CHECK(pulled->messages[0].queue_offset() == 7);
  CHECK(pulled->messages[0].body() == "body7");
  CHECK(pulled->messages[0].queue().broker_name == "a");
  auto asked = cluster.broker.seen(RequestCode::kPullMessage);
  CHECK(asked[0].ext.get("sysFlag") == "4");  // brings its subscription; commits nothing, waits for nothing
  CHECK(asked[0].ext.get("subscription") == "A || C");

  // The broker found the next message, not the wanted one.
  auto absent = client.message_by_offset({"T", "a", 1}, 6);
  REQUIRE_FALSE(absent);
  CHECK(absent.error().code == Errc::kNotFound);

  cluster.broker.refuse(RequestCode::kPullMessage, rc::kSubscriptionGroupNotExist, "no group");
  auto refused = client.pull(request);
  REQUIRE_FALSE(refused);
  CHECK(refused.error().response_code == rc::kSubscriptionGroupNotExist);
}

TEST_CASE("admin: a message goes to the queue that is wanted", "[admin]") {
  FakeCluster cluster;
  cluster.broker.on(RequestCode::kSendMessageV2, [](const Command& request) {
    auto answer = Command::response_to(request, rc::kFlushDiskTimeout);
    answer.ext.set("msgId", "7F00000100002A9F0000000000000064");
    answer.ext.set("queueId", request.ext.get("e").value_or(""));
    answer.ext.set("queueOffset", 5);
    return answer;
  });
  AdminClient client(cluster.config());
  apogee::Message message("T", "hello");
  message.set_keys("k1 k2").set_tags("A");
  apogee::admin::SendTarget target;
  target.broker_name = "a";
  target.queue_id = 1;
  auto sent = client.send(message, target);
  REQUIRE(sent);
  CHECK(sent->status == apogee::SendStatus::kFlushDiskTimeout);
  CHECK(sent->queue == MessageQueue{"T", "a", 1});
  CHECK(sent->queue_offset == 5);
  CHECK(sent->offset_msg_id == "7F00000100002A9F0000000000000064");
  auto asked = cluster.broker.seen(RequestCode::kSendMessageV2);
  REQUIRE(asked.size() == 1);
  CHECK(asked[0].body.bytes == "hello");
  auto properties = asked[0].ext.get("i").value_or("");
  CHECK(apogee::message::find_property(properties, "KEYS") == "k1 k2");
  CHECK(apogee::message::find_property(properties, "TAGS") == "A");
  CHECK(apogee::message::find_property(properties, "UNIQ_KEY") == sent->msg_id);

  target.queue_id = 2;
  CHECK(client.send(message, target).error().code == Errc::kNotFound);
  CHECK(client.send(apogee::Message("T", ""), {}).error().code == Errc::kInvalidArgument);
  // Neither the topic nor the template topic is there.
  CHECK(client.send(apogee::Message("Other", "x"), {}).error().response_code == rc::kTopicNotExist);
}

TEST_CASE("admin: offsets of a group without members are written", "[admin]") {
  FakeCluster cluster;
  cluster.broker.refuse(RequestCode::kInvokeBrokerToResetOffset, rc::kConsumerNotOnline, "nobody");
  cluster.broker.on(RequestCode::kSearchOffsetByTimestamp, [](const Command& request) {
    auto answer = Command::response_to(request, rc::kSuccess);
    answer.ext.set("offset", request.ext.get_int<int32_t>("queueId").value_or(-1) * 10 + 5);
    return answer;
  });
  cluster.broker.on(RequestCode::kQueryConsumerOffset, [](const Command& request) {
    if (request.ext.get("queueId") == "1") return Command::response_to(request, rc::kQueryNotFound, "none");
    auto answer = Command::response_to(request, rc::kSuccess);
    answer.ext.set("offset", 2);
    return answer;
  });
  cluster.broker.on(RequestCode::kUpdateConsumerOffset, "");
  AdminClient client(cluster.config());
  apogee::admin::OffsetReset reset;
  reset.group = "g";
  reset.topic = "T";
  reset.timestamp_ms = 1'000;
  reset.force = false;
  auto offsets = client.reset_offset_by_time(reset);
  REQUIRE(offsets);
  // Queue 0 stands at 2 and is not moved forward; queue 1 has no offset yet.
  CHECK(*offsets == std::map<MessageQueue, int64_t>{{{"T", "a", 0}, 2}, {{"T", "a", 1}, 15}});
  auto written = cluster.broker.seen(RequestCode::kUpdateConsumerOffset);
  REQUIRE(written.size() == 1);
  CHECK(written[0].ext.get("queueId") == "1");
  CHECK(written[0].ext.get("commitOffset") == "15");
  CHECK(written[0].ext.get("consumerGroup") == "g");

  reset.force = true;
  offsets = client.reset_offset_by_time(reset);
  REQUIRE(offsets);
  CHECK((*offsets)[MessageQueue{"T", "a", 0}] == 5);

  remoting::ResetOffsetBody body;
  body.offset_table[{"T", "a", 0}] = 77;
  cluster.broker.on(RequestCode::kInvokeBrokerToResetOffset, remoting::encode(body));
  offsets = client.reset_offset_by_time(reset);
  REQUIRE(offsets);
  CHECK(*offsets == body.offset_table);
}

TEST_CASE("admin: progress and members of a group", "[admin]") {
  FakeCluster cluster;
  remoting::ConsumeStats stats;
  stats.consume_tps = 1.5;
  remoting::OffsetWrapper offsets;
  offsets.broker_offset = 10;
  offsets.consumer_offset = 4;
  offsets.last_timestamp = 99;
  stats.offset_table[{"T", "a", 0}] = offsets;
  cluster.broker.on(RequestCode::kGetConsumeStats, remoting::encode(stats));
  remoting::ConsumerConnection members;
  members.connection_set = {{"c2", "127.0.0.1:2", "JAVA", 409}, {"c1", "127.0.0.1:1", "CPP", 479}};
  members.subscription_table["T"].topic = "T";
  cluster.broker.on(RequestCode::kGetConsumerConnectionList, remoting::encode(members));
  AdminClient client(cluster.config());
  auto progress = client.group_progress("g");
  REQUIRE(progress);
  CHECK(progress->consume_tps == 1.5);
  auto queue = progress->queues[MessageQueue{"T", "a", 0}];
  CHECK(queue.broker_offset == 10);
  CHECK(queue.consumer_offset == 4);
  CHECK(queue.last_consumed_ms == 99);
  auto clients = client.group_clients("g");
  REQUIRE(clients);
  REQUIRE(clients->clients.size() == 2);
  CHECK(clients->clients[0].client_id == "c1");
  CHECK(clients->message_model == "CLUSTERING");
  CHECK(clients->subscriptions.count("T") == 1);
  auto unknown = client.group_clients("nobody");
  REQUIRE_FALSE(unknown);
  CHECK(unknown.error().code == Errc::kNotFound);
}

TEST_CASE("admin: an id is looked up only where a broker of the cluster is", "[admin]") {
  FakeCluster cluster;
  AdminClient client(cluster.config());
  CHECK(client.message_by_id("xyz").error().code == Errc::kInvalidArgument);
  CHECK(client.message_by_id("7F00000100000001000000000000002A").error().code == Errc::kNotFound);

  cluster.broker.on(RequestCode::kViewMessageById, record("T", 0, 3, "A"));
  auto port = std::stoi(cluster.broker.address().substr(cluster.broker.address().find(':') + 1));
  std::string ip("\x7f\0\0\1", 4);
  auto message = client.message_by_id(apogee::message::encode_offset_message_id({ip, port}, 300));
  REQUIRE(message);
  CHECK(message->body() == "body3");
  CHECK(message->queue().broker_name == "a");
  CHECK(cluster.broker.seen(RequestCode::kViewMessageById)[0].ext.get("offset") == "300");
}

TEST_CASE("admin: names of protocol versions", "[admin]") {
  CHECK(apogee::admin::version_name(409) == "V4_9_8");
  CHECK(apogee::admin::version_name(479) == "V5_3_3");
  CHECK(apogee::admin::version_name(333) == "V4_6_0");
  CHECK(apogee::admin::version_name(232) == "V4_1_0_SNAPSHOT");
  CHECK(apogee::admin::version_name(37) == "V3(37)");
}
