#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "apogee/message.h"
#include "apogee/result.h"
#include "common/base/bytes.h"

namespace apogee {

/// State of a ReceivedMessage. Views point into what `owner` keeps (the frame of a reply) or into `plain_body`.
struct ReceivedMessage::Data {
  std::string topic;
  std::string msg_id;
  std::string offset_msg_id;
  MessageQueue queue;
  std::string born_host;
  std::string store_host;
  std::shared_ptr<const void> owner;
  std::string_view body;
  std::string_view stored_properties;
  std::shared_ptr<const std::string> plain_body;  ///< when the stored body was compressed
  int64_t queue_offset = 0;
  int64_t physical_offset = 0;
  int64_t born_time_ms = 0;
  int64_t store_time_ms = 0;
  int64_t prepared_transaction_offset = 0;
  int32_t reconsume_times = 0;
  int32_t flag = 0;
  int32_t sys_flag = 0;
  int32_t store_size = 0;
  int32_t body_crc = 0;
};

/// Decodes one record as brokers send it; the message keeps `record.owner`. broker_name may be empty when it is
/// not known. The topic is left as it was stored. Errors: kCorrupt, kTooLarge (when decompressed).
[[nodiscard]] Result<ReceivedMessage> decode_received_message(const SharedBytes& record, std::string_view broker_name);

/// The same of all records in the body of a pull's answer. A record that is an inner batch of 5.x (of a BatchCQ topic)
/// becomes its messages: body, flag, properties and offset are their own, the rest is the record's.
[[nodiscard]] Result<std::vector<ReceivedMessage>> decode_received_messages(const SharedBytes& body,
                                                                            std::string_view broker_name);
/// Whether the message came from an inner batch.
[[nodiscard]] bool is_inner_batch(const ReceivedMessage& message);

/// The same message with another topic or number of redeliveries.
[[nodiscard]] ReceivedMessage with_topic(const ReceivedMessage& message, std::string topic);
[[nodiscard]] ReceivedMessage with_reconsume_times(const ReceivedMessage& message, int32_t times);

}  // namespace apogee
