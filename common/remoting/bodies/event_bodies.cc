#include "common/remoting/bodies/event_bodies.h"

#include "common/remoting/bodies/body_reader.h"
#include "common/remoting/bodies/json_writer.h"

namespace apogee::remoting {

static void read_body(const BodyReader& in, OffsetMovedEvent& to) {
  in.read("consumerGroup", to.consumer_group);
  in.read("messageQueue", to.message_queue);
  in.read("offsetRequest", to.offset_request);
  in.read("offsetNew", to.offset_new);
}

std::string encode(const OffsetMovedEvent& event) {
  return JsonWriter()
      .begin_object()
      .member("consumerGroup", event.consumer_group)
      .member("messageQueue", event.message_queue)
      .member("offsetNew", event.offset_new)
      .member("offsetRequest", event.offset_request)
      .end_object()
      .take();
}

Result<OffsetMovedEvent> decode_offset_moved_event(std::string_view json) {
  return decode_body<OffsetMovedEvent>(json, "OffsetMovedEvent");
}

}  // namespace apogee::remoting
