#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "apogee/admin_client.h"
#include "apogee/producer.h"
#include "apogee/push_consumer.h"
#include "test/support/catch.h"
#include "test/support/cluster.h"
#include "test/support/wait.h"

// What the tests of the SDK against real programs share.
namespace apogee::test {

inline ProducerConfig producer_config(const Cluster& cluster) {
  ProducerConfig config;
  config.group = "sdk_producers";
  config.name_servers = cluster.namesrv();
  config.send_timeout = std::chrono::seconds(20);
  config.route_refresh_interval = std::chrono::milliseconds(200);
  return config;
}

template <typename Config>
Config consumer_config(const Cluster& cluster, const std::string& group, const std::string& instance) {
  using namespace std::chrono_literals;
  Config config;
  config.group = group;
  config.name_servers = cluster.namesrv();
  config.instance_name = instance;
  config.consume_from = ConsumeFrom::kFirst;
  config.rebalance_interval = 1s;
  config.heartbeat_interval = 1s;
  config.offset_persist_interval = 200ms;
  config.route_refresh_interval = 200ms;
  config.pull_error_delay = 100ms;
  return config;
}

inline AdminConfig admin_config(const Cluster& cluster) {
  AdminConfig config;
  config.name_servers = cluster.namesrv();
  config.request_timeout = std::chrono::seconds(20);
  return config;
}

/// What listeners saw. Thread: any.
struct Seen {
  std::mutex mutex;
  std::vector<std::string> bodies;
  std::map<std::string, int> by_member;
  void add(const std::string& member, const std::vector<ReceivedMessage>& messages) {
    std::lock_guard lock(mutex);
    for (const auto& each : messages) {
      bodies.emplace_back(each.body());
      ++by_member[member];
    }
  }
  size_t count() {
    std::lock_guard lock(mutex);
    return bodies.size();
  }
  std::set<std::string> distinct() {
    std::lock_guard lock(mutex);
    return {bodies.begin(), bodies.end()};
  }
  int of(const std::string& member) {
    std::lock_guard lock(mutex);
    return by_member[member];
  }
};

/// A consumer that keeps what it gets.
inline std::unique_ptr<PushConsumer> listen(PushConsumerConfig config, const std::string& topic,
                                            const std::string& tags, Seen& seen) {
  std::string name = config.instance_name;
  auto consumer = std::make_unique<PushConsumer>(std::move(config));
  consumer->set_concurrent_listener([&seen, name](const std::vector<ReceivedMessage>& messages, ConcurrentContext&) {
    seen.add(name, messages);
    return ConsumeResult::kSuccess;
  });
  REQUIRE(consumer->subscribe(topic, tags));
  REQUIRE(consumer->start());
  return consumer;
}

}  // namespace apogee::test
