#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "broker/broker_config.h"
#include "broker/groups/subscription_groups.h"
#include "broker/messages/message_put.h"
#include "broker/stats/broker_stats.h"
#include "broker/topics/topic_table.h"
#include "broker/transactions/transactions.h"
#include "common/base/bytes.h"
#include "common/message/message_id.h"
#include "store/message_store.h"

namespace apogee::broker {

/// What a message says when it is to be sent, whatever protocol it came by.
struct SendRequest {
  std::string group;
  std::string topic;
  std::string default_topic;  ///< template of a topic that does not exist
  int32_t default_topic_queue_nums = 4;
  int32_t queue_id = -1;  ///< negative: any
  int32_t sys_flag = 0;
  int64_t born_timestamp_ms = 0;
  int32_t flag = 0;
  std::string properties;
  int32_t reconsume_times = 0;
  std::optional<int32_t> max_reconsume_times;
  bool unit_mode = false;
  bool batch = false;  ///< the body is a client batch
  SharedBytes body;
  std::string caller_address;  ///< "ip:port", the born host
};

/// How it went; `code` is the protocol's.
struct SendAnswer {
  int32_t code = 0;
  std::string remark;
  bool stored = false;
  // Where stored:
  std::string message_ids;  ///< offset ids; of a batch one a message, with commas
  int32_t queue_id = 0;
  int64_t queue_offset = 0;   ///< of the first message
  std::string unique_key;     ///< empty: a batch without
  std::string recall_handle;  ///< of a timer, with recallMessageEnable
};

/// Checks a message and stores it. Thread: any; does not block on disk (a topic to be created is waited for by parking
/// the message). `done` is called exactly once: before send() returns, or on the thread of the flusher or of the
/// topic table's writer.
class SendOperation {
 public:
  using Done = std::function<void(SendAnswer)>;
  struct Parts {
    const BrokerConfig& config;
    TopicTable& topics;
    SubscriptionGroups& groups;
    BrokerStats& stats;
    MessagePut& put;
    store::HostAddress store_host;  ///< the address that this broker registers with
    std::string broker_ip;          ///< for remarks
    NowMs now_ms = system_now_ms;
    Transactions* transactions = nullptr;  ///< nullptr: half messages are refused
  };
  explicit SendOperation(Parts parts);

  void send(SendRequest request, Done done);

  /// Makes the keys of messages that come without one.
  [[nodiscard]] message::UniqueIdGenerator& unique_ids() { return unique_ids_; }

 private:
  struct Pending;
  using PendingPtr = std::shared_ptr<Pending>;
  void with_topic(PendingPtr pending, const std::shared_ptr<const TopicConfig>& topic);
  void redirect_retry(PendingPtr pending);
  void store_message(const PendingPtr& pending);
  void answer(const PendingPtr& pending, const store::PutResult& result, size_t body_bytes) const;
  [[nodiscard]] std::optional<SendAnswer> refuse_unsupported(const SendRequest& request) const;
  [[nodiscard]] std::optional<SendAnswer> refuse_half(const SendRequest& request) const;

  Parts parts_;
  message::UniqueIdGenerator unique_ids_;
  std::atomic<uint32_t> next_queue_{0};
};

/// The address of "ip:port" or "[ip]:port"; 0.0.0.0:0 for another text.
[[nodiscard]] store::HostAddress host_address_of(const std::string& address);
/// Response code and remark of what the store answered.
[[nodiscard]] SendAnswer answer_of(const store::PutResult& result, int32_t message_bytes_max);

}  // namespace apogee::broker
