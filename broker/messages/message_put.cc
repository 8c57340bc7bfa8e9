#include "broker/messages/message_put.h"

#include "common/message/properties.h"
#include "common/message/property_names.h"

namespace apogee::broker {

namespace property = message::property;

ParkedAt park(const store::MessageDraft& draft, std::string_view topic, int32_t queue_id) {
  ParkedAt parked{std::string(topic), queue_id, std::string(draft.properties)};
  message::set_property(parked.properties, property::kRealTopic, draft.topic);
  message::set_property(parked.properties, property::kRealQueueId, std::to_string(draft.queue_id));
  return parked;
}

void MessagePut::put(const store::MessageDraft& draft, store::PutCallback done) {
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
    store::MessageDraft waiting = draft;
    waiting.topic = (*parked)->topic;
    waiting.queue_id = (*parked)->queue_id;
    waiting.properties = (*parked)->properties;
    return store_.append(waiting, std::move(done));
  }
  store_.append(draft, std::move(done));
}

}  // namespace apogee::broker
