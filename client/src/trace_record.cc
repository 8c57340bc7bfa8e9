#include "client/src/trace_record.h"

#include <charconv>
#include <optional>

#include "common/base/text.h"

namespace apogee {

namespace admin {

const char* to_string(TraceKind kind) {
  switch (kind) {
    case TraceKind::kPub: return "Pub";
    case TraceKind::kSubBefore: return "SubBefore";
    case TraceKind::kSubAfter: return "SubAfter";
    case TraceKind::kEndTransaction: return "EndTransaction";
  }
  return "UNKNOWN";
}

}  // namespace admin

namespace {

constexpr char kFieldEnd = '\x01';
constexpr char kRecordEnd = '\x02';
constexpr std::string_view kNone = "null";
constexpr int kTypesMax = 4;

class Fields {
 public:
  Fields(std::string& to, TraceKind kind) : to_(to) { to_ += admin::to_string(kind); }
  Fields& text(std::string_view value) {
    to_ += kFieldEnd;
    if (value.empty()) value = kNone;
    for (char c : value) to_ += c == kFieldEnd || c == kRecordEnd ? ' ' : c;
    return *this;
  }
  Fields& number(int64_t value) { return text(std::to_string(value)); }
  Fields& truth(bool value) { return text(value ? "true" : "false"); }
  void end() { to_ += kRecordEnd; }

 private:
  std::string& to_;
};

/// The fields of a record; one that is not there is empty, or 0.
struct Line {
  std::vector<std::string_view> fields;

  [[nodiscard]] std::string text(size_t index) const {
    if (index >= fields.size() || fields[index] == kNone) return {};
    return std::string(fields[index]);
  }
  template <typename Int>
  [[nodiscard]] Int number(size_t index) const {
    Int value = 0;
    if (index < fields.size()) {
      const auto& text = fields[index];
      const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
      if (error != std::errc() || end != text.data() + text.size()) return 0;
    }
    return value;
  }
  [[nodiscard]] bool truth(size_t index) const {
    return index < fields.size() && equals_ignore_case(fields[index], "true");
  }
  [[nodiscard]] TraceMessageType type(size_t index) const {
    const int value = number<int>(index);
    return value < 0 || value > kTypesMax ? TraceMessageType::kNormal : static_cast<TraceMessageType>(value);
  }
};

std::optional<TraceKind> kind_of(std::string_view name) {
  for (auto kind : {TraceKind::kPub, TraceKind::kSubBefore, TraceKind::kSubAfter, TraceKind::kEndTransaction}) {
    if (name == admin::to_string(kind)) return kind;
  }
  return std::nullopt;
}

void read_head(const Line& line, TraceRecord& record) {
  record.time_ms = line.number<int64_t>(1);
  record.region = line.text(2);
  record.group = line.text(3);
}

void read_message(const Line& line, TraceRecord& record) {
  record.topic = line.text(4);
  record.msg_id = line.text(5);
  record.tags = line.text(6);
  record.keys = line.text(7);
  record.store_host = line.text(8);
}

TraceRecord read(TraceKind kind, const Line& line) {
  TraceRecord record;
  record.kind = kind;
  switch (kind) {
    case TraceKind::kPub:
      read_head(line, record);
      read_message(line, record);
      record.body_bytes = line.number<int64_t>(9);
      record.cost_ms = line.number<int64_t>(10);
      record.type = line.type(11);
      // Old clients have no offset id, some have their own host at the end.
      if (line.fields.size() <= 13) {
        record.success = line.truth(12);
      } else {
        record.offset_msg_id = line.text(12);
        record.success = line.truth(13);
        record.client_host = line.text(14);
      }
      break;
    case TraceKind::kSubBefore:
      read_head(line, record);
      record.request_id = line.text(4);
      record.msg_id = line.text(5);
      record.retry_times = line.number<int32_t>(6);
      record.keys = line.text(7);
      record.client_host = line.text(8);
      break;
    case TraceKind::kSubAfter:
      record.request_id = line.text(1);
      record.msg_id = line.text(2);
      record.cost_ms = line.number<int64_t>(3);
      record.success = line.truth(4);
      record.keys = line.text(5);
      record.context_code = line.number<int32_t>(6);
      record.time_ms = line.number<int64_t>(7);
      record.group = line.text(8);
      break;
    case TraceKind::kEndTransaction:
      read_head(line, record);
      read_message(line, record);
      record.type = line.type(9);
      record.transaction_id = line.text(10);
      record.transaction_state = line.text(11);
      record.from_check = line.truth(12);
      break;
  }
  return record;
}

}  // namespace

void append_trace_record(std::string& to, const TraceRecord& record) {
  Fields fields(to, record.kind);
  switch (record.kind) {
    case TraceKind::kPub:
      fields.number(record.time_ms).text(record.region).text(record.group).text(record.topic).text(record.msg_id);
      fields.text(record.tags).text(record.keys).text(record.store_host).number(record.body_bytes);
      fields.number(record.cost_ms).number(static_cast<int>(record.type)).text(record.offset_msg_id);
      fields.truth(record.success);
      break;
    case TraceKind::kSubBefore:
      fields.number(record.time_ms).text(record.region).text(record.group).text(record.request_id);
      fields.text(record.msg_id).number(record.retry_times).text(record.keys);
      break;
    case TraceKind::kSubAfter:
      fields.text(record.request_id).text(record.msg_id).number(record.cost_ms).truth(record.success);
      fields.text(record.keys).number(record.context_code).number(record.time_ms).text(record.group);
      break;
    case TraceKind::kEndTransaction:
      fields.number(record.time_ms).text(record.region).text(record.group).text(record.topic).text(record.msg_id);
      fields.text(record.tags).text(record.keys).text(record.store_host).number(static_cast<int>(record.type));
      fields.text(record.transaction_id).text(record.transaction_state).truth(record.from_check);
      break;
  }
  fields.end();
}

std::vector<TraceRecord> decode_trace_records(std::string_view body) {
  std::vector<TraceRecord> records;
  for (auto text : split(body, std::string_view(&kRecordEnd, 1))) {
    const Line line{split(text, std::string_view(&kFieldEnd, 1))};
    const auto kind = kind_of(line.fields.front());
    if (!kind) continue;
    records.push_back(read(*kind, line));
  }
  for (auto& after : records) {
    if (after.kind != TraceKind::kSubAfter || !after.group.empty()) continue;
    for (const auto& before : records) {
      if (before.kind != TraceKind::kSubBefore || before.request_id != after.request_id) continue;
      after.group = before.group;
      if (after.time_ms == 0) after.time_ms = before.time_ms + after.cost_ms;
      break;
    }
  }
  return records;
}

}  // namespace apogee
