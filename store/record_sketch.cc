#include "store/record_sketch.h"

#include <algorithm>
#include <cstring>

#include "common/base/bytes.h"
#include "common/message/properties.h"
#include "common/message/property_names.h"
#include "common/message/sys_flag.h"

namespace apogee::store {

namespace {

namespace property = message::property;

constexpr size_t kIpv6More = 12;            // than an IPv4 address has
constexpr size_t kBodyLengthPosition = 84;  // with IPv4 hosts
constexpr size_t kStoreTimestampPosition = message::kBornHostPosition + 8;

bool is_same(std::string_view a, std::string_view b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size()) == 0;
}

}  // namespace

LogPosition RecordSketcher::look_at(std::string_view rest, LogOffset offset, RecordSketch& sketch) {
  if (rest.size() < message::kBlankBytesMin) return {};
  const char* const at = rest.data();
  const auto bytes = load_be<int32_t>(at);
  const auto magic = load_be<int32_t>(at + 4);
  if (magic == message::kBlankMagic) {
    if (bytes < 0 || static_cast<size_t>(bytes) != rest.size()) return {};
    return {LogPosition::Kind::kBlank, static_cast<int64_t>(rest.size())};
  }
  const bool v2 = magic == message::kRecordMagicV2;
  if (!v2 && magic != message::kRecordMagicV1) return {};
  const auto size = static_cast<size_t>(bytes);
  if (bytes < 0 || size < message::kRecordBytesMin || size > rest.size()) return {};
  if (load_be<int64_t>(at + message::kPhysicalOffsetPosition) != offset) return {};
  const auto sys_flag = load_be<int32_t>(at + message::kSysFlagPosition);
  const size_t born_more = (sys_flag & message::sys_flag::kBornHostV6) != 0 ? kIpv6More : 0;
  const size_t store_more = (sys_flag & message::sys_flag::kStoreHostV6) != 0 ? kIpv6More : 0;
  // Each length is compared with what is left behind it.
  size_t position = kBodyLengthPosition + born_more + store_more;
  if (size < position + 4) return {};
  const auto body = load_be<int32_t>(at + position);
  position += 4;
  if (body < 0 || static_cast<size_t>(body) > size - position) return {};
  position += static_cast<size_t>(body);
  const size_t length_bytes = v2 ? 2 : 1;
  if (size - position < length_bytes) return {};
  const int32_t topic = v2 ? load_be<int16_t>(at + position) : static_cast<int8_t>(at[position]);
  position += length_bytes;
  if (topic < 0 || static_cast<size_t>(topic) > size - position) return {};
  const std::string_view name(at + position, static_cast<size_t>(topic));
  position += name.size();
  if (size - position < 2) return {};
  const auto properties = load_be<int16_t>(at + position);
  position += 2;
  if (properties < 0 || static_cast<size_t>(properties) != size - position) return {};

  sketch.topic_as_before = topic_bytes_ > 0 && is_same(name, {topic_.data(), topic_bytes_});
  if (!sketch.topic_as_before) {
    if (!is_topic_text(name)) return {};
    topic_bytes_ = name.size() <= topic_.size() ? name.size() : 0;
    std::memcpy(topic_.data(), name.data(), topic_bytes_);
  }
  sketch.bytes = {at, size};
  sketch.queue_id = load_be<int32_t>(at + message::kQueueIdPosition);
  sketch.sys_flag = sys_flag;
  sketch.queue_offset = load_be<int64_t>(at + message::kQueueOffsetPosition);
  sketch.store_timestamp_ms = load_be<int64_t>(at + kStoreTimestampPosition + born_more);
  sketch.topic = name;
  sketch.properties = {at + position, static_cast<size_t>(properties)};
  return {LogPosition::Kind::kRecord, bytes};
}

LogOffset whole_records_end(const LogFiles& log, LogOffset from, LogOffset to, LogOffset log_end) {
  if (to >= log_end) return log_end;
  LogOffset at = std::max(from, log.begin().value_or(from));
  RecordSketcher sketcher;
  RecordSketch sketch;
  while (at < to) {
    const auto file = log.at(at);
    if (!file) return at;
    const LogOffset file_end = std::min(file->end(), log_end);
    while (at < file_end) {
      const auto rest = file->bytes_from(at).substr(0, static_cast<size_t>(file_end - at));
      const auto position = sketcher.look_at(rest, at, sketch);
      LogOffset next = at + position.bytes;
      if (position.kind == LogPosition::Kind::kNothing) {
        const auto found = next_record(*file, at + 1, file_end);
        next = found && *found > 0 ? *found : file_end;
      }
      if (next > to) return at;
      at = next;
    }
  }
  return std::min(at, to);
}

KnownProperties known_properties(std::string_view properties) {
  KnownProperties known;
  const char* at = properties.data();
  const char* const end = at + properties.size();
  while (at < end) {
    // The value of a property of this name that ends at `part_end`; what is empty does not count.
    auto take = [&at](std::string_view name, const char* part_end, std::string_view& to) {
      const auto bytes = static_cast<size_t>(part_end - at);
      if (bytes > name.size() + 1 && at[name.size()] == message::kNameValueSeparator &&
          std::memcmp(at, name.data(), name.size()) == 0)
        to = {at + name.size() + 1, bytes - name.size() - 1};
    };
    const void* separator = std::memchr(at, message::kPropertySeparator, static_cast<size_t>(end - at));
    const char* const part_end = separator == nullptr ? end : static_cast<const char*>(separator);
    switch (*at) {
      case 'T': take(property::kTags, part_end, known.tags); break;
      case 'K': take(property::kKeys, part_end, known.keys); break;
      case 'U': take(property::kUniqueKey, part_end, known.unique_key); break;
      case 'D': take(property::kDelayLevel, part_end, known.delay_level); break;
      default: break;
    }
    at = part_end + 1;
  }
  return known;
}

}  // namespace apogee::store
