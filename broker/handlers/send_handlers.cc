#include "broker/handlers/send_handlers.h"

#include <utility>

#include "broker/handlers/request_fields.h"

namespace apogee::broker {

namespace code = remoting::response_code;

struct SendHandlers::Names {
  const char *group, *topic, *default_topic, *default_queue_nums, *queue_id, *sys_flag, *born_timestamp, *flag,
      *properties, *reconsume_times, *unit_mode, *max_reconsume_times, *batch;
};

void SendHandlers::send_message(const remoting::Caller& caller, remoting::Command request,
                                remoting::Responder respond) {
  static constexpr Names kNames = {"producerGroup", "topic",          "defaultTopic",  "defaultTopicQueueNums",
                                   "queueId",       "sysFlag",        "bornTimestamp", "flag",
                                   "properties",    "reconsumeTimes", "unitMode",      "maxReconsumeTimes",
                                   "batch"};
  send(caller, std::move(request), std::move(respond), kNames, false);
}

void SendHandlers::send_message_v2(const remoting::Caller& caller, remoting::Command request,
                                   remoting::Responder respond) {
  static constexpr Names kNames = {"a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m"};
  send(caller, std::move(request), std::move(respond), kNames, false);
}

void SendHandlers::send_batch(const remoting::Caller& caller, remoting::Command request, remoting::Responder respond) {
  static constexpr Names kNames = {"a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m"};
  const bool batch = !request.ext.get("m").has_value();
  send(caller, std::move(request), std::move(respond), kNames, batch);
}

void SendHandlers::send(const remoting::Caller& caller, remoting::Command request, remoting::Responder respond,
                        const Names& names, bool batch) {
  RequestFields fields(request);
  SendRequest wanted;
  wanted.group = fields.text(names.group);
  // A blank topic is refused as an illegal one is; only an absent one is a missing field.
  if (auto topic = request.ext.get(names.topic)) {
    wanted.topic = std::string(*topic);
  } else {
    fields.reject(std::string("the header field ") + names.topic + " (topic) is missing");
  }
  wanted.default_topic = fields.text_or(names.default_topic, "");
  wanted.default_topic_queue_nums = fields.i32(names.default_queue_nums);
  wanted.queue_id = fields.i32(names.queue_id);
  wanted.sys_flag = fields.i32(names.sys_flag);
  wanted.born_timestamp_ms = fields.i64(names.born_timestamp);
  wanted.flag = fields.i32(names.flag);
  if (auto properties = request.ext.get(names.properties)) wanted.properties = std::string(*properties);
  wanted.reconsume_times = fields.i32_or(names.reconsume_times, 0);
  wanted.unit_mode = fields.boolean_or(names.unit_mode, false);
  constexpr int32_t kVersionWithMaxReconsumeTimes = 121;
  if (auto text = request.ext.get(names.max_reconsume_times); text && !text->empty()) {
    int32_t times = fields.i32(names.max_reconsume_times);
    if (request.version >= kVersionWithMaxReconsumeTimes) wanted.max_reconsume_times = times;
  }
  wanted.batch = batch || fields.boolean_or(names.batch, false);

  remoting::Command response = remoting::Command::response_to(request, code::kSystemError);
  response.ext.set("MSG_REGION", config_.region_id.get());
  response.ext.set("TRACE_ON", config_.trace_on.get());
  if (!fields.ok()) {
    response.code = code::kInvalidParameter;
    response.remark = fields.remark();
    return respond(std::move(response));
  }
  wanted.body = std::move(request.body);
  wanted.caller_address = caller.address;
  operation_.send(std::move(wanted),
                  [response = std::move(response), respond = std::move(respond)](SendAnswer answer) mutable {
                    response.code = answer.code;
                    if (!answer.remark.empty()) response.remark = std::move(answer.remark);
                    if (answer.stored) {
                      response.ext.set("msgId", answer.message_ids);
                      response.ext.set("queueId", answer.queue_id);
                      response.ext.set("queueOffset", answer.queue_offset);
                      if (!answer.unique_key.empty()) response.ext.set("transactionId", answer.unique_key);
                    }
                    respond(std::move(response));
                  });
}

}  // namespace apogee::broker
