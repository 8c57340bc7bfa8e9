// Whatever a client sends: the protocol's code with a remark that names what is wrong, or a closed connection;
// and never a disturbance of another connection.
#include <algorithm>

#include "common/remoting/command_codec.h"
#include "test/support/catch.h"
#include "test/support/cluster.h"
#include "test/support/wait.h"

namespace apogee::test {
namespace {

using remoting::Command;
using remoting::RequestCode;
namespace rc = remoting::response_code;

struct Bad {
  const char* what;
  RequestCode code;
  std::vector<std::pair<const char*, std::string>> fields;  ///< changed in a good request; "" takes the field away
  std::string body;
  std::vector<int> answers;
  const char* named;  ///< part of the remark
};

Command good_request(RequestCode code) {
  auto request = Command::request(code);
  auto set = [&](std::initializer_list<std::pair<const char*, const char*>> fields) {
    for (auto [name, value] : fields) request.ext.set(name, value);
  };
  switch (code) {
    case RequestCode::kSendMessage:
      set({{"producerGroup", "g"},
           {"topic", "Bad"},
           {"defaultTopic", "TBW102"},
           {"defaultTopicQueueNums", "4"},
           {"queueId", "0"},
           {"sysFlag", "0"},
           {"bornTimestamp", "1"},
           {"flag", "0"},
           {"properties",
            "a\x01"
            "b\x02"}});
      break;
    case RequestCode::kSendMessageV2:
    case RequestCode::kSendBatchMessage:
      set({{"a", "g"}, {"b", "Bad"}, {"c", "TBW102"}, {"d", "4"}, {"e", "0"}, {"f", "0"}, {"g", "1"}, {"h", "0"}});
      if (code == RequestCode::kSendBatchMessage) request.ext.set("m", "true");
      break;
    case RequestCode::kPullMessage:
      set({{"consumerGroup", "g"},
           {"topic", "Bad"},
           {"queueId", "0"},
           {"queueOffset", "0"},
           {"maxMsgNums", "32"},
           {"sysFlag", "4"},
           {"commitOffset", "0"},
           {"suspendTimeoutMillis", "0"},
           {"subscription", "*"},
           {"subVersion", "0"}});
      break;
    case RequestCode::kUpdateConsumerOffset:
      set({{"consumerGroup", "g"}, {"topic", "Bad"}, {"queueId", "0"}, {"commitOffset", "0"}});
      break;
    case RequestCode::kGetMaxOffset: set({{"topic", "Bad"}, {"queueId", "0"}}); break;
    case RequestCode::kUpdateAndCreateTopic:
      set({{"topic", "Fine"},
           {"defaultTopic", "TBW102"},
           {"readQueueNums", "4"},
           {"writeQueueNums", "4"},
           {"perm", "6"},
           {"topicFilterType", "SINGLE_TAG"},
           {"topicSysFlag", "0"},
           {"order", "false"}});
      break;
    default: break;
  }
  return request;
}

/// The request with some fields replaced.
Command changed(const Bad& bad) {
  auto good = good_request(bad.code);
  auto request = Command::request(bad.code);
  for (size_t i = 0; i < good.ext.size(); ++i) {
    std::string value(good.ext.value(i));
    bool kept = true;
    for (const auto& [name, other] : bad.fields) {
      if (good.ext.name(i) != name) continue;
      value = other;
      kept = !other.empty();
    }
    if (kept) request.ext.set(good.ext.name(i), value);
  }
  request.body = SharedBytes::from(bad.body);
  return request;
}

std::string wild_batch(int32_t total) {
  std::string body;
  append_be<int32_t>(body, total);
  body.append(40, '\x7f');
  return body;
}

}  // namespace

TEST_CASE("Bad input: the broker names what is wrong and serves the others", "[integration][bad_input]") {
  Cluster cluster;
  cluster.create_topic("Bad", 4);
  RawClient other(cluster.broker_port()), client(cluster.broker_port());
  const std::vector<Bad> table = {
      {"no topic", RequestCode::kSendMessage, {{"topic", ""}}, "x", {29, 1}, "topic"},
      {"no queue id", RequestCode::kSendMessage, {{"queueId", ""}}, "x", {29, 1}, "queueId"},
      {"queue id is a word", RequestCode::kSendMessage, {{"queueId", "first"}}, "x", {29, 1}, "queueId"},
      {"no group, short names", RequestCode::kSendMessageV2, {{"a", ""}}, "x", {29, 1}, "a"},
      {"born timestamp overflows", RequestCode::kSendMessageV2, {{"g", "99999999999999999999999"}}, "x", {29, 1}, "g"},
      {"queue id out of range", RequestCode::kSendMessageV2, {{"e", "99"}}, "x", {29}, "ueue"},
      {"forbidden characters", RequestCode::kSendMessageV2, {{"b", "no spaces/here"}}, "x", {29}, "opic"},
      {"topic too long", RequestCode::kSendMessageV2, {{"b", std::string(300, 't')}}, "x", {29}, "opic"},
      {"system topic", RequestCode::kSendMessageV2, {{"b", "SCHEDULE_TOPIC_XXXX"}}, "x", {16}, "opic"},
      {"properties without separators",
       RequestCode::kSendMessage,
       {{"properties", "just words"}},
       "x",
       {13, 29},
       "ropert"},
      {"properties too long",
       RequestCode::kSendMessage,
       {{"properties", "a\x01" + std::string(40'000, 'p') + "\x02"}},
       "x",
       {13},
       "ropert"},
      {"message over 4 MiB", RequestCode::kSendMessageV2, {}, std::string((4 << 20) + 1, 'x'), {13}, "4194304"},
      {"batch with a wild length", RequestCode::kSendBatchMessage, {}, wild_batch(INT32_MAX), {13}, "batch"},
      {"batch with a negative length", RequestCode::kSendBatchMessage, {}, wild_batch(-5), {13}, "batch"},
      {"batch cut off", RequestCode::kSendBatchMessage, {}, wild_batch(200), {13}, "batch"},
      {"negative pull offset", RequestCode::kPullMessage, {{"queueOffset", "-5"}}, "", {21, 29, 20}, ""},
      {"pull of queue 77", RequestCode::kPullMessage, {{"queueId", "77"}}, "", {29}, "ueue"},
      {"pull without group", RequestCode::kPullMessage, {{"consumerGroup", ""}}, "", {29, 1}, "consumerGroup"},
      {"pull of an unknown topic", RequestCode::kPullMessage, {{"topic", "Nobody"}}, "", {17}, "Nobody"},
      {"pull by an unknown kind of expression",
       RequestCode::kPullMessage,
       {{"subscription", std::string(3, '|')}},
       "",
       {23, 19},
       ""},
      {"negative commit", RequestCode::kUpdateConsumerOffset, {{"commitOffset", "-9"}}, "", {29, 26}, ""},
      {"max offset without queue", RequestCode::kGetMaxOffset, {{"queueId", ""}}, "", {29, 1}, "queueId"},
      {"topic with too many queues",
       RequestCode::kUpdateAndCreateTopic,
       {{"readQueueNums", "-1"}},
       "",
       {29, 1},
       "ueue"},
      {"heartbeat that is no JSON", RequestCode::kHeartBeat, {}, "{\"clientID\":", {1, 29}, "ody"},
      {"lock request that is no JSON", RequestCode::kLockBatchMq, {}, "not json", {1, 29}, "ody"},
  };
  for (const auto& bad : table) {
    INFO(bad.what);
    auto reply = client.call(changed(bad));
    REQUIRE(reply);
    INFO("answered " << reply->code << " " << reply->remark.value_or(""));
    CHECK(std::find(bad.answers.begin(), bad.answers.end(), reply->code) != bad.answers.end());
    CHECK(reply->remark.value_or("").find(bad.named) != std::string::npos);
    auto fine = other.call(good_request(RequestCode::kGetMaxOffset));
    REQUIRE(fine);
    CHECK(fine->code == rc::kSuccess);
  }
}

TEST_CASE("Bad input: frames that cannot be answered close their own connection", "[integration][bad_input]") {
  Cluster cluster;
  cluster.create_topic("Bad", 4);
  bool at_broker = GENERATE(true, false);
  uint16_t port = at_broker ? cluster.broker_port() : cluster.namesrv_port();
  RawClient other(port);
  auto alive = [&] {
    auto request = Command::request(static_cast<RequestCode>(31'999));
    auto reply = other.call(request);
    return reply && reply->code == rc::kRequestCodeNotSupported &&
           reply->remark.value_or("").find("31999") != std::string::npos;
  };
  CHECK(alive());
  auto whole = encode_frame_to_string(good_request(RequestCode::kGetMaxOffset));
  const std::vector<std::string> frames = {
      std::string("\x7f\xff\xff\xff", 4),                                           // announces 2 GiB
      std::string("\x01\x10\x00\x00", 4),                                           // announces more than 16 MiB
      std::string("\xff\xff\xff\xf0", 4),                                           // a negative length
      std::string("\x00\x00\x00\x00", 4),                                           // no room for a header
      std::string("\x00\x00\x00\x0a\x00\x00\x00\xff{}{}{}", 14),                    // a header longer than the frame
      std::string("\x00\x00\x00\x0a\x07\x00\x00\x06{}{}{}", 14),                    // an unknown serialization
      std::string("\x00\x00\x00\x0a\x00\x00\x00\x06{\"co\":", 14),                  // JSON that is none
      std::string("\x00\x00\x00\x0a\x01\x00\x00\x06\x00\x0a\x00\x00\x00\x00", 14),  // a binary header cut off
      std::string("GET / HTTP/1.1\r\nHost: broker\r\n\r\n"),
  };
  for (const auto& frame : frames) {
    RawClient hostile(port);
    hostile.send_bytes(frame);
    CHECK(hostile.closed_by_peer());
    CHECK(alive());
  }
  {
    RawClient truncated(port);  // goes away in the middle of a frame
    truncated.send_bytes(whole.substr(0, whole.size() - 3));
  }
  CHECK(alive());
}

}  // namespace apogee::test
