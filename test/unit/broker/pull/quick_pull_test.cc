#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/message/message_record.h"
#include "common/remoting/command_codec.h"
#include "test/support/catch.h"
#include "test/support/raw_client.h"
#include "test/support/wait.h"
#include "test/unit/broker/support/handler_bench.h"
#include "test/unit/broker/support/running_broker.h"

using namespace apogee;
using namespace apogee::broker;
using apogee::broker::test::RunningBroker;
using apogee::broker::test::TempDir;
using apogee::test::RawClient;
using remoting::Command;
using remoting::RequestCode;

namespace {

using Texts = std::vector<std::pair<std::string, std::string>>;

/// A frame as a Java client writes it; with `unusual` the header has a space more, which the short way leaves to the
/// long one.
std::string frame_of(const Texts& fields, int opaque, bool unusual) {
  std::string header = std::string(unusual ? "{ " : "{") + "\"code\":11,\"extFields\":{";
  for (const auto& [name, value] : fields)
    header += (header.back() == '{' ? "\"" : ",\"") + name + "\":\"" + value + "\"";
  header += "},\"flag\":0,\"language\":\"JAVA\",\"opaque\":" + std::to_string(opaque) +
            ",\"serializeTypeCurrentRPC\":\"JSON\",\"version\":435}";
  std::string frame;
  append_be<uint32_t>(frame, static_cast<uint32_t>(4 + header.size()));
  append_be<uint32_t>(frame, static_cast<uint32_t>(header.size()));
  return frame + header;
}

/// Those of a plain pull, with changes; a change to "" takes the field away.
Texts fields_of(const Texts& changes) {
  Texts all{{"consumerGroup", "g"}, {"topic", "Pulled"}, {"queueId", "0"},         {"queueOffset", "0"},
            {"maxMsgNums", "32"},   {"sysFlag", "4"},    {"commitOffset", "0"},    {"suspendTimeoutMillis", "15000"},
            {"subscription", "*"},  {"subVersion", "0"}, {"expressionType", "TAG"}};
  for (const auto& [name, value] : changes) {
    bool there = false;
    for (auto at = all.begin(); at != all.end(); ++at) {
      if (at->first != name) continue;
      there = true;
      if (value.empty()) {
        all.erase(at);
      } else {
        at->second = value;
      }
      break;
    }
    if (!there) all.emplace_back(name, value);
  }
  return all;
}

Texts ext_of(const Command& command) {
  Texts fields;
  for (size_t i = 0; i < command.ext.size(); ++i) fields.emplace_back(command.ext.name(i), command.ext.value(i));
  return fields;
}

void check_same(const Command& quick, const Command& slow) {
  CHECK(quick.opaque == slow.opaque);
  CHECK(quick.code == slow.code);
  CHECK(quick.remark == slow.remark);
  CHECK(quick.flag == slow.flag);
  CHECK(quick.version == slow.version);
  CHECK(quick.language == slow.language);
  CHECK(ext_of(quick) == ext_of(slow));
  CHECK(quick.body.bytes == slow.body.bytes);
}

void send(RawClient& client, const std::string& tag, const std::string& body) {
  Command message = Command::request(RequestCode::kSendMessageV2);
  for (auto [name, value] : Texts{{"a", "p"},
                                  {"b", "Pulled"},
                                  {"c", "TBW102"},
                                  {"d", "4"},
                                  {"e", "0"},
                                  {"f", "0"},
                                  {"g", "1700000000000"},
                                  {"h", "0"},
                                  {"i", "TAGS\x01" + tag + "\x02"},
                                  {"j", "0"}})
    message.ext.set(name, value);
  message.body = SharedBytes::from(body);
  auto answer = client.call(std::move(message));
  REQUIRE(answer);
  REQUIRE(answer->code == 0);
}

Command both_ways(RawClient& client, const Texts& changes) {
  std::vector<Command> answers;
  for (bool unusual : {false, true}) {
    client.send_bytes(frame_of(fields_of(changes), 77, unusual));
    auto answer = client.receive();
    REQUIRE(answer);
    answers.push_back(std::move(*answer));
  }
  check_same(answers[0], answers[1]);
  return answers[0];
}

/// The end of the queue moves until all messages have been dispatched.
void wait_for_end(RawClient& client, int64_t end) {
  REQUIRE(apogee::test::eventually([&] {
    client.send_bytes(frame_of(fields_of({{"queueOffset", std::to_string(end - 1)}}), 1, true));
    auto answer = client.receive();
    return answer && answer->code == 0 && answer->ext.get_int<int64_t>("maxOffset") == end;
  }));
}

int64_t committed(RawClient& client, const std::string& group) {
  Command query = Command::request(RequestCode::kQueryConsumerOffset);
  query.ext.set("consumerGroup", group);
  query.ext.set("topic", "Pulled");
  query.ext.set("queueId", 0);
  auto answer = client.call(std::move(query));
  REQUIRE(answer);
  return answer->ext.get_int<int64_t>("offset").value_or(-1);
}

}  // namespace

