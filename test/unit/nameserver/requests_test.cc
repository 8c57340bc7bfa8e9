#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include "common/base/crc32.h"
#include "common/config/properties_file.h"
#include "common/remoting/bodies/kv_bodies.h"
#include "common/remoting/bodies/register_broker_body.h"
#include "common/remoting/bodies/route_bodies.h"
#include "common/remoting/command_codec.h"
#include "nameserver/request_table.h"
#include "test/support/catch.h"

using namespace apogee;
using namespace apogee::nameserver;
using remoting::Command;
using remoting::RequestCode;
namespace response_code = remoting::response_code;

namespace {

/// The parts of a NameServer without a network, with a clock of its own.
struct Server {
  std::string folder;
  NameServerConfig config;
  config::ConfigTable table;
  Logger logger;
  int64_t now_ms = 1'000'000;
  std::unique_ptr<KvConfig> kv;
  RouteTable routes;
  std::unique_ptr<RegistrationHandlers> registration;
  std::unique_ptr<RouteHandlers> route_requests;
  std::unique_ptr<ConfigHandlers> config_requests;
  std::unique_ptr<RequestTable> requests;
  std::vector<config::ConfigTable::Change> changes;
  std::vector<std::function<void()>> posted;

  Server() {
    char name[] = "/tmp/apogee-namesrv-XXXXXX";
    folder = mkdtemp(name);
    config.kv_config_path = folder + "/namesrv/kvConfig.json";
    config.config_store_path = folder + "/namesrv/namesrv.properties";
    add_rows(config, table);
    build();
  }
  ~Server() { std::filesystem::remove_all(folder); }

  void build() {
    auto clock = [this] { return now_ms; };
    kv = std::make_unique<KvConfig>(config.kv_config_path);
    registration = std::make_unique<RegistrationHandlers>(routes, *kv, config, clock, logger);
    route_requests = std::make_unique<RouteHandlers>(routes, *kv, config, clock, logger);
    config_requests = std::make_unique<ConfigHandlers>(
        *kv, table, config, [this](const ConfigHandlers::Changes& made) { changes = made; }, logger);
    requests = std::make_unique<RequestTable>(
        *registration, *route_requests, *config_requests,
        [this](std::function<void()> task) {
          posted.push_back(std::move(task));
          return true;
        },
        logger);
  }

  Command ask(Command request, remoting::ConnectionId connection = 1) {
    request.opaque = 77;
    remoting::Caller caller;
    caller.connection = connection;
    caller.address = "127.0.0.1:5";
    auto response = requests->answer(caller, request);
    CHECK(response.is_response());
    CHECK(response.opaque == 77);
    CHECK(response.serialize == request.serialize);
    return response;
  }
};

using Fields = std::vector<std::pair<std::string, std::string>>;
Command request(RequestCode code, const Fields& fields = {}, std::string body = {}) {
  auto command = Command::request(code);
  for (const auto& [name, value] : fields) command.ext.set(name, value);
  if (!body.empty()) command.body = SharedBytes::from(std::move(body));
  return command;
}

remoting::RegisterBrokerBody body_of(std::vector<std::string> topics, int64_t counter = 1) {
  remoting::RegisterBrokerBody body;
  body.topic_config_wrapper.data_version.counter = counter;
  for (auto& name : topics) {
    remoting::TopicConfig topic;
    topic.topic_name = name;
    topic.read_queue_nums = topic.write_queue_nums = 4;
    body.topic_config_wrapper.topic_config_table[name] = topic;
  }
  return body;
}
Fields broker_fields(const std::string& name, const std::string& id, const std::string& address) {
  return {{"brokerName", name},
          {"brokerId", id},
          {"brokerAddr", address},
          {"clusterName", "C1"},
          {"haServerAddr", address + "2"}};
}
Command registration(const std::string& name, const std::string& id, const std::string& address,
                     const remoting::RegisterBrokerBody& body) {
  return request(RequestCode::kRegisterBroker, broker_fields(name, id, address), remoting::encode(body));
}

std::string text_of(const std::string& path) {
  std::stringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}
Command recorded(const std::string& name) {
  auto frame = text_of(std::string(APOGEE_SOURCE_DIR "/test/compat/remoting/frames/json/") + name + ".bin");
  REQUIRE(frame.size() > 4);
  auto command = remoting::decode_frame(SharedBytes::from(frame.substr(4)));
  REQUIRE(command.has_value());
  return *command;
}
std::set<std::string> topic_set(const Command& response) {
  auto list = remoting::decode_topic_list(response.body.bytes);
  REQUIRE(list.has_value());
  return {list->topic_list.begin(), list->topic_list.end()};
}

}  // namespace

