#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "apogee/result.h"
#include "common/message/sys_flag.h"

// The record of one message: on disk, and in the answers to pulls and queries.
namespace apogee::message {

inline constexpr int32_t kRecordMagicV1 = static_cast<int32_t>(0xDAA320A7U);
inline constexpr int32_t kRecordMagicV2 = static_cast<int32_t>(0xDAA320ABU);  ///< topic length in two bytes
inline constexpr int32_t kBlankMagic = static_cast<int32_t>(0xCBD43194U);     ///< the rest of a file is unused
inline constexpr size_t kBlankBytesMin = 8;
/// Bytes of a V1 record with an empty body, topic and properties, both hosts IPv4.
inline constexpr size_t kRecordBytesMin = 91;

// Positions of fields in front of the born host.
inline constexpr size_t kQueueIdPosition = 12;
inline constexpr size_t kQueueOffsetPosition = 20;
inline constexpr size_t kPhysicalOffsetPosition = 28;
inline constexpr size_t kSysFlagPosition = 36;
inline constexpr size_t kBornTimestampPosition = 40;
inline constexpr size_t kBornHostPosition = 48;

/// An address and port inside a record; 4 or 16 address bytes in network order.
struct HostView {
  std::string_view ip_bytes;
  int32_t port = 0;
};
/// "127.0.0.1:10911", "[::1]:10911"; "" when there are no address bytes.
[[nodiscard]] std::string to_string(const HostView& host);
/// 4 or 16 bytes; empty when the text is no IP address.
[[nodiscard]] std::string ip_bytes_of(std::string_view ip_text);

/// One decoded record; views into the bytes that it was decoded from.
struct RecordView {
  std::string_view bytes;  ///< the whole record
  int32_t magic = 0;
  int32_t body_crc = 0;
  int32_t queue_id = 0;
  int32_t flag = 0;
  int64_t queue_offset = 0;
  int64_t physical_offset = 0;
  int32_t sys_flag = 0;
  int64_t born_timestamp_ms = 0;
  HostView born_host;
  int64_t store_timestamp_ms = 0;
  HostView store_host;
  int32_t reconsume_times = 0;
  int64_t prepared_transaction_offset = 0;
  std::string_view body;  ///< as stored: compressed when sys_flag says so
  std::string_view topic;
  std::string_view properties;
};

/// Decodes the record at the beginning of `bytes`, which may go on behind it. Does not read the body.
/// Error: kCorrupt, naming the field.
[[nodiscard]] Result<RecordView> decode_record(std::string_view bytes);
/// The store time of a record that is known to be one.
[[nodiscard]] int64_t store_timestamp_of(std::string_view record);
/// Whether the body is the one that the record was written with.
[[nodiscard]] bool body_crc_matches(const RecordView& record);
/// Splits concatenated records, as in the answer to a pull. Error: kCorrupt.
[[nodiscard]] Result<std::vector<std::string_view>> split_records(std::string_view bytes);

/// What a record is made of, before it has a place. Views are read during encode_record only.
struct RecordFields {
  std::string_view topic;
  int32_t queue_id = 0;
  int32_t flag = 0;
  int32_t sys_flag = 0;  ///< the bits for IPv6 hosts are set by encode_record
  int64_t born_timestamp_ms = 0;
  HostView born_host;
  int64_t store_timestamp_ms = 0;
  HostView store_host;
  int32_t reconsume_times = 0;
  int64_t prepared_transaction_offset = 0;
  std::string_view body;
  std::string_view properties;
};

/// What a record was made of, to be encoded again, the same or with changes. Views into the same bytes.
[[nodiscard]] RecordFields fields_of(const RecordView& record);
/// Bytes that encode_record will write. V2 is chosen when the topic has more than 127 bytes.
[[nodiscard]] size_t record_bytes(const RecordFields& fields);
/// Writes exactly record_bytes() bytes, with the body's CRC.
void encode_record(const RecordFields& fields, int64_t queue_offset, int64_t physical_offset, char* to);
[[nodiscard]] std::string encode_record(const RecordFields& fields, int64_t queue_offset, int64_t physical_offset);
/// Gives an encoded record its place: the offsets and the store time, which are known under the append lock only.
void place_record(char* record, int64_t queue_offset, int64_t physical_offset, int64_t store_timestamp_ms);

}  // namespace apogee::message
