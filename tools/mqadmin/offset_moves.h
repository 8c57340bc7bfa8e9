#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "apogee/push_consumer.h"
#include "apogee/result.h"
#include "common/remoting/bodies/event_bodies.h"

namespace mqadmin {

/// Follows the topic OFFSET_MOVED_EVENT as a member of __MONITOR_CONSUMER, as RocketMQ's monitor does: which groups
/// asked for offsets that their queues do not have, because the messages were deleted, say. Thread: any.
class OffsetMoves {
 public:
  struct Move {
    int64_t stored_ms = 0;  ///< since 1970
    apogee::remoting::OffsetMovedEvent event;
  };

  explicit OffsetMoves(const std::string& name_servers);
  [[nodiscard]] apogee::Status start();
  /// What came since the last call, at most the newest thousand.
  [[nodiscard]] std::vector<Move> take();

 private:
  std::mutex mutex_;
  std::vector<Move> moves_;  // guarded by mutex_
  apogee::PushConsumer consumer_;
};

inline constexpr const char* kMonitorGroup = "__MONITOR_CONSUMER";

}  // namespace mqadmin
