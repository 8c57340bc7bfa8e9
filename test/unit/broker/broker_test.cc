#include "broker/broker.h"

#include <chrono>
#include <fstream>
#include <memory>
#include <thread>

#include "common/loop/event_loop.h"
#include "common/message/message_record.h"
#include "common/remoting/bodies/client_bodies.h"
#include "common/remoting/rpc_client.h"
#include "test/support/wait.h"
#include "test/unit/broker/support/handler_bench.h"

using namespace apogee;
using namespace apogee::broker;
using namespace apogee::broker::test;
using remoting::Command;
using remoting::RequestCode;

namespace {

constexpr int64_t kTimeoutMs = 20'000;

/// A broker in this process, on free ports of loopback.
struct RunningBroker {
  Logger quiet;
  BrokerConfig config;
  config::ConfigTable table;
  std::unique_ptr<Broker> broker;
  Status status;

  explicit RunningBroker(const std::string& root, int32_t port = 0, int64_t log_file_bytes = 1 << 20) {
    add_rows(table, config);
    config.broker_name = "broker-a";
    config.bind_address = config.broker_ip1 = "127.0.0.1";
    config.listen_port = port;
    config.namesrv_addr.set("");
    config.store_root = root;
    config.commit_log_file_bytes = log_file_bytes;
    config.stop_drain_ms = 5'000;
    broker = std::make_unique<Broker>(config, table, "", quiet);
    status = broker->start();
  }
};

struct Client {
  Logger quiet;
  loop::LoopThread loop{"client"};
  remoting::RpcClient rpc{loop.loop(), {}, quiet};
  ~Client() {
    rpc.shutdown();
    loop.stop_and_join();
  }
  Command ask(const std::string& address, RequestCode code, const Fields& fields, std::string body = {}) {
    auto answer = rpc.call_and_wait(address, request_of(code, fields, std::move(body)), kTimeoutMs);
    REQUIRE(answer);
    return std::move(*answer);
  }
  Command send(const std::string& address, const std::string& topic, const std::string& body) {
    return ask(address, RequestCode::kSendMessageV2,
               {{"a", "p"},
                {"b", topic},
                {"c", "TBW102"},
                {"d", "4"},
                {"e", "0"},
                {"f", "0"},
                {"g", "1"},
                {"h", "0"},
                {"i", "TAGS\x01TagA"}},
               body);
  }
};

Fields pull_fields(const std::string& topic, int64_t offset, const std::string& flags) {
  return {{"consumerGroup", "g"}, {"topic", topic},   {"queueId", "0"},      {"queueOffset", std::to_string(offset)},
          {"maxMsgNums", "32"},   {"sysFlag", flags}, {"commitOffset", "0"}, {"suspendTimeoutMillis", "15000"},
          {"subscription", "*"},  {"subVersion", "0"}};
}

Command pull_until_found(Client& client, const std::string& address, const std::string& topic) {
  Command answer;
  for (int i = 0; i < 200; ++i) {
    answer = client.ask(address, RequestCode::kPullMessage, pull_fields(topic, 0, "6"));
    if (answer.code == 0) break;
  }
  return answer;
}

}  // namespace

TEST_CASE("a broker takes messages, gives them out, and has them after a restart", "[broker][process]") {
  TempDir dir;
  Client client;
  {
    RunningBroker running(dir.file("store"));
    INFO((running.status ? "" : running.status.error().message));
    REQUIRE(running.status);
    const std::string address = running.broker->address();
    CHECK(client.send(address, "Made", "first").code == 0);
    auto answer = pull_until_found(client, address, "Made");
    CHECK(message::decode_record(answer.body.bytes)->body == "first");
    const std::string vip = "127.0.0.1:" + std::to_string(running.broker->port() - 2);
    CHECK(client.send(vip, "Made", "second").code == 0);
    CHECK(client.ask(vip, RequestCode::kPullMessage, pull_fields("Made", 0, "4")).code == 3);
    CHECK(client.ask(address, RequestCode::kQueryMessage, {}).code == 29);
    CHECK(client.ask(address, RequestCode::kPopMessage, {}).code == 3);
    running.broker->stop();
  }
  RunningBroker again(dir.file("store"));
  REQUIRE(again.status);
  auto answer = pull_until_found(client, again.broker->address(), "Made");
  CHECK(answer.ext.get("maxOffset") == "2");
  CHECK(client.send(again.broker->address(), "Made", "third").ext.get("queueOffset") == "2");
}

