#include "apogee/producer.h"

#include <atomic>
#include <set>

#include "test/support/catch.h"
#include "test/unit/client/fake_cluster.h"

namespace {

using apogee::Errc;
using apogee::Message;
using apogee::MessageQueue;
using apogee::Producer;
using apogee::ProducerConfig;
using apogee::SendOptions;
using apogee::SendReceipt;
using apogee::SendStatus;
using apogee::remoting::Command;
using apogee::remoting::RequestCode;
using apogee::test::eventually;
using apogee::test::FakeBroker;
using apogee::test::FakeCluster;

ProducerConfig config_for(const FakeCluster& cluster) {
  ProducerConfig config;
  config.group = "P";
  config.name_servers = cluster.name_servers();
  config.send_timeout = std::chrono::seconds(5);
  return config;
}

FakeBroker::Intercept fail_sends(int code) {
  return [code](const Command& request) -> std::optional<Command> {
    if (request.request_code() != RequestCode::kSendMessageV2) return std::nullopt;
    auto reply = Command::response_to(request, code, "as told");
    if (code == 10) {
      reply.ext.set("msgId", "7F00000100002A9F0000000000000000");
      reply.ext.set("queueId", 0);
      reply.ext.set("queueOffset", int64_t{3});
    }
    return reply;
  };
}

int sends(FakeBroker& broker) { return broker.count(RequestCode::kSendMessageV2); }

}  // namespace

TEST_CASE("a producer checks its configuration", "[client][producer]") {
  ProducerConfig config;
  config.name_servers = "127.0.0.1:1";
  CHECK(Producer(config).start().error().code == Errc::kInvalidArgument);
  config.group = "P";
  config.name_servers = "nonsense";
  CHECK(Producer(config).start().error().code == Errc::kInvalidArgument);
  config.name_servers = "127.0.0.1:1";
  Producer producer(config);
  CHECK(producer.send(Message("T", "x")).error().code == Errc::kClosed);
  REQUIRE(producer.start());
  CHECK(producer.start().error().code == Errc::kAlreadyExists);
  CHECK(producer.send(Message("T", "x")).error().code == Errc::kNetwork);  // nobody listens there
  CHECK(producer.shutdown());
  CHECK(producer.send(Message("T", "x")).error().code == Errc::kClosed);
}

TEST_CASE("queues take turns", "[client][producer]") {
  FakeCluster cluster(2);
  cluster.add_topic("T", 2);
  Producer producer(config_for(cluster));
  REQUIRE(producer.start());
  std::set<MessageQueue> used;
  for (int i = 0; i < 4; ++i) {
    auto receipt = producer.send(Message("T", "x"));
    REQUIRE(receipt);
    CHECK(receipt->status == SendStatus::kOk);
    CHECK(receipt->msg_id.size() == 32);
    CHECK(receipt->queue.topic == "T");
    used.insert(receipt->queue);
  }
  CHECK(used.size() == 4);
  auto queues = producer.queues("T");
  REQUIRE(queues);
  CHECK(std::set<MessageQueue>(queues->begin(), queues->end()) == used);
  CHECK(eventually([&] { return cluster.broker(1).count(RequestCode::kHeartBeat) > 0; }));
}

TEST_CASE("queues can be chosen by key, by selector and directly", "[client][producer]") {
  FakeCluster cluster;
  cluster.add_topic("T", 8);
  Producer producer(config_for(cluster));
  REQUIRE(producer.start());
  auto first = producer.send(Message("T", "x"), SendOptions::by_key("order-7"));
  REQUIRE(first);
  for (int i = 0; i < 5; ++i)
    CHECK(producer.send(Message("T", "x"), SendOptions::by_key("order-7"))->queue == first->queue);
  auto third = [](const std::vector<MessageQueue>& queues, const Message&) { return queues.size() - 1; };
  CHECK(producer.send(Message("T", "x"), SendOptions::by(third))->queue.queue_id == 7);
  auto outside = [](const std::vector<MessageQueue>& queues, const Message&) { return queues.size(); };
  CHECK(producer.send(Message("T", "x"), SendOptions::by(outside)).error().code == Errc::kInvalidArgument);
  CHECK(producer.send(Message("T", "x"), SendOptions::to({"T", "broker-a", 5}))->queue.queue_id == 5);
  CHECK(producer.send(Message("T", "x"), SendOptions::to({"U", "broker-a", 5})).error().code == Errc::kInvalidArgument);
  CHECK(producer.send(Message("T", "x"), SendOptions::to({"T", "nobody", 5})).error().code == Errc::kNotFound);
}

