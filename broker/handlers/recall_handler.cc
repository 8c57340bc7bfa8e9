#include "broker/handlers/recall_handler.h"

#include <utility>

#include "broker/handlers/request_fields.h"
#include "broker/handlers/send_operation.h"
#include "common/message/properties.h"
#include "common/message/property_names.h"
#include "common/message/recall_handle.h"
#include "common/remoting/response_code.h"

namespace apogee::broker {

namespace code = remoting::response_code;
namespace property = message::property;

namespace {
constexpr std::string_view kBody = "0", kTag = "_RECALL_TAG_";
}  // namespace

void RecallHandler::recall(const remoting::Caller& caller, remoting::Command request, remoting::Responder respond) {
  RequestFields fields(request);
  const std::string group = fields.text_or("producerGroup", "");
  const std::string topic = fields.text("topic");
  const std::string text = fields.text("recallHandle");
  const BrokerConfig& config = parts_.config;
  remoting::Command response = remoting::Command::response_to(request, code::kSystemError);
  response.ext.set("MSG_REGION", config.region_id.get());
  auto answer = [&response, &respond](int32_t response_code, std::string why) {
    response.code = response_code;
    response.remark = std::move(why);
    respond(std::move(response));
  };
  if (!fields.ok()) return answer(code::kInvalidParameter, fields.remark());
  if (!config.recall_enabled) return answer(code::kNoPermission, "recall failed, operation is forbidden");
  constexpr const char* kNotHere = "recall failed, broker service not available";
  if (config.role == BrokerRole::kSlave) return answer(code::kSlaveNotAvailable, kNotHere);
  const int64_t now = parts_.now_ms();
  if (now < config.accept_sends_from_ms) return answer(code::kServiceNotAvailable, kNotHere);
  if ((config.permission & remoting::perm::kWrite) == 0 && !config.recall_without_write_permission)
    return answer(code::kServiceNotAvailable, kNotHere);
  if (parts_.topics.find(topic) == nullptr)
    return answer(code::kTopicNotExist, "recall failed, the topic[" + topic + "] not exist");
  const auto handle = message::decode_recall_handle(text);
  if (!handle) return answer(code::kIllegalOperation, handle.error().message);
  if (handle->topic != topic) return answer(code::kIllegalOperation, "recall failed, topic not match");
  if (handle->broker_name != config.broker_name) return answer(code::kIllegalOperation, kNotHere);
  if (handle->due_ms <= now || handle->due_ms - now > config.timer_limits().max_delay_ms)
    return answer(code::kIllegalOperation, "recall failed, timestamp invalid");

  // They are the caller's, and shall bring no properties of their own.
  for (const auto& value : {handle->unique_id, group.empty() ? handle->unique_id : group})
    if (Status status = message::check_property(property::kUniqueKey, value); !status)
      return answer(code::kIllegalOperation, "recall failed, " + status.error().message);

  std::string properties;
  auto set = [&properties](std::string_view name, std::string_view value) {
    message::append_property(properties, name, value);
  };
  set(property::kTags, kTag);
  set(property::kTimerDeleteUniqueKey, topic + "+" + handle->unique_id);
  set(property::kTimerDeliverMs, std::to_string(handle->due_ms));
  set(property::kUniqueKey, handle->unique_id);
  if (!group.empty()) set(property::kProducerGroup, group);
  store::MessageDraft draft;
  draft.topic = topic;
  draft.queue_id = 0;
  draft.born_timestamp_ms = now;
  draft.born_host = host_address_of(caller.address);
  draft.store_host = parts_.store_host;
  draft.body = kBody;
  draft.properties = properties;
  draft.wait_store_ok = true;
  parts_.put.put(
      draft, [&stats = parts_.stats, now, now_ms = parts_.now_ms, topic, id = handle->unique_id,
              response = std::move(response), respond = std::move(respond)](const store::PutResult& result) mutable {
        if (result.stored()) {
          stats.on_put(topic, 1, static_cast<int64_t>(kBody.size()), now_ms() - now);
          response.code = code::kSuccess;
          response.ext.set("msgId", id);
        } else {
          response.remark = "recall failed, execute error" + (result.detail.empty() ? "" : ": " + result.detail);
        }
        respond(std::move(response));
      });
}

}  // namespace apogee::broker
