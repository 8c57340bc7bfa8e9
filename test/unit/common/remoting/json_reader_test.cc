#include "common/remoting/json_reader.h"

#include <nlohmann/json.hpp>

#include "common/remoting/bodies/client_bodies.h"
#include "common/remoting/bodies/group_bodies.h"
#include "common/remoting/bodies/route_bodies.h"
#include "common/remoting/bodies/stats_bodies.h"
#include "common/remoting/bodies/topic_bodies.h"
#include "test/support/catch.h"

using namespace apogee;
using namespace apogee::remoting;
using nlohmann::json;

namespace {

json read(std::string_view text) {
  auto tree = read_json(text);
  if (!tree) FAIL(text << ": " << tree.error().message);
  return *tree;
}

}  // namespace

TEST_CASE("the reader takes strict JSON as every other reader does") {
  for (const char* text :
       {"{}", "[]", "null", "true", "\"\"", "-1", "9223372036854775807", "1.5e3", "[1,[2,{\"a\":[]}]]",
        R"({"a":"\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00","b":[true,false,null]})", "{\"a\":{\"b\":{\"c\":0.25}}}"})
    CHECK(read(text) == json::parse(text));
}

TEST_CASE("the reader takes what fastjson writes and reads") {
  CHECK(read("{0:\"a\",1:\"b\"}") == json{{"0", "a"}, {"1", "b"}});
  CHECK(read("{-1:5}") == json{{"-1", 5}});
  CHECK(read("{name:'it\\'s',  other : 1}") == json{{"name", "it's"}, {"other", 1}});
  CHECK(read("{,\"a\":1,,\"b\":[1,,2,],}") == json{{"a", 1}, {"b", {1, 2}}});
  CHECK(read("{\"a\":NaN,\"b\":undefined}") == json{{"a", nullptr}, {"b", nullptr}});
  CHECK(read("{\"a\":1}\n") == json{{"a", 1}});
  CHECK(read("\xEF\xBB\xBF{\"a\":5L}") == json{{"a", 5}});
  CHECK(read("{\"a\":1,\"a\":2}") == json{{"a", 2}});
  CHECK(read("{\"a\":\"\\x41\\ud800\"}")["a"] == "A\xEF\xBF\xBD");
  CHECK(read("{{\"topic\":\"T\",\"queueId\":0}:5}") == json{{R"({"queueId":0,"topic":"T"})", 5}});
}

TEST_CASE("the reader refuses what is no JSON, and says where") {
  for (const char* text : {"",
                           " ",
                           "{",
                           "}",
                           "[",
                           "{\"a\"}",
                           "{\"a\":}",
                           "{\"a\":1",
                           "[1",
                           "\"abc",
                           "tru",
                           "nulll",
                           "-",
                           "1.",
                           "1e",
                           "01x",
                           "{\"a\":1}}",
                           "{\"a\":\"\\q\"}",
                           "{\"a\":\"\\u12\"}",
                           "not json",
                           "{:1}",
                           "{\"a\" 1}",
                           "@"}) {
    INFO(text);
    auto tree = read_json(text);
    REQUIRE_FALSE(tree);
    CHECK(tree.error().code == Errc::kInvalidArgument);
    CHECK(tree.error().message.find("byte") != std::string::npos);
  }
  CHECK(read_json("[1,2]", {.bytes_max = 4}).error().code == Errc::kTooLarge);
}

