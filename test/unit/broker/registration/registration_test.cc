#include "broker/registration/registration.h"

#include <chrono>
#include <condition_variable>
#include <future>
#include <mutex>
#include <thread>

#include "common/base/crc32.h"
#include "common/remoting/bodies/kv_bodies.h"
#include "common/remoting/bodies/register_broker_body.h"
#include "common/remoting/remoting_server.h"
#include "test/support/catch.h"

using namespace apogee;
using namespace apogee::broker;
using remoting::Command;
using remoting::RequestCode;

namespace {

/// A NameServer that keeps what it is told.
struct ListeningNameServer {
  Logger quiet;
  std::unique_ptr<remoting::RemotingServer> server;
  std::mutex mutex;
  std::condition_variable came;
  std::vector<Command> requests;  // guarded by mutex
  std::string order_topics;

  explicit ListeningNameServer(uint16_t port = 0) {
    remoting::RemotingServer::Options options;
    options.bind_address = "127.0.0.1";
    options.ports = {port};
    options.io_threads = 1;
    server = std::make_unique<remoting::RemotingServer>(options, quiet);
    server->set_handler([this](const remoting::Caller&, const Command& request, const remoting::Responder& respond) {
      Command response = Command::response_to(request, 0);
      if (!order_topics.empty()) response.body = SharedBytes::from(order_topics);
      {
        std::lock_guard<std::mutex> lock(mutex);
        requests.push_back(request);
        came.notify_all();
      }
      respond(std::move(response));
    });
    REQUIRE(server->start());
  }
  ~ListeningNameServer() { server->stop(); }
  [[nodiscard]] std::string address() const { return "127.0.0.1:" + std::to_string(server->port()); }
  Command wait_for(size_t count) {
    std::unique_lock<std::mutex> lock(mutex);
    REQUIRE(came.wait_for(lock, std::chrono::seconds(20), [&] { return requests.size() >= count; }));
    return requests[count - 1];
  }
};

struct RegistrationBench {
  Logger quiet;
  BrokerConfig config;
  TopicTable topics{{}, quiet};
  loop::LoopThread loop{"registration"};
  remoting::RpcClient client{loop.loop(), {}, quiet};
  std::unique_ptr<Registration> registration;

