#include "broker/handlers/client_handlers.h"

#include "broker/handlers/client_offset_handlers.h"
#include "broker/relay/client_calls.h"
#include "test/unit/broker/support/handler_bench.h"
#include "test/unit/broker/support/topic_bench.h"

namespace apogee::broker {
namespace {

using remoting::RequestCode;
using namespace test;  // NOLINT: the bench's words read better bare
namespace code = remoting::response_code;

const Logger kQuiet;

// A heartbeat as the Java client of 4.9.8 sends it.
std::string java_heartbeat(const std::string& client_id, const std::string& expression = "TagA || TagB",
                           int64_t version = 1795231342497) {
  return R"({"clientID":")" + client_id +
         R"(","consumerDataSet":[{"consumeFromWhere":"CONSUME_FROM_FIRST_OFFSET","consumeType":"CONSUME_PASSIVELY",)"
         R"("groupName":"fx_push","messageModel":"CLUSTERING","subscriptionDataSet":[{"classFilterMode":false,"codeSet":[],)"
         R"("expressionType":"TAG","subString":"*","subVersion":1795231342523,"tagsSet":[],"topic":"%RETRY%fx_push"},)"
         R"({"classFilterMode":false,"codeSet":[2598919,2598920],"expressionType":"TAG","subString":")" +
         expression + R"(","subVersion":)" + std::to_string(version) +
         R"(,"tagsSet":["TagA","TagB"],"topic":"FxTopic"}],"unitMode":false}],)"
         R"("producerDataSet":[{"groupName":"CLIENT_INNER_PRODUCER"}]})";
}

