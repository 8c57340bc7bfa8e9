#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "apogee/message.h"
#include "apogee/producer.h"
#include "apogee/result.h"
#include "client/src/trace_record.h"
#include "common/base/bytes.h"
#include "common/message/message_id.h"
#include "common/remoting/command.h"

namespace apogee {

/// A message or batch in the form of the wire, ready to be sent to any queue, any number of times.
struct PreparedSend {
  std::string topic;      ///< with the namespace
  std::string unique_id;  ///< of a batch joined with commas
  std::string properties;
  SharedBytes body;
  int32_t flag = 0;
  int32_t sys_flag = 0;
  bool batch = false;
  size_t messages = 1;
  int64_t deliver_at_ms = 0;        ///< 0: none
  bool reply = false;               ///< to a request: the broker pushes it to the requester
  std::vector<TraceRecord> traces;  ///< one a message, with what is known before the send; empty: not traced
  int32_t reconsume_times = 0;
  int32_t max_reconsume_times = -1;  ///< -1: not sent
};

/// Checks and encodes. Errors: kInvalidArgument (topic, properties, empty body), kTooLarge.
[[nodiscard]] Result<PreparedSend> prepare_send(const ProducerConfig& config, message::UniqueIdGenerator& ids,
                                                const Message& message, const std::string& sharding_key);
/// As many batches as message_bytes_max asks for; each message is in one, in their order.
[[nodiscard]] Result<std::vector<PreparedSend>> prepare_batches(const ProducerConfig& config,
                                                                message::UniqueIdGenerator& ids,
                                                                const std::vector<Message>& messages,
                                                                const std::string& sharding_key);

[[nodiscard]] remoting::Command make_send_request(const PreparedSend& send, const std::string& producer_group,
                                                  const MessageQueue& queue, int default_topic_queues);
/// queue.topic is what the application called it. Errors: kBroker, kCorrupt.
[[nodiscard]] Result<SendReceipt> read_send_reply(const remoting::Command& reply, const PreparedSend& send,
                                                  const MessageQueue& queue);

/// Response codes after which another broker may do better.
[[nodiscard]] bool is_retryable(int32_t response_code);

/// Index of the queue for a key: that of Java's SelectMessageQueueByHash, so that producers of both kinds agree.
[[nodiscard]] size_t queue_index_of_key(std::string_view key, size_t queues);

/// Whether the message is to be delivered later, by a level or a timer.
[[nodiscard]] bool is_delayed(std::string_view properties);

/// Whether applications may not use the property name.
[[nodiscard]] bool is_reserved_property(std::string_view name);

}  // namespace apogee