TEST_CASE("NameServer: an unknown request is answered with 3", "[requests]") {
  Server server;
  auto response = server.ask(recorded("unsupported-code-namesrv.request"));
  REQUIRE(response.code == response_code::kRequestCodeNotSupported);
  REQUIRE(response.remark == " request type 9999 not supported");
}

TEST_CASE("NameServer: answers as Apache RocketMQ 4.9.8 to what was recorded", "[requests][compat]") {
  Server server;
  REQUIRE(server.ask(recorded("register-broker.request")).body.empty());
  REQUIRE(server.ask(recorded("register-broker-one-topic.request")).code == 0);
  REQUIRE(server.kv->put(kOrderTopicNamespace, "FxOrder", "broker-a:2"));

  auto with_order = server.ask(recorded("register-broker-with-order-config.request"));
  REQUIRE(with_order.code == 0);
  REQUIRE(with_order.body.bytes == recorded("register-broker-with-order-config.response").body.bytes);
  REQUIRE(server.ask(recorded("register-broker-compressed.request")).body.bytes ==
          recorded("register-broker-compressed.response").body.bytes);

  for (const char* name :
       {"route", "route-old-client", "route-accept-standard-json", "route-order-topic", "route-topic-not-exist",
        "route-signed", "kv-put", "kv-get", "kv-get-missing", "kv-list", "kv-list-missing", "kv-delete",
        "unit-topic-list", "has-unit-sub-topic-list", "has-unit-sub-ununit-topic-list", "cluster-info"}) {
    INFO(name);
    auto expected = recorded(std::string(name) + ".response");
    auto response = server.ask(recorded(std::string(name) + ".request"));
    CHECK(response.code == expected.code);
    CHECK(response.body.bytes == expected.body.bytes);
    for (size_t i = 0; i < expected.ext.size(); ++i)
      CHECK(response.ext.get(expected.ext.name(i)).value_or("absent") == expected.ext.value(i));
  }

  auto system = server.ask(recorded("system-topics-namesrv.request"));
  CHECK(topic_set(system) == topic_set(recorded("system-topics-namesrv.response")));
  CHECK(remoting::decode_topic_list(system.body.bytes)->broker_addr == "127.0.0.1:19911");
  auto topics = topic_set(server.ask(recorded("topic-list.request")));
  CHECK(topics == topic_set(server.ask(recorded("topics-by-cluster.request"))));
  CHECK(topics.count("FxTopic") == 1);
  auto wiped = server.ask(recorded("wipe-write-perm.request"));
  CHECK(wiped.ext.get_int<size_t>("wipeTopicCount") == topics.size());
  auto added = server.ask(recorded("add-write-perm.request"));
  CHECK(added.ext.get_int<size_t>("addTopicCount") == topics.size());
  CHECK(server.ask(recorded("delete-topic-namesrv.request")).code == 0);
  CHECK(server.ask(recorded("unregister-broker.request")).code == 0);
  CHECK(server.ask(recorded("route.request")).code == response_code::kTopicNotExist);
}

TEST_CASE("NameServer: a recorded data version that is known is unchanged", "[requests][compat]") {
  Server server;
  auto asked = recorded("query-data-version.request");
  auto before = server.ask(asked);
  REQUIRE(before.ext.get("changed") == "true");
  REQUIRE(before.body.empty());
  auto body = body_of({"T", "U"});
  body.topic_config_wrapper.data_version = remoting::decode_data_version(asked.body.bytes).value();
  auto fields = Fields{{"brokerName", "broker-a"},
                       {"brokerId", "0"},
                       {"brokerAddr", "127.0.0.1:19911"},
                       {"clusterName", "DefaultCluster"}};
  REQUIRE(server.ask(request(RequestCode::kRegisterBroker, fields, remoting::encode(body))).code == 0);
  auto after = server.ask(asked);
  REQUIRE(after.ext.get("changed") == "false");
  REQUIRE(after.body.bytes == recorded("query-data-version.response").body.bytes);
}

