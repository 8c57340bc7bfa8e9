#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "apogee/message.h"
#include "apogee/message_queue.h"

namespace apogee::admin {

enum class PullStatus : uint8_t { kFound, kNoNewMessage, kNoMatchedMessage, kOffsetIllegal };
/// "FOUND", "NO_NEW_MSG", "NO_MATCHED_MSG", "OFFSET_ILLEGAL"
const char* to_string(PullStatus status);

struct Pulled {
  PullStatus status = PullStatus::kFound;
  int64_t next_offset = 0;
  int64_t min_offset = 0;
  int64_t max_offset = 0;
  std::vector<ReceivedMessage> messages;
};
struct PullRequest {
  MessageQueue queue;
  int64_t offset = 0;
  int32_t messages_max = 32;
  std::string tags = "*";                ///< "*" or "TagA || TagB"
  std::string group = "TOOLS_CONSUMER";  ///< its offsets are not touched
};

/// Asks for messages of a topic by one of their keys, or by the unique id that their producer gave them.
struct MessageQuery {
  std::string topic;
  std::string key;            ///< one word of Message::keys(), or the id
  bool unique_id = false;     ///< key is ReceivedMessage::msg_id()
  int32_t messages_max = 64;  ///< brokers may give fewer, by default 64, or 32 of one unique id
  int64_t begin_ms = 0;       ///< store time, ms since 1970, inclusive
  int64_t end_ms = INT64_MAX;
  std::string cluster;  ///< empty = all that have the topic
};
struct FoundMessages {
  std::vector<ReceivedMessage> messages;  ///< the newest first; what was stored twice is there twice
  bool truncated = false;                 ///< there are more, older ones
  /// Why messages may be missing: brokers that did not answer, or whose index is being built.
  std::vector<std::string> warnings;
};

/// Where a message shall go.
struct SendTarget {
  std::string broker_name;          ///< empty = any that takes the topic
  std::optional<int32_t> queue_id;  ///< with broker_name only
};

}  // namespace apogee::admin