TEST_CASE("the reader limits the depth") {
  CHECK(read_json(std::string(64, '[') + std::string(64, ']')));
  CHECK_FALSE(read_json(std::string(65, '[') + std::string(65, ']')));
  CHECK_FALSE(read_json(std::string(1'000'000, '[')));
  std::string keys;
  for (int i = 0; i < 100'000; ++i) keys += "{";
  CHECK_FALSE(read_json(keys));
}

TEST_CASE("a queue as key is read from an object and from a text, pretty-printed or not") {
  const MessageQueue queue{"T", "b", 3};
  for (const char* text :
       {R"({"offsetTable":{{"brokerName":"b","queueId":3,"topic":"T"}:7}})",
        R"({"offsetTable":{"{\"brokerName\":\"b\",\"queueId\":3,\"topic\":\"T\"}":"7"}})",
        "{\"offsetTable\" : {{\n  \"brokerName\" : \"b\",\n \"queueId\" : 3,\n \"topic\" : \"T\"\n} : 7\n}}\n",
        R"({"offsetTable":[{"brokerName":"b","offset":7,"queueId":3,"topic":"T"}]})"}) {
    INFO(text);
    auto body = decode_reset_offset_body(text);
    REQUIRE(body);
    CHECK(body->offset_table == std::map<MessageQueue, int64_t>{{queue, 7}});
  }
  CHECK_FALSE(decode_reset_offset_body(R"({"offsetTable":{"nonsense":7}})"));
  CHECK_FALSE(decode_reset_offset_body(R"({"offsetTable":{{"topic":"T"}:"x"}})"));
}

TEST_CASE("a heartbeat as the C++ client writes it") {
  auto body = decode_heartbeat_data(
      R"({"clientID":"10.0.0.9@1#2","consumerDataSet":[{"consumeFromWhere":4,"consumeType":1,"groupName":"G",)"
      R"("messageModel":1,"subscriptionDataSet":[{"subString":"TagA","subVersion":"1700000000000","topic":"T"}]}]})"
      "\n");
  REQUIRE(body);
  REQUIRE(body->consumer_data_set.size() == 1);
  const auto& consumer = body->consumer_data_set[0];
  CHECK(consumer.consume_from_where == ConsumeFromWhere::kFirstOffset);
  CHECK(consumer.consume_type == ConsumeType::kPassively);
  CHECK(consumer.message_model == MessageModel::kClustering);
  REQUIRE(consumer.subscription_data_set.size() == 1);
  CHECK(consumer.subscription_data_set[0].sub_version == 1700000000000);
  CHECK(consumer.subscription_data_set[0].expression_type == "TAG");
  CHECK(consumer.subscription_data_set[0].tags_set.empty());
  CHECK(body->producer_data_set.empty());

  auto nulls =
      decode_heartbeat_data(R"({"clientID":"c","consumerDataSet":null,"producerDataSet":[{"groupName":"P"}]})");
  REQUIRE(nulls);
  CHECK(nulls->producer_data_set[0].group_name == "P");
}

TEST_CASE("a body with a member of the wrong kind is refused by the member's name") {
  auto error_of = [](const char* text) {
    auto body = decode_heartbeat_data(text);
    REQUIRE_FALSE(body);
    CHECK(body.error().code == Errc::kInvalidArgument);
    return body.error().message;
  };
  CHECK(error_of("[]").find("the body") != std::string::npos);
  CHECK(error_of(R"({"clientID":{}})").find("clientID") != std::string::npos);
  CHECK(error_of(R"({"consumerDataSet":5})").find("consumerDataSet") != std::string::npos);
  CHECK(error_of(R"({"consumerDataSet":[{"consumeType":"CONSUME_SIDEWAYS"}]})").find("consumeType") !=
        std::string::npos);
  CHECK(error_of(R"({"consumerDataSet":[{"messageModel":7}]})").find("messageModel") != std::string::npos);
  CHECK(error_of(R"({"consumerDataSet":[{"subscriptionDataSet":[{"subVersion":"soon"}]}]})").find("subVersion") !=
        std::string::npos);
  CHECK(error_of("so not JSON").find("HeartbeatData") != std::string::npos);
}

