#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "apogee/message_queue.h"
#include "apogee/result.h"
#include "broker/groups/client_info.h"

namespace apogee::broker {

/// Which client of a group may consume a queue in order. Locks outlive a restart of the broker: members come back one
/// after the other then, and the first one must not get what another one still works on. Thread: any; one lock, for map
/// operations only, but for load() and save_if_changed(), which use the disk.
class QueueLocks {
 public:
  struct Options {
    std::string file;               ///< config/queueLocks.json; empty: nothing is read or written
    int64_t life_ms = 60'000;       ///< rebalanceLockMaxLiveTime
    NowMs now_ms = steady_now_ms;   ///< a step of the system's clock makes no lock longer or shorter
    NowMs wall_ms = system_now_ms;  ///< for the file
  };
  explicit QueueLocks(Options options);

  /// Reads the file; locks go on living for what is left of their time. Errors: kIo, kCorrupt, when nothing was read.
  [[nodiscard]] Status load();
  /// Whether save_if_changed() has anything to write.
  [[nodiscard]] bool changed() const;
  /// Writes the file if owners have changed since, or times at the last expire(). To be called before a grant or a
  /// release is answered. Error: kIo, kDiskFull.
  [[nodiscard]] Status save_if_changed();

  /// All of it, for another broker of the group, whose clocks may be others.
  [[nodiscard]] std::string to_json() const;
  /// Grows with each change of an owner, and with renewals at each expire().
  [[nodiscard]] uint64_t version() const;
  /// Of to_json() of another broker: its locks become the only ones here (a slave's are its master's), or those are
  /// taken that were renewed later than the ones here. Error: kCorrupt, nothing changed.
  [[nodiscard]] Status take_over(std::string_view json);
  [[nodiscard]] Status merge(std::string_view json);

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
  /// Forgets expired locks, and lets save_if_changed() write renewals; call every 10 s.
  size_t expire();
  void remove_group(std::string_view group);

 private:
  struct Lock {
    std::string client_id;
    int64_t renewed_ms = 0;
  };
  using Groups = std::map<std::string, std::map<MessageQueue, Lock>, std::less<>>;
  /// Error: kCorrupt.
  [[nodiscard]] Result<Groups> parse(std::string_view text, const std::string& where) const;
  [[nodiscard]] bool expired(const Lock& lock, int64_t now) const {
    return now - lock.renewed_ms > life_ms_.load(std::memory_order_relaxed);
  }

  void changed_locked() { ++version_; }

  const Options options_;
  std::atomic<int64_t> life_ms_;
  std::mutex save_mutex_;  // before mutex_; one save at a time
  mutable std::mutex mutex_;
  Groups groups_;                             // guarded by mutex_
  uint64_t version_ = 0, saved_version_ = 0;  // guarded by mutex_
  bool renewed_ = false;                      // guarded by mutex_
};

}  // namespace apogee::broker
