#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "common/message/message_record.h"
#include "common/message/properties.h"

namespace apogee::message {

/// Where a record lies, which is known under the append lock only.
struct RecordPlace {
  int64_t queue_offset = 0, physical_offset = 0, store_timestamp_ms = 0;
};

/// What messages of one request have for themselves. Views are read while they are encoded.
struct RecordPart {
  int32_t flag = 0;
  int32_t body_crc = 0;  ///< crc32_31() of the body
  std::string_view body;
  std::string_view properties;
};

/// What the messages of one request have in common, so that each of their records is written once, straight to its
/// place. The bytes are those of encode_record(). Thread: one at a time.
class RecordForm {
 public:
  /// Flag, body and properties of `common` are not looked at. `more_properties` follow each message's own, behind a
  /// separator where that is missing; the view is read until the next set().
  void set(const RecordFields& common, std::string_view more_properties);

  [[nodiscard]] std::string_view topic() const { return topic_; }
  [[nodiscard]] int32_t sys_flag() const { return sys_flag_; }
  [[nodiscard]] std::string_view more_properties() const { return more_properties_; }
  [[nodiscard]] size_t properties_bytes(const RecordPart& part) const {
    return part.properties.size() + (needs_separator(part) ? 1 : 0) + more_properties_.size();
  }
  [[nodiscard]] size_t record_bytes(const RecordPart& part) const {
    return fixed_bytes_ + part.body.size() + topic_bytes_ + sizeof(int16_t) + properties_bytes(part);
  }
  /// Writes the record but for its head, which makes it one.
  void encode_behind_head(const RecordPart& part, const RecordPlace& place, char* to) const;
  /// Writes length and magic of a record whose rest is there.
  void encode_head(size_t record_bytes, char* to) const;

 private:
  [[nodiscard]] bool needs_separator(const RecordPart& part) const {
    return !part.properties.empty() && !more_properties_.empty() && part.properties.back() != kPropertySeparator;
  }

  std::array<char, kRecordBytesMin + 24> empty_;  ///< a record without topic, body and properties; IPv6 at most
  size_t fixed_bytes_ = 0;                        ///< of it, up to and with the length of the body
  size_t topic_bytes_ = 0;                        ///< with its length
  int32_t magic_ = 0, sys_flag_ = 0;
  size_t store_timestamp_at_ = 0;
  std::string_view topic_, more_properties_;
};

}  // namespace apogee::message
