#include "broker/handlers/queue_query_handlers.h"

#include <string>
#include <utility>

#include "broker/handlers/request_fields.h"
#include "common/base/text.h"

namespace apogee::broker {

namespace code = remoting::response_code;

namespace {

struct Queue {
  std::string topic;
  int32_t id = 0;
};

Queue queue_of(RequestFields& fields) {
  Queue queue;
  queue.topic = fields.text("topic");
  queue.id = fields.i32("queueId");
  if (queue.id < 0) fields.reject("the header field queueId is negative");
  return queue;
}

void answer_number(const remoting::Command& request, const remoting::Responder& respond, const char* name,
                   int64_t value) {
  remoting::Command response = remoting::Command::response_to(request, code::kSuccess);
  response.ext.set(name, value);
  respond(std::move(response));
}

}  // namespace

void QueueQueryHandlers::offset_by_time(const remoting::Caller& /*caller*/, remoting::Command request,
                                        remoting::Responder respond) {
  RequestFields fields(request);
  const Queue queue = queue_of(fields);
  const int64_t timestamp = fields.i64("timestamp");
  const std::string boundary = fields.text_or("boundaryType", "LOWER");
  const bool upper = equals_ignore_case(boundary, "UPPER");
  if (!upper && !equals_ignore_case(boundary, "LOWER"))
    fields.reject("the header field boundaryType is neither LOWER nor UPPER: " + boundary.substr(0, 40));
  if (!fields.ok()) return refuse(request, respond, fields);
  answer_number(request, respond, "offset",
                store_.offset_by_time(queue.topic, queue.id, timestamp,
                                      upper ? store::TimeBoundary::kUpper : store::TimeBoundary::kLower));
}

void QueueQueryHandlers::max_offset(const remoting::Caller& /*caller*/, remoting::Command request,
                                    remoting::Responder respond) {
  RequestFields fields(request);
  const Queue queue = queue_of(fields);
  if (!fields.ok()) return refuse(request, respond, fields);
  answer_number(request, respond, "offset", store_.max_offset(queue.topic, queue.id));
}

void QueueQueryHandlers::min_offset(const remoting::Caller& /*caller*/, remoting::Command request,
                                    remoting::Responder respond) {
  RequestFields fields(request);
  const Queue queue = queue_of(fields);
  if (!fields.ok()) return refuse(request, respond, fields);
  answer_number(request, respond, "offset", store_.min_offset(queue.topic, queue.id));
}

void QueueQueryHandlers::earliest_time(const remoting::Caller& /*caller*/, remoting::Command request,
                                       remoting::Responder respond) {
  RequestFields fields(request);
  const Queue queue = queue_of(fields);
  if (!fields.ok()) return refuse(request, respond, fields);
  auto time = store_.store_time_ms(queue.topic, queue.id, store_.min_offset(queue.topic, queue.id));
  answer_number(request, respond, "timestamp", time.value_or(-1));
}

void QueueQueryHandlers::view_message(const remoting::Caller& /*caller*/, remoting::Command request,
                                      remoting::Responder respond) {
  RequestFields fields(request);
  const int64_t offset = fields.i64("offset");
  if (!fields.ok()) return refuse(request, respond, fields);
  auto record = offset >= 0 ? store_.record_at(offset) : std::nullopt;
  if (!record)
    return refuse(request, respond, code::kSystemError,
                  "can not find message by the offset, " + std::to_string(offset));
  remoting::Command response = remoting::Command::response_to(request, code::kSuccess);
  response.body = std::move(*record);
  respond(std::move(response));
}

}  // namespace apogee::broker
