// Frames against the real programs, as a client of another language sends them.
#include "common/message/batch.h"
#include "common/message/message_record.h"
#include "common/remoting/bodies/route_bodies.h"
#include "test/support/catch.h"
#include "test/support/cluster.h"
#include "test/support/raw_requests.h"
#include "test/support/wait.h"

namespace apogee::test {
namespace {

using remoting::Command;
using remoting::RequestCode;
using remoting::SerializeType;
namespace rc = remoting::response_code;

Command send_v1(const std::string& topic, int queue, const std::string& body) {
  auto request = Command::request(RequestCode::kSendMessage);
  request.ext.set("producerGroup", "wire");
  request.ext.set("topic", topic);
  request.ext.set("defaultTopic", "TBW102");
  request.ext.set("defaultTopicQueueNums", 4);
  request.ext.set("queueId", queue);
  request.ext.set("sysFlag", 0);
  request.ext.set("bornTimestamp", int64_t{1'700'000'000'000});
  request.ext.set("flag", 0);
  request.ext.set("properties",
                  "TAGS\x01"
                  "A\x02");
  request.body = SharedBytes::from(body);
  return request;
}

Command send_v2(const std::string& topic, int queue, const std::string& body, bool batch = false) {
  return send_request({.topic = topic, .queue_id = queue, .body = body, .batch = batch});
}

Command pull(const std::string& topic, int queue, int64_t offset, int64_t suspend_ms = 0,
             const std::string& tags = "*") {
  auto request = pull_request("wire_group", topic, queue, offset);
  if (suspend_ms > 0) request.ext.set("sysFlag", 6);
  request.ext.set("suspendTimeoutMillis", suspend_ms);
  request.ext.set("subscription", tags);
  return request;
}

std::vector<std::string> bodies_of(const Command& reply) {
  std::vector<std::string> bodies;
  auto records = message::split_records(reply.body.bytes);
  REQUIRE(records);
  for (auto record : *records) bodies.emplace_back(message::decode_record(record)->body);
  return bodies;
}

/// Pulls until the dispatcher has brought the message to its queue.
Command pull_found(RawClient& client, const std::string& topic, int queue, int64_t offset) {
  Command last;
  bool found = eventually([&] {
    auto reply = client.call(pull(topic, queue, offset, 1'000));
    if (reply) last = std::move(*reply);
    return last.code == rc::kSuccess;
  });
  INFO(last.remark.value_or(""));
  REQUIRE(found);
  return last;
}

Command update_offset(const std::string& topic, int64_t offset) {
  auto request = Command::request(RequestCode::kUpdateConsumerOffset);
  request.ext.set("consumerGroup", "wire_group");
  request.ext.set("topic", topic);
  request.ext.set("queueId", 0);
  request.ext.set("commitOffset", offset);
  return request;
}

Command query_offset(const std::string& topic) {
  auto request = Command::request(RequestCode::kQueryConsumerOffset);
  request.ext.set("consumerGroup", "wire_group");
  request.ext.set("topic", topic);
  request.ext.set("queueId", 0);
  return request;
}

}  // namespace

TEST_CASE("Wire: every way of sending is pulled back, in both header serializations", "[integration]") {
  Cluster cluster;
  cluster.create_topic("Wire", 4);
  auto serialize = GENERATE(SerializeType::kJson, SerializeType::kRocketMq);
  RawClient client(cluster.broker_port());
  auto call = [&](Command request) {
    request.serialize = serialize;
    auto reply = client.call(std::move(request));
    REQUIRE(reply);
    INFO(reply->remark.value_or(""));
    CHECK(reply->serialize == serialize);
    REQUIRE(reply->code == rc::kSuccess);
    CHECK(reply->version >= 232);
    return std::move(*reply);
  };
  auto sent = call(send_v1("Wire", 0, "one"));
  CHECK(sent.ext.get("msgId")->size() == 32);
  CHECK(sent.ext.get_int<int>("queueId") == 0);
  CHECK(sent.ext.get_int<int64_t>("queueOffset") == 0);
  call(send_v2("Wire", 0, "two"));
  std::string batch;
  for (const char* body : {"three", "four"}) message::append_batch_message(batch, {0, body, ""});
  call(send_v2("Wire", 0, batch, true));
  auto oneway = send_v2("Wire", 0, "five");
  oneway.flag |= remoting::kOnewayFlag;
  oneway.serialize = serialize;
  client.send(oneway);
  auto fifth = pull_found(client, "Wire", 0, 4);
  CHECK(bodies_of(fifth) == std::vector<std::string>{"five"});
  auto all = call(pull("Wire", 0, 0));
  CHECK(bodies_of(all) == std::vector<std::string>{"one", "two", "three", "four", "five"});
  CHECK(all.ext.get_int<int64_t>("nextBeginOffset") == 5);
  CHECK(all.ext.get_int<int64_t>("minOffset") == 0);
  CHECK(all.ext.get_int<int64_t>("maxOffset") == 5);
  CHECK(all.ext.get("suggestWhichBrokerId") == "0");
  auto tagged = call(pull("Wire", 0, 0, 0, "A"));
  CHECK(bodies_of(tagged) == std::vector<std::string>{"one"});
}

TEST_CASE("Wire: the route leads to the broker and an unknown topic has none", "[integration]") {
  Cluster cluster;
  cluster.create_topic("Routed", 3);
  RawClient client(cluster.namesrv_port());
  auto request = Command::request(RequestCode::kGetRouteinfoByTopic);
  request.ext.set("topic", "Routed");
  auto reply = client.call(request);
  REQUIRE(reply);
  REQUIRE(reply->code == rc::kSuccess);
  auto route = remoting::decode_topic_route_data(reply->body.bytes);
  REQUIRE(route);
  REQUIRE(route->queue_datas.size() == 1);
  CHECK(route->queue_datas[0].read_queue_nums == 3);
  CHECK(route->broker_datas.at(0).broker_addrs.at(0) == cluster.broker());
  request.ext.set("topic", "NeverMade");
  auto unknown = client.call(request);
  REQUIRE(unknown);
  CHECK(unknown->code == rc::kTopicNotExist);
}

TEST_CASE("Wire: a topic is made by the first message to it", "[integration]") {
  Cluster cluster;
  RawClient client(cluster.broker_port());
  auto sent = client.call(send_v2("MadeByUse", 1, "first"));
  REQUIRE(sent);
  CHECK(sent->code == rc::kSuccess);
  RawClient names(cluster.namesrv_port());
  auto request = Command::request(RequestCode::kGetRouteinfoByTopic);
  request.ext.set("topic", "MadeByUse");
  CHECK(eventually([&] {
    auto reply = names.call(request);
    return reply && reply->code == rc::kSuccess;
  }));
}

TEST_CASE("Wire: a held pull wakes on arrival, and answers 19 when its time is over", "[integration]") {
  Cluster cluster;
  cluster.create_topic("Held", 1);
  RawClient waiting(cluster.broker_port()), sending(cluster.broker_port());
  auto begin = std::chrono::steady_clock::now();
  auto nothing = waiting.call(pull("Held", 0, 0, 300));
  REQUIRE(nothing);
  CHECK(nothing->code == rc::kPullNotFound);
  CHECK(std::chrono::steady_clock::now() - begin >= std::chrono::milliseconds(290));
  CHECK(nothing->ext.get("nextBeginOffset"));
  auto request = pull("Held", 0, 0, 20'000);
  request.opaque = 7;
  waiting.send(request);
  CHECK(!waiting.receive(std::chrono::milliseconds(100)));
  REQUIRE(sending.call(send_v2("Held", 0, "wake up")));
  auto woken = waiting.receive();
  REQUIRE(woken);
  CHECK(woken->opaque == 7);
  CHECK(bodies_of(*woken) == std::vector<std::string>{"wake up"});
}

TEST_CASE("Wire: messages, topics and offsets survive a stop and kill -9", "[integration][crash]") {
  bool sync_flush = GENERATE(false, true);
  Cluster cluster({"--flushDiskType", sync_flush ? "SYNC_FLUSH" : "ASYNC_FLUSH"});
  cluster.create_topic("Kept", 1);
  int64_t sent = 0;
  auto send_some = [&] {
    RawClient client(cluster.broker_port());
    for (int i = 0; i < 50; ++i, ++sent) {
      auto reply = client.call(send_v2("Kept", 0, "message " + std::to_string(sent)));
      REQUIRE(reply);
      REQUIRE(reply->code == rc::kSuccess);
      CHECK(reply->ext.get_int<int64_t>("queueOffset") == sent);
    }
  };
  auto check = [&] {
    RawClient client(cluster.broker_port());
    pull_found(client, "Kept", 0, sent - 1);
    int64_t at = 0;
    while (at < sent) {
      auto reply = client.call(pull("Kept", 0, at));
      REQUIRE(reply);
      REQUIRE(reply->code == rc::kSuccess);
      for (auto& body : bodies_of(*reply)) CHECK(body == "message " + std::to_string(at++));
    }
  };
  send_some();
  {
    RawClient client(cluster.broker_port());
    pull_found(client, "Kept", 0, 0);  // the group is made by its first pull
    auto updated = client.call(update_offset("Kept", 17));
    REQUIRE(updated);
    REQUIRE(updated->code == rc::kSuccess);
  }
  cluster.stop_broker();
  cluster.start_broker();
  check();
  for (int round = 0; round < 5; ++round) {
    send_some();
    cluster.kill_broker();
    cluster.start_broker();
    check();
  }
  RawClient client(cluster.broker_port());
  auto offset = client.call(query_offset("Kept"));
  REQUIRE(offset);
  CHECK(offset->ext.get_int<int64_t>("offset") == 17);
}

TEST_CASE("Wire: the VIP port serves sends but no pulls", "[integration]") {
  Cluster cluster;
  cluster.create_topic("Vip", 1);
  RawClient vip(static_cast<uint16_t>(cluster.broker_port() - 2));
  // A broker that has just started on a busy machine may say so; clients send again then.
  auto sent = vip.call(send_v2("Vip", 0, "by the side door"));
  CHECK(eventually([&] {
    if (sent && sent->code == rc::kSystemBusy) sent = vip.call(send_v2("Vip", 0, "by the side door"));
    return sent && sent->code != rc::kSystemBusy;
  }));
  REQUIRE(sent);
  CHECK(sent->code == rc::kSuccess);
  for (auto code : {RequestCode::kLitePullMessage, RequestCode::kPopMessage, RequestCode::kAckMessage,
                    RequestCode::kBatchAckMessage, RequestCode::kPeekMessage, RequestCode::kChangeMessageInvisibletime,
                    RequestCode::kNotification, RequestCode::kPollingInfo, RequestCode::kPopRollback}) {
    auto request = pull("Vip", 0, 0);
    request.code = static_cast<int32_t>(code);
    auto answer = vip.call(request);
    REQUIRE(answer);
    INFO(answer->code << " " << answer->remark.value_or(""));
    CHECK(answer->code == rc::kRequestCodeNotSupported);
    CHECK(answer->remark.value_or("").find("request type " + std::to_string(request.code) + " not supported") !=
          std::string::npos);
  }
  auto refused = vip.call(pull("Vip", 0, 0));
  REQUIRE(refused);
  CHECK(refused->code == rc::kRequestCodeNotSupported);
}

TEST_CASE("Wire: a stopped broker is no longer in the routes", "[integration]") {
  Cluster cluster;
  cluster.create_topic("Leaving", 1);
  RawClient names(cluster.namesrv_port());
  auto request = Command::request(RequestCode::kGetRouteinfoByTopic);
  request.ext.set("topic", "Leaving");
  auto before = names.call(request);
  REQUIRE(before);
  CHECK(before->code == rc::kSuccess);
  cluster.stop_broker();
  auto after = names.call(request);
  REQUIRE(after);
  CHECK(after->code == rc::kTopicNotExist);
}

TEST_CASE("Wire: two NameServers side by side both know the broker", "[integration]") {
  TemporaryDirectory directory;
  auto port = free_port();
  Process second("nameserver/mqnamesrv",
                 {"--listenPort", std::to_string(port), "--bindAddress", "127.0.0.1", "--kvConfigPath",
                  (directory.path() / "kv.json").string(), "--logDir", directory.path().string()},
                 (directory.path() / "out").string());
  REQUIRE(second.wait_for_output("boot success"));
  Cluster cluster;
  cluster.stop_broker();
  TemporaryDirectory store;
  auto broker_port = free_port();
  Process broker(
      "broker/mqbroker",
      {"-n", cluster.namesrv() + ";127.0.0.1:" + std::to_string(port), "--listenPort", std::to_string(broker_port),
       "--bindAddress", "127.0.0.1", "--brokerIP1", "127.0.0.1", "--storePathRootDir",
       (store.path() / "store").string(), "--logDir", store.path().string(), "--mappedFileSizeCommitLog", "1048576"},
      (store.path() / "out").string());
  REQUIRE(broker.wait_for_output("boot success"));
  for (uint16_t names : {cluster.namesrv_port(), port}) {
    auto request = Command::request(RequestCode::kGetRouteinfoByTopic);
    request.ext.set("topic", "TBW102");
    RawClient client(names);
    CHECK(eventually([&] {
      auto reply = client.call(request);
      return reply && reply->code == rc::kSuccess;
    }));
  }
  CHECK(broker.terminate() == 0);
  CHECK(second.terminate() == 0);
}

}  // namespace apogee::test
