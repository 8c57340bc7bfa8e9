#pragma once

#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <string_view>

#include "broker/groups/client_info.h"
#include "broker/messages/message_put.h"
#include "common/base/logger.h"
#include "common/base/token_bucket.h"

namespace apogee::broker {

inline constexpr std::string_view kOffsetMovedTopic = "OFFSET_MOVED_EVENT";

/// Tells, in the log and as a message of the topic OFFSET_MOVED_EVENT, that a pull asked for an offset that its queue
/// does not have; monitors read the topic. Of a client that goes on doing so at most 10 a second are told, 100 at once.
/// Thread: any; does not block.
class OffsetMovedEvents {
 public:
  struct Parts {
    MessagePut& put;
    std::string broker_name;
    store::HostAddress store_host;  ///< the address that this broker registers with
    const Logger& logger;
    NowMs now_ms = system_now_ms;
    std::function<int64_t()> now_us = steady_us;
  };
  explicit OffsetMovedEvents(Parts parts) : parts_(std::move(parts)) {}

  void tell(const std::string& group, const std::string& topic, int32_t queue_id, int64_t wanted, int64_t given);

 private:
  const Parts parts_;
  std::mutex mutex_;
  TokenBucket bucket_;    // guarded by mutex_
  int64_t not_told_ = 0;  // since the last that was; guarded by mutex_
};

}  // namespace apogee::broker
