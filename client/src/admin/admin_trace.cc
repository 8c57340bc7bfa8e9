#include <algorithm>
#include <utility>

#include "apogee/admin_client.h"
#include "client/src/trace_record.h"

// The life of a message, out of the trace topic.
namespace apogee {

Result<admin::MessageTrace> AdminClient::message_trace(const admin::TraceQuery& query) {
  if (query.msg_id.empty()) return Error{Errc::kInvalidArgument, "msg_id: is empty"};
  admin::MessageQuery messages;
  messages.topic = query.trace_topic;
  messages.key = query.msg_id;
  messages.messages_max = query.messages_max;
  messages.begin_ms = query.begin_ms;
  messages.end_ms = query.end_ms;
  APOGEE_TRY_ASSIGN(auto found, query_messages(messages));
  admin::MessageTrace trace;
  trace.truncated = found.truncated;
  trace.warnings = std::move(found.warnings);
  for (const auto& message : found.messages) {
    for (auto& record : decode_trace_records(message.body())) {
      if (record.msg_id != query.msg_id) continue;
      if (record.client_host.empty()) {
        record.client_host = message.born_host().substr(0, message.born_host().rfind(':'));
      }
      trace.records.push_back(std::move(record));
    }
  }
  std::stable_sort(trace.records.begin(), trace.records.end(), [](const auto& a, const auto& b) {
    return std::make_pair(a.time_ms, a.kind) < std::make_pair(b.time_ms, b.kind);
  });
  return trace;
}

}  // namespace apogee
