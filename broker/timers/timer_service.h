#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "broker/groups/client_info.h"
#include "broker/messages/message_put.h"
#include "broker/messages/stored_copy.h"
#include "broker/timers/timer_db.h"
#include "broker/timers/timer_rule.h"
#include "common/base/logger.h"
#include "store/message_store.h"

namespace apogee::broker {

/// Delivers what waits in the timer topic at the millisecond it is due. A thread of its own carries queue 0 of the
/// topic into the database, puts what is due into its real topic, and appends again what stands in a log file that is
/// to be removed. Everything is rebuilt from the log where the database is missing or damaged; then what a checkpoint
/// (written every five seconds and at stop) says was delivered is not delivered again.
/// A crash repeats the deliveries of one batch, loss of power those of a second; nothing is lost by either.
/// A timer that cannot be read, or that the store refuses for what it is (because maxMessageSize became smaller, say),
/// is tried three times, 10 s apart, and then given up with an error line that names it; others do not wait for it.
/// Times are the system clock's: when it is set back timers wait until it shows their time.
class TimerService {
 public:
  struct Options {
    std::string db_dir;           ///< <store root>/timersdb
    std::string checkpoint_file;  ///< <store root>/config/timersCheckpoint.json; empty: none is kept
    /// <store root>/config/timercheck of a broker of Apache RocketMQ 5 that ran on this store before; empty: none.
    std::string apache_checkpoint_file;
    int64_t precision_ms = 1'000;  ///< timerPrecisionMs: a cancellation finds its message in the same unit of time
    int64_t checkpoint_interval_ms = 5'000;  ///< between writes of the checkpoint
    int64_t put_off_ms = 10'000;             ///< between tries of a timer that cannot be delivered
  };
  struct Parts {
    store::MessageStore& store;
    MessagePut& put;
    const Logger& logger;
    NowMs now_ms = system_now_ms;
  };
  struct Figures {
    int64_t pending = 0, delivered_total = 0, cancelled_total = 0, rolled_total = 0, lost_total = 0;
    int64_t read_behind_ms = 0;  ///< how late the next due message is
    int64_t offset_behind = 0;   ///< messages of the timer topic that are not in the database yet
  };

  /// Opens the database. After the store was opened, before it is started.
  /// Errors: kIo, kDiskFull, kAlreadyExists (another process holds the database).
  [[nodiscard]] static Result<std::unique_ptr<TimerService>> open(Options options, Parts parts);
  ~TimerService();  ///< stops
  TimerService(const TimerService&) = delete;
  TimerService& operator=(const TimerService&) = delete;

  /// After the store was started. `store_host`: the address that this broker registers with.
  void start(store::HostAddress store_host);
  /// Ends deliveries; what waits, waits for the next start. Before the store stops.
  void stop();

  /// There may be new messages in the timer topic. Thread: any; does not block.
  void on_arrivals(const std::vector<store::Arrival>& arrivals);
  /// For MessageStore::set_removal_listener: whether nothing in front of `new_begin` is needed any more. Else what
  /// waits there is appended again, and a later call answers true once the copies are on disk. Waits a little.
  [[nodiscard]] bool may_remove(store::LogOffset new_begin);
  /// What a slave has to know of the deliveries here: as in the checkpoint file, which is behind what was delivered.
  struct Progress {
    store::QueueOffset queue_offset = 0;  ///< messages of the timer topic in front of it ...
    int64_t delivered_until_ms = -1;      ///< ... that were due at or before this time are delivered or cancelled
  };
  [[nodiscard]] Progress saved_progress() const;  ///< Thread: any.
  /// Writes the checkpoint file of a broker whose timers do not run, durably. Errors: kIo, kDiskFull.
  [[nodiscard]] static Status write_checkpoint(const std::string& file, const Progress& progress);
  [[nodiscard]] Figures figures() const;  ///< Thread: any.
  /// The same for brokerStatus.
  [[nodiscard]] std::map<std::string, std::string> figure_table() const;

