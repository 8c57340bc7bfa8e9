#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "apogee/message_queue.h"
#include "broker/groups/client_info.h"

namespace apogee::broker {

/// Which client of a group may consume a queue in order. Kept in memory: after a restart whoever asks first
/// gets the lock. Thread: any; one lock, for map operations only.
class QueueLocks {
 public:
  explicit QueueLocks(NowMs now_ms = system_now_ms, int64_t life_ms = 60'000);

  void set_life_ms(int64_t life_ms) { life_ms_.store(life_ms, std::memory_order_relaxed); }

  /// Locks or renews what is free, expired or already the client's; returns those of `queues`.
  [[nodiscard]] std::vector<MessageQueue> lock(std::string_view group, std::string_view client_id,
                                               const std::vector<MessageQueue>& queues);
  /// Frees those that the client owns.
  void unlock(std::string_view group, std::string_view client_id, const std::vector<MessageQueue>& queues);
  /// Whether any queue of the group has a lock that has not expired.
  [[nodiscard]] bool any_locked(std::string_view group) const;
  /// The owner of a lock that has not expired; empty when there is none.
  [[nodiscard]] std::string owner(std::string_view group, const MessageQueue& queue) const;
  /// Forgets expired locks; call every 10 s.
  size_t expire();
  void remove_group(std::string_view group);

 private:
  struct Lock {
    std::string client_id;
    int64_t renewed_ms = 0;
  };
  [[nodiscard]] bool expired(const Lock& lock, int64_t now) const {
    return now - lock.renewed_ms > life_ms_.load(std::memory_order_relaxed);
  }

  NowMs now_ms_;
  std::atomic<int64_t> life_ms_;
  mutable std::mutex mutex_;
  std::map<std::string, std::map<MessageQueue, Lock>, std::less<>> groups_;  // guarded by mutex_
};

}  // namespace apogee::broker
