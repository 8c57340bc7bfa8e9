#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "apogee/result.h"

namespace apogee::remoting {

enum class MessageRequestMode : uint8_t { kPull = 0, kPop = 1 };
const char* to_string(MessageRequestMode mode);  ///< "PULL", "POP"

/// Body of SET_MESSAGE_REQUEST_MODE.
struct SetMessageRequestModeBody {
  std::string topic;
  std::string consumer_group;
  MessageRequestMode mode = MessageRequestMode::kPull;
  int32_t pop_share_queue_num = 0;
};
std::string encode(const SetMessageRequestModeBody& body);
[[nodiscard]] Result<SetMessageRequestModeBody> decode_set_message_request_mode_body(std::string_view json);

}  // namespace apogee::remoting
