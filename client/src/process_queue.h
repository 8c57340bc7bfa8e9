#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "apogee/message.h"
#include "apogee/message_queue.h"
#include "client/src/offset_store.h"
#include "common/remoting/bodies/client_bodies.h"

namespace apogee {

/// What a push consumer holds of one of its queues: messages that were pulled and are not done. The offset that may
/// be committed is that of the first of them. Thread: any, except for the public fields.
class ProcessQueue {
 public:
  struct Cached {
    size_t count = 0;
    int64_t bytes = 0;
    int64_t span = 0;  ///< last offset minus first
  };

  /// What one queue may hold before pulling stops. A negative span does not count.
  struct Limits {
    size_t count = 0;
    int64_t bytes = 0;
    int64_t span = -1;
  };

  explicit ProcessQueue(MessageQueue queue) : queue_(std::move(queue)) {}

  [[nodiscard]] const MessageQueue& queue() const { return queue_; }
  [[nodiscard]] Cached cached() const;

  /// Whether another pull may begin. If not, the remove() or commit() that makes room says so, once.
  [[nodiscard]] bool has_room_or_waits(const Limits& limits);

  /// Adds pulled messages. True when nobody hands out messages of this queue: an orderly consumer must begin to.
  bool put(const std::vector<ReceivedMessage>& messages);
  /// Everything before next_offset that was pulled is done, if nothing is cached.
  void skip_to(int64_t next_offset, OffsetStore& offsets);

  // Concurrent listeners.
  void mark_started(const std::vector<ReceivedMessage>& messages, int64_t now_ms);
  [[nodiscard]] bool contains(const ReceivedMessage& message) const;
  /// These are done: moves the queue's offset on, unless the queue was dropped. True when that made the room that a
  /// pull waits for: the caller lets it go on.
  [[nodiscard]] bool remove(const std::vector<ReceivedMessage>& messages, OffsetStore& offsets);
  /// Messages at the head whose listener was started at or before that time and has not ended.
  [[nodiscard]] std::vector<ReceivedMessage> started_until(int64_t time_ms, size_t count_max) const;

  // Orderly listeners: one at a time takes messages, and commits them or puts them back.
  /// The next messages; none, when there are none or the queue was dropped: the one who asks is then no longer
  /// in charge of the queue.
  [[nodiscard]] std::vector<ReceivedMessage> take(size_t count_max);
  /// True as of remove().
  [[nodiscard]] bool commit(OffsetStore& offsets);
  void put_back(const std::vector<ReceivedMessage>& messages);
  /// Gives up being in charge; begin_again() tells whether somebody has to take over.
  void leave();
  [[nodiscard]] bool begin_again();
  /// Held while a listener runs; whoever gives the queue away needs it first.
  [[nodiscard]] std::mutex& listener_mutex() { return listener_mutex_; }

  /// The queue is no longer ours. discard: what is done from now on does not count (its offset was reset).
  void drop(bool discard);
  [[nodiscard]] bool dropped() const;

  // Times of steady_ms(): a step of the clock makes no lock longer.
  void set_locked(bool locked, int64_t asked_ms);
  [[nodiscard]] bool lock_is_valid(int64_t now_ms, int64_t valid_ms) const;

  [[nodiscard]] remoting::ProcessQueueInfo info() const;

  // Of the consumer's loop alone.
  int64_t next_offset = 0;
  int64_t suggested_broker_id = 0;
  bool started = false;                     ///< has its lock and its offset
  bool given_back = false;                  ///< its lock was given back: it must not be renewed
  bool paused = false;                      ///< not pulled from until the consumer is resumed
  std::atomic<int64_t> last_pull_ms{0};     ///< since 1970
  std::atomic<int64_t> last_consume_ms{0};  ///< since 1970

 private:
  struct Entry {
    ReceivedMessage message;
    int64_t started_ms = 0;
  };
  [[nodiscard]] Cached cached_locked() const;
  [[nodiscard]] bool fits_locked(const Limits& limits) const;
  bool stop_waiting_locked();
  void commit_locked(OffsetStore& offsets) const;

  const MessageQueue queue_;
  std::mutex listener_mutex_;
  mutable std::mutex mutex_;
  // All guarded by mutex_.
  std::map<int64_t, Entry> messages_;
  std::map<int64_t, ReceivedMessage> taken_;
  int64_t bytes_ = 0;
  int64_t end_offset_ = -1;          ///< behind the last message ever put
  std::optional<Limits> waits_for_;  ///< a pull waits until what is cached is within these
  bool in_charge_ = false;
  bool dropped_ = false;
  bool discarded_ = false;
  bool locked_ = false;
  int64_t locked_ms_ = 0;
};
using ProcessQueuePtr = std::shared_ptr<ProcessQueue>;

}  // namespace apogee
