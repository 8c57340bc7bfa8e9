#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>

#include "common/message/message_record.h"
#include "store/commit_log.h"
#include "store/consume_queues.h"
#include "store/record_sketch.h"
#include "store/recovery.h"

namespace apogee::store {

/// Whether a record of this sysFlag takes a queue offset: half messages and rollbacks do not, consumers never see them.
[[nodiscard]] bool has_queue_entry(int32_t sys_flag);

/// Reads the log up to its readable end and adds what it finds to the queues, in batches; then tells the
/// arrival listener. That is done by a thread of its own, woken by wake(), or, while somebody waits for messages, by
/// who appends: one at a time. The thread alone writes the entries to files, a tenth of a second later and many at
/// once. While nobody waits it does all of a millisecond together.
class Dispatcher {
 public:
  Dispatcher(CommitLog& log, ConsumeQueues& queues, std::vector<int64_t> delay_levels_ms, const Logger& logger)
      : log_(log), queues_(queues), delay_levels_ms_(std::move(delay_levels_ms)), logger_(logger) {}
  ~Dispatcher() { stop(); }

  void set_arrival_listener(ArrivalListener listener) { listener_ = std::move(listener); }
  /// Whether somebody waits for messages; before start(). Empty: nobody ever does so.
  void set_waiting(std::function<bool()> waiting) { waiting_for_arrivals_ = std::move(waiting); }
  void set_position(LogOffset offset) { position_ = last_record_ = offset; }
  /// What recovery has found: no entries come from holes, and queues may have gaps as wide as so many bytes can be
  /// messages; records in front of `log_end` get entries only if their CRC agrees. Before catch_up().
  void set_recovered(LogOffset log_end, std::vector<Hole> holes);
  /// Works up to the readable end on the calling thread, with the entries in their files; before start(), to catch up
  /// after a crash. Error: a queue
  /// could not be written; nothing was skipped, so it may be tried again.
  /// With `stop_at_gaps` also kCorrupt: a message comes behind the end of its queue, and no hole explains what is
  /// missing; nothing was written then.
  [[nodiscard]] Status catch_up(bool stop_at_gaps = false);
  void start();
  /// Works up to the readable end and ends.
  void stop();
  void wake();
  /// As wake(), but dispatches at once and here when somebody waits and there is little to do. Waits for no disk.
  void append_done();
  /// Dispatches at once and here when there is little to do: before somebody reads, as the thread may be between two
  /// wake-ups of a millisecond then. Waits for no disk. Thread: any.
  void dispatch_here();
  /// Everything in front of this is in its queue. Thread: any.
  [[nodiscard]] LogOffset position() const { return position_.load(std::memory_order_acquire); }
  /// Waits until position() has come so far, or for so long. Thread: any but the dispatcher's.
  void wait_for(LogOffset offset, std::chrono::milliseconds longest);
  struct SyncedTo {
    LogOffset position = -1, last_record = -1;  ///< -1: nothing was synced yet
  };
  /// Up to where every record is in its queue on disk, and where the last of these records begins; thread: that of
  /// sync_queues().
  [[nodiscard]] SyncedTo synced_to() const { return synced_to_; }
  /// The tags code of a record's entry: hash of its tags, or of a delayed message the time it is due. Thread: any.
  [[nodiscard]] int64_t tags_code_of(const message::RecordView& record) const;
  /// Makes the entries durable. Thread: one at a time, not the dispatcher's: a sync may take long.
  void sync_queues();
  /// Store time up to which every message's entry is on disk. Thread: any.
  [[nodiscard]] int64_t synced_time_ms() const { return synced_time_ms_.load(); }
  /// Whether all entries written so far are on disk. Thread: that of sync_queues().
  [[nodiscard]] bool all_synced() const { return synced_to_.position == position() && !sync_failed_; }

 private:
  /// A queue that had messages lately.
  struct KnownQueue {
    std::string topic;
    int32_t queue_id = 0;
    size_t hash = 0;
    std::shared_ptr<ConsumeQueue> queue;  ///< null: not looked up yet
    int64_t removals = 0;                 ///< ConsumeQueues::removals() when it was looked up
    uint64_t round = 0;                   ///< the last one that had messages of it
    uint32_t batch = 0;                   ///< of that round: its latest, in batches_
  };
  struct QueueBatch {
    uint32_t known = 0;  ///< in known_
    QueueOffset first = 0;
    std::vector<QueueEntry> entries;
  };
  void run();
  /// All with dispatch_mutex_ held.
  [[nodiscard]] Status dispatch_batch(LogOffset end, bool stop_at_gaps);
  [[nodiscard]] Status dispatch_next(LogOffset end, bool stop_at_gaps);
  [[nodiscard]] Status add(QueueBatch& batch, bool stop_at_gaps);
  QueueBatch& batch_of(const RecordSketch& record);
  [[nodiscard]] uint32_t known_queue(std::string_view topic, int32_t queue_id);
  void begin_round();
  [[nodiscard]] int64_t tags_code(std::string_view topic, int64_t store_time_ms, const KnownProperties& known) const;
  [[nodiscard]] Status catch_up_in_memory(bool stop_at_gaps);
  void set_place(LogOffset position, LogOffset last_record);

  CommitLog& log_;
  ConsumeQueues& queues_;
  const std::vector<int64_t> delay_levels_ms_;
  const Logger& logger_;
  ArrivalListener listener_;
  std::function<bool()> waiting_for_arrivals_;
  std::mutex dispatch_mutex_;  // held by who dispatches; before all others here
  // Guarded by dispatch_mutex_, used again by each batch: the first batches_used_ of batches_ count.
  std::vector<QueueBatch> batches_;
  size_t batches_used_ = 0;
  uint64_t round_ = 0;
  std::vector<KnownQueue> known_;  // in no order; forgotten when they are many
  std::vector<uint32_t> slots_;    // hash table: index in known_, plus 1
  RecordSketcher sketcher_;
  // Of the sketcher's last topic: its hash, and where queues of it are in known_ (plus 1), by the lower bits of their
  // id.
  size_t topic_hash_ = 0;
  std::array<uint32_t, 16> recent_{};
  std::vector<Arrival> arrivals_;
  std::atomic<int64_t> held_entries_{0};  // about so many are in no file yet
  std::atomic<bool> flush_planned_{false};
  std::atomic<LogOffset> position_{0};
  std::mutex place_mutex_;  // position_ is set under it
  std::condition_variable placed_;
  int waiting_ = 0;            // guarded by place_mutex_: for placed_
  LogOffset last_record_ = 0;  // guarded by place_mutex_: begins the record that ends at position_
  SyncedTo synced_to_;         // that of sync_queues()
  std::vector<Hole> holes_;    // guarded by dispatch_mutex_, as the two below
  LogOffset checked_below_ = 0;
  int64_t lost_bytes_ = 0;
  std::atomic<int64_t> dispatched_time_ms_{0}, synced_time_ms_{0};
  std::atomic<bool> sync_failed_{false};
  std::mutex mutex_;
  std::condition_variable wanted_;
  bool pending_ = false, stopping_ = false;  // guarded by mutex_
  bool flush_asked_ = false;                 // guarded by mutex_
  std::atomic<bool> failing_{false};         // set by the thread: nothing can be written to the queues
  std::atomic<bool> asleep_{false};
  std::thread thread_;
};

}  // namespace apogee::store
