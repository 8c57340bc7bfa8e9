#include "broker/handlers/message_query_handlers.h"

#include <algorithm>
#include <string>
#include <utility>

#include "broker/handlers/request_fields.h"
#include "common/message/message_record.h"

namespace apogee::broker {

namespace code = remoting::response_code;

namespace {

/// Java clients take frames up to 16 MiB.
constexpr int64_t kAnswerBytesMax = 15 << 20;

int64_t physical_offset(const SharedBytes& record) {
  return load_be<int64_t>(record.bytes.data() + message::kPhysicalOffsetPosition);
}

}  // namespace

void MessageQueryHandlers::query_message(const remoting::Caller& /*caller*/, remoting::Command request,
                                         remoting::Responder respond) {
  RequestFields fields(request);
  store::KeyQuery query;
  const std::string topic = fields.text("topic"), key = fields.text("key");
  query.topic = topic;
  query.key = key;
  query.begin_ms = fields.i64("beginTimestamp");
  query.end_ms = fields.i64("endTimestamp");
  query.count_max = std::min<int32_t>(fields.i32("maxNum"), config_.query_count_max);
  if (query.count_max < 1) fields.reject("the header field maxNum is less than 1");
  if (fields.boolean_or("_UNIQUE_KEY_QUERY", false)) query.count_max = config_.unique_query_count_max;
  query.bytes_max = kAnswerBytesMax;
  if (!fields.ok()) return refuse(request, respond, fields);

  auto answer = store_.query(query);
  if (!answer)
    return refuse(request, respond,
                  answer.error().code == Errc::kUnsupported ? code::kNoPermission : code::kSystemError,
                  answer.error().message);
  const bool found = !answer->records.empty();
  std::string remark = found ? "" : "can not find message, maybe time range not correct";
  auto say = [&remark](const std::string& what) { remark += (remark.empty() ? "" : "; ") + what; };
  if (answer->truncated)
    say("these are the newest " + std::to_string(answer->records.size()) + " in the time range, there are more");
  if (!answer->incomplete.empty()) say("messages may be missing: " + answer->incomplete);
  auto response = remoting::Command::response_to(request, found ? code::kSuccess : code::kQueryNotFound);
  if (!remark.empty()) response.remark = std::move(remark);
  // Zeros when nothing is found, as in Apache RocketMQ.
  response.ext.set("indexLastUpdateTimestamp", found ? answer->last_update_ms : 0);
  response.ext.set("indexLastUpdatePhyoffset", found ? answer->last_update_offset : 0);
  if (answer->truncated) response.ext.set(kQueryTruncatedField, true);
  if (!answer->incomplete.empty()) response.ext.set(kIndexIncompleteField, answer->incomplete);
  if (found) {
    std::sort(answer->records.begin(), answer->records.end(),
              [](const SharedBytes& a, const SharedBytes& b) { return physical_offset(a) < physical_offset(b); });
    response.body = std::move(answer->records.front());
    answer->records.erase(answer->records.begin());
    response.body_tail = std::move(answer->records);
  }
  respond(std::move(response));
}

}  // namespace apogee::broker
