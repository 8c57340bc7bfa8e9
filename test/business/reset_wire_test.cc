// Resets of offsets as admin tools and consumers of another make see them, and what a crash leaves of them.
#include "common/remoting/bodies/client_bodies.h"
#include "test/business/transaction_bench.h"

namespace apogee::test {

using namespace std::chrono_literals;
using remoting::Command;
using remoting::RequestCode;

namespace {

constexpr const char* kTopic = "Reset";
constexpr const char* kGroup = "reset_readers";

Command heartbeat(const std::string& client_id, remoting::LanguageCode language) {
  remoting::HeartbeatData data;
  data.client_id = client_id;
  remoting::ConsumerData consumer;
  consumer.group_name = kGroup;
  consumer.subscription_data_set.push_back(*remoting::build_tag_subscription(kTopic, "*", 1));
  data.consumer_data_set.push_back(consumer);
  auto request = Command::request(RequestCode::kHeartBeat);
  request.language = language;
  request.body = SharedBytes::from(remoting::encode(data));
  return request;
}

Command reset_request(int64_t timestamp, bool force) {
  auto request = Command::request(RequestCode::kInvokeBrokerToResetOffset);
  request.ext.set("topic", kTopic);
  request.ext.set("group", kGroup);
  request.ext.set("timestamp", timestamp);
  request.ext.set("isForce", force);
  return request;
}

Command offset_request(RequestCode code, int32_t queue_id) {
  auto request = Command::request(code);
  request.ext.set("consumerGroup", kGroup);
  request.ext.set("topic", kTopic);
  request.ext.set("queueId", queue_id);
  return request;
}

struct Bench {
  Bench() {
    cluster.create_topic(kTopic, 2);
    RawClient client(cluster.broker_port());
    auto group = Command::request(RequestCode::kUpdateAndCreateSubscriptiongroup);
    group.body = SharedBytes::from(std::string(R"({"groupName":")") + kGroup + "\"}");
    call(client, std::move(group));
    for (int i = 0; i < 20; ++i) call(client, send_request({kTopic, i % 2, "m" + std::to_string(i)}));
    REQUIRE(eventually([&] { return figure(cluster.broker_port(), "dispatchBehindBytes") == 0; }, 60s));
  }
  static Command call(RawClient& client, Command request) {
    auto reply = client.call(std::move(request), 60s);
    REQUIRE(reply);
    INFO(reply->remark.value_or(""));
    REQUIRE(reply->code == 0);
    return std::move(*reply);
  }
  void commit(RawClient& client, int64_t offset) {
    for (int32_t queue = 0; queue < 2; ++queue) {
      auto request = offset_request(RequestCode::kUpdateConsumerOffset, queue);
      request.ext.set("commitOffset", offset);
      call(client, std::move(request));
    }
  }
  int64_t committed(int32_t queue_id) {
    RawClient client(cluster.broker_port());
    return *call(client, offset_request(RequestCode::kQueryConsumerOffset, queue_id)).ext.get_int<int64_t>("offset");
  }
  Cluster cluster;
};

}  // namespace

TEST_CASE("raw frames: consumers that are online are told of a reset, each in its dialect", "[business][offsets]") {
  Bench bench;
  RawClient java(bench.cluster.broker_port()), cpp(bench.cluster.broker_port()), admin(bench.cluster.broker_port());
  Bench::call(java, heartbeat("java@1", remoting::LanguageCode::kJava));
  Bench::call(cpp, heartbeat("cpp@1", remoting::LanguageCode::kCpp));
  bench.commit(java, 10);
  const auto answer = Bench::call(admin, reset_request(0, true));
  const auto table = remoting::decode_reset_offset_body(answer.body.bytes);
  REQUIRE(table);
  REQUIRE(table->offset_table.size() == 2);
  for (const auto& [queue, offset] : table->offset_table) {
    CHECK(queue.broker_name == Cluster::broker_name(0));
    CHECK(offset == 0);
  }
  auto told = [](RawClient& client) {
    for (;;) {
      auto request = client.receive(60s);
      REQUIRE(request);
      if (request->request_code() == RequestCode::kResetConsumerClientOffset) return std::move(*request);
    }
  };
  for (auto* client : {&java, &cpp}) {
    const auto request = told(*client);
    CHECK(request.is_oneway());
    CHECK(request.ext.get("topic") == kTopic);
    CHECK(request.ext.get("group") == kGroup);
    CHECK(request.ext.get("timestamp") == "0");
    CHECK(request.ext.get("isForce") == "true");
    const std::string body(request.body.bytes);
    CHECK((body.find("\"offsetTable\":[") != std::string::npos) == (client == &cpp));
    const auto offsets = remoting::decode_reset_offset_body(body);
    REQUIRE(offsets);
    CHECK(offsets->offset_table == table->offset_table);
  }
  // It is the consumer's to commit where it goes on.
  CHECK(bench.committed(0) == 10);
}

TEST_CASE("raw frames: a reset of a group that is offline moves its offsets at once, and survives kill -9",
          "[business][offsets][crash]") {
  Bench bench;
  {
    RawClient client(bench.cluster.broker_port());
    bench.commit(client, 10);
    // Not forward without force.
    Bench::call(client, reset_request(-1, false));
    CHECK(bench.committed(0) == 10);
    bench.commit(client, 4);
    Bench::call(client, reset_request(-1, true));  // to the end
    CHECK(bench.committed(1) == 10);
    Bench::call(client, reset_request(0, false));
  }
  bench.cluster.kill_broker();  // right after the answer
  bench.cluster.start_broker();
  CHECK(bench.committed(0) == 0);
  CHECK(bench.committed(1) == 0);
  RawClient client(bench.cluster.broker_port());
  auto pulled = Bench::call(client, pull_request(kGroup, kTopic, 1, 0));
  CHECK(message::split_records(pulled.body.bytes)->size() == 10);

  auto wrong = reset_request(0, true);
  wrong.ext.set("topic", "Nowhere");
  CHECK(client.call(wrong)->code == 17);
  wrong = reset_request(0, true);
  wrong.ext.set("group", "unheard_of");
  CHECK(client.call(wrong)->code == 26);
  wrong = reset_request(0, true);
  wrong.ext.set("queueId", 2);
  CHECK(client.call(wrong)->code == 29);
}

}  // namespace apogee::test