TEST_CASE("NameServer: a registration is checked", "[requests]") {
  Server server;
  auto good = registration("a", "0", "1:1", body_of({"T", "U"}));
  for (const char* field : {"brokerName", "brokerAddr", "clusterName", "brokerId"}) {
    auto lacking = request(RequestCode::kRegisterBroker);
    for (const auto& [name, value] : broker_fields("a", "0", "1:1"))
      if (name != field) lacking.ext.set(name, value);
    auto response = server.ask(lacking);
    CHECK(response.code == response_code::kSystemError);
    CHECK(response.remark.value_or("").find(field) != std::string::npos);
  }
  auto bad_id = good;
  bad_id.ext.set("brokerId", "zero");
  CHECK(server.ask(bad_id).remark.value_or("").find("brokerId") != std::string::npos);
  auto bad_crc = good;
  bad_crc.ext.set("bodyCrc32", static_cast<int64_t>(crc32_31(good.body.bytes)) + 1);
  CHECK(server.ask(bad_crc).remark.value_or("").find("crc32 not match") == 0);
  auto bad_body = good;
  bad_body.body = SharedBytes::from("{\"topicConfig");
  CHECK(server.ask(bad_body).code == response_code::kSystemError);
  auto bad_compressed = good;
  bad_compressed.ext.set("compressed", true);
  CHECK(server.ask(bad_compressed).code == response_code::kSystemError);
  REQUIRE(server.routes.topics().empty());

  auto good_crc = good;
  good_crc.ext.set("bodyCrc32", static_cast<int64_t>(crc32_31(good.body.bytes)));
  REQUIRE(server.ask(good_crc).code == 0);
  REQUIRE(server.routes.topics().size() == 2);
}

TEST_CASE("NameServer: a request that lacks a field is answered 1, as by Apache RocketMQ, and the remark names it",
          "[requests]") {
  Server server;
  const std::vector<std::pair<RequestCode, std::vector<const char*>>> needed = {
      {RequestCode::kGetRouteinfoByTopic, {"topic"}},
      {RequestCode::kUnregisterBroker, {"clusterName", "brokerName", "brokerAddr"}},
      {RequestCode::kQueryDataVersion, {"clusterName", "brokerAddr"}},
      {RequestCode::kBrokerHeartbeat, {"clusterName", "brokerAddr"}},
      {RequestCode::kRegisterTopicInNamesrv, {"topic"}},
      {RequestCode::kGetBrokerMemberGroup, {"clusterName", "brokerName"}},
      {RequestCode::kGetTopicsByCluster, {"cluster"}},
      {RequestCode::kDeleteTopicInNamesrv, {"topic"}},
      {RequestCode::kWipeWritePermOfBroker, {"brokerName"}},
      {RequestCode::kAddWritePermOfBroker, {"brokerName"}},
      {RequestCode::kGetKvConfig, {"namespace", "key"}},
      {RequestCode::kPutKvConfig, {"namespace", "key"}},
      {RequestCode::kDeleteKvConfig, {"namespace", "key"}},
      {RequestCode::kGetKvlistByNamespace, {"namespace"}}};
  for (const auto& [code, fields] : needed) {
    for (const char* missing : fields) {
      auto lacking = request(code);
      for (const char* field : fields)
        if (field != missing) lacking.ext.set(field, "x");
      auto response = server.ask(lacking);
      INFO(to_string(code) << " without " << missing << ": " << response.remark.value_or(""));
      CHECK(response.code == response_code::kSystemError);
      CHECK(response.remark == std::string("the request lacks the field ") + missing);
    }
  }
}

TEST_CASE("NameServer: a first registration with exactly one topic is refused, as in Apache RocketMQ 5.3",
          "[requests]") {
  Server server;
  auto refused = server.ask(registration("a", "0", "1:1", body_of({"T"})));
  CHECK(refused.code == response_code::kSystemError);
  CHECK(refused.remark.value_or("").find("register broker failed") == 0);
  CHECK(server.routes.topics().empty());
  REQUIRE(server.ask(registration("a", "0", "1:1", body_of({}))).code == 0);     // none is a table
  REQUIRE(server.ask(registration("a", "0", "1:1", body_of({"T"}))).code == 0);  // and one now an addition
  CHECK(server.routes.topics().size() == 1);
}

TEST_CASE("NameServer: compressed registrations of 4.9 and 5, and the bare table of old brokers", "[requests]") {
  for (int32_t version : {409, 413, 479}) {
    Server server;
    auto body = body_of({"T", "U"});
    auto command = registration("a", "0", "1:1", body);
    command.version = version;
    command.ext.set("compressed", true);
    command.body = SharedBytes::from(remoting::encode_compressed(body, version));
    REQUIRE(server.ask(command).code == 0);
    REQUIRE(server.routes.route("T")->queue_datas[0].write_queue_nums == 4);
  }
  Server server;
  auto command = registration("a", "0", "1:1", body_of({}));
  command.version = 30;
  command.body = SharedBytes::from(remoting::encode(body_of({"T", "U"}).topic_config_wrapper));
  REQUIRE(server.ask(command).code == 0);
  REQUIRE(server.routes.topics().size() == 2);
}