TEST_CASE("the short way of a pull answers as the long one", "[quick_pull]") {
  TempDir dir;
  const bool filters = GENERATE(false, true);
  RunningBroker running(dir.file("store"), store::FlushDiskType::kAsync, 100,
                        [filters](BrokerConfig& config) { config.property_filter = filters; });
  RawClient client(running.broker->port());
  for (int i = 0; i < 100; ++i)
    send(client, i % 3 == 0 ? "TagA" : "TagB", std::string(static_cast<size_t>(i) * 37, 'x'));

  wait_for_end(client, 100);
  const std::vector<Texts> wishes = {{},
                                     {{"queueOffset", "3"}, {"maxMsgNums", "2"}},
                                     {{"queueOffset", "90"}, {"requestSource", "0"}, {"unknown", "1"}},
                                     {{"maxMsgBytes", "500"}, {"queueOffset", "10"}},
                                     {{"maxMsgBytes", "-1"}},
                                     {{"maxMsgBytes", "x"}},
                                     {{"subscription", "TagA"}},
                                     {{"subscription", "TagA || TagC"}, {"queueOffset", "50"}},
                                     {{"subscription", "none of them"}},
                                     {{"subscription", "\\u0054agA"}},
                                     {{"subscription", " "}},
                                     {{"subscription", ""}},
                                     {{"subscription", "||"}},
                                     {{"expressionType", ""}},
                                     {{"expressionType", "SQL92"}, {"subscription", "TAGS = 'TagA'"}},
                                     {{"expressionType", "SQL92"}, {"subscription", "TAGS = "}},
                                     {{"expressionType", "other"}},
                                     {{"sysFlag", "0"}},
                                     {{"sysFlag", "20"}},
                                     {{"sysFlag", "x"}},
                                     {{"sysFlag", ""}},
                                     {{"queueOffset", "100"}},
                                     {{"queueOffset", "101"}},
                                     {{"queueOffset", "-1"}},
                                     {{"queueOffset", "9223372036854775807"}},
                                     {{"queueOffset", "9223372036854775808"}},
                                     {{"queueOffset", "+1"}},
                                     {{"queueId", "1"}},
                                     {{"queueId", "1"}, {"queueOffset", "5"}},
                                     {{"queueId", "4"}},
                                     {{"queueId", "-1"}},
                                     {{"topic", "Unknown"}},
                                     {{"topic", " "}},
                                     {{"topic", " Pulled"}},
                                     {{"topic", ""}},
                                     {{"consumerGroup", "a bad group!"}},
                                     {{"consumerGroup", "a_new_group_with_a_long_name_that_is_not_there_yet"}},
                                     {{"consumerGroup", ""}},
                                     {{"maxMsgNums", "0"}},
                                     {{"maxMsgNums", "1000"}},
                                     {{"subVersion", ""}},
                                     {{"commitOffset", "x"}},
                                     {{"sysFlag", "6"}, {"suspendTimeoutMillis", "0"}, {"queueOffset", "100"}},
                                     {{"sysFlag", "6"}, {"suspendTimeoutMillis", "1"}, {"queueOffset", "100"}},
                                     {{"sysFlag", "6"}, {"suspendTimeoutMillis", "-5"}, {"queueOffset", "100"}}};
  for (const auto& wish : wishes) {
    INFO((wish.empty() ? std::string("plain") : wish[0].first + "=" + wish[0].second));
    both_ways(client, wish);
  }
  const auto found = both_ways(client, {});
  CHECK(found.code == 0);
  CHECK(found.ext.get_int<int64_t>("nextBeginOffset") == 32);
  CHECK(found.ext.get_int<int64_t>("maxOffset") == 100);
  CHECK(both_ways(client, {{"queueOffset", "100"}}).code == remoting::response_code::kPullNotFound);
  CHECK(both_ways(client, {{"topic", "Unknown"}}).code == remoting::response_code::kTopicNotExist);

  Command binary = Command::request(RequestCode::kPullMessage);
  binary.serialize = remoting::SerializeType::kRocketMq;
  for (const auto& [name, value] : fields_of({})) binary.ext.set(name, value);
  auto in_binary = client.call(std::move(binary));
  REQUIRE(in_binary);
  CHECK(in_binary->serialize == remoting::SerializeType::kRocketMq);
  CHECK(in_binary->code == 0);
  CHECK(ext_of(*in_binary) == ext_of(found));
  CHECK(in_binary->body.bytes == found.body.bytes);

  // An offset to commit comes with a pull that finds something, and with one that does not.
  for (bool unusual : {false, true}) {
    const std::string group = unusual ? "commits_long" : "commits_short";
    client.send_bytes(
        frame_of(fields_of({{"consumerGroup", group}, {"sysFlag", "5"}, {"commitOffset", "7"}}), 1, unusual));
    REQUIRE(client.receive());
    CHECK(committed(client, group) == 7);
    client.send_bytes(
        frame_of(fields_of({{"consumerGroup", group}, {"sysFlag", "4"}, {"commitOffset", "9"}}), 1, unusual));
    REQUIRE(client.receive());
    CHECK(committed(client, group) == 7);
  }
}

