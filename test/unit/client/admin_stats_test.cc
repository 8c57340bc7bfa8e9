#include "apogee/admin_client.h"
#include "client/src/received_message.h"
#include "common/message/message_record.h"
#include "common/message/properties.h"
#include "common/remoting/bodies/client_bodies.h"
#include "common/remoting/bodies/group_bodies.h"
#include "common/remoting/bodies/kv_bodies.h"
#include "common/remoting/bodies/request_mode_bodies.h"
#include "common/remoting/bodies/stats_bodies.h"
#include "test/support/catch.h"
#include "test/unit/client/fake_admin_cluster.h"

// Figures of brokers and groups, what groups did with a message, and messages that are sent once more.

namespace {

using apogee::AdminClient;
using apogee::Errc;
using apogee::MessageQueue;
using apogee::ReceivedMessage;
using apogee::SharedBytes;
using apogee::admin::TrackStatus;
using apogee::remoting::Command;
using apogee::remoting::RequestCode;
using apogee::test::FakeAdminCluster;
namespace remoting = apogee::remoting;
namespace rc = apogee::remoting::response_code;

/// Message 7 of queue 1 of T, with these properties.
ReceivedMessage stored_message(const std::vector<std::pair<std::string, std::string>>& properties) {
  const std::string ip("\x7f\0\0\1", 4);
  std::string text;
  for (const auto& [name, value] : properties) apogee::message::append_property(text, name, value);
  apogee::message::RecordFields fields;
  fields.topic = "T";
  fields.queue_id = 1;
  fields.born_timestamp_ms = 1'700'000'000'123;
  fields.born_host = {ip, 1};
  fields.store_host = {ip, 10911};
  fields.flag = 9;
  fields.body = "body";
  fields.properties = text;
  auto message =
      apogee::decode_received_message(SharedBytes::from(apogee::message::encode_record(fields, 7, 700)), "a");
  REQUIRE(message);
  return *message;
}

void answer_offset(FakeAdminCluster& cluster, int64_t offset) {
  cluster.broker.on(RequestCode::kQueryConsumerOffset, [offset](const Command& request) {
    auto answer = Command::response_to(request, rc::kSuccess);
    answer.ext.set("offset", offset);
    return answer;
  });
}

}  // namespace

TEST_CASE("admin: counters of a broker", "[admin]") {
  FakeAdminCluster cluster;
  AdminClient client(cluster.config());
  remoting::BrokerStatsData data;
  data.stats_minute = {60, 1.5, 2.0};
  cluster.broker.on(RequestCode::kViewBrokerStatsData, remoting::encode(data));
  auto counted = client.broker_counter(cluster.broker.address(), "TOPIC_PUT_NUMS", "T");
  REQUIRE(counted);
  REQUIRE(counted->has_value());
  CHECK((*counted)->minute.per_second == 1.5);
  CHECK((*counted)->last_24_hours() == 60);
  data.stats_hour.sum = 100;
  data.stats_day.sum = 0;
  cluster.broker.on(RequestCode::kViewBrokerStatsData, remoting::encode(data));
  counted = client.broker_counter(cluster.broker.address(), "TOPIC_PUT_NUMS", "T");
  REQUIRE((counted && counted->has_value()));
  CHECK((*counted)->last_24_hours() == 100);
  auto seen = cluster.broker.seen(RequestCode::kViewBrokerStatsData);
  CHECK(seen.back().ext.get("statsName") == "TOPIC_PUT_NUMS");
  CHECK(seen.back().ext.get("statsKey") == "T");

  cluster.broker.refuse(RequestCode::kViewBrokerStatsData, rc::kSystemError, "The stats <X> <Y> not exist");
  counted = client.broker_counter(cluster.broker.address(), "X", "Y");
  REQUIRE(counted);
  CHECK_FALSE(counted->has_value());
}

