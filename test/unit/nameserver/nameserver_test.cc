#include "nameserver/nameserver.h"

#include <unistd.h>

#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <filesystem>
#include <mutex>

#include "common/loop/event_loop.h"
#include "common/remoting/bodies/register_broker_body.h"
#include "common/remoting/bodies/route_bodies.h"
#include "common/remoting/rpc_client.h"
#include "nameserver/kv_config.h"
#include "test/support/catch.h"
#include "test/support/raw_client.h"

using namespace apogee;
using namespace apogee::nameserver;
using remoting::Command;
using remoting::RequestCode;

namespace {

constexpr int64_t kTimeoutMs = 10'000;

struct Running {
  std::string folder;
  NameServerConfig config;
  config::ConfigTable table;
  Logger logger;
  std::unique_ptr<NameServer> server;

  Running() {
    char name[] = "/tmp/apogee-namesrv-XXXXXX";
    folder = mkdtemp(name);
    config.bind_address = "127.0.0.1";
    config.listen_port = 0;
    config.scan_inactive_interval_ms.set(20);
    config.kv_config_path = folder + "/kvConfig.json";
    config.config_store_path = folder + "/namesrv.properties";
    add_rows(config, table);
    server = std::make_unique<NameServer>(config, table, logger);
  }
  ~Running() {
    server.reset();
    std::filesystem::remove_all(folder);
  }
  [[nodiscard]] std::string address() const { return "127.0.0.1:" + std::to_string(server->port()); }
};

/// A broker or client that speaks to the server.
struct Peer {
  Logger logger;
  loop::LoopThread loop{"peer"};
  remoting::RpcClient rpc{loop.loop(), {}, logger};
  ~Peer() {
    rpc.shutdown();
    loop.stop_and_join();
  }
  Command ask(const std::string& address, Command request) {
    auto response = rpc.call_and_wait(address, std::move(request), kTimeoutMs);
    REQUIRE(response.has_value());
    return *response;
  }
};

Command registration(const std::string& broker_address, const char* silence_ms) {
  auto command = Command::request(RequestCode::kRegisterBroker);
  command.ext.set("clusterName", "C1");
  command.ext.set("brokerName", "a");
  command.ext.set("brokerAddr", broker_address);
  command.ext.set("brokerId", "0");
  if (silence_ms != nullptr) command.ext.set("heartbeatTimeoutMillis", silence_ms);
  remoting::RegisterBrokerBody body;
  for (const char* name : {"T", "U"}) body.topic_config_wrapper.topic_config_table[name].topic_name = name;
  command.body = SharedBytes::from(remoting::encode(body));
  return command;
}
Command route_request() {
  auto command = Command::request(RequestCode::kGetRouteinfoByTopic);
  command.ext.set("topic", "T");
  return command;
}
/// Asks until the answer has the code; each round trip paces the loop.
bool route_becomes(Peer& peer, const std::string& address, int32_t code) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(kTimeoutMs);
  while (std::chrono::steady_clock::now() < end)
    if (peer.ask(address, route_request()).code == code) return true;
  return false;
}

}  // namespace

TEST_CASE("NameServer: over the network, a lost connection drops the broker", "[nameserver]") {
  Running running;
  REQUIRE(running.server->start());
  Peer client;
  {
    Peer broker;
    REQUIRE(broker.ask(running.address(), registration("127.0.0.1:10911", nullptr)).code == 0);
    auto response = client.ask(running.address(), route_request());
    REQUIRE(response.code == 0);
    REQUIRE(remoting::decode_topic_route_data(response.body.bytes)->broker_datas[0].broker_addrs.at(0) ==
            "127.0.0.1:10911");
  }
  REQUIRE(route_becomes(client, running.address(), remoting::response_code::kTopicNotExist));
}

TEST_CASE("NameServer: over the network, a silent broker is dropped and its connection closed", "[nameserver]") {
  Running running;
  REQUIRE(running.server->start());
  Peer client;
  Peer broker;
  std::mutex mutex;
  std::condition_variable closed;
  bool is_closed = false;
  broker.rpc.set_close_listener([&](const std::string&) {
    std::lock_guard lock(mutex);
    is_closed = true;
    closed.notify_all();
  });
  REQUIRE(broker.ask(running.address(), registration("127.0.0.1:10911", "300")).code == 0);
  REQUIRE(route_becomes(client, running.address(), remoting::response_code::kTopicNotExist));
  std::unique_lock lock(mutex);
  REQUIRE(closed.wait_for(lock, std::chrono::milliseconds(kTimeoutMs), [&] { return is_closed; }));
}

TEST_CASE("NameServer: settings written over the network are there after a restart", "[nameserver]") {
  Running running;
  REQUIRE(running.server->start());
  Peer client;
  auto put = Command::request(RequestCode::kPutKvConfig);
  put.ext.set("namespace", "N");
  put.ext.set("key", "k");
  put.ext.set("value", "v");
  REQUIRE(client.ask(running.address(), put).code == 0);
  std::vector<config::ConfigTable::Change> changes;
  running.server = std::make_unique<NameServer>(running.config, running.table, running.logger);
  running.server->set_change_listener([&](const auto& made) { changes = made; });
  REQUIRE(running.server->start());
  auto get = Command::request(RequestCode::kGetKvConfig);
  get.ext.set("namespace", "N");
  get.ext.set("key", "k");
  REQUIRE(client.ask(running.address(), get).ext.get("value") == "v");
  auto update = Command::request(RequestCode::kUpdateNamesrvConfig);
  update.body = SharedBytes::from("orderMessageEnable=true");
  REQUIRE(client.ask(running.address(), update).code == 0);
  REQUIRE(changes.size() == 1);
}

