// Requests and their replies: the SDK, clients of another make, and a broker that dies in between.
#include <atomic>
#include <thread>

#include "common/message/properties.h"
#include "common/message/property_names.h"
#include "common/remoting/bodies/client_bodies.h"
#include "common/remoting/response_code.h"
#include "test/integration/sdk_bench.h"
#include "test/support/raw_requests.h"

namespace apogee::test {

using namespace std::chrono_literals;
namespace property = message::property;
using remoting::RequestCode;

namespace {

/// A consumer that answers every request with "re: <body>", where `answer` says so.
struct Replier {
  Replier(const Cluster& cluster, const std::string& topic, std::function<bool(const ReceivedMessage&)> answer = {})
      : producer(replier_config(cluster)), consumer(consumer_config<PushConsumerConfig>(cluster, "repliers", "r1")) {
    REQUIRE(producer.start());
    consumer.set_concurrent_listener([this, answer](const std::vector<ReceivedMessage>& messages, ConcurrentContext&) {
      for (const auto& message : messages) {
        ++seen;
        if (answer && !answer(message)) continue;
        auto reply = reply_to(message, "re: " + std::string(message.body()));
        if (!reply) {
          ++not_requests;
          continue;
        }
        auto sent = producer.send(reply->set_tags("answered").set_property("asked", message.msg_id()));
        if (!sent) ++refused;
      }
      return ConsumeResult::kSuccess;
    });
    REQUIRE(consumer.subscribe(topic));
    REQUIRE(consumer.start());
  }
  static ProducerConfig replier_config(const Cluster& cluster) {
    auto config = producer_config(cluster);
    config.group = "replier_producers";
    return config;
  }
  std::atomic<int> seen{0}, not_requests{0}, refused{0};
  Producer producer;
  PushConsumer consumer;
};

SendOptions within(std::chrono::milliseconds timeout) {
  SendOptions options;
  options.timeout = timeout;
  return options;
}

remoting::Command heartbeat_of_producer(const std::string& client_id) {
  remoting::HeartbeatData data;
  data.client_id = client_id;
  data.producer_data_set.push_back({"raw_producer"});
  auto request = remoting::Command::request(RequestCode::kHeartBeat);
  request.body = SharedBytes::from(remoting::encode(data));
  return request;
}

std::string reply_properties(const std::string& correlation, const std::string& client) {
  std::string text;
  message::append_property(text, property::kMessageType, "reply");
  message::append_property(text, property::kCorrelationId, correlation);
  if (!client.empty()) message::append_property(text, property::kReplyToClient, client);
  return text;
}

remoting::Command reply_request(const std::string& properties, const std::string& body) {
  RawSend send;
  send.topic = "DefaultCluster_REPLY_TOPIC";
  send.body = body;
  send.properties = properties;
  auto request = send_request(std::move(send));
  request.code = static_cast<int32_t>(RequestCode::kSendReplyMessageV2);
  return request;
}

}  // namespace

TEST_CASE("request(): the reply comes back, sync, async and as a future", "[business][request]") {
  Cluster cluster;
  cluster.create_topic("Ask", 2);
  Replier replier(cluster, "Ask");
  Producer producer(producer_config(cluster));
  REQUIRE(producer.start());

  auto reply = producer.request(Message("Ask", "one"), within(60s));
  if (!reply) FAIL(reply.error().message);
  CHECK(reply->body() == "re: one");
  CHECK(reply->tags() == "answered");
  CHECK(reply->property("asked")->size() == 32);
  CHECK(reply->property("MSG_TYPE") == "reply");
  CHECK(reply->property("REPLY_TO_CLIENT") == producer.client_id());
  CHECK(reply->property("PUSH_REPLY_TIME"));
  CHECK(reply->property("ARRIVE_TIME"));
  CHECK(reply->topic() == "DefaultCluster_REPLY_TOPIC");

  std::vector<std::future<Result<ReceivedMessage>>> futures;
  for (int i = 0; i < 50; ++i) {
    futures.push_back(producer.request_future(Message("Ask", "f" + std::to_string(i)), within(60s)));
  }
  for (int i = 0; i < 50; ++i) {
    auto answer = futures[static_cast<size_t>(i)].get();
    if (!answer) FAIL(answer.error().message);
    CHECK(answer->body() == "re: f" + std::to_string(i));
  }
  std::promise<std::string> body;
  producer.request_async(
      Message("Ask", std::string(8'000, 'x')),
      [&](Result<ReceivedMessage> answer) {
        body.set_value(answer ? std::string(answer->body()) : answer.error().message);
      },
      within(60s));
  CHECK(body.get_future().get() == "re: " + std::string(8'000, 'x'));
  CHECK(replier.refused == 0);

  // An ordinary message wants no reply.
  REQUIRE(producer.send(Message("Ask", "plain")));
  CHECK(eventually([&] { return replier.not_requests == 1; }, 60s));
}

TEST_CASE("request(): without a reply it times out; a reply that is late is dropped", "[business][request]") {
  Cluster cluster;
  cluster.create_topic("Mute", 1);
  std::atomic<bool> answer{false};
  Replier replier(cluster, "Mute", [&](const ReceivedMessage&) { return answer.load(); });
  Producer producer(producer_config(cluster));
  REQUIRE(producer.start());
  auto reply = producer.request(Message("Mute", "one"), within(1s));
  REQUIRE_FALSE(reply);
  CHECK(reply.error().code == Errc::kTimeout);
  CHECK(eventually([&] { return replier.seen == 1; }, 60s));
  answer = true;
  reply = producer.request(Message("Mute", "two"), within(60s));
  if (!reply) FAIL(reply.error().message);
  CHECK(reply->body() == "re: two");
  CHECK(producer.request(Message("Mute", ""), within(1s)).error().code == Errc::kInvalidArgument);
}

TEST_CASE("requests in a cluster of two masters find their way back from both", "[business][request]") {
  Cluster cluster(Cluster::Size{1, 2});
  cluster.create_topic("Both", 1);
  Replier replier(cluster, "Both");
  Producer producer(producer_config(cluster));
  REQUIRE(producer.start());
  for (int i = 0; i < 8; ++i) {
    auto reply = producer.request(Message("Both", std::to_string(i)), within(60s));
    if (!reply) FAIL(reply.error().message);
    CHECK(reply->body() == "re: " + std::to_string(i));
  }
}

TEST_CASE("raw frames: a foreign client's reply is pushed to a foreign requester, and stored", "[business][request]") {
  Cluster cluster;
  RawClient requester(cluster.broker_port()), replier(cluster.broker_port());
  REQUIRE(requester.call(heartbeat_of_producer("10.0.0.1@foreign"))->code == 0);

  auto ask = reply_request(reply_properties("corr-1", "10.0.0.1@foreign"), "the answer");
  ask.opaque = 4711;
  replier.send(ask);
  auto pushed = requester.receive();
  REQUIRE(pushed);
  CHECK(pushed->code == 326);
  CHECK_FALSE(pushed->is_response());
  CHECK(pushed->body.bytes == "the answer");
  for (auto name : {"producerGroup", "topic", "defaultTopic", "defaultTopicQueueNums", "queueId", "sysFlag",
                    "bornTimestamp", "flag", "bornHost", "storeHost", "storeTimestamp"}) {
    INFO(name);
    CHECK(pushed->ext.get(name).has_value());
  }
  const std::string properties(pushed->ext.get("properties").value_or(""));
  CHECK(message::find_property(properties, property::kCorrelationId) == "corr-1");
  CHECK(message::find_property(properties, property::kPushReplyTime));
  requester.send(remoting::Command::response_to(*pushed, 0));
  auto answer = replier.receive();
  REQUIRE(answer);
  CHECK(answer->code == 0);
  CHECK(answer->opaque == 4711);
  CHECK(answer->ext.get("queueOffset") == "0");
  CHECK(answer->ext.get("msgId").value_or("").size() == 32);

  CHECK(eventually(
      [&] {
        auto stored = replier.call(pull_request("any", "DefaultCluster_REPLY_TOPIC", 0, 0));
        return stored && stored->code == 0 && std::string(stored->body.bytes).find("the answer") != std::string::npos;
      },
      60s));

  // With names in words, as the Go client sends it.
  auto in_words = remoting::Command::request(RequestCode::kSendReplyMessage);
  const std::string text = reply_properties("corr-2", "10.0.0.1@foreign");
  for (auto [name, value] : std::vector<std::pair<std::string, std::string>>{{"producerGroup", "g"},
                                                                             {"topic", "DefaultCluster_REPLY_TOPIC"},
                                                                             {"defaultTopic", "TBW102"},
                                                                             {"defaultTopicQueueNums", "4"},
                                                                             {"queueId", "0"},
                                                                             {"sysFlag", "0"},
                                                                             {"bornTimestamp", "5"},
                                                                             {"flag", "0"},
                                                                             {"properties", text}})
    in_words.ext.set(name, value);
  in_words.body = SharedBytes::from(std::string("more"));
  replier.send(in_words);
  pushed = requester.receive();
  REQUIRE(pushed);
  requester.send(remoting::Command::response_to(*pushed, 1, "I cannot"));
  answer = replier.receive();
  REQUIRE(answer);
  CHECK(answer->code == 1);
  CHECK(answer->remark.value_or("").find("I cannot") != std::string::npos);
}

TEST_CASE("raw frames: a reply to a client that is gone is answered clearly", "[business][request]") {
  Cluster cluster({"--storeReplyMessageEnable", "false"});
  RawClient replier(cluster.broker_port());
  {
    RawClient requester(cluster.broker_port());
    REQUIRE(requester.call(heartbeat_of_producer("10.0.0.1@gone"))->code == 0);
  }
  REQUIRE(eventually(
      [&] {
        auto answer = replier.call(reply_request(reply_properties("c", "10.0.0.1@gone"), "x"));
        REQUIRE(answer);
        CHECK(answer->code == 1);
        CHECK(answer->ext.get("msgId") == "0");
        CHECK(answer->ext.get("queueOffset") == "0");
        return answer->remark.value_or("").find("10.0.0.1@gone fail: no producer") != std::string::npos;
      },
      60s));
  auto answer = replier.call(reply_request(reply_properties("c", ""), "x"));
  REQUIRE(answer);
  CHECK(answer->code == 1);
  CHECK(answer->remark.value_or("").find("REPLY_TO_CLIENT") != std::string::npos);
  auto batch = reply_request(reply_properties("c", "x"), "x");
  batch.ext.set("m", "true");
  CHECK(replier.call(std::move(batch))->code == remoting::response_code::kMessageIllegal);

  // The SDK as replier is told so as well, at once.
  Producer producer(producer_config(cluster));
  REQUIRE(producer.start());
  cluster.create_topic("Asked", 1);
  Seen seen;
  std::mutex mutex;
  Result<SendReceipt> sent = Error{Errc::kInternal, "not yet"};
  std::atomic<bool> done{false};
  PushConsumer consumer(consumer_config<PushConsumerConfig>(cluster, "c", "c1"));
  consumer.set_concurrent_listener([&](const std::vector<ReceivedMessage>& messages, ConcurrentContext&) {
    auto reply = reply_to(messages.front(), "nobody reads this");
    auto result = reply ? producer.send(*reply) : Result<SendReceipt>(reply.error());
    std::lock_guard lock(mutex);
    sent = std::move(result);
    done = true;
    return ConsumeResult::kSuccess;
  });
  REQUIRE(consumer.subscribe("Asked"));
  REQUIRE(consumer.start());
  RawSend ask;
  ask.topic = "Asked";
  ask.body = "who is there?";
  const std::string properties = reply_properties("c9", "10.0.0.1@gone");
  ask.properties = properties;
  REQUIRE(replier.call(send_request(std::move(ask)))->code == 0);
  REQUIRE(eventually([&] { return done.load(); }, 60s));
  std::lock_guard lock(mutex);
  REQUIRE_FALSE(sent);
  CHECK(sent.error().response_code == 1);
  CHECK(sent.error().message.find("10.0.0.1@gone") != std::string::npos);
}

TEST_CASE("the broker dies between request and reply: the requester times out, later requests are answered",
          "[business][request][crash]") {
  Cluster cluster({"--flushDiskType", "SYNC_FLUSH"});
  cluster.create_topic("Dies", 1);
  std::atomic<bool> killed{false};
  std::atomic<int> asked{0};
  Replier replier(cluster, "Dies", [&](const ReceivedMessage& message) {
    if (message.body() != "first") return true;
    ++asked;
    return eventually([&] { return killed.load(); }, 60s);  // answers only when the broker is gone
  });
  Producer producer(producer_config(cluster));
  REQUIRE(producer.start());
  auto first = producer.request_future(Message("Dies", "first"), within(5s));
  REQUIRE(eventually([&] { return asked > 0; }, 60s));
  cluster.kill_broker();
  killed = true;
  auto reply = first.get();
  REQUIRE_FALSE(reply);
  CHECK(reply.error().code == Errc::kTimeout);
  cluster.start_broker();
  CHECK(eventually(
      [&] {
        auto later = producer.request(Message("Dies", "later"), within(5s));
        return later && later->body() == "re: later";
      },
      60s));
}

}  // namespace apogee::test