TEST_CASE("NameServer: a slave is told its master", "[requests]") {
  Server server;
  REQUIRE(server.ask(registration("a", "0", "1:1", body_of({"T", "U"}))).ext.get("masterAddr") == std::nullopt);
  auto response = server.ask(registration("a", "1", "2:1", body_of({"T", "U"})), 2);
  REQUIRE(response.ext.get("masterAddr") == "1:1");
  REQUIRE(response.ext.get("haServerAddr") == "1:12");
  auto members = server.ask(request(RequestCode::kGetBrokerMemberGroup, {{"clusterName", "C1"}, {"brokerName", "a"}}));
  REQUIRE(remoting::decode_broker_member_group(members.body.bytes)->broker_addrs.size() == 2);
}

TEST_CASE("NameServer: heartbeats keep a broker for as long as it says", "[requests]") {
  Server server;
  auto command = registration("a", "0", "1:1", body_of({"T", "U"}));
  command.ext.set("heartbeatTimeoutMillis", "20000");
  REQUIRE(server.ask(command).code == 0);
  server.now_ms += 15'000;
  REQUIRE(server.ask(request(RequestCode::kBrokerHeartbeat, broker_fields("a", "0", "1:1"))).code == 0);
  REQUIRE(server.routes.remove_silent(server.now_ms + 20'000).empty());
  REQUIRE(server.routes.remove_silent(server.now_ms + 20'001).size() == 1);
  REQUIRE(server.ask(request(RequestCode::kBrokerHeartbeat, broker_fields("a", "0", "1:1"))).code == 0);
}

TEST_CASE("NameServer: the order configuration comes with routes when switched on", "[requests]") {
  Server server;
  REQUIRE(server.ask(registration("a", "0", "1:1", body_of({"T", "U"}))).code == 0);
  REQUIRE(server
              .ask(request(RequestCode::kPutKvConfig,
                           {{"namespace", "ORDER_TOPIC_CONFIG"}, {"key", "T"}, {"value", "a:4"}}))
              .code == 0);
  auto ask_route = request(RequestCode::kGetRouteinfoByTopic, {{"topic", "T"}});
  REQUIRE(remoting::decode_topic_route_data(server.ask(ask_route).body.bytes)->order_topic_conf.empty());
  REQUIRE(server.ask(request(RequestCode::kUpdateNamesrvConfig, {}, "orderMessageEnable=true\n")).code == 0);
  REQUIRE(remoting::decode_topic_route_data(server.ask(ask_route).body.bytes)->order_topic_conf == "a:4");
}

TEST_CASE("NameServer: routes are refused for a while when asked to wait", "[requests]") {
  Server server;
  REQUIRE(server.ask(registration("a", "0", "1:1", body_of({"T", "U"}))).code == 0);
  server.config.need_wait_for_service.set(true);
  auto ask_route = request(RequestCode::kGetRouteinfoByTopic, {{"topic", "T"}});
  REQUIRE(server.ask(ask_route).code == response_code::kSystemError);
  server.now_ms += 45'000;
  REQUIRE(server.ask(ask_route).code == 0);
  REQUIRE(server.ask(request(RequestCode::kGetRouteinfoByTopic)).remark.value_or("").find("topic") !=
          std::string::npos);
}

TEST_CASE("NameServer: key-value settings survive a restart", "[requests]") {
  Server server;
  REQUIRE(
      server.ask(request(RequestCode::kPutKvConfig, {{"namespace", "N"}, {"key", "k"}, {"value", "v \xE4\xB8\xAD"}}))
          .code == 0);
  REQUIRE(server.ask(request(RequestCode::kPutKvConfig, {{"namespace", "N"}, {"key", "gone"}, {"value", "v"}})).code ==
          0);
  REQUIRE(server.ask(request(RequestCode::kDeleteKvConfig, {{"namespace", "N"}, {"key", "gone"}})).code == 0);
  REQUIRE(server.ask(request(RequestCode::kPutKvConfig, {{"key", "k"}, {"value", "v"}})).code ==
          response_code::kSystemError);
  server.build();
  REQUIRE(server.kv->load());
  auto get = server.ask(request(RequestCode::kGetKvConfig, {{"namespace", "N"}, {"key", "k"}}));
  REQUIRE(get.ext.get("value") == "v \xE4\xB8\xAD");
  auto list = remoting::decode_kv_table(
      server.ask(request(RequestCode::kGetKvlistByNamespace, {{"namespace", "N"}})).body.bytes);
  REQUIRE(list->table.size() == 1);

  std::ofstream(server.config.kv_config_path) << "{not json";
  auto status = server.kv->load();
  REQUIRE(status.error().code == Errc::kCorrupt);
  REQUIRE(status.error().message.find(server.config.kv_config_path) == 0);
  std::ofstream(server.config.kv_config_path) << "{\"configTable\":{\"A\":{\"b\":\"c\"}}}";
  REQUIRE(server.kv->load());
  REQUIRE(server.kv->get("A", "b") == "c");
}

TEST_CASE("NameServer: a setting that cannot be saved is not taken over", "[requests]") {
  Server server;
  server.config.kv_config_path = "/proc/no/kvConfig.json";
  server.build();
  auto put = server.ask(request(RequestCode::kPutKvConfig, {{"namespace", "N"}, {"key", "k"}, {"value", "v"}}));
  REQUIRE(put.code == response_code::kSystemError);
  REQUIRE(put.remark.value_or("").find("/proc/no") != std::string::npos);
  REQUIRE_FALSE(server.kv->get("N", "k"));
}

TEST_CASE("NameServer: settings are listed, changed, saved, and some are protected", "[requests]") {
  Server server;
  auto update = [&](const std::string& text) {
    return server.ask(request(RequestCode::kUpdateNamesrvConfig, {}, text));
  };
  for (const char* key : {"kvConfigPath", "configStorePath", "configBlackList", "rocketmqHome"}) {
    auto response = update(std::string(key) + "=/etc/passwd");
    CHECK(response.code == response_code::kNoPermission);
    CHECK(response.remark.value_or("").find(key) != std::string::npos);
  }
  CHECK(update("orderMesageEnable=true").remark.value_or("").find("orderMessageEnable") != std::string::npos);
  CHECK(update("orderMessageEnable=2").code == response_code::kSystemError);
  CHECK(update("listenPort=1").code == response_code::kSystemError);
  CHECK(server.changes.empty());
  CHECK(server.ask(recorded("namesrv-config-update.request")).code == 0);  // clusterTest: no effect here

  REQUIRE(update("orderMessageEnable=true\nlogLevel=DEBUG\n").code == 0);
  REQUIRE(server.changes.size() == 2);
  REQUIRE(server.config.log_level == LogLevel::kDebug);
  REQUIRE(config::read_whole_file(server.config.config_store_path).value() ==
          "logLevel=DEBUG\norderMessageEnable=true\n");
  auto listed = server.ask(recorded("namesrv-config-get.request"));
  REQUIRE(listed.body.bytes.find("orderMessageEnable=true\n") != std::string_view::npos);
  REQUIRE(listed.body.bytes.find("listenPort=9876\n") != std::string_view::npos);
}

TEST_CASE("NameServer: every setting of Apache RocketMQ 4.9.8 is accepted", "[requests][compat]") {
  Server server;
  auto properties = config::parse_properties(recorded("namesrv-config-get.response").body.bytes);
  REQUIRE(properties.has_value());
  for (const auto& property : *properties) {
    auto status = server.table.set(property.key, property.value, config::Origin::kFile);
    INFO(property.key << "=" << property.value);
    CHECK(status.has_value());
  }
}

TEST_CASE("NameServer: requests that write files go to the housekeeping loop", "[requests]") {
  Server server;
  std::vector<Command> answers;
  remoting::Responder respond([&](Command answer) { answers.push_back(std::move(answer)); });
  server.requests->dispatch({}, request(RequestCode::kPutKvConfig, {{"namespace", "N"}, {"key", "k"}, {"value", "v"}}),
                            respond);
  REQUIRE(answers.empty());
  REQUIRE(server.posted.size() == 1);
  server.posted[0]();
  REQUIRE(answers.size() == 1);
  REQUIRE(answers[0].code == 0);
  remoting::Responder respond_again([&](Command answer) { answers.push_back(std::move(answer)); });
  server.requests->dispatch({}, request(RequestCode::kGetBrokerClusterInfo), respond_again);
  REQUIRE(answers.size() == 2);
}
