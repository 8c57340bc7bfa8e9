#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "apogee/allocation.h"
#include "apogee/config.h"

namespace apogee {

enum class GroupModel : uint8_t {
  kClustering,    ///< the members of a group share the messages
  kBroadcasting,  ///< every member gets every message; offsets are kept in a local file
};

/// Where a group begins in a queue for which no offset is stored. In a cluster, kLast means the first message of a
/// queue of which all messages are still there: brokers say so, lest a group that is started with its topic misses
/// anything.
enum class ConsumeFrom : uint8_t { kLast, kFirst, kTimestamp };

/// What all consumers have in common.
struct ConsumerConfig : ClientConfig {
  std::string group;
  GroupModel model = GroupModel::kClustering;
  ConsumeFrom consume_from = ConsumeFrom::kLast;
  /// For ConsumeFrom::kTimestamp: ms since 1970; 0 = half an hour before the start.
  int64_t consume_timestamp_ms = 0;
  AllocationStrategy allocation = allocate_averagely();

  /// Broadcasting: offsets are in <dir>/<client id>/<group>/offsets.json. Empty: $HOME/.rocketmq_offsets.
  /// Set instance_name as well, or the client id, and so the file, is another one after each start.
  std::string local_offset_dir;

  int pull_batch = 32;                                ///< messages wanted per pull
  std::chrono::milliseconds pull_suspend{15'000};     ///< the broker holds a pull that finds nothing so long
  std::chrono::milliseconds pull_timeout{30'000};     ///< of a whole pull request; more than pull_suspend
  std::chrono::milliseconds pull_error_delay{3'000};  ///< before pulling again after an error

  // Pulling from a queue stops when what is cached of it reaches one of these, and goes on as soon as there is room.
  int cached_messages_max = 1'000;
  int64_t cached_bytes_max = 100LL * 1024 * 1024;
  /// Largest minus smallest cached offset; not for orderly listeners.
  int64_t cached_span_max = 2'000;

  /// Write to the trace topic when messages are handed out and what came of it, as ProducerConfig::enable_trace. What a
  /// PullConsumer hands out counts as consumed.
  bool enable_trace = false;
  std::string trace_topic = "RMQ_SYS_TRACE_TOPIC";

  /// Post the subscription with every pull instead of relying on the one in the heartbeat.
  bool subscription_in_pull = false;
};

}  // namespace apogee