TEST_CASE("a failed send goes to another broker, with the same id", "[client][producer]") {
  for (int code : {1, 2, 14, 16, 17, 204, 205, 1500}) {
    FakeCluster cluster(2);
    cluster.add_topic("T", 1);
    cluster.broker(0).set_intercept(fail_sends(code));
    Producer producer(config_for(cluster));
    REQUIRE(producer.start());
    for (int i = 0; i < 2; ++i) {  // one of the two starts at the failing one
      auto receipt = producer.send(Message("T", "x"));
      REQUIRE(receipt);
      CHECK(receipt->queue.broker_name == "broker-b");
    }
    CHECK(sends(cluster.broker(0)) >= 1);
    const auto failed = cluster.broker(0).requests(RequestCode::kSendMessageV2).front();
    bool same_id = false;
    for (const auto& request : cluster.broker(1).requests(RequestCode::kSendMessageV2)) {
      same_id = same_id || request.ext.get("i") == failed.ext.get("i");
    }
    CHECK(same_id);
  }
}

TEST_CASE("other refusals come back at once, with code and remark", "[client][producer]") {
  FakeCluster cluster(2);
  cluster.add_topic("T", 1);
  for (size_t i = 0; i < 2; ++i) cluster.broker(i).set_intercept(fail_sends(13));
  Producer producer(config_for(cluster));
  REQUIRE(producer.start());
  auto receipt = producer.send(Message("T", "x"));
  REQUIRE_FALSE(receipt);
  CHECK(receipt.error().code == Errc::kBroker);
  CHECK(receipt.error().response_code == 13);
  CHECK(receipt.error().message.find("as told") != std::string::npos);
  CHECK(sends(cluster.broker(0)) + sends(cluster.broker(1)) == 1);
}

TEST_CASE("retries end after the configured number", "[client][producer]") {
  FakeCluster cluster(1);
  cluster.add_topic("T", 4);
  cluster.broker().set_intercept(fail_sends(2));
  Producer producer(config_for(cluster));
  REQUIRE(producer.start());
  CHECK(producer.send(Message("T", "x")).error().response_code == 2);
  CHECK(sends(cluster.broker()) == 3);
  CHECK(producer.send_future(Message("T", "x")).get().error().response_code == 2);
  CHECK(sends(cluster.broker()) == 6);
  // A chosen queue is not left for another one.
  CHECK(producer.send(Message("T", "x"), SendOptions::by_key("k")).error().response_code == 2);
  CHECK(sends(cluster.broker()) == 7);
}

TEST_CASE("a stored message with another status is a result, or retried on demand", "[client][producer]") {
  FakeCluster cluster(2);
  cluster.add_topic("T", 1);
  cluster.broker(0).set_intercept(fail_sends(10));
  for (bool retry : {false, true}) {
    auto config = config_for(cluster);
    config.retry_another_broker_when_not_store_ok = retry;
    Producer producer(config);
    REQUIRE(producer.start());
    std::set<SendStatus> seen;
    for (int i = 0; i < 2; ++i) seen.insert(producer.send(Message("T", "x"))->status);
    CHECK(seen.count(SendStatus::kFlushDiskTimeout) == (retry ? 0 : 1));
  }
}

TEST_CASE("a send that is not answered times out within its time", "[client][producer]") {
  FakeCluster cluster;
  cluster.add_topic("T", 1);
  cluster.broker().ignore(RequestCode::kSendMessageV2);
  auto config = config_for(cluster);
  config.send_timeout = std::chrono::milliseconds(100);
  Producer producer(config);
  REQUIRE(producer.start());
  const auto begin = std::chrono::steady_clock::now();
  CHECK(producer.send(Message("T", "x")).error().code == Errc::kTimeout);
  CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(3));
  CHECK(producer.send_oneway(Message("T", "x")));
  CHECK(eventually([&] { return sends(cluster.broker()) == 2; }));
  CHECK(cluster.broker().requests(RequestCode::kSendMessageV2).back().is_oneway());
}