TEST_CASE("pulls that wait are answered the same, whichever way they come", "[quick_pull]") {
  TempDir dir;
  RunningBroker running(dir.file("store"));
  RawClient sender(running.broker->port()), quick(running.broker->port()), slow(running.broker->port());
  send(sender, "TagB", "first");
  wait_for_end(sender, 1);
  const auto ask = [&](const Texts& changes) {
    quick.send_bytes(frame_of(fields_of(changes), 5, false));
    slow.send_bytes(frame_of(fields_of(changes), 5, true));
    // Behind what is asked for next the pulls have been looked at.
    for (auto* client : {&quick, &slow}) CHECK(committed(*client, "nobody") == 0);
  };
  const auto answer = [&] {
    auto one = quick.receive(), other = slow.receive();
    REQUIRE(one);
    REQUIRE(other);
    check_same(*one, *other);
    return std::move(*one);
  };
  for (int64_t end = 1; end < 6; ++end) {
    ask({{"sysFlag", "6"}, {"queueOffset", std::to_string(end)}});
    send(sender, "TagA", "body " + std::to_string(end));
    const auto answered = answer();
    CHECK(answered.code == 0);
    CHECK(answered.ext.get_int<int64_t>("nextBeginOffset") == end + 1);
    auto record = message::decode_record(answered.body.bytes);
    REQUIRE(record);
    CHECK(record->body == "body " + std::to_string(end));
  }
  // Messages that are not wanted do not wake, and are passed over.
  ask({{"sysFlag", "6"}, {"queueOffset", "6"}, {"subscription", "TagB"}});
  send(sender, "TagA", "not wanted");
  send(sender, "TagA", "nor this");
  send(sender, "TagB", "wanted");
  const auto wanted = answer();
  CHECK(wanted.code == 0);
  CHECK(wanted.ext.get_int<int64_t>("nextBeginOffset") == 9);
  // Nothing comes.
  ask({{"sysFlag", "6"}, {"queueOffset", "9"}, {"suspendTimeoutMillis", "300"}});
  CHECK(answer().code == remoting::response_code::kPullNotFound);
  // An offset behind the end is told at once.
  quick.send_bytes(frame_of(fields_of({{"sysFlag", "6"}, {"queueOffset", "20"}}), 5, false));
  slow.send_bytes(frame_of(fields_of({{"sysFlag", "6"}, {"queueOffset", "20"}}), 5, true));
  CHECK(answer().code == remoting::response_code::kPullOffsetMoved);
}

TEST_CASE("many pulls wait at once, some of connections that close", "[quick_pull]") {
  TempDir dir;
  RunningBroker running(dir.file("store"));
  RawClient sender(running.broker->port()), stays(running.broker->port());
  send(sender, "TagA", "first");
  wait_for_end(sender, 1);
  constexpr int kPulls = 600;
  for (int round = 0; round < 3; ++round) {
    const std::string end = std::to_string(1 + round);
    auto goes = std::make_unique<RawClient>(running.broker->port());
    std::string frames;
    for (int i = 0; i < kPulls; ++i)
      frames += frame_of(fields_of({{"sysFlag", "6"}, {"queueOffset", end}}), i + 1, false);
    goes->send_bytes(frames);
    stays.send_bytes(frames);
    CHECK(committed(stays, "nobody") == 0);
    CHECK(committed(*goes, "nobody") == 0);
    goes = nullptr;
    send(sender, "TagA", "message");
    for (int i = 0; i < kPulls; ++i) {
      auto answer = stays.receive();
      REQUIRE(answer);
      CHECK(answer->code == 0);
      CHECK(answer->ext.get_int<int64_t>("nextBeginOffset") == 2 + round);
    }
  }
}
