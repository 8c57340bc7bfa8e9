// Consumers of the SDK while their master is away: they go on from the slave and come back.

#include <atomic>
#include <iostream>
#include <mutex>
#include <set>
#include <vector>

#include "apogee/push_consumer.h"
#include "test/support/catch.h"
#include "test/support/raw_requests.h"
#include "test/support/replicated_cluster.h"
#include "test/support/wait.h"

namespace apogee::test {

using remoting::Command;
using remoting::RequestCode;

namespace {

constexpr auto kLong = std::chrono::seconds(60);
constexpr const char* kTopic = "ReadFromSlave";

int64_t offset_of(const ReplicatedCluster& cluster, size_t node, RequestCode code, const std::string& group = "") {
  try {
    auto request = Command::request(code);
    request.ext.set("topic", kTopic);
    request.ext.set("queueId", 0);
    if (!group.empty()) request.ext.set("consumerGroup", group);
    auto answer = cluster.connect(node)->call(request);
    return answer && answer->code == 0 ? answer->ext.get_int<int64_t>("offset").value_or(-1) : -1;
  } catch (const std::exception&) {
    return -1;  // it starts
  }
}

}  // namespace

TEST_CASE("a push consumer goes on from the slave while the master is dead, and returns without loss or rewind",
          "[slave_reading][crash]") {
  using namespace std::chrono_literals;
  ReplicatedCluster cluster({.slaves = 1, .role = "ASYNC_MASTER"});
  cluster.create_topic(kTopic, 1);
  int sent = 0;
  auto send_until = [&](int end) {
    for (; sent < end; ++sent) {
      const auto answer = cluster.connect(0)->call(send_request({kTopic, 0, std::to_string(sent)}));
      REQUIRE(answer);
      REQUIRE(answer->code == 0);
    }
  };
  send_until(40);
  REQUIRE(eventually([&] { return offset_of(cluster, 1, RequestCode::kGetMaxOffset) == 40; }, kLong));

  std::mutex mutex;
  std::vector<int> seen;
  std::atomic<bool> hold{true};
  PushConsumerConfig config;
  config.group = "readers";
  config.name_servers = cluster.namesrv();
  config.consume_from = ConsumeFrom::kFirst;
  config.consume_threads = 1;
  config.consume_batch_max = 1;
  config.pull_batch = 4;
  config.cached_messages_max = 8;  // so that most are pulled after the master is gone
  config.rebalance_interval = 1s;
  config.heartbeat_interval = 1s;
  config.offset_persist_interval = 200ms;
  config.route_refresh_interval = 200ms;
  config.pull_error_delay = 100ms;
  PushConsumer consumer(config);
  consumer.set_concurrent_listener([&](const std::vector<ReceivedMessage>& messages, ConcurrentContext&) {
    std::unique_lock lock(mutex);
    for (const auto& message : messages) seen.push_back(std::stoi(std::string(message.body())));
    const bool wait = hold && seen.size() >= 10;
    lock.unlock();
    if (wait) eventually([&] { return !hold; }, kLong);
    return ConsumeResult::kSuccess;
  });
  REQUIRE(consumer.subscribe(kTopic, "*"));
  REQUIRE(consumer.start());
  auto count = [&] {
    std::lock_guard lock(mutex);
    return seen.size();
  };
  REQUIRE(eventually([&] { return count() >= 10; }, kLong));
  // The slave has heard of the group.
  REQUIRE(
      eventually([&] { return offset_of(cluster, 1, RequestCode::kQueryConsumerOffset, config.group) >= 1; }, kLong));
  cluster.kill(0);
  hold = false;
  REQUIRE(eventually([&] { return count() >= 40; }, kLong));
  REQUIRE(
      eventually([&] { return offset_of(cluster, 1, RequestCode::kQueryConsumerOffset, config.group) == 40; }, kLong));

  cluster.start(0);
  // The master learns what was committed at the slave, though nothing new is consumed.
  REQUIRE(
      eventually([&] { return offset_of(cluster, 0, RequestCode::kQueryConsumerOffset, config.group) == 40; }, kLong));
  send_until(60);
  REQUIRE(eventually([&] { return count() >= 60; }, kLong));
  REQUIRE(
      eventually([&] { return offset_of(cluster, 0, RequestCode::kQueryConsumerOffset, config.group) == 60; }, kLong));
  REQUIRE(consumer.shutdown());
  const std::set<int> distinct(seen.begin(), seen.end());
  CHECK(distinct.size() == 60);
  CHECK(seen.size() == 60);
  std::cout << "reading from a slave: 60 messages, lost " << 60 - distinct.size() << ", twice "
            << seen.size() - distinct.size() << "\n";
}

}  // namespace apogee::test
