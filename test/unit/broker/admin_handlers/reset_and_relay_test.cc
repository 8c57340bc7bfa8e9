#include "broker/handlers/relay_handlers.h"
#include "broker/handlers/reset_offset_handlers.h"
#include "common/message/message_id.h"
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
  SentToClients clients;
  SubscriptionGroups groups{{}, kQuiet, clock.now()};
  ConsumerGroups consumers{clock.now()};
  TopicBench topics;
  FakeStore store;
  std::unique_ptr<ConsumerOffsets> offsets = open_offsets();
  ResetOffsetHandlers reset{{kIdentity, groups, consumers, *offsets, topics.table, store, clients.calls(), kQuiet}};
  RelayHandlers relay{{kIdentity, consumers, store, clients.calls()}};

  Bench() {
    topics.add("FxTopic", 2);
    store.queues[{"FxTopic", 0}] = {0, {100, 200, 300}, {}};
    store.queues[{"FxTopic", 1}] = {5, {100, 200, 300}, {}};
    GroupConfig config;
    config.group_name = "fx_push";
    REQUIRE(groups.put(config));
  }
  std::unique_ptr<ConsumerOffsets> open_offsets() {
    auto opened = ConsumerOffsets::open({dir.file("db"), dir.file("consumerOffset.json")}, kQuiet);
    REQUIRE(opened);
    return std::move(*opened);
  }
  void join(remoting::ConnectionId connection, remoting::LanguageCode language, int32_t version = 409) {
    ConsumerRegistration registration;
    registration.group = "fx_push";
    ClientInfo client;
    client.connection = connection;
    client.client_id = "c" + std::to_string(connection);
    client.language = language;
    client.version = version;
    client.last_update_ms = *clock.ms;
    consumers.register_consumer(client, registration);
  }
  remoting::Command ask_reset(const Fields& changes) {
    std::map<std::string, std::string> fields = {
        {"topic", "FxTopic"}, {"group", "fx_push"}, {"timestamp", "0"}, {"isForce", "true"}};
    for (const auto& [name, value] : changes) fields[name] = value;
    return ask(reset, &ResetOffsetHandlers::reset_offset,
               request_of(RequestCode::kInvokeBrokerToResetOffset, {fields.begin(), fields.end()}));
  }
};

const std::string kQueue0 = R"({"brokerName":"broker-a","queueId":0,"topic":"FxTopic"})";
const std::string kQueue1 = R"({"brokerName":"broker-a","queueId":1,"topic":"FxTopic"})";

TEST_CASE("INVOKE_BROKER_TO_RESET_OFFSET rewrites the offsets of a group that is offline", "[broker]") {
  Bench bench;
  bench.offsets->commit("fx_push", "FxTopic", 0, 2);
  auto answer = bench.ask_reset({{"timestamp", "150"}});
  CHECK(answer.code == code::kSuccess);
  CHECK(body_text(answer) == R"({"offsetTable":{)" + kQueue0 + ":1," + kQueue1 + ":6}}");
  CHECK(bench.offsets->query("fx_push", "FxTopic", 0) == 1);
  CHECK(bench.offsets->query("fx_push", "FxTopic", 1) == 6);
  CHECK_FALSE(bench.offsets->commit("fx_push", "FxTopic", 0, 3));  // until the next pull
  CHECK(bench.offsets->take_reset("fx_push", "FxTopic", 0) == 1);
  CHECK(bench.clients.sent->empty());
  CHECK(body_text(bench.ask_reset({{"timestamp", "-1"}})) ==
        R"({"offsetTable":{)" + kQueue0 + ":3," + kQueue1 + ":8}}");
}

TEST_CASE("INVOKE_BROKER_TO_RESET_OFFSET without force never goes forward", "[broker]") {
  Bench bench;
  bench.offsets->commit("fx_push", "FxTopic", 0, 1);
  bench.offsets->commit("fx_push", "FxTopic", 1, 8);
  auto answer = bench.ask_reset({{"timestamp", "250"}, {"isForce", "false"}});
  CHECK(body_text(answer) == R"({"offsetTable":{)" + kQueue0 + ":1," + kQueue1 + ":7}}");
}

TEST_CASE("INVOKE_BROKER_TO_RESET_OFFSET may name one queue and its offset", "[broker]") {
  Bench bench;
  CHECK(body_text(bench.ask_reset({{"queueId", "1"}, {"offset", "6"}})) == R"({"offsetTable":{)" + kQueue1 + ":6}}");
  auto answer = bench.ask_reset({{"queueId", "1"}, {"offset", "4"}});
  CHECK(answer.code == code::kInvalidParameter);
  CHECK(answer.remark.value_or("").find("offset") != std::string::npos);
  CHECK(bench.ask_reset({{"queueId", "2"}}).code == code::kInvalidParameter);
  CHECK(bench.ask_reset({{"topic", "none"}}).code == code::kTopicNotExist);
  CHECK(bench.ask_reset({{"group", "none"}}).code == code::kSubscriptionGroupNotExist);
  CHECK(bench.ask_reset({{"timestamp", "soon"}}).remark.value_or("").find("timestamp") != std::string::npos);
}

