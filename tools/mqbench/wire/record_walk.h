#pragma once

#include <cstdint>
#include <string_view>

#include "common/base/bytes.h"
#include "common/message/message_record.h"

namespace mqbench {

/// What is looked at of a message in an answer to a pull.
struct Record {
  size_t bytes = 0;
  int32_t queue_id = 0;
  int64_t queue_offset = 0;
  std::string_view topic;
  std::string_view body;
};

/// The first of some concatenated records. False when they do not begin with a whole one.
[[nodiscard]] inline bool first_record(std::string_view from, Record& record) {
  namespace message = apogee::message;
  if (from.size() < message::kRecordBytesMin) return false;
  const char* at = from.data();
  const auto size = apogee::load_be<uint32_t>(at);
  const auto magic = apogee::load_be<int32_t>(at + 4);
  if (size < message::kRecordBytesMin || size > from.size()) return false;
  if (magic != message::kRecordMagicV1 && magic != message::kRecordMagicV2) return false;
  record.bytes = size;
  record.queue_id = apogee::load_be<int32_t>(at + message::kQueueIdPosition);
  record.queue_offset = apogee::load_be<int64_t>(at + message::kQueueOffsetPosition);
  const auto flags = apogee::load_be<int32_t>(at + message::kSysFlagPosition);
  size_t next = message::kBornHostPosition;
  next += (flags & 16) != 0 ? 20 : 8;  // born host
  next += 8;                           // store time
  next += (flags & 32) != 0 ? 20 : 8;  // store host
  next += 4 + 8;                       // reconsume times, prepared transaction
  if (next + 4 > size) return false;
  const auto body = apogee::load_be<uint32_t>(at + next);
  next += 4;
  const size_t topic_length = magic == message::kRecordMagicV2 ? 2 : 1;
  if (body > size || next + body + topic_length > size) return false;
  record.body = from.substr(next, body);
  next += body;
  const size_t topic = topic_length == 2 ? apogee::load_be<uint16_t>(at + next) : static_cast<unsigned char>(at[next]);
  next += topic_length;
  if (next + topic > size) return false;
  record.topic = from.substr(next, topic);
  return true;
}

}  // namespace mqbench
