#pragma once

#include <algorithm>
#include <chrono>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "apogee/consumer_types.h"
#include "apogee/push_consumer.h"
#include "test/unit/client/fake_cluster.h"

// What the tests of consumers share: a configuration in which nothing takes long, and listeners that note what comes.
namespace apogee::test {

using Milliseconds = std::chrono::milliseconds;

/// For PushConsumerConfig and PullConsumerConfig: group "G", from the first message on.
template <typename Config>
Config quick_config(const FakeCluster& cluster) {
  Config config;
  config.group = "G";
  config.name_servers = cluster.name_servers();
  config.consume_from = ConsumeFrom::kFirst;
  config.heartbeat_interval = Milliseconds(10);
  config.rebalance_interval = Milliseconds(200);
  config.offset_persist_interval = Milliseconds(20);
  config.pull_suspend = Milliseconds(200);
  config.pull_error_delay = Milliseconds(20);
  return config;
}

inline PushConsumerConfig push_config(const FakeCluster& cluster) {
  auto config = quick_config<PushConsumerConfig>(cluster);
  config.consume_threads = 4;
  config.lock_retry_delay = Milliseconds(10);
  config.suspend_time = Milliseconds(10);
  config.retry_locally_delay = Milliseconds(20);
  config.shutdown_timeout = Milliseconds(5'000);
  return config;
}

/// Messages 0, 1, 2 … as their bodies.
inline void fill(FakeCluster& cluster, int queue, int count) {
  for (int i = 0; i < count; ++i) cluster.broker().append("T", queue, std::to_string(i));
}

/// What listeners saw, by queue. Thread: any.
struct Seen {
  void add(const ReceivedMessage& message) {
    std::lock_guard lock(mutex);
    bodies.emplace_back(message.body());
    by_queue[message.queue()].emplace_back(message.body());
    last = message;
  }
  size_t count() {
    std::lock_guard lock(mutex);
    return bodies.size();
  }
  size_t count(const std::string& body) {
    std::lock_guard lock(mutex);
    return static_cast<size_t>(std::count(bodies.begin(), bodies.end(), body));
  }
  std::mutex mutex;
  std::vector<std::string> bodies;
  std::map<MessageQueue, std::vector<std::string>> by_queue;
  ReceivedMessage last;
};

inline ConcurrentListener keep(Seen& seen) {
  return [&seen](const std::vector<ReceivedMessage>& messages, ConcurrentContext&) {
    for (const auto& message : messages) seen.add(message);
    return ConsumeResult::kSuccess;
  };
}

inline OrderlyListener keep_orderly(Seen& seen) {
  return [&seen](const std::vector<ReceivedMessage>& messages, OrderlyContext&) {
    for (const auto& message : messages) seen.add(message);
    return OrderlyResult::kSuccess;
  };
}

}  // namespace apogee::test