TEST_CASE("RESET_CONSUMER_CLIENT_OFFSET has the form that each member's language reads", "[broker]") {
  Bench bench;
  bench.join(1, remoting::LanguageCode::kJava);
  bench.join(2, remoting::LanguageCode::kCpp);
  CHECK(bench.ask_reset({}).code == code::kSuccess);
  REQUIRE(bench.clients.sent->size() == 2);
  const auto& to_java = (*bench.clients.sent)[0];
  CHECK(to_java.connection == 1);
  CHECK(to_java.request.code == 220);
  CHECK(to_java.request.ext.get("topic") == "FxTopic");
  CHECK(to_java.request.ext.get("group") == "fx_push");
  CHECK(to_java.request.ext.get("timestamp") == "0");
  CHECK(body_text(to_java.request) == R"({"offsetTable":{)" + kQueue0 + ":0," + kQueue1 + ":5}}");
  CHECK(body_text((*bench.clients.sent)[1].request) ==
        R"({"offsetTable":[{"brokerName":"broker-a","offset":0,"queueId":0,"topic":"FxTopic"},)"
        R"({"brokerName":"broker-a","offset":5,"queueId":1,"topic":"FxTopic"}]})");
  CHECK_FALSE(bench.offsets->query("fx_push", "FxTopic", 0).has_value());  // the members commit it themselves
}

TEST_CASE("INVOKE_BROKER_TO_GET_CONSUMER_STATUS gathers the members' answers", "[broker]") {
  Bench bench;
  auto status = [&bench](const std::string& client) {
    return start(bench.reset, &ResetOffsetHandlers::consumer_status,
                 request_of(RequestCode::kInvokeBrokerToGetConsumerStatus,
                            {{"topic", "FxTopic"}, {"group", "fx_push"}, {"clientAddr", client}}));
  };
  Answer nobody = status("");
  REQUIRE(nobody->has_value());
  CHECK(nobody->get().code == code::kSystemError);

  bench.join(1, remoting::LanguageCode::kJava);
  bench.join(2, remoting::LanguageCode::kJava);
  Answer answer = status("");
  REQUIRE(bench.clients.sent->size() == 2);
  CHECK_FALSE(answer->has_value());
  CHECK((*bench.clients.sent)[0].request.code == 221);
  remoting::Command reply = remoting::Command::response_to((*bench.clients.sent)[0].request, 0);
  reply.body = SharedBytes::from(R"({"consumerTable":{},"messageQueueTable":{)" + kQueue0 + ":5}}");
  (*bench.clients.sent)[0].done(reply);
  CHECK_FALSE(answer->has_value());
  (*bench.clients.sent)[1].done(Error{Errc::kTimeout, "timeout"});
  REQUIRE(answer->has_value());
  CHECK(body_text(answer->get()) == R"({"consumerTable":{"c1":{)" + kQueue0 + R"(:5}},"messageQueueTable":{}})");

  bench.clients.sent->clear();
  status("c2");
  REQUIRE(bench.clients.sent->size() == 1);
  CHECK(bench.clients.sent->front().connection == 2);
}

TEST_CASE("GET_CONSUMER_RUNNING_INFO is handed on, and the answer back as it is", "[broker]") {
  Bench bench;
  bench.join(1, remoting::LanguageCode::kJava);
  bench.join(3, remoting::LanguageCode::kJava, 61);
  auto info = [&bench](const std::string& client) {
    return start(bench.relay, &RelayHandlers::running_info,
                 request_of(RequestCode::kGetConsumerRunningInfo,
                            {{"consumerGroup", "fx_push"}, {"clientId", client}, {"jstackEnable", "false"}}));
  };
  Answer answer = info("c1");
  REQUIRE(bench.clients.sent->size() == 1);
  CHECK(bench.clients.sent->front().request.ext.get("jstackEnable") == "false");
  remoting::Command reply = remoting::Command::response_to(bench.clients.sent->front().request, 0, "as is");
  reply.body = SharedBytes::from("{ \"mqTable\" : {} }\n");
  bench.clients.sent->front().done(reply);
  REQUIRE(answer->has_value());
  CHECK(answer->get().opaque == 77);
  CHECK(answer->get().remark == "as is");
  CHECK(body_text(answer->get()) == "{ \"mqTable\" : {} }\n");

  answer = info("c1");
  bench.clients.sent->back().done(Error{Errc::kTimeout, "no reply"});
  CHECK(answer->get().code == code::kConsumeMsgTimeout);
  answer = info("192.0.2.2@gone");
  REQUIRE(answer->has_value());
  CHECK(answer->get().code == code::kSystemError);
  CHECK(answer->get().remark == "The Consumer <fx_push> <192.0.2.2@gone> not online");
  answer = info("c3");
  REQUIRE(answer->has_value());
  CHECK(answer->get().code == code::kSystemError);
}

TEST_CASE("CONSUME_MESSAGE_DIRECTLY takes the message along", "[broker]") {
  Bench bench;
  bench.join(1, remoting::LanguageCode::kJava);
  bench.store.records[4096] = "the record's bytes";
  auto consume = [&bench](const std::string& id) {
    return start(bench.relay, &RelayHandlers::consume_directly,
                 request_of(RequestCode::kConsumeMessageDirectly,
                            {{"consumerGroup", "fx_push"}, {"clientId", "c1"}, {"msgId", id}}));
  };
  Answer answer = consume("7F00000100004DC70000000000001000");
  REQUIRE(bench.clients.sent->size() == 1);
  const auto& sent = bench.clients.sent->front();
  CHECK(sent.request.code == 309);
  CHECK(sent.request.ext.get("brokerName") == "broker-a");
  CHECK(sent.request.ext.get("msgId") == "7F00000100004DC70000000000001000");
  CHECK(body_text(sent.request) == "the record's bytes");
  sent.done(remoting::Command::response_to(sent.request, 1, "group absent"));
  CHECK(answer->get().code == code::kSystemError);
  CHECK(answer->get().remark == "group absent");

  answer = consume("7F00000100004DC70000000000001001");
  CHECK(answer->get().code == code::kSystemError);
  answer = consume("not an id");
  CHECK(answer->get().code == code::kInvalidParameter);
  CHECK(answer->get().remark.value_or("").find("msgId") != std::string::npos);
}

}  // namespace
}  // namespace apogee::broker
