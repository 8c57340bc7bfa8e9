#include "broker/handlers/group_admin_handlers.h"
#include "broker/handlers/stats_admin_handlers.h"
#include "broker/handlers/topic_admin_handlers.h"
#include "common/remoting/bodies/kv_bodies.h"
#include "common/remoting/bodies/request_mode_bodies.h"
#include "test/unit/broker/support/handler_bench.h"
#include "test/unit/broker/support/topic_bench.h"

namespace apogee::broker {
namespace {

using remoting::RequestCode;
using namespace test;  // NOLINT: the bench's words read better bare
namespace code = remoting::response_code;

const Logger kQuiet;
const BrokerIdentity kIdentity{"C1", "broker-a", "127.0.0.1:10911"};

struct Bench {
  TempDir dir;
  FakeClock clock;
  SubscriptionGroups groups{{}, kQuiet, clock.now()};
  ConsumerGroups consumers{clock.now()};
  ProducerGroups producers{clock.now()};
  QueueLocks locks{{"", 60'000, clock.now(), clock.now()}};
  BrokerStats stats{"C1", clock.now()};
  TopicBench topics;
  FakeStore store;
  std::unique_ptr<ConsumerOffsets> offsets = open_offsets();
  TopicAdminHandlers topic_admin{{topics.table, *offsets, stats, store, kQuiet}};
  GroupAdminHandlers group_admin{
      {kIdentity, groups, consumers, producers, *offsets, topics.table, locks, stats, kQuiet}};
  StatsAdminHandlers stats_admin{{kIdentity, groups, consumers, *offsets, topics.table, stats, store, 1'700'000'000'000,
                                  dir.file(""), nullptr, clock.now(), [] {
                                    return remoting::DelayOffsetTable{{{3, 2}}};
                                  }}};

  std::unique_ptr<ConsumerOffsets> open_offsets() {
    auto opened = ConsumerOffsets::open({dir.file("db"), dir.file("consumerOffset.json")}, kQuiet);
    REQUIRE(opened);
    return std::move(*opened);
  }
  void join(const std::string& group, const std::string& topic, remoting::ConnectionId connection = 1) {
    ConsumerRegistration registration;
    registration.group = group;
    Subscription subscription;
    subscription.topic = topic;
    subscription.version = 1700000000000;
    registration.subscriptions.push_back(subscription);
    ClientInfo client;
    client.connection = connection;
    client.client_id = "c" + std::to_string(connection);
    client.address = "10.0.0.9:1";
    client.language = remoting::LanguageCode::kJava;
    client.version = 409;
    client.last_update_ms = *clock.ms;
    consumers.register_consumer(client, registration);
  }
};

remoting::Command topic_request(const Fields& changes, RequestCode request_code = RequestCode::kUpdateAndCreateTopic) {
  std::map<std::string, std::string> fields = {
      {"topic", "FxTopic"}, {"defaultTopic", "TBW102"},        {"readQueueNums", "4"}, {"writeQueueNums", "4"},
      {"perm", "6"},        {"topicFilterType", "SINGLE_TAG"}, {"topicSysFlag", "0"},  {"order", "false"}};
  for (const auto& [name, value] : changes) {
    if (value == "(absent)") {
      fields.erase(name);
    } else {
      fields[name] = value;
    }
  }
  return request_of(request_code, {fields.begin(), fields.end()});
}

TEST_CASE("UPDATE_AND_CREATE_TOPIC creates and changes a topic", "[broker]") {
  Bench bench;
  CHECK(ask(bench.topic_admin, &TopicAdminHandlers::update_topic, topic_request({})).code == code::kSuccess);
  REQUIRE(bench.topics.table.find("FxTopic") != nullptr);
  auto answer =
      ask(bench.topic_admin, &TopicAdminHandlers::update_topic,
          topic_request(
              {{"perm", "4"}, {"order", "true"}, {"readQueueNums", "8"}, {"attributes", "+message.type=NORMAL"}}));
  CHECK(answer.code == code::kSuccess);
  auto topic = bench.topics.table.find("FxTopic");
  CHECK(topic->perm == 4);
  CHECK(topic->order);
  CHECK(topic->read_queue_nums == 8);
  CHECK(topic->write_queue_nums == 4);
  CHECK(topic->attributes.at("message.type") == "NORMAL");
  ask(bench.topic_admin, &TopicAdminHandlers::update_topic, topic_request({{"attributes", "-message.type"}}));
  CHECK(bench.topics.table.find("FxTopic")->attributes.empty());
  answer = ask(bench.topic_admin, &TopicAdminHandlers::topic_config,
               request_of(RequestCode::kGetTopicConfig, {{"topic", "FxTopic"}}));
  CHECK(
      body_text(answer) ==
      R"({"order":false,"perm":6,"readQueueNums":4,"topicFilterType":"SINGLE_TAG","topicName":"FxTopic","topicSysFlag":0,"writeQueueNums":4})");
  answer = ask(bench.topic_admin, &TopicAdminHandlers::topic_config,
               request_of(RequestCode::kGetTopicConfig, {{"topic", "nope"}}));
  CHECK(answer.code == code::kTopicNotExist);
}

TEST_CASE("UPDATE_AND_CREATE_TOPIC refuses bad fields with 29 and the field's name", "[broker]") {
  Bench bench;
  const std::vector<std::pair<std::string, std::string>> bad = {
      {"topic", "bad topic!"},       {"topic", ""},          {"topic", std::string(128, 't')},
      {"topic", "(absent)"},         {"perm", "8"},          {"perm", "x"},
      {"perm", "(absent)"},          {"readQueueNums", "0"}, {"readQueueNums", "-1"},
      {"writeQueueNums", "1000000"}, {"order", "(absent)"},  {"topicFilterType", "TAGS"},
      {"defaultTopic", "(absent)"},  {"topicSysFlag", "a"},  {"attributes", "message.type=NORMAL"},
      {"attributes", "+no.such=1"}};
  for (const auto& [name, value] : bad) {
    auto answer = ask(bench.topic_admin, &TopicAdminHandlers::update_topic, topic_request({{name, value}}));
    INFO(name << "=" << value << ": " << answer.remark.value_or(""));
    CHECK(answer.code == code::kInvalidParameter);
    CHECK(answer.remark.value_or("").find(name == "attributes" ? "attribute" : name) != std::string::npos);
  }
  auto answer =
      ask(bench.topic_admin, &TopicAdminHandlers::update_topic, topic_request({{"topic", "RMQ_SYS_TRANS_HALF_TOPIC"}}));
  CHECK(answer.code == code::kInvalidParameter);
  CHECK(answer.remark == "The topic[RMQ_SYS_TRANS_HALF_TOPIC] is conflict with system topic.");
}

TEST_CASE("UPDATE_AND_CREATE_TOPIC_LIST takes all topics or none", "[broker]") {
  Bench bench;
  auto update = [&bench](const std::string& body) {
    return ask(bench.topic_admin, &TopicAdminHandlers::update_topic_list,
               request_of(RequestCode::kUpdateAndCreateTopicList, {}, body));
  };
  CHECK(update(R"({"topicConfigList":[{"topicName":"A","perm":6},{"topicName":"b a d","perm":6}]})").code ==
        code::kInvalidParameter);
  CHECK(bench.topics.table.find("A") == nullptr);
  CHECK(update(R"({"topicConfigList":[{"topicName":"A","perm":6},{"topicName":"B","readQueueNums":2}]})").code ==
        code::kSuccess);
  CHECK(bench.topics.table.find("B")->read_queue_nums == 2);
  auto answer = update("no json");
  CHECK(answer.code == code::kInvalidParameter);
  CHECK(answer.remark.value_or("").find("CreateTopicListRequestBody") != std::string::npos);
}

TEST_CASE("GET_ALL_TOPIC_CONFIG gives all topics, or a page of them", "[broker]") {
  Bench bench;
  for (const char* topic : {"A", "B", "C"}) bench.topics.add(topic, 1);
  auto page = [&bench](const Fields& fields) {
    auto answer = ask(bench.topic_admin, &TopicAdminHandlers::all_topic_config,
                      request_of(RequestCode::kGetAllTopicConfig, fields));
    auto body = remoting::decode_topic_config_serialize_wrapper(answer.body.bytes);
    REQUIRE(body);
    std::string names;
    for (const auto& [name, config] : body->topic_config_table)
      if (name.size() == 1) names += name;
    return names;
  };
  CHECK(page({}) == "ABC");
  const auto table = bench.topics.table.snapshot();
  auto place = [&table](const char* topic) {
    return std::to_string(std::distance(table->begin(), table->find(topic)));
  };
  CHECK(page({{"topicSeq", place("A")}, {"maxTopicNum", "2"}}) == "AB");
  CHECK(page({{"topicSeq", place("C")}, {"maxTopicNum", "1"}}) == "C");
}

TEST_CASE("DELETE_TOPIC_IN_BROKER forgets the topic, its queues and its offsets", "[broker]") {
  Bench bench;
  bench.topics.add("FxTopic", 1);
  bench.offsets->commit("G", "FxTopic", 0, 5);
  auto remove = [&bench](const std::string& topic) {
    return ask(bench.topic_admin, &TopicAdminHandlers::delete_topic,
               request_of(RequestCode::kDeleteTopicInBroker, {{"topic", topic}}));
  };
  CHECK(remove("FxTopic").code == code::kSuccess);
  CHECK(bench.topics.table.find("FxTopic") == nullptr);
  CHECK(bench.store.deleted_topics == std::vector<std::string>{"FxTopic"});
  CHECK(bench.offsets->topics_of_group("G").empty());
  CHECK(remove("RMQ_SYS_TRANS_HALF_TOPIC").code == code::kInvalidParameter);
  CHECK(remove("").code == code::kInvalidParameter);
  CHECK(remove("../etc").code == code::kInvalidParameter);
}

TEST_CASE("Subscription groups are created, listed, read and deleted", "[broker]") {
  Bench bench;
  auto put = [&bench](const std::string& body) {
    return ask(bench.group_admin, &GroupAdminHandlers::update_group,
               request_of(RequestCode::kUpdateAndCreateSubscriptiongroup, {}, body));
  };
  CHECK(put(R"({"brokerId":0,"consumeBroadcastEnable":true,"consumeEnable":true,"consumeFromMinEnable":true,)"
            R"("groupName":"fx_group","notifyConsumerIdsChangedEnable":true,"retryMaxTimes":3,"retryQueueNums":1,)"
            R"("whichBrokerWhenConsumeSlowly":1})")
            .code == code::kSuccess);
  CHECK(bench.groups.find("fx_group")->retry_max_times == 3);
  auto answer = put(R"({"groupName":"a b"})");
  CHECK(answer.code == code::kInvalidParameter);
  CHECK(put("{").code == code::kInvalidParameter);
  answer = ask(bench.group_admin, &GroupAdminHandlers::group_config,
               request_of(RequestCode::kGetSubscriptiongroupConfig, {{"group", "fx_group"}}));
  CHECK(
      body_text(answer) ==
      R"({"brokerId":0,"consumeBroadcastEnable":true,"consumeEnable":true,"consumeFromMinEnable":true,"groupName":"fx_group","notifyConsumerIdsChangedEnable":true,"retryMaxTimes":3,"retryQueueNums":1,"whichBrokerWhenConsumeSlowly":1})");
  answer = ask(bench.group_admin, &GroupAdminHandlers::group_config,
               request_of(RequestCode::kGetSubscriptiongroupConfig, {{"group", "none"}}));
  CHECK(answer.code == code::kSubscriptionGroupNotExist);

  answer = ask(bench.group_admin, &GroupAdminHandlers::all_group_config,
               request_of(RequestCode::kGetAllSubscriptiongroupConfig));
  auto all = remoting::decode_subscription_group_wrapper(answer.body.bytes);
  REQUIRE(all);
  CHECK(all->subscription_group_table.count("fx_group") == 1);
  CHECK(all->subscription_group_table.count("TOOLS_CONSUMER") == 1);
  CHECK(answer.ext.get_int<int32_t>("totalGroupNum") == static_cast<int32_t>(all->subscription_group_table.size()));

  bench.offsets->commit("fx_group", "T", 0, 1);
  auto remove = [&bench](const Fields& fields) {
    return ask(bench.group_admin, &GroupAdminHandlers::delete_group,
               request_of(RequestCode::kDeleteSubscriptiongroup, fields));
  };
  CHECK(remove({{"groupName", "fx_group"}}).code == code::kSuccess);
  CHECK(bench.groups.find("fx_group") == nullptr);
  CHECK(bench.offsets->query("fx_group", "T", 0) == 1);
  CHECK(remove({{"groupName", "fx_group"}, {"cleanOffset", "true"}}).code == code::kSuccess);
  CHECK_FALSE(bench.offsets->query("fx_group", "T", 0).has_value());
  CHECK(remove({{"groupName", "TOOLS_CONSUMER"}}).code == code::kInvalidParameter);
}

TEST_CASE("Connections of consumers and producers are listed as clients of RocketMQ read them", "[broker]") {
  Bench bench;
  bench.join("fx_push", "FxTopic");
  auto consumers = [&bench](const std::string& group) {
    return ask(bench.group_admin, &GroupAdminHandlers::consumer_connections,
               request_of(RequestCode::kGetConsumerConnectionList, {{"consumerGroup", group}}));
  };
  CHECK(
      body_text(consumers("fx_push")) ==
      R"({"connectionSet":[{"clientAddr":"10.0.0.9:1","clientId":"c1","language":"JAVA","version":409}],)"
      R"("consumeFromWhere":"CONSUME_FROM_LAST_OFFSET","consumeType":"CONSUME_PASSIVELY","messageModel":"CLUSTERING",)"
      R"("subscriptionTable":{"FxTopic":{"classFilterMode":false,"codeSet":[],"expressionType":"TAG","subString":"*",)"
      R"("subVersion":1700000000000,"tagsSet":[],"topic":"FxTopic"}}})");
  auto answer = consumers("fx_nobody");
  CHECK(answer.code == code::kConsumerNotOnline);
  CHECK(answer.remark == "the consumer group[fx_nobody] not online");

  ClientInfo producer;
  producer.connection = 4;
  producer.client_id = "p";
  producer.address = "10.0.0.9:4";
  producer.language = remoting::LanguageCode::kCpp;
  producer.version = 333;
  producer.last_update_ms = 1'700'000'000'000;
  bench.producers.register_producer("P", producer);
  auto producers = [&bench](const std::string& group) {
    return ask(bench.group_admin, &GroupAdminHandlers::producer_connections,
               request_of(RequestCode::kGetProducerConnectionList, {{"producerGroup", group}}));
  };
  CHECK(body_text(producers("P")) ==
        R"({"connectionSet":[{"clientAddr":"10.0.0.9:4","clientId":"p","language":"CPP","version":333}]})");
  CHECK(producers("Q").code == code::kSystemError);
  answer = ask(bench.group_admin, &GroupAdminHandlers::all_producers, request_of(RequestCode::kGetAllProducerInfo));
  CHECK(
      body_text(answer) ==
      R"({"data":{"P":[{"clientId":"p","language":"CPP","lastUpdateTimestamp":1700000000000,"remoteIP":"/10.0.0.9:4","version":333}]}})");
}

TEST_CASE("Who consumes what: by topic, by group, online and by offsets", "[broker]") {
  Bench bench;
  bench.topics.add("FxTopic", 1);
  bench.topics.add("Left", 1);
  bench.join("online", "FxTopic");
  bench.offsets->commit("offline", "FxTopic", 0, 3);
  bench.offsets->commit("online", "Left", 0, 4);
  auto answer = ask(bench.group_admin, &GroupAdminHandlers::consumed_by,
                    request_of(RequestCode::kQueryTopicConsumeByWho, {{"topic", "FxTopic"}}));
  CHECK(body_text(answer) == R"({"groupList":["offline","online"]})");
  answer = ask(bench.group_admin, &GroupAdminHandlers::topics_by_consumer,
               request_of(RequestCode::kQueryTopicsByConsumer, {{"group", "offline"}}));
  CHECK(body_text(answer) == R"({"brokerAddr":"127.0.0.1:10911","topicList":["FxTopic"]})");
  answer = ask(bench.group_admin, &GroupAdminHandlers::subscription_by_consumer,
               request_of(RequestCode::kQuerySubscriptionByConsumer, {{"group", "online"}, {"topic", "FxTopic"}}));
  CHECK(body_text(answer) ==
        R"({"group":"online","subscriptionData":{"classFilterMode":false,"codeSet":[],"expressionType":"TAG",)"
        R"("subString":"*","subVersion":1700000000000,"tagsSet":[],"topic":"FxTopic"},"topic":"FxTopic"})");
  answer = ask(bench.group_admin, &GroupAdminHandlers::subscription_by_consumer,
               request_of(RequestCode::kQuerySubscriptionByConsumer, {{"group", "no \"one\""}}));
  CHECK(body_text(answer) == R"({"group":"no \"one\"","topic":""})");
  answer =
      ask(bench.group_admin, &GroupAdminHandlers::all_consumer_offset, request_of(RequestCode::kGetAllConsumerOffset));
  CHECK(body_text(answer) == R"({"offsetTable":{"FxTopic@offline":{0:3},"Left@online":{0:4}}})");

  auto clone = [&bench](const Fields& fields) {
    CHECK(ask(bench.group_admin, &GroupAdminHandlers::clone_offsets, request_of(RequestCode::kCloneGroupOffset, fields))
              .code == code::kSuccess);
  };
  clone({{"srcGroup", "online"}, {"destGroup", "copy"}, {"offline", "false"}});
  CHECK(bench.offsets->topics_of_group("copy").empty());  // "online" no longer subscribes to Left
  clone({{"srcGroup", "online"}, {"destGroup", "copy"}, {"offline", "true"}});
  CHECK(bench.offsets->query("copy", "Left", 0) == 4);
}

TEST_CASE("GET_TOPIC_STATS_INFO and GET_CONSUME_STATS list each queue", "[broker]") {
  Bench bench;
  bench.topics.add("FxTopic", 2);
  bench.store.queues[{"FxTopic", 0}] = {1, {100, 200, 300}, {}};
  bench.offsets->commit("G", "FxTopic", 0, 3);
  bench.offsets->commit("G", "deleted", 0, 3);
  auto answer = ask(bench.stats_admin, &StatsAdminHandlers::topic_stats,
                    request_of(RequestCode::kGetTopicStatsInfo, {{"topic", "FxTopic"}}));
  CHECK(
      body_text(answer) ==
      R"({"offsetTable":{{"brokerName":"broker-a","queueId":0,"topic":"FxTopic"}:{"lastUpdateTimestamp":300,"maxOffset":4,"minOffset":1},)"
      R"({"brokerName":"broker-a","queueId":1,"topic":"FxTopic"}:{"lastUpdateTimestamp":0,"maxOffset":0,"minOffset":0}}})");
  answer = ask(bench.stats_admin, &StatsAdminHandlers::topic_stats,
               request_of(RequestCode::kGetTopicStatsInfo, {{"topic", "NoSuchTopic"}}));
  CHECK(answer.code == code::kTopicNotExist);
  CHECK(answer.remark == "topic[NoSuchTopic] not exist");

  auto stats_of = [&bench](const Fields& fields) {
    auto reply =
        ask(bench.stats_admin, &StatsAdminHandlers::consume_stats, request_of(RequestCode::kGetConsumeStats, fields));
    auto body = remoting::decode_consume_stats(reply.body.bytes);
    REQUIRE(body);
    return *body;
  };
  auto stats = stats_of({{"consumerGroup", "G"}});
  REQUIRE(stats.offset_table.size() == 2);
  const auto& queue = stats.offset_table.at(MessageQueue{"FxTopic", "broker-a", 0});
  CHECK(queue.broker_offset == 4);
  CHECK(queue.consumer_offset == 3);
  CHECK(queue.last_timestamp == 200);
  CHECK(stats_of({{"consumerGroup", "G"}, {"topicList", "FxTopic;other"}}).offset_table.size() == 2);
  CHECK(stats_of({{"consumerGroup", "G"}, {"topic", "other"}}).offset_table.empty());
  bench.join("G", "other");
  CHECK(stats_of({{"consumerGroup", "G"}}).offset_table.empty());  // it has left FxTopic
}

TEST_CASE("GET_BROKER_CONSUME_STATS sums up what is left to consume", "[broker]") {
  Bench bench;
  bench.topics.add("FxTopic", 1);
  bench.topics.add("Ordered", 1, true);
  bench.store.queues[{"FxTopic", 0}] = {0, {100, 200, 300}, {}};
  bench.store.queues[{"Ordered", 0}] = {0, {100}, {}};
  GroupConfig config;
  config.group_name = "G";
  REQUIRE(bench.groups.put(config));
  bench.offsets->commit("G", "FxTopic", 0, 1);
  bench.offsets->commit("G", "Ordered", 0, 0);
  auto total = [&bench](const char* ordered) {
    auto answer = ask(bench.stats_admin, &StatsAdminHandlers::broker_consume_stats,
                      request_of(RequestCode::kGetBrokerConsumeStats, {{"isOrder", ordered}}));
    auto body = remoting::decode_consume_stats_list(answer.body.bytes);
    REQUIRE(body);
    CHECK(body->broker_addr == "127.0.0.1:10911");
    return body->total_diff;
  };
  CHECK(total("false") == 3);
  CHECK(total("true") == 1);
}

TEST_CASE("QUERY_CONSUME_TIME_SPAN tells times and delay of each queue", "[broker]") {
  Bench bench;
  bench.topics.add("FxTopic", 1);
  const int64_t now = *bench.clock.ms;
  bench.store.queues[{"FxTopic", 0}] = {0, {now - 300, now - 200, now - 100}, {}};
  bench.offsets->commit("G", "FxTopic", 0, 1);
  auto answer = ask(bench.stats_admin, &StatsAdminHandlers::consume_time_span,
                    request_of(RequestCode::kQueryConsumeTimeSpan, {{"topic", "FxTopic"}, {"group", "G"}}));
  auto body = remoting::decode_query_consume_time_span_body(answer.body.bytes);
  REQUIRE(body);
  REQUIRE(body->consume_time_span_set.size() == 1);
  const auto& span = body->consume_time_span_set[0];
  CHECK(span.min_time_stamp == now - 300);
  CHECK(span.max_time_stamp == now - 100);
  CHECK(span.consume_time_stamp == now - 300);
  CHECK(span.delay_time == 200);
}

TEST_CASE("QUERY_CONSUME_QUEUE lists entries and whether the group would get them", "[broker]") {
  Bench bench;
  bench.topics.add("FxOne", 1);
  bench.store.queues[{"FxOne", 0}] = {0, {1, 2, 3}, {79119, 2598919, 2172218}};
  auto query = [&bench](const std::string& index, const std::string& count) {
    return ask(
        bench.stats_admin, &StatsAdminHandlers::query_consume_queue,
        request_of(RequestCode::kQueryConsumeQueue,
                   {{"topic", "FxOne"}, {"queueId", "0"}, {"index", index}, {"count", count}, {"consumerGroup", "G"}}));
  };
  CHECK(body_text(query("0", "1")) ==
        R"({"filterData":"G@FxOne is not online!","maxQueueIndex":3,"minQueueIndex":0,)"
        R"("queueData":[{"eval":false,"physicOffset":0,"physicSize":100,"tagsCode":79119}]})");
  bench.join("G", "FxOne");
  auto body = remoting::decode_query_consume_queue_response(query("1", "9").body.bytes);
  REQUIRE(body);
  CHECK(body->queue_data.size() == 2);
  CHECK(body->queue_data[0].eval);
  CHECK(body->subscription_data.has_value());
  CHECK(query("9", "1").code == code::kSystemError);
  CHECK(query("-1", "1").code == code::kInvalidParameter);
  CHECK(query("0", "0").code == code::kInvalidParameter);
}

TEST_CASE("QUERY_CORRECTION_OFFSET gives the lowest offsets of the other groups", "[broker]") {
  Bench bench;
  bench.offsets->commit("fx_push", "FxTopic", 0, 3);
  bench.offsets->commit("fx_push", "FxTopic", 1, 2);
  bench.offsets->commit("other", "FxTopic", 0, 5);
  bench.offsets->commit("other", "FxTopic", 1, 1);
  bench.offsets->commit("fx_sql", "FxTopic", 0, 0);
  auto answer = ask(bench.stats_admin, &StatsAdminHandlers::correction_offset,
                    request_of(RequestCode::kQueryCorrectionOffset,
                               {{"compareGroup", "fx_push"}, {"topic", "FxTopic"}, {"filterGroups", "fx_sql"}}));
  CHECK(body_text(answer) == R"({"correctionOffsets":{0:3,1:1}})");
  answer = ask(bench.stats_admin, &StatsAdminHandlers::correction_offset,
               request_of(RequestCode::kQueryCorrectionOffset,
                          {{"compareGroup", "fx_push"}, {"topic", "FxTopic"}, {"filterGroups", "fx_sql, fx_push"}}));
  CHECK(body_text(answer) == R"({"correctionOffsets":{0:9223372036854775807,1:1}})");
}

TEST_CASE("VIEW_BROKER_STATS_DATA knows what was counted", "[broker]") {
  Bench bench;
  auto view = [&bench](const std::string& name, const std::string& key) {
    return ask(bench.stats_admin, &StatsAdminHandlers::view_stats,
               request_of(RequestCode::kViewBrokerStatsData, {{"statsName", name}, {"statsKey", key}}));
  };
  auto answer = view("TOPIC_PUT_NUMS", "FxTopic");
  CHECK(answer.code == code::kSystemError);
  CHECK(answer.remark == "The stats <TOPIC_PUT_NUMS> <FxTopic> not exist");
  bench.stats.on_put("FxTopic", 3, 300, 1);
  CHECK(body_text(view("TOPIC_PUT_NUMS", "FxTopic")).find(R"("statsMinute":{"avgpt":3.0,"sum":3,"tps":0.0})") !=
        std::string::npos);
}

TEST_CASE("GET_BROKER_RUNTIME_INFO has every figure that tools read", "[broker]") {
  Bench bench;
  bench.stats.on_put("T", 2, 300, 7);
  bench.stats.on_get("G", "T", 1, 150, 1);
  bench.stats.on_get_miss();
  bench.store.fixed_figures.log_max_offset = 5000;
  bench.store.fixed_figures.dispatched_offset = 4000;
  bench.store.fixed_figures.flushed_offset = 2952;
  bench.clock.advance(10'000);
  bench.stats.tick();
  auto answer =
      ask(bench.stats_admin, &StatsAdminHandlers::runtime_info, request_of(RequestCode::kGetBrokerRuntimeInfo));
  auto body = remoting::decode_kv_table(answer.body.bytes);
  REQUIRE(body);
  auto& table = body->table;
  for (const char* key : {"brokerVersionDesc",
                          "brokerVersion",
                          "bootTimestamp",
                          "runtime",
                          "putTps",
                          "getTransferedTps",
                          "getTransferredTps",
                          "getTotalTps",
                          "getFoundTps",
                          "getMissTps",
                          "msgPutTotalYesterdayMorning",
                          "msgPutTotalTodayMorning",
                          "msgPutTotalTodayNow",
                          "msgGetTotalYesterdayMorning",
                          "msgGetTotalTodayMorning",
                          "msgGetTotalTodayNow",
                          "sendThreadPoolQueueSize",
                          "sendThreadPoolQueueCapacity",
                          "pullThreadPoolQueueSize",
                          "pullThreadPoolQueueCapacity",
                          "sendThreadPoolQueueHeadWaitTimeMills",
                          "pullThreadPoolQueueHeadWaitTimeMills",
                          "queryThreadPoolQueueHeadWaitTimeMills",
                          "pageCacheLockTimeMills",
                          "earliestMessageTimeStamp",
                          "commitLogDiskRatio",
                          "consumeQueueDiskRatio",
                          "commitLogMinOffset",
                          "commitLogMaxOffset",
                          "dispatchBehindBytes",
                          "putMessageAverageSize",
                          "putMessageTimesTotal",
                          "putMessageSizeTotal",
                          "putMessageEntireTimeMax",
                          "putMessageDistributeTime",
                          "getMessageEntireTimeMax",
                          "remainHowManyDataToFlush",
                          "remainTransientStoreBufferNumbs",
                          "commitLogDirCapacity",
                          "startAcceptSendRequestTimeStamp",
                          "timerReadBehind",
                          "timerOffsetBehind",
                          "timerCongestNum",
                          "timerEnqueueTps",
                          "timerDequeueTps",
                          "brokerActive"})
    CHECK(table.count(key) == 1);
  CHECK(table["brokerVersionDesc"] == "V5_3_3");
  CHECK(table["runtime"] == "[ 0 days, 0 hours, 0 minutes, 10 seconds ]");
  CHECK(table["putTps"] == "0.2 0.2 0.2");
  CHECK(table["getTotalTps"] == "0.2 0.2 0.2");
  CHECK(table["msgPutTotalTodayNow"] == "2");
  CHECK(table["putMessageAverageSize"] == "150");
  CHECK(table["dispatchBehindBytes"] == "1000");
  CHECK(table["remainHowManyDataToFlush"] == "2.0 KiB");
  CHECK(table["putMessageDistributeTime"].find("[0~10ms]:1 ") != std::string::npos);
}

TEST_CASE("SET_MESSAGE_REQUEST_MODE: every group pulls, and nothing else can be asked for", "[broker]") {
  Bench bench;
  bench.topics.add("T", 1);
  bench.join("G", "T");
  REQUIRE(bench.groups.find_or_create("G") != nullptr);
  auto asked = [&](const std::string& topic, const std::string& group, remoting::MessageRequestMode mode) {
    auto request = request_of(RequestCode::kSetMessageRequestMode);
    request.body = SharedBytes::from(remoting::encode(remoting::SetMessageRequestModeBody{topic, group, mode, 0}));
    return ask(bench.group_admin, &GroupAdminHandlers::set_request_mode, std::move(request));
  };
  using Mode = remoting::MessageRequestMode;
  CHECK(asked("T", "G", Mode::kPull).code == code::kSuccess);
  const auto pop = asked("T", "G", Mode::kPop);
  CHECK(pop.code == code::kRequestCodeNotSupported);
  CHECK(pop.remark == "this broker has no POP consumption: the members of every group pull");
  CHECK(asked("%RETRY%G", "G", Mode::kPull).code == code::kNoPermission);
  CHECK(asked("None", "G", Mode::kPull).code == code::kTopicNotExist);
  CHECK(asked("T", "None", Mode::kPull).code == code::kSubscriptionGroupNotExist);
  auto broken = request_of(RequestCode::kSetMessageRequestMode);
  broken.body = SharedBytes::from(std::string(R"({"mode":"PUSH"})"));
  CHECK(ask(bench.group_admin, &GroupAdminHandlers::set_request_mode, std::move(broken)).code ==
        code::kInvalidParameter);
}

TEST_CASE("GET_ALL_DELAY_OFFSET tells the progress of each level", "[broker]") {
  Bench bench;
  auto answer =
      ask(bench.stats_admin, &StatsAdminHandlers::all_delay_offset, request_of(RequestCode::kGetAllDelayOffset));
  CHECK(body_text(answer) == R"({"offsetTable":{3:2}})");
}

}  // namespace
}  // namespace apogee::broker