struct Bench {
  FakeClock clock;
  SentToClients clients;
  SubscriptionGroups groups{{}, kQuiet, clock.now()};
  ConsumerGroups consumers{clock.now()};
  ProducerGroups producers{clock.now()};
  QueueLocks locks{{"", 60'000, clock.now(), clock.now()}};
  TopicBench topics;
  BrokerConfig config;
  ConsumerFilters filters{"", config, kQuiet, clock.now()};
  ClientHandlers handlers{{consumers, producers, groups, topics.table, locks, filters, kQuiet, clock.now()}};

  Bench() { consumers.set_change_listener(notify_members(clients.calls(), groups)); }
  remoting::Command heartbeat(const std::string& body, remoting::ConnectionId connection = 1) {
    return ask(handlers, &ClientHandlers::heartbeat, request_of(RequestCode::kHeartBeat, {}, body), connection);
  }
};

TEST_CASE("HEART_BEAT registers consumers and producers and makes the retry topic", "[broker]") {
  Bench bench;
  auto answer = bench.heartbeat(java_heartbeat("192.0.2.2@push-1"));
  CHECK(answer.code == code::kSuccess);
  CHECK(answer.version == 479);  // clients refuse SQL92 from brokers older than 232
  auto group = bench.consumers.find("fx_push");
  REQUIRE(group != nullptr);
  CHECK(group->consume_from == ConsumeFromWhere::kFirstOffset);
  CHECK(group->message_model == MessageModel::kClustering);
  REQUIRE(group->members.size() == 1);
  CHECK(group->members[0].address == "10.0.0.9:30001");
  CHECK(group->members[0].language == remoting::LanguageCode::kJava);
  CHECK(group->members[0].version == 409);
  REQUIRE(group->subscription("FxTopic") != nullptr);
  CHECK(group->subscription("FxTopic")->may_match(2598919));
  CHECK_FALSE(group->subscription("FxTopic")->may_match(79119));
  CHECK(bench.producers.members("CLIENT_INNER_PRODUCER").size() == 1);
  auto retry = bench.topics.table.find("%RETRY%fx_push");
  REQUIRE(retry != nullptr);
  CHECK(retry->read_queue_nums == 1);
  CHECK(retry->write_queue_nums == 1);
  CHECK(retry->perm == 6);
}

TEST_CASE("HEART_BEAT reads the C++ client's numbers, texts and missing members", "[broker]") {
  Bench bench;
  auto answer = bench.heartbeat(
      "{\n\"clientID\" : \"192.0.2.2@1#default\",\n\"consumerDataSet\" : [ {\"consumeFromWhere\" : 4, \"consumeType\" "
      ": "
      "1, \"groupName\" : \"g\", \"messageModel\" : 0, \"subscriptionDataSet\" : [ {\"subString\" : \"*\", "
      "\"subVersion\" : \"1700000000000\", \"topic\" : \"T\"} ], \"unitMode\" : false} ]\n}\n");
  CHECK(answer.code == code::kSuccess);
  auto group = bench.consumers.find("g");
  REQUIRE(group != nullptr);
  CHECK(group->message_model == MessageModel::kBroadcasting);
  CHECK(group->consume_from == ConsumeFromWhere::kFirstOffset);
  CHECK(group->subscription("T")->version == 1700000000000);
  CHECK(group->subscription("T")->may_match(12345));
}

TEST_CASE("NOTIFY_CONSUMER_IDS_CHANGED goes to every member on a change, unless the group does not want it",
          "[broker]") {
  Bench bench;
  bench.heartbeat(java_heartbeat("c1"), 1);
  bench.heartbeat(java_heartbeat("c2"), 2);
  REQUIRE(bench.clients.sent->size() == 3);  // the first to itself, then to both
  for (const auto& sent : *bench.clients.sent) {
    CHECK(sent.request.code == 40);
    CHECK(sent.request.ext.get("consumerGroup") == "fx_push");
    CHECK(sent.done == nullptr);
  }
  bench.clients.sent->clear();
  bench.heartbeat(java_heartbeat("c2"), 2);
  bench.heartbeat(java_heartbeat("c2", "TagA || TagB", 1795231350000), 2);  // a renewed subscription
  CHECK(bench.clients.sent->empty());
  bench.consumers.connection_closed(1);
  REQUIRE(bench.clients.sent->size() == 1);
  CHECK(bench.clients.sent->front().connection == 2);

  auto quiet = *bench.groups.find("fx_push");
  quiet.notify_consumer_ids_changed_enable = false;
  REQUIRE(bench.groups.put(quiet));
  bench.clients.sent->clear();
  bench.heartbeat(java_heartbeat("c1"), 1);
  CHECK(bench.clients.sent->empty());
}

TEST_CASE("HEART_BEAT of a group that may not be created registers nobody", "[broker]") {
  Bench bench;
  bench.groups.set_auto_create(false);
  CHECK(bench.heartbeat(java_heartbeat("c1")).code == code::kSuccess);
  CHECK(bench.consumers.find("fx_push") == nullptr);
  CHECK(bench.topics.table.find("%RETRY%fx_push") == nullptr);
}

TEST_CASE("HEART_BEAT without subscriptions keeps those that are known", "[broker]") {
  Bench bench;
  bench.heartbeat(java_heartbeat("c1"));
  bench.heartbeat(R"({"clientID":"c1","consumerDataSet":[{"consumeType":"CONSUME_PASSIVELY","groupName":"fx_push",)"
                  R"("messageModel":"CLUSTERING"}],"heartbeatFingerprint":5,"withoutSub":true})");
  CHECK(bench.consumers.find("fx_push")->subscription("FxTopic") != nullptr);
}

TEST_CASE("HEART_BEAT with a bad body is refused with a remark", "[broker]") {
  Bench bench;
  auto answer = bench.heartbeat("");
  CHECK(answer.code == code::kInvalidParameter);
  CHECK(answer.remark.value_or("").find("HeartbeatData") != std::string::npos);
  CHECK(bench.heartbeat("{\"clientID\":").code == code::kInvalidParameter);
  answer = bench.heartbeat("{}");
  CHECK(answer.code == code::kInvalidParameter);
  CHECK(answer.remark.value_or("").find("clientID") != std::string::npos);
  answer = bench.heartbeat(R"({"clientID":"c","consumerDataSet":[{"groupName":"a b"}]})");
  CHECK(answer.code == code::kInvalidParameter);
  CHECK(answer.remark.value_or("").find("groupName") != std::string::npos);
}

TEST_CASE("UNREGISTER_CLIENT takes the connection out of the groups that it names", "[broker]") {
  Bench bench;
  bench.heartbeat(java_heartbeat("c1"), 1);
  bench.heartbeat(java_heartbeat("c2"), 2);
  auto answer =
      ask(bench.handlers, &ClientHandlers::unregister_client,
          request_of(RequestCode::kUnregisterClient,
                     {{"clientID", "c2"}, {"consumerGroup", "fx_push"}, {"producerGroup", "CLIENT_INNER_PRODUCER"}}),
          2);
  CHECK(answer.code == code::kSuccess);
  CHECK(bench.consumers.find("fx_push")->client_ids() == std::vector<std::string>{"c1"});
  CHECK(bench.producers.members("CLIENT_INNER_PRODUCER").size() == 1);
  answer = ask(bench.handlers, &ClientHandlers::unregister_client, request_of(RequestCode::kUnregisterClient));
  CHECK(answer.code == code::kInvalidParameter);
  CHECK(answer.remark.value_or("").find("clientID") != std::string::npos);
}

TEST_CASE("GET_CONSUMER_LIST_BY_GROUP lists the ids, or says that there is no consumer", "[broker]") {
  Bench bench;
  bench.heartbeat(java_heartbeat("192.0.2.2@push-2"), 2);
  bench.heartbeat(java_heartbeat("192.0.2.2@push-1"), 1);
  auto list = [&bench](const Fields& fields) {
    return ask(bench.handlers, &ClientHandlers::consumer_list,
               request_of(RequestCode::kGetConsumerListByGroup, fields));
  };
  auto answer = list({{"consumerGroup", "fx_push"}});
  CHECK(answer.code == code::kSuccess);
  CHECK(body_text(answer) == R"({"consumerIdList":["192.0.2.2@push-1","192.0.2.2@push-2"]})");
  answer = list({{"consumerGroup", "fx_nobody"}});
  CHECK(answer.code == code::kSystemError);
  CHECK(answer.remark == "no consumer for this group, fx_nobody");
  CHECK(list({}).code == code::kInvalidParameter);
}

TEST_CASE("LOCK_BATCH_MQ grants what nobody else holds, UNLOCK_BATCH_MQ frees it", "[broker]") {
  Bench bench;
  auto lock = [&bench](const std::string& client, const std::string& queues) {
    return ask(bench.handlers, &ClientHandlers::lock_batch,
               request_of(RequestCode::kLockBatchMq, {},
                          R"({"clientId":")" + client + R"(","consumerGroup":"fx_orderly","mqSet":[)" + queues + "]}"));
  };
  const std::string one = R"({"brokerName":"broker-a","queueId":0,"topic":"FxOne"})";
  const std::string two = R"({"brokerName":"broker-a","queueId":0,"topic":"FxTopic"})";
  CHECK(body_text(lock("a", two)) == R"({"lockOKMQSet":[)" + two + "]}");
  CHECK(body_text(lock("b", one + "," + two)) == R"({"lockOKMQSet":[)" + one + "]}");
  CHECK(body_text(lock("b", "")) == R"({"lockOKMQSet":[]})");
  auto answer = ask(bench.handlers, &ClientHandlers::unlock_batch,
                    request_of(RequestCode::kUnlockBatchMq, {},
                               R"({"clientId":"a","consumerGroup":"fx_orderly","mqSet":[)" + two + "]}"));
  CHECK(answer.code == code::kSuccess);
  CHECK(body_text(lock("b", two)) == R"({"lockOKMQSet":[)" + two + "]}");

  answer = ask(bench.handlers, &ClientHandlers::lock_batch, request_of(RequestCode::kLockBatchMq, {}, "[1"));
  CHECK(answer.code == code::kInvalidParameter);
  CHECK(answer.remark.value_or("").find("LockBatchRequestBody") != std::string::npos);
  answer = ask(bench.handlers, &ClientHandlers::lock_batch,
               request_of(RequestCode::kLockBatchMq, {}, R"({"clientId":"a","mqSet":[]})"));
  CHECK(answer.remark.value_or("").find("consumerGroup") != std::string::npos);
}

TEST_CASE("CHECK_CLIENT_CONFIG accepts tags, and SQL92 where that is enabled and can be parsed", "[broker][filter]") {
  Bench bench;
  auto check = [&bench](const std::string& type, const std::string& sql = "a > 5") {
    return ask(bench.handlers, &ClientHandlers::check_client_config,
               request_of(RequestCode::kCheckClientConfig, {},
                          R"({"clientId":"c","group":"g","subscriptionData":{"expressionType":")" + type +
                              R"(","subString":")" + sql + R"(","topic":"T"}})"));
  };
  CHECK(check("TAG").code == code::kSuccess);
  auto answer = check("SQL92");
  CHECK(answer.code == code::kSystemError);
  CHECK(answer.remark == "The broker does not support consumer to filter message by SQL92");
  bench.config.property_filter = true;
  CHECK(check("SQL92").code == code::kSuccess);
  answer = check("SQL92", "a > ");
  CHECK(answer.code == code::kSubscriptionParseFailed);
  CHECK(answer.remark == "line 1, column 5: a property, a literal or ( is wanted, but the expression ends");
  CHECK(check("SQL92", std::string(1'000, '(')).code == code::kSubscriptionParseFailed);
  CHECK(check("SQL92", "a = '" + std::string(64 * 1024, 'x') + "'").code == code::kSubscriptionParseFailed);
  CHECK(check("XPATH").remark == "unknown expressionType XPATH: TAG or SQL92 is wanted");
}

TEST_CASE("a heartbeat with a filter that cannot be parsed registers everything else", "[broker][filter]") {
  Bench bench;
  auto subscription = [](const std::string& topic, const std::string& type, const std::string& text) {
    return R"({"codeSet":[],"expressionType":")" + type + R"(","subString":")" + text +
           R"(","subVersion":5,"tagsSet":[],"topic":")" + topic + R"("})";
  };
  auto group = [](const std::string& name, const std::string& subscriptions) {
    return R"({"consumeFromWhere":"CONSUME_FROM_FIRST_OFFSET","consumeType":"CONSUME_PASSIVELY","groupName":")" + name +
           R"(","messageModel":"CLUSTERING","subscriptionDataSet":[)" + subscriptions + R"(],"unitMode":false})";
  };
  CHECK(bench
            .heartbeat(R"({"clientID":"c","consumerDataSet":[)" +
                       group("good", subscription("T", "SQL92", "a > 5") + "," + subscription("U", "TAG", "*")) + "," +
                       group("bad", subscription("T", "SQL92", "a >") + "," + subscription("U", "SQL92", "b > 1")) +
                       R"(],"producerDataSet":[]})")
            .code == code::kSuccess);
  CHECK(bench.filters.find("T", "good").expression != nullptr);
  CHECK(bench.filters.find("U", "good").expression == nullptr);
  CHECK(bench.filters.find("T", "bad").expression == nullptr);
  CHECK(bench.filters.find("T", "bad").problem.find("column 4") != std::string::npos);
  CHECK(bench.filters.find("U", "bad").expression != nullptr);
  CHECK(bench.consumers.find("bad")->subscriptions.size() == 2);
}