TEST_CASE("a held pull is answered when its message comes, and when the broker stops", "[broker][process]") {
  TempDir dir;
  Client client, waiting;
  RunningBroker running(dir.file("store"));
  REQUIRE(running.status);
  const std::string address = running.broker->address();
  REQUIRE(client.send(address, "T", "a").code == 0);
  pull_until_found(client, address, "T");
  auto pull_later = [&](int64_t offset) {
    auto box = std::make_shared<AnswerBox>();
    waiting.rpc.call(address, request_of(RequestCode::kPullMessage, pull_fields("T", offset, "6")), kTimeoutMs,
                     [box](Result<Command> answer) {
                       std::lock_guard<std::mutex> lock(box->mutex);
                       box->answer = answer ? std::move(*answer) : Command{};
                       box->arrived.notify_all();
                     });
    return box;
  };
  auto held = pull_later(1);
  REQUIRE(client.send(address, "T", "b").code == 0);
  auto answer = held->get();
  CHECK(answer.code == 0);
  CHECK(message::decode_record(answer.body.bytes)->body == "b");

  held = pull_later(2);
  auto is_held = [&] {
    auto info = client.ask(address, RequestCode::kGetBrokerRuntimeInfo, {});
    return body_text(info).find("\"heldPulls\":\"1\"") != std::string::npos;
  };
  auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (!is_held() && std::chrono::steady_clock::now() < deadline) std::this_thread::yield();
  REQUIRE(is_held());
  running.broker->stop();
  CHECK(held->get().code == 19);
}

TEST_CASE("a taken port and a store in use stop the start", "[broker][process]") {
  TempDir dir;
  RunningBroker first(dir.file("one"));
  REQUIRE(first.status);
  RunningBroker same_port(dir.file("two"), first.broker->port());
  REQUIRE_FALSE(same_port.status);
  CHECK(same_port.status.error().code == Errc::kAlreadyExists);
  RunningBroker same_store(dir.file("one"));
  REQUIRE_FALSE(same_store.status);
  CHECK(same_store.status.error().code == Errc::kAlreadyExists);
  CHECK(same_store.status.error().message.find(dir.file("one")) != std::string::npos);
}

TEST_CASE("settings that are changed by a request take effect and are kept", "[broker][process]") {
  TempDir dir;
  Client client;
  RunningBroker running(dir.file("store"));
  REQUIRE(running.status);
  const std::string address = running.broker->address();
  CHECK(client.ask(address, RequestCode::kUpdateBrokerConfig, {}, "autoCreateTopicEnable=false\n").code == 0);
  CHECK(client.send(address, "Late", "x").code == 17);
  std::ifstream file(dir.file("store/config/broker.properties"));
  std::string text((std::istreambuf_iterator<char>(file)), {});
  CHECK(text.find("autoCreateTopicEnable=false") != std::string::npos);
}

TEST_CASE("updateBrokerConfig: maxMessageSize counts from the next message on", "[broker][process]") {
  TempDir dir;
  Client client;
  RunningBroker running(dir.file("store"));
  REQUIRE(running.status);
  const std::string address = running.broker->address();
  const std::string body(200, 'x');
  auto update = [&](const std::string& text) {
    return client.ask(address, RequestCode::kUpdateBrokerConfig, {}, text);
  };
  REQUIRE(client.send(address, "Sized", body).code == 0);
  REQUIRE(update("maxMessageSize=199").code == 0);
  auto refused = client.send(address, "Sized", body);
  CHECK(refused.code == 13);
  CHECK(refused.remark.value_or("").find("200 bytes. msg body length limit 199B") != std::string::npos);
  CHECK(client.send(address, "Sized", body.substr(1)).code == 0);
  CHECK(update("maxMessageSize=0").code != 0);
}

TEST_CASE("updateBrokerConfig: maxMessageSize can be raised above the default", "[broker][process]") {
  TempDir dir;
  Client client;
  RunningBroker running(dir.file("store"), 0, 16 << 20);
  REQUIRE(running.status);
  const std::string address = running.broker->address();
  const std::string large(4194305, 'y');
  CHECK(client.send(address, "Large", large).code == 13);
  REQUIRE(client.ask(address, RequestCode::kUpdateBrokerConfig, {}, "maxMessageSize=4194305").code == 0);
  CHECK(client.send(address, "Large", large).code == 0);
  CHECK(client.send(address, "Large", large + "y").code == 13);
}

TEST_CASE("rebalanceLockMaxLiveTime: the queues of a silent client go to another one", "[broker][process]") {
  TempDir dir;
  Client client;
  RunningBroker running(dir.file("store"));
  REQUIRE(running.status);
  const std::string address = running.broker->address();
  const MessageQueue queue{"Ordered", "broker-a", 0};
  auto locked = [&](const std::string& who) {
    remoting::LockBatchRequest request;
    request.consumer_group = "g";
    request.client_id = who;
    request.mq_set = {queue};
    auto answer = client.ask(address, RequestCode::kLockBatchMq, {}, remoting::encode(request));
    REQUIRE(answer.code == 0);
    return answer.body.bytes.find("Ordered") != std::string_view::npos;
  };
  REQUIRE(locked("silent"));
  CHECK_FALSE(locked("waiting"));  // 60 s have not passed
  REQUIRE(client.ask(address, RequestCode::kUpdateBrokerConfig, {}, "rebalanceLockMaxLiveTime=1").code == 0);
  CHECK(apogee::test::eventually([&] { return locked("waiting"); }));
  REQUIRE(client.ask(address, RequestCode::kUpdateBrokerConfig, {}, "rebalanceLockMaxLiveTime=60000").code == 0);
  REQUIRE(locked("waiting"));
  CHECK_FALSE(locked("silent"));
}