TEST_CASE("admin: how far behind groups are", "[admin]") {
  FakeAdminCluster cluster;
  AdminClient client(cluster.config());
  const MessageQueue queue{"T", "a", 1};
  remoting::QueryConsumeTimeSpanBody spans;
  spans.consume_time_span_set.push_back({queue, 10, 50, 30, 1'234});
  cluster.broker.on(RequestCode::kQueryConsumeTimeSpan, remoting::encode(spans));
  auto times = client.consume_times("g", "T");
  REQUIRE(times);
  REQUIRE(times->count(queue) == 1);
  CHECK(times->at(queue).first_ms == 10);
  CHECK(times->at(queue).consumed_ms == 30);
  CHECK(times->at(queue).lag_ms == 1'234);
  CHECK_FALSE(client.consume_times("g", "Nothing"));

  remoting::ConsumeStats stats;
  stats.offset_table[queue] = {20, 12, 15, 99};
  remoting::ConsumeStatsList list;
  list.total_diff = 8;
  list.consume_stats_list.push_back({{"g", {stats}}});
  cluster.broker.on(RequestCode::kGetBrokerConsumeStats, remoting::encode(list));
  auto lag = client.broker_lag(cluster.broker.address(), true);
  REQUIRE(lag);
  CHECK(lag->total == 8);
  REQUIRE(lag->groups["g"].count(queue) == 1);
  CHECK(lag->groups["g"][queue].lag() == 8);
  CHECK(lag->groups["g"][queue].in_flight == 3);
  CHECK(cluster.broker.seen(RequestCode::kGetBrokerConsumeStats).back().ext.get("isOrder") == "true");
}

TEST_CASE("admin: one group's configuration, also from brokers that only tell of all", "[admin]") {
  FakeAdminCluster cluster;
  AdminClient client(cluster.config());
  remoting::SubscriptionGroupConfig config;
  config.group_name = "g";
  config.retry_max_times = 3;
  config.consume_message_orderly = true;
  cluster.broker.on(RequestCode::kGetSubscriptiongroupConfig, remoting::encode(config));
  auto found = client.group_config(cluster.broker.address(), "g");
  REQUIRE(found);
  CHECK(found->retry_times_max == 3);
  CHECK(found->consume_orderly);

  cluster.broker.refuse(RequestCode::kGetSubscriptiongroupConfig, rc::kRequestCodeNotSupported, "not here");
  remoting::SubscriptionGroupWrapper all;
  all.subscription_group_table["g"] = config;
  cluster.broker.on(RequestCode::kGetAllSubscriptiongroupConfig, remoting::encode(all));
  found = client.group_config(cluster.broker.address(), "g");
  REQUIRE(found);
  CHECK(found->retry_times_max == 3);
  auto missing = client.group_config(cluster.broker.address(), "other");
  REQUIRE_FALSE(missing);
  CHECK(missing.error().code == Errc::kNotFound);
}

TEST_CASE("admin: producers of a broker, and how groups get their messages", "[admin]") {
  FakeAdminCluster cluster;
  AdminClient client(cluster.config());
  remoting::ProducerTableInfo table;
  remoting::ProducerInfo info;
  info.client_id = "c1";
  info.remote_ip = "/10.0.0.1:5";
  info.language = "JAVA";
  info.version = 409;
  info.last_update_timestamp = 77;
  table.data["shop"].push_back(info);
  cluster.broker.on(RequestCode::kGetAllProducerInfo, remoting::encode(table));
  auto producers = client.producers(cluster.broker.address());
  REQUIRE(producers);
  REQUIRE((*producers)["shop"].size() == 1);
  CHECK((*producers)["shop"][0].address == "10.0.0.1:5");
  CHECK((*producers)["shop"][0].last_seen_ms == 77);

  cluster.broker.on(RequestCode::kSetMessageRequestMode, std::string());
  apogee::admin::ConsumeModeChange change;
  change.topic = "T";
  change.group = "g";
  change.mode = apogee::admin::ConsumeMode::kPop;
  change.pop_share_queues = 2;
  REQUIRE(client.set_consume_mode(cluster.broker.address(), change));
  CHECK(cluster.broker.seen(RequestCode::kSetMessageRequestMode).back().body.bytes ==
        R"({"consumerGroup":"g","mode":"POP","popShareQueueNum":2,"topic":"T"})");
  cluster.broker.refuse(RequestCode::kSetMessageRequestMode, rc::kRequestCodeNotSupported, "no POP");
  auto refused = client.set_consume_mode(cluster.broker.address(), change);
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == Errc::kUnsupported);
}

TEST_CASE("admin: what a group did with a message", "[admin]") {
  FakeAdminCluster cluster;
  AdminClient client(cluster.config());
  cluster.broker.on(RequestCode::kQueryTopicConsumeByWho, remoting::encode(remoting::GroupList{{"g"}}));
  remoting::ConsumerConnection members;
  members.connection_set.emplace_back().client_id = "c1";
  members.consume_type = remoting::ConsumeType::kPassively;
  members.message_model = remoting::MessageModel::kClustering;
  auto subscribed = remoting::build_tag_subscription("T", "TagA || TagB", 1);
  REQUIRE(subscribed);
  members.subscription_table["T"] = *subscribed;
  cluster.broker.on(RequestCode::kGetConsumerConnectionList, remoting::encode(members));
  auto status = [&](const ReceivedMessage& message) {
    auto tracks = client.message_track(message);
    REQUIRE(tracks);
    REQUIRE(tracks->size() == 1);
    CHECK(tracks->front().group == "g");
    return tracks->front().status;
  };
  const auto wanted = stored_message({{"TAGS", "TagB"}});
  const auto unwanted = stored_message({{"TAGS", "TagC"}});
  answer_offset(cluster, 7);
  CHECK(status(wanted) == TrackStatus::kNotConsumedYet);
  CHECK(status(unwanted) == TrackStatus::kNotConsumedYet);
  answer_offset(cluster, 8);
  CHECK(status(wanted) == TrackStatus::kConsumed);
  CHECK(status(unwanted) == TrackStatus::kConsumedButFiltered);
  cluster.broker.refuse(RequestCode::kQueryConsumerOffset, rc::kQueryNotFound, "none");
  CHECK(status(wanted) == TrackStatus::kNotConsumedYet);
  cluster.broker.refuse(RequestCode::kQueryConsumerOffset, rc::kSystemError, "ill");
  CHECK(status(wanted) == TrackStatus::kUnknown);

  members.consume_type = remoting::ConsumeType::kActively;
  cluster.broker.on(RequestCode::kGetConsumerConnectionList, remoting::encode(members));
  CHECK(status(wanted) == TrackStatus::kPull);
  members.message_model = remoting::MessageModel::kBroadcasting;
  cluster.broker.on(RequestCode::kGetConsumerConnectionList, remoting::encode(members));
  CHECK(status(wanted) == TrackStatus::kBroadcast);
  cluster.broker.refuse(RequestCode::kGetConsumerConnectionList, rc::kConsumerNotOnline, "not online");
  CHECK(status(wanted) == TrackStatus::kNotOnline);
  CHECK(std::string(to_string(TrackStatus::kNotConsumedYet)) == "NOT_CONSUME_YET");
}

TEST_CASE("admin: a copy of a message keeps what is its own and drops the way it took", "[admin]") {
  FakeAdminCluster cluster;
  AdminClient client(cluster.config());
  cluster.broker.on(RequestCode::kSendMessageV2, [](const Command& request) {
    auto answer = Command::response_to(request, rc::kSuccess);
    answer.ext.set("msgId", "offset-id");
    answer.ext.set("queueId", 0);
    answer.ext.set("queueOffset", 41);
    return answer;
  });
  const auto message = stored_message({{"KEYS", "order-1"},
                                       {"TAGS", "TagA"},
                                       {"UNIQ_KEY", "ID"},
                                       {"__SHARDINGKEY", "s"},
                                       {"amount", "7"},
                                       {"DELAY", "3"},
                                       {"TIMER_DELIVER_MS", "1"},
                                       {"TRAN_MSG", "true"},
                                       {"RECONSUME_TIME", "2"}});
  auto sent = client.send_copy(message, {"T", "a", 0}, {{"DRAIN_FROM", "here"}});
  REQUIRE(sent);
  CHECK(sent->msg_id == "ID");
  CHECK(sent->queue_offset == 41);
  const auto request = cluster.broker.seen(RequestCode::kSendMessageV2).back();
  CHECK(request.body.bytes == "body");
  CHECK(request.ext.get("b") == "T");
  CHECK(request.ext.get("g") == "1700000000123");
  CHECK(request.ext.get("h") == "9");
  const std::string properties(request.ext.get("i").value_or(""));
  std::map<std::string, std::string> kept;
  for (const auto& [name, value] : apogee::message::parse_properties(properties))
    kept[std::string(name)] = std::string(value);
  CHECK(kept == std::map<std::string, std::string>{{"KEYS", "order-1"},
                                                   {"TAGS", "TagA"},
                                                   {"UNIQ_KEY", "ID"},
                                                   {"__SHARDINGKEY", "s"},
                                                   {"amount", "7"},
                                                   {"DRAIN_FROM", "here"}});
  // Another name of a property would break the text.
  auto bad = client.send_copy(message, {"T", "a", 0}, {{"a\x01z", "x"}});
  REQUIRE_FALSE(bad);
  CHECK(bad.error().code == Errc::kInvalidArgument);
  cluster.broker.refuse(RequestCode::kSendMessageV2, rc::kSystemBusy, "busy");
  auto refused = client.send_copy(message, {"T", "a", 0});
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == Errc::kBusy);
}
