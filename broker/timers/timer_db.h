#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "apogee/result.h"
#include "store/message_store.h"

namespace apogee::broker {

/// A message that waits in the timer topic.
struct TimerEntry {
  int64_t due_ms = 0;  ///< since 1970
  store::LogOffset offset = 0;
  store::QueueOffset queue_offset = 0;  ///< in the timer topic
  uint64_t key_hash = 0;                ///< of real topic and unique key
  bool cancels = false;                 ///< it is no message, but cancels the one with its key
};

/// The waiting messages in a RocksDB, by due time, by place in the log and by key; messages due at the same
/// millisecond are in the order in which they were stored. Nothing is held in memory for a waiting message. Every
/// change is one atomic write; it survives the end of the process at once, and loss of power after sync().
/// Thread: one at a time, except pending(). Errors of all calls: kIo, kDiskFull, kCorrupt.
class TimerDb {
 public:
  /// Messages that were delivered, to be put back should the log lose their copies.
  struct Delivered {
    store::LogOffset last_copy = -1;  ///< where the last of the copies begins
    std::vector<TimerEntry> entries;
  };
  struct Changes {
    std::vector<TimerEntry> removed, added;            ///< applied in this order
    std::optional<store::QueueOffset> queue_progress;  ///< everything in front of it is in the database, or was
    Delivered delivered;
    std::vector<store::LogOffset> forgotten;  ///< of delivered ones: where the last copy begins
    [[nodiscard]] bool empty() const {
      return removed.empty() && added.empty() && !queue_progress && forgotten.empty();
    }
  };

  /// Opens or creates. What is damaged or of another version is removed and made anew, see is_new().
  /// Error also: kAlreadyExists (another process holds it).
  [[nodiscard]] static Result<std::unique_ptr<TimerDb>> open(const std::string& dir);
  ~TimerDb();
  TimerDb(const TimerDb&) = delete;
  TimerDb& operator=(const TimerDb&) = delete;

  /// Nothing was in it when it was opened: it is to be filled from the log.
  [[nodiscard]] bool is_new() const;
  [[nodiscard]] store::QueueOffset queue_progress() const;
  /// Messages and cancellations. Thread: any.
  [[nodiscard]] int64_t pending() const;
  [[nodiscard]] bool has_cancellations() const;

  [[nodiscard]] Status apply(const Changes& changes);
  [[nodiscard]] Status sync();

  /// The first entries with due_ms <= now_ms, in order, behind `after` where that is given.
  [[nodiscard]] Result<std::vector<TimerEntry>> due(int64_t now_ms, size_t count_max,
                                                    const std::optional<TimerEntry>& after = std::nullopt);
  /// When the first entry is due; nullopt: none waits.
  [[nodiscard]] Result<std::optional<int64_t>> next_due();
  /// The first entries that lie in the log in front of an offset.
  [[nodiscard]] Result<std::vector<TimerEntry>> in_front_of(store::LogOffset offset, size_t count_max);
  /// Entries with this key and begin_ms <= due_ms < end_ms.
  [[nodiscard]] Result<std::vector<TimerEntry>> with_key(uint64_t key_hash, int64_t begin_ms, int64_t end_ms);
  [[nodiscard]] Result<bool> contains(int64_t due_ms, store::LogOffset offset);

  /// Forgets the delivered whose copies all begin in front of `flushed`. Returns where the last copy of the others
  /// begins, -1 for none.
  [[nodiscard]] Result<store::LogOffset> forget_delivered(store::LogOffset flushed);
  /// Lets the delivered wait again whose last copy is not in front of `log_end`, and forgets progress beyond
  /// `queue_end`. Returns how many wait again. Before other calls, after the log was recovered.
  [[nodiscard]] Result<size_t> restore(store::LogOffset log_end, store::QueueOffset queue_end);

 private:
  struct Impl;
  explicit TimerDb(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace apogee::broker
