#include "common/message/message_record.h"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <cstring>

#include "common/base/bytes.h"
#include "common/base/crc32.h"

namespace apogee::message {

namespace {

Error corrupt(const char* what) { return Error{Errc::kCorrupt, fmt::format("record: {}", what)}; }

HostView read_host(ByteReader& in, bool v6) {
  HostView host;
  host.ip_bytes = in.take(v6 ? 16 : 4);
  host.port = in.read<int32_t>();
  return host;
}

bool is_v6(const HostView& host) { return host.ip_bytes.size() == 16; }

char* put_host(char* to, const HostView& host) {
  size_t size = is_v6(host) ? 16 : 4;
  std::memset(to, 0, size);
  if (host.ip_bytes.size() == size) std::memcpy(to, host.ip_bytes.data(), size);
  store_be<int32_t>(to + size, host.port);
  return to + size + sizeof(int32_t);
}

template <typename T>
char* put(char* to, T number) {
  store_be<T>(to, number);
  return to + sizeof(T);
}

char* put_text(char* to, std::string_view text) {
  if (!text.empty()) std::memcpy(to, text.data(), text.size());
  return to + text.size();
}

bool needs_v2(std::string_view topic) { return topic.size() > 127; }

}  // namespace

std::string to_string(const HostView& host) {
  char text[INET6_ADDRSTRLEN];
  bool v6 = is_v6(host);
  if (!v6 && host.ip_bytes.size() != 4) return {};
  if (inet_ntop(v6 ? AF_INET6 : AF_INET, host.ip_bytes.data(), text, sizeof text) == nullptr) return {};
  const char* ip = text;
  return v6 ? fmt::format("[{}]:{}", ip, host.port) : fmt::format("{}:{}", ip, host.port);
}

std::string ip_bytes_of(std::string_view ip_text) {
  std::string text(ip_text);
  char bytes[16];
  if (inet_pton(AF_INET, text.c_str(), bytes) == 1) return std::string(bytes, 4);
  if (inet_pton(AF_INET6, text.c_str(), bytes) == 1) return std::string(bytes, 16);
  return {};
}

Result<RecordView> decode_record(std::string_view bytes) {
  if (bytes.size() < 8) return corrupt("shorter than its length and magic number");
  auto size = load_be<int32_t>(bytes.data());
  RecordView record;
  record.magic = load_be<int32_t>(bytes.data() + 4);
  if (record.magic != kRecordMagicV1 && record.magic != kRecordMagicV2) return corrupt("magic number");
  if (size < 0 || static_cast<size_t>(size) < kRecordBytesMin || static_cast<size_t>(size) > bytes.size())
    return corrupt("length");
  record.bytes = bytes.substr(0, static_cast<size_t>(size));
  ByteReader in(record.bytes);
  in.take(8);
  record.body_crc = in.read<int32_t>();
  record.queue_id = in.read<int32_t>();
  record.flag = in.read<int32_t>();
  record.queue_offset = in.read<int64_t>();
  record.physical_offset = in.read<int64_t>();
  record.sys_flag = in.read<int32_t>();
  record.born_timestamp_ms = in.read<int64_t>();
  record.born_host = read_host(in, (record.sys_flag & sys_flag::kBornHostV6) != 0);
  record.store_timestamp_ms = in.read<int64_t>();
  record.store_host = read_host(in, (record.sys_flag & sys_flag::kStoreHostV6) != 0);
  record.reconsume_times = in.read<int32_t>();
  record.prepared_transaction_offset = in.read<int64_t>();
  auto body_bytes = in.read<int32_t>();
  if (!in.ok() || body_bytes < 0 || static_cast<size_t>(body_bytes) > in.remaining()) return corrupt("body length");
  record.body = in.take(static_cast<size_t>(body_bytes));
  size_t topic_bytes = 0;
  if (record.magic == kRecordMagicV1) {
    auto length = in.read<int8_t>();
    if (length < 0) return corrupt("topic length");
    topic_bytes = static_cast<uint8_t>(length);
  } else {
    auto length = in.read<int16_t>();
    if (length < 0) return corrupt("topic length");
    topic_bytes = static_cast<size_t>(length);
  }
  record.topic = in.take(topic_bytes);
  if (!in.ok()) return corrupt("topic length");
  auto properties_bytes = in.read<int16_t>();
  if (!in.ok() || properties_bytes < 0) return corrupt("properties length");
  record.properties = in.take(static_cast<size_t>(properties_bytes));
  if (!in.ok() || in.remaining() != 0) return corrupt("properties length");
  return record;
}

int64_t store_timestamp_of(std::string_view record) {
  const bool v6 = (load_be<int32_t>(record.data() + kSysFlagPosition) & sys_flag::kBornHostV6) != 0;
  return load_be<int64_t>(record.data() + kBornHostPosition + (v6 ? 20 : 8));
}

bool body_crc_matches(const RecordView& record) {
  return record.body.empty() || crc32_31(record.body) == record.body_crc;
}

Result<std::vector<std::string_view>> split_records(std::string_view bytes) {
  std::vector<std::string_view> records;
  while (!bytes.empty()) {
    if (bytes.size() < 8) return corrupt("shorter than its length and magic number");
    auto size = load_be<int32_t>(bytes.data());
    if (size < 0 || static_cast<size_t>(size) < kRecordBytesMin || static_cast<size_t>(size) > bytes.size())
      return corrupt("length");
    records.push_back(bytes.substr(0, static_cast<size_t>(size)));
    bytes.remove_prefix(static_cast<size_t>(size));
  }
  return records;
}

RecordFields fields_of(const RecordView& record) {
  RecordFields fields;
  fields.topic = record.topic;
  fields.queue_id = record.queue_id;
  fields.flag = record.flag;
  fields.sys_flag = record.sys_flag;
  fields.born_timestamp_ms = record.born_timestamp_ms;
  fields.born_host = record.born_host;
  fields.store_timestamp_ms = record.store_timestamp_ms;
  fields.store_host = record.store_host;
  fields.reconsume_times = record.reconsume_times;
  fields.prepared_transaction_offset = record.prepared_transaction_offset;
  fields.body = record.body;
  fields.properties = record.properties;
  return fields;
}

size_t record_bytes(const RecordFields& fields) {
  return kRecordBytesMin + (is_v6(fields.born_host) ? 12 : 0) + (is_v6(fields.store_host) ? 12 : 0) +
         (needs_v2(fields.topic) ? 1 : 0) + fields.body.size() + fields.topic.size() + fields.properties.size();
}

void encode_record(const RecordFields& fields, int64_t queue_offset, int64_t physical_offset, char* to) {
  bool v2 = needs_v2(fields.topic);
  int32_t sys_flag = fields.sys_flag & ~(sys_flag::kBornHostV6 | sys_flag::kStoreHostV6);
  if (is_v6(fields.born_host)) sys_flag |= sys_flag::kBornHostV6;
  if (is_v6(fields.store_host)) sys_flag |= sys_flag::kStoreHostV6;
  to = put<int32_t>(to, static_cast<int32_t>(record_bytes(fields)));
  to = put<int32_t>(to, v2 ? kRecordMagicV2 : kRecordMagicV1);
  to = put<int32_t>(to, crc32_31(fields.body));
  to = put<int32_t>(to, fields.queue_id);
  to = put<int32_t>(to, fields.flag);
  to = put<int64_t>(to, queue_offset);
  to = put<int64_t>(to, physical_offset);
  to = put<int32_t>(to, sys_flag);
  to = put<int64_t>(to, fields.born_timestamp_ms);
  to = put_host(to, fields.born_host);
  to = put<int64_t>(to, fields.store_timestamp_ms);
  to = put_host(to, fields.store_host);
  to = put<int32_t>(to, fields.reconsume_times);
  to = put<int64_t>(to, fields.prepared_transaction_offset);
  to = put<int32_t>(to, static_cast<int32_t>(fields.body.size()));
  to = put_text(to, fields.body);
  if (v2) {
    to = put<int16_t>(to, static_cast<int16_t>(fields.topic.size()));
  } else {
    to = put<int8_t>(to, static_cast<int8_t>(fields.topic.size()));
  }
  to = put_text(to, fields.topic);
  to = put<int16_t>(to, static_cast<int16_t>(fields.properties.size()));
  put_text(to, fields.properties);
}

std::string encode_record(const RecordFields& fields, int64_t queue_offset, int64_t physical_offset) {
  std::string out(record_bytes(fields), '\0');
  encode_record(fields, queue_offset, physical_offset, out.data());
  return out;
}

void place_record(char* record, int64_t queue_offset, int64_t physical_offset, int64_t store_timestamp_ms) {
  store_be<int64_t>(record + kQueueOffsetPosition, queue_offset);
  store_be<int64_t>(record + kPhysicalOffsetPosition, physical_offset);
  bool v6 = (load_be<int32_t>(record + kSysFlagPosition) & sys_flag::kBornHostV6) != 0;
  store_be<int64_t>(record + kBornHostPosition + (v6 ? 20 : 8), store_timestamp_ms);
}

}  // namespace apogee::message