TEST_CASE("an unknown topic takes the queues of TBW102", "[client][producer]") {
  FakeCluster cluster;
  Producer producer(config_for(cluster));
  REQUIRE(producer.start());
  auto refused = producer.send(Message("New", "x"));
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == Errc::kNotFound);
  cluster.add_topic("TBW102", 8);
  std::set<int> used;
  for (int i = 0; i < 8; ++i) used.insert(producer.send(Message("New", "x"))->queue.queue_id);
  CHECK(used == std::set<int>{0, 1, 2, 3});
}

TEST_CASE("callbacks may send, but not wait", "[client][producer]") {
  FakeCluster cluster;
  cluster.add_topic("T", 1);
  Producer producer(config_for(cluster));
  REQUIRE(producer.start());
  std::promise<Errc> sync_code;
  std::promise<Errc> shutdown_code;
  std::promise<bool> nested;
  producer.send_async(Message("T", "x"), [&](const apogee::Result<SendReceipt>&) {
    sync_code.set_value(producer.send(Message("T", "y")).error().code);
    shutdown_code.set_value(producer.shutdown().error().code);
    producer.send_async(Message("T", "z"),
                        [&](const apogee::Result<SendReceipt>& second) { nested.set_value(second.has_value()); });
  });
  CHECK(sync_code.get_future().get() == Errc::kInvalidArgument);
  CHECK(shutdown_code.get_future().get() == Errc::kInvalidArgument);
  CHECK(nested.get_future().get());
}

TEST_CASE("asynchronous sends of one thread keep their order in a queue", "[client][producer]") {
  FakeCluster cluster;
  cluster.add_topic("T", 4);
  Producer producer(config_for(cluster));
  REQUIRE(producer.start());
  REQUIRE(producer.queues("T"));
  constexpr int kCount = 500;
  std::atomic<int> done{0};
  for (int i = 0; i < kCount; ++i) {
    producer.send_async(
        Message("T", std::to_string(i)),
        [&](const apogee::Result<SendReceipt>& receipt) { done += receipt ? 1 : 1'000'000; },
        SendOptions::by_key("one"));
  }
  REQUIRE(eventually([&] { return done == kCount; }));
  int next = 0;
  for (const auto& request : cluster.broker().requests(RequestCode::kSendMessageV2)) {
    CHECK(request.body.bytes == std::to_string(next++));
  }
}

TEST_CASE("a batch is stored as its messages", "[client][producer]") {
  FakeCluster cluster;
  cluster.add_topic("T", 1);
  Producer producer(config_for(cluster));
  REQUIRE(producer.start());
  auto receipt = producer.send_batch({Message("T", "a"), Message("T", "b"), Message("T", "c")});
  REQUIRE(receipt);
  CHECK(receipt->queue_offset == 0);
  CHECK(cluster.broker().stored("T") == 3);
}

TEST_CASE("sends under way are told about the shutdown", "[client][producer]") {
  FakeCluster cluster;
  cluster.add_topic("T", 1);
  cluster.broker().ignore(RequestCode::kSendMessageV2);
  Producer producer(config_for(cluster));
  REQUIRE(producer.start());
  auto result = producer.send_future(Message("T", "x"));
  REQUIRE(eventually([&] { return sends(cluster.broker()) == 1; }));
  CHECK(producer.shutdown());
  CHECK(result.get().error().code == Errc::kClosed);
  CHECK(cluster.broker().count(RequestCode::kUnregisterClient) == 1);
}

TEST_CASE("a producer survives a NameServer that is gone", "[client][producer]") {
  FakeCluster cluster;
  cluster.add_topic("T", 1);
  auto config = config_for(cluster);
  config.name_servers = "127.0.0.1:1;" + cluster.name_servers();
  Producer producer(config);
  REQUIRE(producer.start());
  CHECK(producer.send(Message("T", "x")));
}

TEST_CASE("slow brokers are avoided when that is wanted", "[client][producer]") {
  FakeCluster cluster(2);
  cluster.add_topic("T", 1);
  cluster.broker(0).set_intercept(fail_sends(1));
  auto config = config_for(cluster);
  config.latency_fault_avoidance = true;
  Producer producer(config);
  REQUIRE(producer.start());
  for (int i = 0; i < 20; ++i) REQUIRE(producer.send(Message("T", "x")));
  CHECK(sends(cluster.broker(0)) == 1);  // then it is out for ten seconds
  CHECK(sends(cluster.broker(1)) == 20);
}
