#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "apogee/admin_group_types.h"

namespace apogee::admin {

/// The brokers of one name: a master (id 0) and its slaves.
struct Broker {
  std::string cluster;
  std::string name;
  std::map<int64_t, std::string> addresses;  ///< broker id to "ip:port"
};

struct Cluster {
  std::map<std::string, Broker> brokers;                     ///< by broker name
  std::map<std::string, std::vector<std::string>> clusters;  ///< cluster to broker names
};

/// Permission bits of a topic.
inline constexpr int32_t kPermInherit = 1;
inline constexpr int32_t kPermWrite = 2;
inline constexpr int32_t kPermRead = 4;

struct TopicQueues {
  std::string broker_name;
  int32_t read_queues = 0;
  int32_t write_queues = 0;
  int32_t perm = 0;
  int32_t sys_flag = 0;
};
struct TopicRoute {
  std::string order_config;  ///< "broker:queues;broker:queues" of an ordered topic
  std::vector<TopicQueues> queues;
  std::vector<Broker> brokers;
};

struct TopicConfig {
  std::string topic;
  int32_t read_queues = 8;
  int32_t write_queues = 8;
  int32_t perm = kPermRead | kPermWrite;
  bool order = false;
  int32_t sys_flag = 0;  ///< 1 unit, 2 has unit subscription
};

struct QueueRange {
  int64_t min_offset = 0;
  int64_t max_offset = 0;      ///< of the next message to come
  int64_t last_update_ms = 0;  ///< ms since 1970; 0 = no message
};

/// A counter of a broker over one span of time.
struct CounterSpan {
  int64_t sum = 0;
  double per_second = 0;
  double average = 0;  ///< value a call
};
struct Counter {
  CounterSpan minute, hour, day;
  /// Of the longest span that has been counted.
  [[nodiscard]] int64_t last_24_hours() const { return day.sum != 0 ? day.sum : hour.sum != 0 ? hour.sum : minute.sum; }
};

/// A slave as its master sees it.
struct ReplicaState {
  std::string address;       ///< "ip:port" of its connection
  int64_t broker_id = -1;    ///< -1: not known, as of slaves of Apache RocketMQ
  int64_t acknowledged = 0;  ///< so far its log goes
  int64_t lag_bytes = 0;
  int64_t lag_ms = -1;  ///< since it had everything; -1: not known
  bool in_sync = false;
  int64_t bytes_per_second = 0;
};
/// A broker's part in replication.
struct ReplicationState {
  bool master = true;
  int64_t log_end = 0;  ///< of a slave: its own
  int32_t in_sync_slaves = 0;
  std::vector<ReplicaState> slaves;  ///< of a master
  // Of a slave.
  std::string state;                    ///< "TRANSFER" while it follows; empty: not known
  std::string why;                      ///< it does not
  std::string master_address;           ///< of the master's log
  int64_t master_end = 0, lag_ms = -1;  ///< -1: not known
  int64_t bytes_per_second = 0;
};

/// A stretch of a broker's log that one master has written.
struct LogEpoch {
  int32_t number = 0;
  int64_t begin = 0;
  int64_t end = 0;  ///< INT64_MAX: it is being written
};
struct LogEpochs {
  std::string cluster, broker_name;
  int64_t broker_id = 0;
  int64_t log_end = 0;
  std::vector<LogEpoch> epochs;
};

/// An entry of a queue, which leads to a message in the log.
struct QueueEntry {
  int64_t physical_offset = 0;
  int32_t bytes = 0;
  int64_t tags_code = 0;
  bool matches = false;  ///< what the group subscribes to; false without a group
  std::string remark;
};
struct QueueEntries {
  int64_t min_offset = 0;
  int64_t max_offset = 0;  ///< of the next message to come
  std::string filter;      ///< what the broker says about the group's filter; empty = nothing
  std::optional<Subscription> subscription;
  std::vector<QueueEntry> entries;  ///< from the offset asked for on
};
struct QueueEntriesRequest {
  std::string topic;
  int32_t queue_id = 0;
  int64_t offset = 0;
  int32_t count = 10;
  std::string group;  ///< empty = none
};

}  // namespace apogee::admin
