#include <fmt/format.h>

#include <map>

#include "tools/mqadmin/commands/commands.h"

// The life of a message.
namespace mqadmin {

namespace {

using apogee::admin::TraceKind;
using apogee::admin::TraceRecord;

Table steps_table(const char* group_title, const char* group_name, const char* time_title, const char* time_name) {
  return Table({{"#Type", "type", 10},
                {group_title, group_name, 20},
                {"#ClientHost", "clientHost", 20},
                {time_title, time_name, 20},
                {"#CostTimes", "costMs", 10, true},
                {"#Status", "status", 10}});
}

void add_row(Table& table, const char* type, const TraceRecord& record, const std::string& status) {
  table.row({type, record.group, record.client_host, time_cell(record.time_ms, "-", false),
             Cell(fmt::format("{}ms", record.cost_ms), std::to_string(record.cost_ms)), status});
}

const char* status_of(const TraceRecord& record) { return record.success ? "success" : "failed"; }

void print_trace(Invocation& in, const apogee::admin::MessageTrace& trace) {
  for (const auto& record : trace.records) {
    if (record.kind != TraceKind::kPub) continue;
    auto table = steps_table("#ProducerGroup", "producerGroup", "#SendTime", "sendTime");
    add_row(table, "Pub", record, status_of(record));
    in.out.rows(table);
    in.out.line("");
  }
  auto decisions = steps_table("#ProducerGroup", "producerGroup", "#EndTime", "endTime");
  std::map<std::string, std::vector<const TraceRecord*>> by_group;
  for (const auto& record : trace.records) {
    if (record.kind == TraceKind::kSubAfter) by_group[record.group].push_back(&record);
    if (record.kind == TraceKind::kEndTransaction) add_row(decisions, "EndTrans", record, record.transaction_state);
  }
  if (!decisions.empty()) {
    in.out.rows(decisions);
    in.out.line("");
  }
  for (const auto& [group, records] : by_group) {
    auto table = steps_table("#ConsumerGroup", "consumerGroup", "#ConsumerTime", "consumerTime");
    for (const auto* record : records) add_row(table, "Sub", *record, status_of(*record));
    in.out.rows(table);
    in.out.line("");
  }
  if (trace.records.empty()) in.out.line("No trace of this message was found.");
  if (trace.truncated) in.out.line("There may be more, older steps.");
  for (const auto& warning : trace.warnings) in.out.line("WARN: " + warning);
}

void write_trace(JsonWriter& json, const apogee::admin::MessageTrace& trace) {
  json.begin_object().key("records").begin_array();
  for (const auto& record : trace.records) {
    json.begin_object()
        .member("type", apogee::admin::to_string(record.kind))
        .member("time", record.time_ms)
        .member("group", record.group)
        .member("clientHost", record.client_host)
        .member("keys", record.keys)
        .member("costMs", record.cost_ms);
    switch (record.kind) {
      case TraceKind::kPub:
        json.member("region", record.region)
            .member("topic", record.topic)
            .member("tags", record.tags)
            .member("storeHost", record.store_host)
            .member("bodyLength", record.body_bytes)
            .member("msgType", static_cast<int64_t>(record.type))
            .member("offsetMsgId", record.offset_msg_id)
            .member("success", record.success);
        break;
      case TraceKind::kSubBefore:
        json.member("region", record.region)
            .member("requestId", record.request_id)
            .member("retryTimes", static_cast<int64_t>(record.retry_times));
        break;
      case TraceKind::kSubAfter:
        json.member("requestId", record.request_id)
            .member("success", record.success)
            .member("contextCode", static_cast<int64_t>(record.context_code));
        break;
      case TraceKind::kEndTransaction:
        json.member("region", record.region)
            .member("topic", record.topic)
            .member("transactionId", record.transaction_id)
            .member("transactionState", record.transaction_state)
            .member("fromCheck", record.from_check);
        break;
    }
    json.end_object();
  }
  json.end_array().member("truncated", trace.truncated).key("warnings").begin_array();
  for (const auto& warning : trace.warnings) json.value(warning);
  json.end_array().end_object();
}

}  // namespace

Status run_query_msg_trace_by_id(Invocation& in) {
  apogee::admin::TraceQuery query;
  query.msg_id = in.get('i');
  query.trace_topic = in.get('t', query.trace_topic);
  APOGEE_TRY_ASSIGN(auto messages_max, in.number('c', query.messages_max, 1, INT32_MAX));
  query.messages_max = static_cast<int32_t>(messages_max);
  APOGEE_TRY_ASSIGN(auto begin_ms, in.time('b'));
  APOGEE_TRY_ASSIGN(auto end_ms, in.time('e'));
  query.begin_ms = begin_ms.value_or(query.begin_ms);
  query.end_ms = end_ms.value_or(query.end_ms);
  APOGEE_TRY_ASSIGN(auto trace, in.client().message_trace(query));
  print_trace(in, trace);
  JsonWriter json;
  write_trace(json, trace);
  in.out.write(json);
  return {};
}

}  // namespace mqadmin
