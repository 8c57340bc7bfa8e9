#include "common/remoting/bodies/request_mode_bodies.h"

#include "common/remoting/bodies/body_reader.h"
#include "common/remoting/bodies/json_writer.h"

namespace apogee::remoting {

namespace {

constexpr const char* kModes[] = {"PULL", "POP"};

}  // namespace

const char* to_string(MessageRequestMode mode) { return kModes[static_cast<size_t>(mode)]; }

static void read_body(const BodyReader& in, SetMessageRequestModeBody& to) {
  in.read("topic", to.topic);
  in.read("consumerGroup", to.consumer_group);
  in.read_enum("mode", kModes, to.mode);
  in.read("popShareQueueNum", to.pop_share_queue_num);
}

std::string encode(const SetMessageRequestModeBody& body) {
  return JsonWriter()
      .begin_object()
      .member("consumerGroup", body.consumer_group)
      .member("mode", to_string(body.mode))
      .member("popShareQueueNum", body.pop_share_queue_num)
      .member("topic", body.topic)
      .end_object()
      .take();
}

Result<SetMessageRequestModeBody> decode_set_message_request_mode_body(std::string_view json) {
  return decode_body<SetMessageRequestModeBody>(json, "SetMessageRequestModeRequestBody");
}

}  // namespace apogee::remoting