TEST_CASE("NameServer: a taken port and a broken kvConfig.json stop the start", "[nameserver]") {
  Running first;
  REQUIRE(first.server->start());
  Running second;
  second.config.listen_port = first.server->port();
  second.server = std::make_unique<NameServer>(second.config, second.table, second.logger);
  auto status = second.server->start();
  REQUIRE(status.error().code == Errc::kAlreadyExists);
  REQUIRE(status.error().message.find(std::to_string(first.server->port())) != std::string::npos);

  Running third;
  REQUIRE(KvConfig(third.config.kv_config_path).put("N", "k", "v"));
  std::filesystem::resize_file(third.config.kv_config_path, 5);
  REQUIRE(third.server->start().error().code == Errc::kCorrupt);
}

TEST_CASE("NameServer: conf/namesrv.conf is loaded", "[nameserver]") {
  NameServerConfig config;
  config::ConfigTable table;
  add_rows(config, table);
  auto status = table.load_file(APOGEE_SOURCE_DIR "/conf/namesrv.conf");
  INFO((status ? std::string() : status.error().message));
  REQUIRE(status.has_value());
  REQUIRE(table.take_notices().empty());
}

namespace {

/// A route query as a client writes it; with `unusual` the header has a space more, which the short way leaves to the
/// long one.
std::string query_of(const std::string& fields, int version, bool unusual) {
  const std::string header = std::string(unusual ? "{ " : "{") + "\"code\":105,\"extFields\":{" + fields +
                             "},\"flag\":0,\"language\":\"JAVA\",\"opaque\":9,\"serializeTypeCurrentRPC\":\"JSON\"," +
                             "\"version\":" + std::to_string(version) + "}";
  std::string frame;
  append_be<uint32_t>(frame, static_cast<uint32_t>(4 + header.size()));
  append_be<uint32_t>(frame, static_cast<uint32_t>(header.size()));
  return frame + header;
}

Command both_ways(apogee::test::RawClient& client, const std::string& fields, int version = 435) {
  std::vector<Command> answers;
  for (bool unusual : {false, true}) {
    client.send_bytes(query_of(fields, version, unusual));
    auto answer = client.receive();
    REQUIRE(answer);
    answers.push_back(std::move(*answer));
  }
  CHECK(answers[0].code == answers[1].code);
  CHECK(answers[0].opaque == 9);
  CHECK(answers[1].opaque == 9);
  CHECK(answers[0].flag == answers[1].flag);
  CHECK(answers[0].version == answers[1].version);
  CHECK(answers[0].language == answers[1].language);
  CHECK(answers[0].remark == answers[1].remark);
  CHECK(answers[0].ext.size() == answers[1].ext.size());
  CHECK(answers[0].body.bytes == answers[1].body.bytes);
  return answers[0];
}

}  // namespace

TEST_CASE("NameServer: the short way of a route query answers as the long one", "[nameserver][quick_route]") {
  Running running;
  REQUIRE(running.server->start());
  apogee::test::RawClient client(running.server->port());
  const std::string topic = "\"topic\":\"T\"";
  CHECK(both_ways(client, topic).code == remoting::response_code::kTopicNotExist);
  Peer broker, other;
  REQUIRE(broker.ask(running.address(), registration("127.0.0.1:10911", nullptr)).code == 0);
  const auto routes_of = [&](const std::string& fields, int version) {
    auto answer = both_ways(client, fields, version);
    CHECK(answer.code == 0);
    return std::string(answer.body.bytes);
  };
  const auto standard = routes_of(topic, 435), old = routes_of(topic, 300);
  CHECK(standard != old);
  CHECK(routes_of(topic + ",\"acceptStandardJsonOnly\":\"true\"", 300) == standard);
  CHECK(routes_of(topic + ",\"acceptStandardJsonOnly\":\"TRUE\"", 300) == standard);
  CHECK(routes_of("\"acceptStandardJsonOnly\":\"false\",\"more\":null," + topic, 300) == old);
  CHECK(routes_of("\"topic\":\"none\"," + topic, 435) == standard);
  CHECK(routes_of("\"topic\":\"\\u0054\"", 435) == standard);
  for (const char* fields : {"", "\"topic\":\"\"", "\"topic\":\"V\"", "\"topic\":null", "\"Topic\":\"T\""})
    CHECK(both_ways(client, fields).code != 0);
  auto binary = route_request();
  binary.serialize = remoting::SerializeType::kRocketMq;
  binary.version = 435;
  auto in_binary = client.call(std::move(binary));
  REQUIRE(in_binary);
  CHECK(in_binary->serialize == remoting::SerializeType::kRocketMq);
  CHECK(in_binary->body.bytes == standard);
  // What changes is told at once.
  REQUIRE(other.ask(running.address(), registration("127.0.0.2:10911", nullptr)).code == 0);
  CHECK(routes_of(topic, 435) != standard);
  auto gone = Command::request(RequestCode::kDeleteTopicInNamesrv);
  gone.ext.set("topic", "U");
  REQUIRE(other.ask(running.address(), std::move(gone)).code == 0);
  CHECK(both_ways(client, "\"topic\":\"U\"").code == remoting::response_code::kTopicNotExist);
  CHECK(both_ways(client, topic).code == 0);
  running.config.support_acting_master.set(true);
  CHECK(both_ways(client, topic).code == 0);
  running.config.order_message_enable.set(true);
  CHECK(both_ways(client, topic).code == 0);
  running.config.need_wait_for_service.set(true);
  CHECK(both_ways(client, topic).code == remoting::response_code::kSystemError);
}
