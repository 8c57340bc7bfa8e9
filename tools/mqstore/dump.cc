#include "tools/mqstore/dump.h"

#include <fmt/core.h>

#include <algorithm>
#include <map>

#include "common/base/bytes.h"
#include "common/message/message_id.h"
#include "common/message/properties.h"
#include "common/message/property_names.h"
#include "store/consume_queues.h"
#include "store/message_index.h"
#include "tools/mqadmin/json_writer.h"
#include "tools/mqadmin/output.h"

namespace mqstore {

namespace message = apogee::message;
using apogee::Errc;
using apogee::Error;
using apogee::Result;

namespace {

bool wanted(const DumpOptions& options, const message::RecordView& record) {
  if (!options.topic.empty() && record.topic != options.topic) return false;
  if (options.queue_id >= 0 && record.queue_id != options.queue_id) return false;
  if (record.store_timestamp_ms < options.begin_ms || record.store_timestamp_ms > options.end_ms) return false;
  if (options.key.empty()) return true;
  bool found = false;
  apogee::store::visit_keys(record, [&](std::string_view key) { found = found || key == options.key; });
  return found;
}

std::string line_of(const DumpOptions& options, const message::RecordView& record) {
  mqadmin::JsonWriter json;
  json.begin_object();
  json.member("physicalOffset", record.physical_offset).member("bytes", record.bytes.size());
  json.bytes_member("topic", record.topic);
  json.member("queueId", record.queue_id).member("queueOffset", record.queue_offset);
  json.member("storeTimestamp", record.store_timestamp_ms).member("bornTimestamp", record.born_timestamp_ms);
  json.member("bornHost", message::to_string(record.born_host));
  json.member("storeHost", message::to_string(record.store_host));
  json.member("flag", record.flag).member("sysFlag", record.sys_flag);
  json.member("reconsumeTimes", record.reconsume_times);
  json.member("preparedTransactionOffset", record.prepared_transaction_offset);
  json.member("version", record.magic == message::kRecordMagicV2 ? 2 : 1);
  json.key("properties").begin_object();
  for (const auto& [name, value] : message::parse_properties(record.properties))
    json.bytes_member(std::string(name), value);
  json.end_object();
  json.member("bodyBytes", record.body.size());
  if (options.body_bytes_max > 0)
    json.bytes_member("body", record.body.substr(0, static_cast<size_t>(options.body_bytes_max)));
  json.end_object();
  return json.text() + "\n";
}

std::string text_of(const DumpOptions& options, const message::RecordView& record) {
  auto property = [&](const char* name) {
    return std::string(message::find_property(record.properties, name).value_or("-"));
  };
  const std::string place = fmt::format("{}:{}", record.queue_id, record.queue_offset);
  std::string line = fmt::format("{:>14}  {}  {}  {:<10}  {:>7} bytes  tags {}  keys {}  id {}", record.physical_offset,
                                 mqadmin::human_time_ms(record.store_timestamp_ms), record.topic, place,
                                 record.bytes.size(), property("TAGS"), property("KEYS"), property("UNIQ_KEY"));
  if (options.body_bytes_max > 0)
    line += "  body " + mqadmin::json_quote(record.body.substr(0, static_cast<size_t>(options.body_bytes_max)));
  return line + "\n";
}

std::string gap_line(const DumpOptions& options, const Span& span) {
  const char* kind = span.kind == Span::Kind::kHole ? "hole" : "tornTail";
  if (options.json) return fmt::format("{{\"{}\":{{\"begin\":{},\"end\":{}}}}}\n", kind, span.begin, span.end);
  return fmt::format("{:>14}  -- {} up to {}: no whole message --\n", span.begin,
                     span.kind == Span::Kind::kHole ? "damage" : "torn tail", span.end);
}

}  // namespace

Result<int64_t> dump(const StoreDirectory& store, const DumpOptions& options,
                     const std::function<bool(std::string_view lines)>& print) {
  int64_t printed = 0;
  auto walked = walk_log(store, [&](const Span& span) {
    if (printed >= options.limit) return false;
    if (span.begin < options.from) return true;
    if (span.kind == Span::Kind::kHole || (span.kind == Span::Kind::kTail && span.dirty))
      return print(gap_line(options, span));
    if (span.kind != Span::Kind::kRecord || !wanted(options, span.record)) return true;
    ++printed;
    return print(options.json ? line_of(options, span.record) : text_of(options, span.record));
  });
  if (!walked) return walked.error();
  return printed;
}

Result<int64_t> dump_queue(const StoreDirectory& store, const DumpOptions& options,
                           const std::function<bool(std::string_view lines)>& print) {
  auto queue = std::find_if(store.queues().begin(), store.queues().end(), [&](const auto& each) {
    return each.topic == options.topic && each.queue_id == options.queue_id;
  });
  if (queue == store.queues().end())
    return Error(Errc::kNotFound,
                 fmt::format("there are no files of queue {} of topic {}", options.queue_id, options.topic));
  int64_t printed = 0;
  for (const auto& file : queue->files) {
    APOGEE_TRY_ASSIGN(std::string content, read_file(file.path));
    int64_t offset = file.begin / apogee::store::kQueueEntryBytes;
    constexpr size_t kEntry = apogee::store::kQueueEntryBytes;
    for (size_t at = 0; at + kEntry <= content.size(); at += kEntry, ++offset) {
      const char* raw = content.data() + at;
      auto place = apogee::load_be<int64_t>(raw);
      auto bytes = apogee::load_be<int32_t>(raw + 8);
      auto code = apogee::load_be<int64_t>(raw + 12);
      if ((place == 0 && bytes == 0) || offset < options.from) continue;
      if (printed++ >= options.limit) return printed - 1;
      const bool blank = bytes == apogee::store::kBlankEntryBytes;
      std::string line =
          options.json
              ? fmt::format("{{\"queueOffset\":{},\"physicalOffset\":{},\"bytes\":{},\"tagsCode\":{},\"blank\":{}}}\n",
                            offset, place, bytes, code, blank)
          : blank ? fmt::format("{:>12}  -- no message --\n", offset)
                  : fmt::format("{:>12}  at {:>14}  {:>7} bytes  tags code {}\n", offset, place, bytes, code);
      if (!print(line)) return printed;
    }
  }
  return printed;
}

}  // namespace mqstore