TEST_CASE("members of 5.x are read, and written only when they say something; unknown ones stay") {
  auto config = decode_topic_config(
      R"({"attributes":{"message.type":"FIFO"},"order":true,"perm":6,"readQueueNums":8,"topicFilterType":1,)"
      R"("topicName":"T","topicSysFlag":2,"writeQueueNums":8,"unknown":{"a":[1]}})");
  REQUIRE(config);
  CHECK(config->topic_filter_type == TopicFilterType::kMultiTag);
  CHECK(config->attributes.at("message.type") == "FIFO");
  CHECK(
      encode(*config) ==
      R"({"attributes":{"message.type":"FIFO"},"order":true,"perm":6,"readQueueNums":8,"topicFilterType":"MULTI_TAG",)"
      R"("topicName":"T","topicSysFlag":2,"writeQueueNums":8,"unknown":{"a":[1]}})");
  CHECK(encode(DataVersion{.timestamp = 5, .counter = 1}) == R"({"counter":1,"timestamp":5})");
  CHECK(encode(DataVersion{.timestamp = 5, .counter = 1, .state_version = 3}) ==
        R"({"counter":1,"stateVersion":3,"timestamp":5})");

  SubscriptionGroupConfig group;
  group.group_name = "G";
  CHECK(encode(group).find("consumeTimeoutMinute") == std::string::npos);
  group.consume_timeout_minute = 3;
  group.consume_message_orderly = true;
  group.attributes["a"] = "b";
  auto again = decode_subscription_group_config(encode(group));
  REQUIRE(again);
  CHECK(encode(*again) == encode(group));
  CHECK(again->consume_timeout_minute == 3);

  ConsumeStats stats;
  stats.offset_table[{"T", "b", 0}].pull_offset = 4;
  CHECK(decode_consume_stats(encode(stats))->offset_table.begin()->second.pull_offset == 4);
}

TEST_CASE("doubles are written as Java writes them") {
  auto tps = [](double value) {
    ConsumeStats stats;
    stats.consume_tps = value;
    auto text = encode(stats);
    return text.substr(14, text.find(',') - 14);
  };
  CHECK(tps(0) == "0.0");
  CHECK(tps(0.15) == "0.15");
  CHECK(tps(1e7) == "1.0E7");
  CHECK(tps(1.25e-4) == "1.25E-4");
  CHECK(tps(9999999) == "9999999.0");
  CHECK(tps(std::numeric_limits<double>::quiet_NaN()) == "null");
}

TEST_CASE("broker addresses have no white space and no key that is no number") {
  TopicRouteData route;
  route.broker_datas.push_back({"C1", "b-a", {{0, "10.0.0.1:10911"}, {1, "10.0.0.2:10911"}}});
  route.queue_datas.push_back({"b-a", 4, 4, 6, 0});
  route.order_topic_conf = "b-a:4";
  CHECK(
      encode(route) ==
      R"({"brokerDatas":[{"brokerAddrs":{"0":"10.0.0.1:10911","1":"10.0.0.2:10911"},"brokerName":"b-a","cluster":"C1"}],)"
      R"("filterServerTable":{},"orderTopicConf":"b-a:4","queueDatas":[{"brokerName":"b-a","perm":6,"readQueueNums":4,)"
      R"("topicSysFlag":0,"writeQueueNums":4}]})");
  CHECK(encode_for_old_clients(route).find("{0:\"10.0.0.1:10911\",1:") != std::string::npos);
  CHECK_FALSE(decode_topic_route_data(R"({"brokerDatas":[{"brokerAddrs":{"master":"10.0.0.1:1"}}]})"));
}

TEST_CASE("a tag expression becomes tags with Java's hash codes") {
  auto two = build_tag_subscription("T", " TagA ||TagB|| TagA ", 5);
  REQUIRE(two);
  CHECK(two->tags_set == std::vector<std::string>{"TagA", "TagB"});
  CHECK(two->code_set == std::vector<int32_t>{2598919, 2598920});
  for (const char* all : {"", "*", " * "}) {
    auto data = build_tag_subscription("T", all, 5);
    REQUIRE(data);
    CHECK(data->sub_string == "*");
    CHECK(data->tags_set.empty());
  }
  CHECK_FALSE(build_tag_subscription("T", "||", 5));
}
