#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "apogee/result.h"

namespace apogee::message {

/// What names a waiting timer to who wants it back (RECALL_MESSAGE of RocketMQ 5.3).
struct RecallHandle {
  std::string topic;
  std::string broker_name;
  int64_t due_ms = 0;     ///< since 1970
  std::string unique_id;  ///< the message's UNIQ_KEY
};

/// "v1 topic brokerName timestamp messageId" in base64url. Empty when a part is empty or has a blank, which nobody
/// could read again.
[[nodiscard]] std::string encode_recall_handle(const RecallHandle& handle);
/// Error: kInvalidArgument. due_ms is -1 where that is no number.
[[nodiscard]] Result<RecallHandle> decode_recall_handle(std::string_view text);

}  // namespace apogee::message
