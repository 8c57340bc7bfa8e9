#include "broker/handlers/client_offset_handlers.h"

#include <unistd.h>

#include <algorithm>
#include <string>

#include "broker/handlers/request_fields.h"

namespace apogee::broker {

namespace code = remoting::response_code;

int64_t memory_share_bytes(int32_t percent) {
  int64_t pages = sysconf(_SC_PHYS_PAGES), page_bytes = sysconf(_SC_PAGE_SIZE);
  return std::max<int64_t>(pages, 0) * std::max<int64_t>(page_bytes, 0) / 100 * percent;
}

bool ClientOffsetHandlers::starts_at_zero(std::string_view topic, int32_t queue_id) const {
  if (parts_.store.min_offset(topic, queue_id) > 0) return false;
  auto first = parts_.store.queue_entries(topic, queue_id, 0, 1);
  return first.empty() || parts_.store.figures().log_max_offset - first.front().physical_offset <= parts_.hot_bytes;
}

void ClientOffsetHandlers::query_offset(const remoting::Caller& /*caller*/, remoting::Command request,
                                        remoting::Responder respond) {
  RequestFields fields(request);
  const std::string group = fields.text("consumerGroup");
  const std::string topic = fields.text("topic");
  const int32_t queue_id = fields.i32("queueId");
  const bool zero_if_not_found = fields.boolean_or("setZeroIfNotFound", true);
  if (queue_id < 0) fields.reject("the header field queueId is negative");
  if (!fields.ok()) return refuse(request, respond, fields);

  auto offset = parts_.offsets.query(group, topic, queue_id);
  if (!offset && zero_if_not_found && starts_at_zero(topic, queue_id)) offset = 0;
  if (!offset)
    return refuse(request, respond, code::kQueryNotFound,
                  zero_if_not_found ? "Not found, maybe this group consumer boot first"
                                    : "Not found, do not set to zero, maybe this group boot first");
  remoting::Command response = remoting::Command::response_to(request, code::kSuccess);
  response.ext.set("offset", *offset);
  respond(std::move(response));
}

void ClientOffsetHandlers::update_offset(const remoting::Caller& /*caller*/, remoting::Command request,
                                         remoting::Responder respond) {
  RequestFields fields(request);
  const std::string group = fields.text("consumerGroup");
  const std::string topic = fields.text("topic");
  const int32_t queue_id = fields.i32("queueId");
  const int64_t offset = fields.i64("commitOffset");
  const bool only_forward = fields.boolean_or("onlyForward", false);  // of our own slaves
  if (queue_id < 0) fields.reject("the header field queueId is negative");
  if (offset < 0) fields.reject("the header field commitOffset is negative");
  if (!fields.ok()) return refuse(request, respond, fields);

  if (parts_.groups.find(group) == nullptr)
    return refuse(request, respond, code::kSubscriptionGroupNotExist, "Group " + group + " not exist!");
  auto config = parts_.topics.find(topic);
  if (config == nullptr) return refuse(request, respond, code::kTopicNotExist, "Topic " + topic + " not exist!");
  const int32_t queues = std::max(config->read_queue_nums, config->write_queue_nums);
  if (queue_id >= queues)
    return refuse(request, respond, code::kInvalidParameter,
                  "the header field queueId is " + std::to_string(queue_id) + ", but topic " + topic + " has " +
                      std::to_string(queues) + " queues");
  if (only_forward) {
    parts_.offsets.commit_forward(group, topic, queue_id, offset);
    return accept(request, respond);
  }
  if (!parts_.offsets.commit(group, topic, queue_id, offset))
    return respond(remoting::Command::response_to(request, code::kSuccess, "Offset has been previously reset"));
  accept(request, respond);
}

}  // namespace apogee::broker
