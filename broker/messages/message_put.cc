#include "broker/messages/message_put.h"

#include "common/message/properties.h"
#include "common/message/property_names.h"

namespace apogee::broker {

namespace property = message::property;

ParkedAt park(const store::MessageDraft& draft, std::string_view topic, int32_t queue_id) {
  ParkedAt parked{std::string(topic), queue_id, std::string(draft.properties), 0};
  message::set_property(parked.properties, property::kRealTopic, draft.topic);
  message::set_property(parked.properties, property::kRealQueueId, std::to_string(draft.queue_id));
  return parked;
}

bool refused_for_good(const store::PutResult& result) {
  return result.status == store::PutStatus::kMessageIllegal ||
         result.status == store::PutStatus::kPropertiesSizeExceeded;
}

void MessagePut::put(const store::MessageDraft& draft, store::PutCallback done, int64_t* due_ms) {
  for (const auto& rule : rules_) {
    auto parked = rule(draft);
    if (!parked) {
      store::PutResult result;
      result.status = parked.error().code == Errc::kInvalidArgument ? store::PutStatus::kMessageIllegal
                                                                    : store::PutStatus::kServiceNotAvailable;
      result.detail = std::move(parked.error().message);
      return done(std::move(result));
    }
    if (!*parked) continue;
    if (due_ms != nullptr) *due_ms = (*parked)->due_ms;
    store::MessageDraft waiting = draft;
    waiting.topic = (*parked)->topic;
    waiting.queue_id = (*parked)->queue_id;
    waiting.properties = (*parked)->properties;
    return append(waiting, std::move(done));
  }
  append(draft, std::move(done));
}

void MessagePut::put_batch(const store::MessageDraft& draft, store::PutCallback done) {
  if (store_ != nullptr) return store_->append_batch(draft, std::move(done));
  store::PutResult refused;
  refused.status = store::PutStatus::kServiceNotAvailable;
  refused.detail = "batches are not taken here";
  done(std::move(refused));
}

}  // namespace apogee::broker
