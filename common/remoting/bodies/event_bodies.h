#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "apogee/message_queue.h"
#include "apogee/result.h"

namespace apogee::remoting {

/// Body of a message of the topic OFFSET_MOVED_EVENT: a group asked for an offset that its queue does not have, and was
/// given another one.
struct OffsetMovedEvent {
  std::string consumer_group;
  MessageQueue message_queue;
  int64_t offset_request = 0;
  int64_t offset_new = 0;
};
std::string encode(const OffsetMovedEvent& event);
[[nodiscard]] Result<OffsetMovedEvent> decode_offset_moved_event(std::string_view json);

}  // namespace apogee::remoting