 private:
  using Clock = std::chrono::steady_clock;
  struct Checkpoint {
    store::QueueOffset queue_offset = 0;  ///< messages in front of it ...
    int64_t delivered_until_ms = -1;      ///< ... that were due at or before this time are delivered or cancelled
    bool operator==(const Checkpoint& other) const {
      return queue_offset == other.queue_offset && delivered_until_ms == other.delivered_until_ms;
    }
  };
  struct Read {  ///< a record of the timer topic
    StoredCopy copy;
    WaitingMessage waiting;
  };

  TimerService(Options options, Parts parts, std::unique_ptr<TimerDb> db);
  void run();
  [[nodiscard]] Status turn();  ///< one round of all work; `idle_` tells whether there was none
  [[nodiscard]] Status enqueue();
  [[nodiscard]] Status enqueue_one(const Read& read, const TimerEntry& entry, TimerDb::Changes& changes);
  [[nodiscard]] Status deliver(int64_t now);
  [[nodiscard]] Status each_second();
  [[nodiscard]] Status look_at_removal();
  [[nodiscard]] Status roll(const std::vector<TimerEntry>& entries);
  void keep_checkpoint();
  void load_checkpoint();
  void load_apache_checkpoint();
  [[nodiscard]] Status rebuild();
  void begin();
  [[nodiscard]] Result<Read> read_at(store::LogOffset offset) const;
  [[nodiscard]] bool is_target(store::LogOffset offset, const WaitingMessage& wanted) const;
  [[nodiscard]] std::vector<store::PutResult> put_all(const std::vector<StoredCopy>& copies);
  [[nodiscard]] int64_t unit_begin(int64_t due_ms) const;
  [[nodiscard]] bool given_up(const TimerEntry& entry, const std::string& why, const StoredCopy* copy = nullptr);
  [[nodiscard]] Clock::duration wait_time();

  const Options options_;
  const Parts parts_;
  store::HostAddress store_host_;  // constant after start()
  std::unique_ptr<TimerDb> db_;    // the thread's, as everything down to mutex_
  Checkpoint delivered_;           // what need not be delivered when rebuilding
  bool rebuilding_ = false;
  store::QueueOffset deliver_from_ = 0;  // nothing is delivered before the queue was read up to here
  bool idle_ = false;
  int64_t due_looked_ms_ = -1;  // everything due up to here was seen by deliver()
  Clock::time_point next_second_, next_checkpoint_, refused_until_;
  int refusals_ = 0;
  struct PutOff {
    Clock::time_point until;
    int times = 0;
  };
  std::map<store::LogOffset, PutOff> put_off_;  // what cannot be put, tried again later
  Checkpoint saved_, proposed_;
  int64_t delivered_at_checkpoint_ = 0;
  store::LogOffset proposed_at_ = -1;    // the checkpoint may be written when the log is flushed up to here
  store::QueueOffset rolled_to_ = 0;     // in the timer topic; copies in front of it were appended
  store::LogOffset removal_noted_ = -1;  // what is wanted
  store::QueueOffset removal_from_ = 0;  // the end of the timer topic when it was noted
  store::LogOffset removal_seen_ = -1, flush_wanted_ = -1;

  mutable std::mutex mutex_;
  std::condition_variable wanted_, granted_changed_;
  bool woken_ = false, stopping_ = false;                        // guarded by mutex_
  store::LogOffset removal_wanted_ = -1, removal_granted_ = -1;  // guarded by mutex_
  Progress published_;                                           // of the checkpoint file; guarded by mutex_
  std::atomic<bool> arrived_{true};
  std::atomic<int64_t> delivered_total_{0}, cancelled_total_{0}, rolled_total_{0}, lost_total_{0};
  std::atomic<int64_t> next_due_ms_{INT64_MAX}, pending_{0}, progress_{0};
  std::thread thread_;
};

}  // namespace apogee::broker
