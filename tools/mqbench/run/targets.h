#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace mqbench {

struct BrokerTarget {
  std::string name;     ///< "" when it was given by its address alone
  std::string address;  ///< ip:port
};
struct QueueTarget {
  size_t broker = 0;
  std::string topic;
  int queue = 0;
};

/// Where a load goes.
struct TargetOptions {
  std::string broker;       ///< host:port; then no NameServer is asked
  std::string namesrv;      ///< host:port: all masters that it knows
  std::string broker_name;  ///< of these only this one
  std::string topic = "mqbench";
  int64_t topics = 1;  ///< more than one: TOPIC-0, TOPIC-1, ...
  int64_t queues = 8;  ///< of each topic
  bool create = true;
};

struct Targets {
  std::vector<BrokerTarget> brokers;
  std::vector<QueueTarget> queues;  ///< topic by topic, queue by queue, brokers last
};

/// Finds the brokers and, when asked to, creates the topics. Throws what is wrong.
[[nodiscard]] Targets find_targets(const TargetOptions& options);
/// The brokers alone.
[[nodiscard]] std::vector<BrokerTarget> find_brokers(const TargetOptions& options);
/// The end (or the beginning) of each queue. Throws what is wrong.
[[nodiscard]] std::vector<int64_t> queue_ends(const Targets& targets);
[[nodiscard]] std::vector<int64_t> queue_begins(const Targets& targets);

}  // namespace mqbench
