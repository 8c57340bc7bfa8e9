#include <algorithm>
#include <utility>

#include "broker/handlers/request_fields.h"
#include "broker/handlers/send_handlers.h"
#include "broker/messages/stored_copy.h"
#include "common/base/text.h"
#include "common/message/message_record.h"
#include "common/message/properties.h"
#include "common/message/property_names.h"

namespace apogee::broker {

namespace code = remoting::response_code;
namespace property = message::property;

namespace {
constexpr int64_t kFirstRetryLevel = 3;  ///< of a message that was never given back before: 10 s by default
}  // namespace

/// A message that was given back, until its copy is stored.
struct SendBackHandler::Wanted {
  remoting::Command response;
  remoting::Responder respond;
  std::string group;
  StoredCopy copy;
  bool dead = false;
  void answer(int32_t response_code, std::string remark) {
    response.code = response_code;
    if (!remark.empty()) response.remark = std::move(remark);
    respond(std::move(response));
  }
};

void SendBackHandler::send_back(const remoting::Caller& /*caller*/, remoting::Command request,
                                remoting::Responder respond) {
  RequestFields fields(request);
  const int64_t offset = fields.i64("offset");
  const std::string group = fields.text("group");
  const int32_t delay_level = fields.i32("delayLevel");
  const bool unit_mode = fields.boolean_or("unitMode", false);
  std::optional<int32_t> asked_max;
  constexpr int32_t kVersionWithMaxReconsumeTimes = 121;
  if (auto text = request.ext.get("maxReconsumeTimes"); text && !text->empty()) {
    int32_t times = fields.i32("maxReconsumeTimes");
    if (request.version >= kVersionWithMaxReconsumeTimes) asked_max = times;
  }
  if (offset < 0) fields.reject("the header field offset is negative");
  if (!fields.ok()) return refuse(request, respond, fields);

  auto config = parts_.groups.find(group);
  if (config == nullptr)
    return refuse(request, respond, code::kSubscriptionGroupNotExist, "subscription group not exist, " + group);
  if ((parts_.config.permission & remoting::perm::kWrite) == 0)
    return refuse(request, respond, code::kNoPermission,
                  "the broker[" + parts_.broker_ip + "] sending message is forbidden");
  if (config->retry_queue_nums <= 0) return accept(request, respond);

  auto wanted = std::make_shared<Wanted>();
  wanted->response = remoting::Command::response_to(request, code::kSystemError);
  wanted->respond = std::move(respond);
  wanted->group = group;
  auto bytes = parts_.store.record_at(offset);
  auto copy = bytes ? StoredCopy::of(std::move(*bytes)) : Result<StoredCopy>(Error{});
  if (!copy) return wanted->answer(code::kSystemError, "look message by offset failed, " + std::to_string(offset));
  wanted->copy = std::move(*copy);
  const auto& record = wanted->copy.record;
  std::string& properties = wanted->copy.properties;
  if (!message::find_property(properties, property::kRetryTopic))
    message::append_property(properties, property::kRetryTopic, record.topic);
  message::set_property(properties, property::kWait, "false");
  if (!message::find_property(properties, property::kOriginMessageId))
    message::append_property(properties, property::kOriginMessageId,
                             message::encode_offset_message_id(record.store_host, record.physical_offset));

  const bool dead = delay_level < 0 || record.reconsume_times >= asked_max.value_or(config->retry_max_times);
  wanted->dead = dead;
  if (dead) {
    message::remove_property(properties, property::kDelayLevel);
  } else {
    const int64_t level = delay_level > 0 ? delay_level : kFirstRetryLevel + int64_t{record.reconsume_times};
    message::set_property(properties, property::kDelayLevel, std::to_string(std::clamp<int64_t>(level, 1, INT32_MAX)));
  }
  const int32_t queues = dead ? 1 : config->retry_queue_nums;
  wanted->copy.topic = dead ? dlq_topic_of(group) : retry_topic_of(group);
  parts_.topics.create_group_topic(wanted->copy.topic, queues, unit_mode ? 2 : 0, [this, wanted](const Status& status) {
    if (!status) return wanted->answer(code::kSystemError, status.error().message);
    store_copy(wanted);
  });
}

void SendBackHandler::store_copy(const std::shared_ptr<Wanted>& wanted) {
  StoredCopy& copy = wanted->copy;
  auto topic = parts_.topics.find(copy.topic);
  if (topic == nullptr) return wanted->answer(code::kSystemError, "topic[" + copy.topic + "] not exist");
  if ((topic->perm & remoting::perm::kWrite) == 0 || topic->write_queue_nums <= 0)
    return wanted->answer(code::kNoPermission, "the topic[" + copy.topic + "] sending message is forbidden");
  copy.queue_id = static_cast<int32_t>(next_queue_.fetch_add(1, std::memory_order_relaxed) %
                                       static_cast<uint32_t>(topic->write_queue_nums));
  copy.reconsume_times = copy.record.reconsume_times + 1;
  auto done = [this, wanted](const store::PutResult& result) {
    if (!result.stored()) {
      SendAnswer answer = answer_of(result, parts_.config.message_bytes_max);
      return wanted->answer(code::kSystemError, answer.remark);
    }
    parts_.stats.on_send_back(wanted->group, std::string(wanted->copy.record.topic));
    wanted->answer(code::kSuccess, {});
  };
  if (wanted->dead) return parts_.put.deliver(copy.draft(parts_.store_host), std::move(done));
  parts_.put.put(copy.draft(parts_.store_host), std::move(done));
}

}  // namespace apogee::broker
