#include <condition_variable>
#include <mutex>

#include "common/loop/event_loop.h"
#include "common/remoting/bodies/route_bodies.h"
#include "common/remoting/rpc_client.h"
#include "nameserver/nameserver.h"
#include "nameserver/route_table.h"
#include "test/support/catch.h"
#include "test/support/temporary_directory.h"

using namespace apogee;
using namespace apogee::nameserver;
using remoting::Command;
using remoting::RequestCode;
using Addresses = std::map<int64_t, std::string>;

namespace {

Registration registration(int64_t id, const std::string& address, std::optional<bool> acting = true,
                          int64_t counter = 1) {
  Registration r;
  r.cluster = "C1";
  r.broker_name = "a";
  r.broker_address = address;
  r.ha_server_address = "ha-" + address;
  r.broker_id = id;
  r.acting_master = acting;
  r.topics.data_version.counter = counter;
  for (const char* name : {"T", "U"}) {
    auto& topic = r.topics.topic_config_table[name];
    topic.topic_name = name;
    topic.read_queue_nums = topic.write_queue_nums = 4;
    topic.perm = 6;
  }
  return r;
}

int32_t perm(const RouteTable& routes) { return routes.route("T", true)->queue_datas.at(0).perm; }
Addresses addresses(const RouteTable& routes, bool acting = true, const char* topic = "T") {
  return routes.route(topic, acting)->broker_datas.at(0).broker_addrs;
}

}  // namespace

TEST_CASE("RouteTable: the slave with the smallest id is shown as a master that nobody may write to",
          "[routes][acting_master]") {
  RouteTable routes;
  REQUIRE(routes.register_broker(registration(0, "m:1"), 0));
  REQUIRE(routes.register_broker(registration(2, "s2:1"), 0));
  REQUIRE(routes.register_broker(registration(1, "s1:1"), 0));
  CHECK(addresses(routes) == Addresses{{0, "m:1"}, {1, "s1:1"}, {2, "s2:1"}});
  CHECK(routes.route("T")->broker_datas[0].enable_acting_master);
  CHECK(perm(routes) == 6);

  REQUIRE(routes.unregister_broker("C1", "a", "m:1"));
  CHECK(addresses(routes) == Addresses{{0, "s1:1"}, {2, "s2:1"}});
  CHECK(perm(routes) == 4);
  CHECK(addresses(routes, false) == Addresses{{1, "s1:1"}, {2, "s2:1"}});
  CHECK(routes.members("C1", "a").broker_addrs == Addresses{{1, "s1:1"}, {2, "s2:1"}});
  REQUIRE(routes.register_broker(registration(1, "s1:1"), 0));  // nothing new: still not to be written to
  CHECK(perm(routes) == 4);
  REQUIRE(routes.register_broker(registration(1, "s1:1", true, 2), 0));
  CHECK(perm(routes) == 4);

  REQUIRE(routes.unregister_broker("C1", "a", "s1:1"));
  CHECK(addresses(routes) == Addresses{{0, "s2:1"}});
  REQUIRE(routes.register_broker(registration(0, "m:1"), 0));
  CHECK(addresses(routes) == Addresses{{0, "m:1"}, {2, "s2:1"}});
  CHECK(perm(routes) == 6);
}

TEST_CASE("RouteTable: slaves that may not act are not shown as a master", "[routes][acting_master]") {
  RouteTable routes;
  const auto acting = GENERATE(std::optional<bool>{}, std::optional<bool>{false});
  REQUIRE(routes.register_broker(registration(0, "m:1", acting), 0));
  REQUIRE(routes.register_broker(registration(1, "s:1", acting), 0));
  REQUIRE(routes.unregister_broker("C1", "a", "m:1"));
  CHECK(addresses(routes) == Addresses{{1, "s:1"}});
  CHECK(perm(routes) == 6);
  CHECK_FALSE(routes.route("T")->broker_datas[0].enable_acting_master);
}

TEST_CASE("RouteTable: after a restart of the NameServer an acting slave brings the topics",
          "[routes][acting_master]") {
  RouteTable routes;
  auto slave = registration(1, "s:1");
  slave.topics.topic_config_table["rmq_sys_SYNC_BROKER_MEMBER_a"] = slave.topics.topic_config_table["T"];
  REQUIRE(routes.register_broker(slave, 0));
  CHECK(addresses(routes) == Addresses{{0, "s:1"}});
  CHECK(perm(routes) == 4);
  CHECK(addresses(routes, true, "rmq_sys_SYNC_BROKER_MEMBER_a") == Addresses{{1, "s:1"}});
  REQUIRE(routes.register_broker(registration(0, "m:1"), 0));
  CHECK(addresses(routes) == Addresses{{0, "m:1"}, {1, "s:1"}});
  CHECK(perm(routes) == 6);
}

