#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "common/base/logger.h"
#include "common/loop/event_loop.h"
#include "store/log_files.h"

namespace apogee::store {

/// How far the log goes, how far it is on disk, and the store times of the last records in front of these ends.
struct LogEnds {
  std::atomic<LogOffset> end{0}, flushed{0};
  std::atomic<int64_t> end_time_ms{0}, flushed_time_ms{0};
  std::atomic<LogOffset> before_tail{0};  ///< of a record, in front of the piece in which the log ends

  /// Returns whether the log ends in another piece now. Thread: one at a time.
  bool grow_to(LogOffset to, int64_t time_ms) {
    const LogOffset before = end.load(std::memory_order_relaxed);
    const bool other_piece = before / kPieceBytes != to / kPieceBytes;
    if (other_piece) before_tail.store(before, std::memory_order_relaxed);
    end_time_ms.store(time_ms, std::memory_order_relaxed);
    end.store(to, std::memory_order_seq_cst);
    return other_piece;
  }
  static constexpr int64_t kPieceBytes = io::zeros_piece(false);  ///< what the kernel writes as one
};

/// Makes the log durable, by group commit or by interval, and releases the answers that wait for it. One thread of its
/// own; an answer that waits is data, not a thread.
class Flusher {
 public:
  struct Options {
    bool sync_flush = false;
    int64_t interval_ms = 500;              ///< flushIntervalCommitLog
    int64_t least_pages = 4;                ///< flushCommitLogLeastPages: fewer wait for the thorough interval
    int64_t thorough_interval_ms = 10'000;  ///< flushCommitLogThoroughInterval
    int64_t timeout_ms = 5'000;             ///< syncFlushTimeout
    int64_t write_back_bytes = 1 << 20;     ///< written back as soon as so much has gathered
  };
  /// Called once: on the loop whose thread has called wait_for(), while that runs; else, and when the time is over or
  /// the flusher stops, on the flusher's thread or that of expire().
  using Released = std::function<void(Synced synced)>;

  Flusher(Options options, LogEnds& ends, const LogFiles& files, const Logger& logger)
      : options_(options), ends_(ends), files_(files), logger_(logger) {}
  ~Flusher() { stop(); }

  /// `flushed`: after each sync that succeeded. `failed`: when one fails, which is final: the kernel may have dropped
  /// the pages that it could not write, so that a later sync that succeeds proves nothing. Both on the flusher's
  /// thread.
  void start(std::function<void()> flushed, std::function<void(const Error& error)> failed);
  /// Syncs everything, releases what waits and ends.
  void stop();

  /// Told after appends, and after the wait_for() of those who wait for them. Thread: any.
  void grown(LogOffset end) {
    if (options_.sync_flush) return request();
    if (end - write_back_from_.load(std::memory_order_relaxed) >= options_.write_back_bytes) nudge();
  }
  /// Calls back when the log is durable up to `end`, or when the time is over. The next grown() has it synced.
  /// Thread: any.
  void wait_for(LogOffset end, Released released);
  /// Releases with kTimeout what has waited too long. Not the flusher's own work: a sync that hangs must not hold an
  /// answer beyond its time.
  void expire() { expire(false); }

 private:
  struct Waiting {
    LogOffset end;
    std::chrono::steady_clock::time_point deadline;
    std::shared_ptr<loop::EventLoop::Mailbox> home;  ///< of the loop that it is called on; nullptr: none
    Released released;
  };
  void request();
  void nudge();
  void run();
  [[nodiscard]] bool due(LogOffset end, bool stopping) const;
  void write_back(LogOffset end);
  void make_end_writable(LogOffset end) const;
  void leave_tail(LogOffset& end, int64_t& end_time);
  void gather(std::unique_lock<std::mutex>& lock);
  size_t release(LogOffset flushed, bool at_home);
  void expire(bool all);

  const Options options_;
  const LogOffset piece_ = io::zeros_piece(options_.sync_flush);  ///< what the kernel writes as one
  LogEnds& ends_;
  const LogFiles& files_;
  const Logger& logger_;
  std::function<void()> flushed_;
  std::function<void(const Error&)> failed_;
  std::mutex mutex_;
  std::condition_variable wanted_;
  std::vector<Waiting> waiting_;               // guarded by mutex_
  bool sync_now_ = false;                      // guarded by mutex_
  bool stopping_ = false;                      // guarded by mutex_
  bool ended_ = false;                         // guarded by mutex_: nothing may wait any more
  size_t gathering_ = 0;                       // guarded by mutex_: the flusher waits for so many to wait
  LogOffset looked_end_ = 0;                   // the flusher's: where the log ended an interval ago
  int64_t looked_time_ = 0;                    // the flusher's: the store time of the last record in front of it
  size_t last_group_ = 0;                      // the flusher's: answers that the last sync released
  std::chrono::nanoseconds last_duration_{0};  // the flusher's: of the last sync
  std::atomic<bool> nudged_{false};
  std::atomic<LogOffset> write_back_from_{0};
  std::chrono::steady_clock::time_point last_sync_;  // the flusher's
  std::thread thread_;
};

}  // namespace apogee::store