struct OffsetBench {
  TempDir dir;
  SubscriptionGroups groups{{}, kQuiet};
  TopicBench topics;
  FakeStore store;
  std::unique_ptr<ConsumerOffsets> offsets;
  std::unique_ptr<ClientOffsetHandlers> handlers;

  OffsetBench() {
    auto opened = ConsumerOffsets::open({dir.file("db"), dir.file("consumerOffset.json")}, kQuiet);
    REQUIRE(opened);
    offsets = std::move(*opened);
    handlers = std::make_unique<ClientOffsetHandlers>(
        ClientOffsetHandlers::Parts{*offsets, groups, topics.table, store, 10'000});
    topics.add("T", 2);
    GroupConfig config;
    config.group_name = "G";
    REQUIRE(groups.put(config));
  }
  remoting::Command query(const Fields& more = {}, const std::string& queue = "0") {
    Fields fields = {{"consumerGroup", "G"}, {"topic", "T"}, {"queueId", queue}};
    fields.insert(fields.end(), more.begin(), more.end());
    return ask(*handlers, &ClientOffsetHandlers::query_offset, request_of(RequestCode::kQueryConsumerOffset, fields));
  }
  remoting::Command update(const std::string& group, const std::string& topic, const std::string& queue,
                           const std::string& offset) {
    return ask(*handlers, &ClientOffsetHandlers::update_offset,
               request_of(RequestCode::kUpdateConsumerOffset,
                          {{"consumerGroup", group}, {"topic", topic}, {"queueId", queue}, {"commitOffset", offset}}));
  }
};

TEST_CASE("QUERY_CONSUMER_OFFSET: committed, else 0 for a young queue, else 22", "[broker]") {
  OffsetBench bench;
  CHECK(bench.query().ext.get("offset") == "0");
  CHECK(bench.query({{"setZeroIfNotFound", "false"}}).code == code::kQueryNotFound);
  bench.store.queues[{"T", 0}] = {3, {1, 2}, {}};
  CHECK(bench.query().code == code::kQueryNotFound);
  bench.store.queues[{"T", 1}] = {0, {1, 2}, {}};
  bench.store.fixed_figures.log_max_offset = 1'010'000;
  CHECK(bench.query({}, "1").ext.get("offset") == "0");
  bench.store.fixed_figures.log_max_offset = 1'010'001;  // the message at 0 has left the hot part of the log
  CHECK(bench.query({}, "1").code == code::kQueryNotFound);
  CHECK(bench.update("G", "T", "0", "4").code == code::kSuccess);
  auto answer = bench.query();
  CHECK(answer.code == code::kSuccess);
  CHECK(answer.ext.get("offset") == "4");
  CHECK(bench.query({}, "x").remark.value_or("").find("queueId") != std::string::npos);
  CHECK(bench.query({}, "-1").code == code::kInvalidParameter);
}

TEST_CASE("UPDATE_CONSUMER_OFFSET wants a known group and topic, a queue of it and an offset", "[broker]") {
  OffsetBench bench;
  CHECK(bench.update("X", "T", "0", "4").code == code::kSubscriptionGroupNotExist);
  CHECK(bench.update("G", "X", "0", "4").code == code::kTopicNotExist);
  for (const char* queue : {"-1", "2", "99999999999", "", "a"}) {
    auto answer = bench.update("G", "T", queue, "4");
    CHECK(answer.code == code::kInvalidParameter);
    CHECK(answer.remark.value_or("").find("queueId") != std::string::npos);
  }
  for (const char* offset : {"-1", "", "1.5"}) {
    auto answer = bench.update("G", "T", "0", offset);
    CHECK(answer.code == code::kInvalidParameter);
    CHECK(answer.remark.value_or("").find("commitOffset") != std::string::npos);
  }
  CHECK_FALSE(bench.offsets->query("G", "T", 0).has_value());
  bench.offsets->reset("G", "T", 0, 1);
  CHECK(bench.update("G", "T", "0", "9").code == code::kSuccess);
  CHECK(bench.offsets->query("G", "T", 0) == 1);
}

}  // namespace
}  // namespace apogee::broker