TEST_CASE("RouteTable: who is to be told that the smallest id changed", "[routes][acting_master]") {
  RouteTable routes;
  std::vector<MinIdChange> changes;
  routes.set_min_id_listener([&](const MinIdChange& change) { changes.push_back(change); });
  REQUIRE(routes.register_broker(registration(0, "m:1"), 0));
  REQUIRE(routes.register_broker(registration(1, "s1:1"), 0));
  REQUIRE(routes.register_broker(registration(2, "s2:1"), 0));
  REQUIRE(changes.empty());
  REQUIRE(routes.unregister_broker("C1", "a", "m:1"));
  REQUIRE(changes.size() == 1);
  CHECK(changes[0].broker_name == "a");
  CHECK(changes[0].min_id == 1);
  CHECK(changes[0].min_address == "s1:1");
  CHECK(changes[0].offline_address == "m:1");
  CHECK(changes[0].to_tell == std::vector<std::string>{"s1:1", "s2:1"});
  REQUIRE(routes.unregister_broker("C1", "a", "s2:1"));
  REQUIRE(changes.size() == 1);
  REQUIRE(routes.register_broker(registration(0, "m:1"), 0));
  REQUIRE(changes.size() == 2);
  CHECK(changes[1].min_id == 0);
  CHECK(changes[1].min_address == "m:1");
  CHECK(changes[1].offline_address.empty());
  CHECK(changes[1].ha_address == "ha-m:1");
  CHECK(changes[1].to_tell == std::vector<std::string>{"s1:1"});
}

TEST_CASE("NameServer: brokers are told over the network, and routes show the acting master",
          "[nameserver][acting_master]") {
  const test::TemporaryDirectory folder;
  NameServerConfig config;
  config::ConfigTable table;
  Logger logger;
  config.bind_address = "127.0.0.1";
  config.listen_port = 0;
  config.kv_config_path = (folder.path() / "kvConfig.json").string();
  config.support_acting_master.set(true);
  config.notify_min_broker_id_changed.set(true);
  add_rows(config, table);
  NameServer server(config, table, logger);
  REQUIRE(server.start());
  const std::string address = "127.0.0.1:" + std::to_string(server.port());

  std::mutex mutex;
  std::condition_variable arrived;
  std::optional<Command> told;
  remoting::RemotingServer::Options options;
  options.bind_address = "127.0.0.1";
  options.ports = {0};
  remoting::RemotingServer slave(options, logger);
  slave.set_handler([&](const remoting::Caller&, Command request, const remoting::Responder&) {
    std::lock_guard lock(mutex);
    told = std::move(request);
    arrived.notify_all();
  });
  REQUIRE(slave.start());
  const std::string slave_address = "127.0.0.1:" + std::to_string(slave.port());

  loop::LoopThread loop("peer");
  remoting::RpcClient rpc(loop.loop(), {}, logger);
  auto ask = [&](RequestCode code, const std::map<std::string, std::string>& fields, SharedBytes body = {}) {
    auto request = Command::request(code);
    for (const auto& [name, value] : fields) request.ext.set(name, value);
    request.body = std::move(body);
    auto reply = rpc.call_and_wait(address, std::move(request), 10'000);
    REQUIRE(reply);
    REQUIRE(reply->code == 0);
    return std::move(*reply);
  };
  auto announce = [&](const char* id, const std::string& broker) {
    remoting::RegisterBrokerBody body;
    body.topic_config_wrapper = registration(0, "").topics;
    return ask(RequestCode::kRegisterBroker,
               {{"clusterName", "C1"},
                {"brokerName", "a"},
                {"brokerAddr", broker},
                {"brokerId", id},
                {"haServerAddr", "ha-" + broker},
                {"enableActingMaster", "true"}},
               SharedBytes::from(remoting::encode(body)));
  };
  announce("0", "127.0.0.1:1");
  const auto answer = announce("1", slave_address);
  CHECK(answer.ext.get("masterAddr") == "127.0.0.1:1");
  CHECK(answer.ext.get("haServerAddr") == "ha-127.0.0.1:1");
  ask(RequestCode::kUnregisterBroker,
      {{"clusterName", "C1"}, {"brokerName", "a"}, {"brokerAddr", "127.0.0.1:1"}, {"brokerId", "0"}});
  {
    std::unique_lock lock(mutex);
    REQUIRE(arrived.wait_for(lock, std::chrono::seconds(60), [&] { return told.has_value(); }));
    CHECK(told->request_code() == RequestCode::kNotifyMinBrokerIdChange);
    CHECK(told->is_oneway());
    CHECK(told->ext.get("minBrokerId") == "1");
    CHECK(told->ext.get("minBrokerAddr") == slave_address);
    CHECK(told->ext.get("offlineBrokerAddr") == "127.0.0.1:1");
    CHECK(told->ext.get("brokerName") == "a");
  }
  const auto route =
      remoting::decode_topic_route_data(ask(RequestCode::kGetRouteinfoByTopic, {{"topic", "T"}}).body.bytes);
  REQUIRE(route);
  CHECK(route->broker_datas.at(0).broker_addrs == Addresses{{0, slave_address}});
  CHECK(route->broker_datas.at(0).enable_acting_master);
  CHECK(route->queue_datas.at(0).perm == 4);
  rpc.shutdown();
  loop.stop_and_join();
  slave.stop();
  server.stop();
}
