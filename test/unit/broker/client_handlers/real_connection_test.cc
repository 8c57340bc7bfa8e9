#include "broker/handlers/client_handlers.h"
#include "broker/handlers/relay_handlers.h"
#include "common/remoting/rpc_client.h"
#include "test/unit/broker/support/handler_bench.h"
#include "test/unit/broker/support/topic_bench.h"

namespace apogee::broker {
namespace {

using remoting::RequestCode;
using namespace test;  // NOLINT: the bench's words read better bare

const Logger kQuiet;

std::string heartbeat_of(const std::string& client_id) {
  return R"({"clientID":")" + client_id +
         R"(","consumerDataSet":[{"consumeType":"CONSUME_PASSIVELY","groupName":"G","messageModel":"CLUSTERING",)"
         R"("subscriptionDataSet":[{"subString":"*","subVersion":1,"topic":"T"}]}]})";
}

// Requests of these tests over real connections.
struct Bench {
  SubscriptionGroups groups{{}, kQuiet};
  ConsumerGroups consumers;
  ProducerGroups producers;
  QueueLocks locks{{}};
  TopicBench topics;
  FakeStore store;
  remoting::RemotingServer server{options(), kQuiet};
  BrokerConfig config;
  ConsumerFilters filters{"", config, kQuiet};
  ClientHandlers clients{{consumers, producers, groups, topics.table, locks, filters, kQuiet}};
  RelayHandlers relay{{{"C1", "broker-a", "127.0.0.1:1"}, consumers, store, calls_by(server)}};

  static remoting::RemotingServer::Options options() {
    remoting::RemotingServer::Options options;
    options.bind_address = "127.0.0.1";
    options.ports = {0};
    return options;
  }
  Bench() {
    consumers.set_change_listener(notify_members(calls_by(server), groups));
    server.set_close_listener([this](remoting::ConnectionId connection, const std::string&) {
      consumers.connection_closed(connection);
      producers.connection_closed(connection);
    });
    server.set_handler([this](const remoting::Caller& caller, remoting::Command request, remoting::Responder respond) {
      if (request.request_code() == RequestCode::kHeartBeat)
        return clients.heartbeat(caller, std::move(request), std::move(respond));
      if (request.request_code() == RequestCode::kGetConsumerListByGroup)
        return clients.consumer_list(caller, std::move(request), std::move(respond));
      relay.running_info(caller, std::move(request), std::move(respond));
    });
    REQUIRE(server.start());
  }
  ~Bench() { server.stop(); }
  [[nodiscard]] std::string address() const { return "127.0.0.1:" + std::to_string(server.port()); }
};

// A client with a thread of its own that counts the 40s it gets and answers 307.
struct Client {
  loop::LoopThread thread{"client"};
  remoting::RpcClient rpc{thread.loop(), {}, kQuiet};
  std::mutex mutex;
  std::condition_variable notified;
  int notifications = 0;  // guarded by mutex

  Client() {
    rpc.set_handler([this](const remoting::Caller&, remoting::Command request, remoting::Responder respond) {
      if (request.request_code() == RequestCode::kNotifyConsumerIdsChanged) {
        std::lock_guard<std::mutex> lock(mutex);
        ++notifications;
        notified.notify_all();
        return;
      }
      auto response = remoting::Command::response_to(request, 0);
      response.body = SharedBytes::from("info of " + std::string(request.ext.get("clientId").value_or("")));
      respond(std::move(response));
    });
  }
  ~Client() { rpc.shutdown(); }
  bool wait_for_notifications(int count) {
    std::unique_lock<std::mutex> lock(mutex);
    return notified.wait_for(lock, std::chrono::seconds(20), [this, count] { return notifications >= count; });
  }
  remoting::Command ask(const Bench& bench, RequestCode code, const Fields& fields, const std::string& body = {}) {
    auto reply = rpc.call_and_wait(bench.address(), request_of(code, fields, body), 20'000);
    if (!reply) FAIL(reply.error().message);
    return std::move(*reply);
  }
};

TEST_CASE("Members hear of who joins and of a connection that breaks, and answer what is relayed", "[broker]") {
  Bench bench;
  Client first;
  CHECK(first.ask(bench, RequestCode::kHeartBeat, {}, heartbeat_of("c1")).code == 0);
  CHECK(first.wait_for_notifications(1));
  {
    Client second;
    CHECK(second.ask(bench, RequestCode::kHeartBeat, {}, heartbeat_of("c2")).code == 0);
    CHECK(first.wait_for_notifications(2));
    CHECK(second.wait_for_notifications(1));
    auto list = second.ask(bench, RequestCode::kGetConsumerListByGroup, {{"consumerGroup", "G"}});
    CHECK(body_text(list) == R"({"consumerIdList":["c1","c2"]})");
    auto info = second.ask(bench, RequestCode::kGetConsumerRunningInfo, {{"consumerGroup", "G"}, {"clientId", "c1"}});
    CHECK(info.code == 0);
    CHECK(body_text(info) == "info of c1");
  }
  CHECK(first.wait_for_notifications(3));
  auto list = first.ask(bench, RequestCode::kGetConsumerListByGroup, {{"consumerGroup", "G"}});
  CHECK(body_text(list) == R"({"consumerIdList":["c1"]})");
}

}  // namespace
}  // namespace apogee::broker
