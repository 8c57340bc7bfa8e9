#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "apogee/message_queue.h"

namespace apogee::admin {

struct GroupConfig {
  std::string group;
  bool consume_enable = true;
  bool consume_from_min_enable = true;
  bool consume_broadcast_enable = true;
  int32_t retry_queues = 1;
  int32_t retry_times_max = 16;
  int64_t broker_id = 0;
  int64_t broker_id_when_slow = 1;  ///< of the broker to read from when the group lags far behind
  bool notify_consumer_ids_changed = true;
  // Of 5.x brokers.
  bool consume_orderly = false;
  int32_t consume_timeout_minutes = 15;
  int32_t sys_flag = 0;
  std::map<std::string, std::string> attributes;
};

struct QueueProgress {
  int64_t broker_offset = 0;     ///< max offset of the queue
  int64_t consumer_offset = 0;   ///< of the next message to consume
  int64_t last_consumed_ms = 0;  ///< store time of the last consumed message, ms since 1970; 0 = none
  int64_t in_flight = 0;         ///< pulled and not committed; 0 from brokers that do not tell
  [[nodiscard]] int64_t lag() const { return broker_offset - consumer_offset; }
};
struct GroupProgress {
  std::map<MessageQueue, QueueProgress> queues;
  double consume_tps = 0;
};

/// Store times of a queue's messages, ms since 1970; -1 = no message.
struct ConsumeTimes {
  int64_t first_ms = -1;
  int64_t last_ms = -1;
  int64_t consumed_ms = -1;  ///< of the last message that the group consumed
  int64_t lag_ms = 0;        ///< age of the first message that the group has not consumed; 0 = none waits
};
/// How far behind all groups of one broker are.
struct BrokerLag {
  std::map<std::string, std::map<MessageQueue, QueueProgress>> groups;
  int64_t total = 0;
};

struct Client {
  std::string client_id;
  std::string address;   ///< "ip:port"
  std::string language;  ///< "JAVA", "CPP", ...
  int32_t version = 0;   ///< of the protocol; see version_name()
};
struct ProducerClient : Client {
  int64_t last_seen_ms = 0;  ///< ms since 1970: its last heartbeat
};
struct Subscription {
  std::string topic;
  std::string expression;
  std::string expression_type;
  int64_t version_ms = 0;
};
struct GroupClients {
  std::vector<Client> clients;
  std::map<std::string, Subscription> subscriptions;  ///< by topic
  std::string consume_type;
  std::string message_model;
  std::string consume_from_where;
};

/// What one consumer holds of one queue.
struct HeldQueue {
  int64_t commit_offset = 0;
  int64_t cached_min_offset = 0;
  int64_t cached_max_offset = 0;
  int32_t cached_messages = 0;
  int32_t cached_mib = 0;
  bool locked = false;
  bool dropped = false;
  int64_t last_pull_ms = 0;
  int64_t last_consume_ms = 0;
  int64_t last_lock_ms = 0;
};
struct TopicFigures {
  double pull_rt_ms = 0;
  double pull_tps = 0;
  double consume_rt_ms = 0;
  double consume_ok_tps = 0;
  double consume_failed_tps = 0;
  int64_t consume_failed_messages = 0;
};
/// What a running consumer says about itself.
struct ConsumerState {
  std::map<std::string, std::string> properties;
  std::vector<Subscription> subscriptions;
  std::map<MessageQueue, HeldQueue> queues;
  std::map<std::string, TopicFigures> topics;
  std::string stacks;  ///< of its threads, when asked for and known
};

/// Answer of a consumer that was told to consume one message.
struct ConsumedDirectly {
  std::string result;  ///< "CR_SUCCESS", "CR_LATER", ...
  std::string remark;
  bool order = false;
  int64_t spent_ms = 0;
};

/// What a group did with a message, as far as its offsets tell.
enum class TrackStatus : uint8_t {
  kConsumed,
  kConsumedButFiltered,  ///< gone by, because the group subscribes to other tags
  kPull,                 ///< the group pulls by itself: nobody but its members knows
  kNotConsumedYet,
  kNotOnline,  ///< the group has no member now
  kBroadcast,  ///< each member has its own progress
  kUnknown,
};
/// "CONSUMED", "CONSUMED_BUT_FILTERED", "PULL", "NOT_CONSUME_YET", "NOT_ONLINE", "CONSUME_BROADCASTING", "UNKNOWN"
const char* to_string(TrackStatus status);
struct MessageTrack {
  std::string group;
  TrackStatus status = TrackStatus::kUnknown;
  std::string remark;  ///< why it is not known
};

/// How the members of a group get their messages.
enum class ConsumeMode : uint8_t { kPull, kPop };
struct ConsumeModeChange {
  std::string topic;
  std::string group;
  ConsumeMode mode = ConsumeMode::kPull;
  int32_t pop_share_queues = 0;  ///< queues that members share in POP mode
};

struct OffsetReset {
  std::string group;
  std::string topic;
  int64_t timestamp_ms = -1;  ///< -1 = behind the last message
  bool force = true;          ///< also forward; else only back
};

/// "V4_9_8" for 409; numbers before V4_1_0 are named like "V3(37)".
std::string version_name(int32_t version);

}  // namespace apogee::admin
