#include "broker/handlers/send_fields.h"

namespace apogee::broker {

const SendFieldNames kSendFieldsInWords = {"producerGroup", "topic",          "defaultTopic",  "defaultTopicQueueNums",
                                           "queueId",       "sysFlag",        "bornTimestamp", "flag",
                                           "properties",    "reconsumeTimes", "unitMode",      "maxReconsumeTimes",
                                           "batch"};
const SendFieldNames kSendFieldsOfOneLetter = {"a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m"};

SendRequest read_send_fields(RequestFields& fields, const remoting::Caller& caller, const remoting::Command& request,
                             const SendFieldNames& names) {
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
  wanted.batch = fields.boolean_or(names.batch, false);
  wanted.caller_address = caller.address;
  return wanted;
}

void set_send_answer(remoting::Command& response, const SendAnswer& answer) {
  response.ext.set("msgId", answer.message_ids);
  response.ext.set("queueId", answer.queue_id);
  response.ext.set("queueOffset", answer.queue_offset);
  if (!answer.unique_key.empty()) response.ext.set("transactionId", answer.unique_key);
  if (!answer.recall_handle.empty()) response.ext.set("recallHandle", answer.recall_handle);
}

}  // namespace apogee::broker
