#include "broker/pull/offset_moved_events.h"

#include <utility>

#include "common/message/properties.h"
#include "common/message/property_names.h"
#include "common/remoting/bodies/event_bodies.h"

namespace apogee::broker {

namespace property = message::property;

namespace {
constexpr TokenBucket::Rate kRate{10, 100};
}  // namespace

void OffsetMovedEvents::tell(const std::string& group, const std::string& topic, int32_t queue_id, int64_t wanted,
                             int64_t given) {
  int64_t not_told = 0;
  {
    const int64_t now_us = parts_.now_us();
    std::lock_guard lock(mutex_);
    if (bucket_.due_us(kRate, 1, now_us) > static_cast<double>(now_us)) {
      ++not_told_;
      return;
    }
    bucket_.take(kRate, 1, now_us);
    not_told = std::exchange(not_told_, 0);
  }
  parts_.logger.warn("group {} asked for offset {} of {}[{}], and got {}", group, wanted, topic, queue_id, given);
  if (not_told > 0) parts_.logger.warn("{} more such pulls were not told", not_told);
  const std::string body =
      encode(remoting::OffsetMovedEvent{group, MessageQueue{topic, parts_.broker_name, queue_id}, wanted, given});
  std::string properties;
  message::append_property(properties, property::kTags, group);
  message::append_property(properties, property::kKeys, group);
  store::MessageDraft draft;
  draft.topic = kOffsetMovedTopic;
  draft.queue_id = 0;
  draft.born_timestamp_ms = parts_.now_ms();
  draft.born_host = parts_.store_host;
  draft.store_host = parts_.store_host;
  draft.body = body;
  draft.properties = properties;
  draft.wait_store_ok = false;
  parts_.put.put(draft, [&logger = parts_.logger](const store::PutResult& result) {
    if (!result.stored()) logger.warn("{}: an event was not stored: {}", kOffsetMovedTopic, result.detail);
  });
}

}  // namespace apogee::broker
