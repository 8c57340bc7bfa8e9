#include "common/message/record_form.h"

#include <cstring>

#include "common/base/bytes.h"

namespace apogee::message {

namespace {

constexpr size_t kCrcPosition = 8, kFlagPosition = 16;
constexpr size_t kHeadBytes = 8;
constexpr size_t kV4HostBytes = 8, kV6HostBytes = 20;
constexpr size_t kTopicBytesV1Max = 127;

char* put_text(char* to, std::string_view text) {
  if (!text.empty()) std::memcpy(to, text.data(), text.size());
  return to + text.size();
}

}  // namespace

void RecordForm::set(const RecordFields& common, std::string_view more_properties) {
  RecordFields empty = common;
  empty.flag = 0;
  empty.topic = empty.body = empty.properties = {};
  encode_record(empty, 0, 0, empty_.data());
  const size_t behind_body = sizeof(int8_t) + sizeof(int16_t);  // lengths of topic and properties
  fixed_bytes_ = apogee::message::record_bytes(empty) - behind_body;
  store_timestamp_at_ = kBornHostPosition + (common.born_host.ip_bytes.size() == 16 ? kV6HostBytes : kV4HostBytes);
  const bool v2 = common.topic.size() > kTopicBytesV1Max;
  magic_ = v2 ? kRecordMagicV2 : kRecordMagicV1;
  topic_bytes_ = common.topic.size() + (v2 ? sizeof(int16_t) : sizeof(int8_t));
  topic_ = common.topic;
  sys_flag_ = common.sys_flag;
  more_properties_ = more_properties;
}

void RecordForm::encode_behind_head(const RecordPart& part, const RecordPlace& place, char* to) const {
  std::memcpy(to + kHeadBytes, empty_.data() + kHeadBytes, fixed_bytes_ - kHeadBytes);
  store_be<int32_t>(to + kCrcPosition, part.body_crc);
  store_be<int32_t>(to + kFlagPosition, part.flag);
  store_be<int64_t>(to + kQueueOffsetPosition, place.queue_offset);
  store_be<int64_t>(to + kPhysicalOffsetPosition, place.physical_offset);
  store_be<int64_t>(to + store_timestamp_at_, place.store_timestamp_ms);
  store_be<int32_t>(to + fixed_bytes_ - sizeof(int32_t), static_cast<int32_t>(part.body.size()));
  to = put_text(to + fixed_bytes_, part.body);
  if (magic_ == kRecordMagicV2) {
    store_be<int16_t>(to, static_cast<int16_t>(topic_.size()));
    to += sizeof(int16_t);
  } else {
    *to++ = static_cast<char>(topic_.size());
  }
  to = put_text(to, topic_);
  store_be<int16_t>(to, static_cast<int16_t>(properties_bytes(part)));
  to = put_text(to + sizeof(int16_t), part.properties);
  if (needs_separator(part)) *to++ = kPropertySeparator;
  put_text(to, more_properties_);
}

void RecordForm::encode_head(size_t record_bytes, char* to) const {
  store_be<int32_t>(to, static_cast<int32_t>(record_bytes));
  store_be<int32_t>(to + sizeof(int32_t), magic_);
}

}  // namespace apogee::message