  explicit RegistrationBench(const std::string& name_servers) {
    config.broker_name = "broker-a";
    config.namesrv_addr.set(name_servers);
    config.register_timeout_ms.set(2'000);
    registration = std::make_unique<Registration>(
        Registration::Parts{config, topics, loop.loop(), client, {"127.0.0.1:10911", "127.0.0.1:10912"}, quiet});
    topics.set_change_listener([this](const std::vector<std::string>& names, std::function<void()> finished) {
      registration->topics_changed(names, std::move(finished));
    });
  }
  ~RegistrationBench() {
    client.shutdown();
    loop.stop_and_join();
  }
  void start() const {
    std::promise<void> round;
    auto done = round.get_future();
    registration->start([&round] { round.set_value(); });
    REQUIRE(done.wait_for(std::chrono::seconds(20)) == std::future_status::ready);
  }
};

remoting::RegisterBrokerBody body_of(const Command& request) {
  auto body = remoting::decode_register_broker_body(request.body.bytes);
  REQUIRE(body);
  return std::move(*body);
}

}  // namespace

TEST_CASE("a registration carries the broker and all its topics", "[broker][registration]") {
  RegistrationBench bench("");
  auto request = registration_request(bench.config, {"127.0.0.1:10911", "127.0.0.1:10912"}, bench.topics.contents());
  CHECK(request.request_code() == RequestCode::kRegisterBroker);
  CHECK(request.version == 479);
  CHECK(request.ext.get("brokerName") == "broker-a");
  CHECK(request.ext.get("brokerAddr") == "127.0.0.1:10911");
  CHECK(request.ext.get("clusterName") == "DefaultCluster");
  CHECK(request.ext.get("haServerAddr") == "127.0.0.1:10912");
  CHECK(request.ext.get("brokerId") == "0");
  CHECK(request.ext.get("compressed") == "false");
  CHECK(request.ext.get_int<int32_t>("bodyCrc32") == crc32_31(request.body.bytes));
  CHECK(body_of(request).topic_config_wrapper.topic_config_table.at("TBW102").perm == 7);

  bench.config.permission.set(4);
  request = registration_request(bench.config, {"a:1", "a:2"}, bench.topics.contents());
  CHECK(body_of(request).topic_config_wrapper.topic_config_table.at("TBW102").perm == 4);

  bench.config.permission.set(6);
  bench.config.compressed_register = true;
  request = registration_request(bench.config, {"a:1", "a:2"}, bench.topics.contents());
  auto body = remoting::decode_compressed_register_broker_body(request.body.bytes, request.version);
  REQUIRE(body);
  CHECK(body->topic_config_wrapper.topic_config_table.count("TBW102") == 1);
  CHECK(request.ext.get_int<int32_t>("bodyCrc32") == crc32_31(request.body.bytes));
}

TEST_CASE("every NameServer is told at start, of each change, and of the end", "[broker][registration]") {
  ListeningNameServer one, two;
  RegistrationBench bench(one.address() + ";" + two.address());
  bench.start();
  for (auto* server : {&one, &two})
    CHECK(body_of(server->wait_for(1)).topic_config_wrapper.topic_config_table.count("SELF_TEST_TOPIC") == 1);

  TopicConfig topic;
  topic.topic_name = "New";
  REQUIRE(bench.topics.put(topic));  // returns when both know
  for (auto* server : {&one, &two}) {
    std::lock_guard<std::mutex> lock(server->mutex);
    REQUIRE(server->requests.size() == 2);
    auto wrapper = body_of(server->requests[1]).topic_config_wrapper;
    CHECK(wrapper.topic_config_table.size() == 1);
    CHECK(wrapper.topic_config_table.count("New") == 1);
    CHECK(wrapper.data_version == bench.topics.data_version());
  }
  bench.registration->unregister_all(2'000);
  for (auto* server : {&one, &two}) {
    auto last = server->wait_for(3);
    CHECK(last.request_code() == RequestCode::kUnregisterBroker);
    CHECK(last.ext.get("brokerName") == "broker-a");
    CHECK(last.ext.get("brokerAddr") == "127.0.0.1:10911");
    CHECK(last.ext.get("brokerId") == "0");
  }
}

TEST_CASE("a NameServer that was away gets the whole table when it is back", "[broker][registration]") {
  uint16_t port = 0;
  {
    ListeningNameServer first;
    port = first.server->port();
  }
  RegistrationBench bench("127.0.0.1:" + std::to_string(port));
  bench.start();  // fails, and goes on all the same
  TopicConfig topic;
  topic.topic_name = "Meanwhile";
  REQUIRE(bench.topics.put(topic));
  ListeningNameServer back(port);
  auto table = body_of(back.wait_for(1)).topic_config_wrapper.topic_config_table;
  CHECK(table.count("Meanwhile") == 1);
  CHECK(table.count("SELF_TEST_TOPIC") == 1);
}

TEST_CASE("NameServers may change while the broker runs", "[broker][registration]") {
  ListeningNameServer one, two;
  RegistrationBench bench(one.address());
  bench.start();
  bench.config.namesrv_addr.set(two.address());
  CHECK(body_of(two.wait_for(1)).topic_config_wrapper.topic_config_table.count("TBW102") == 1);
}

TEST_CASE("topics that a NameServer lists as ordered become so", "[broker][registration]") {
  ListeningNameServer server;
  remoting::KvTable order;
  order.table["Ordered"] = "broker-a:4";
  server.order_topics = encode(order);
  RegistrationBench bench(server.address());
  TopicConfig topic;
  topic.topic_name = "Ordered";
  REQUIRE(bench.topics.put(topic, TopicTable::Until::kSaved));
  bench.start();
  auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (!bench.topics.find("Ordered")->order && std::chrono::steady_clock::now() < deadline) std::this_thread::yield();
  CHECK(bench.topics.find("Ordered")->order);
}
