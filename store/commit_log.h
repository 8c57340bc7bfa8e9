#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <string>
#include <string_view>
#include <thread>
#include <unordered_map>
#include <vector>

#include "apogee/result.h"
#include "common/base/bytes.h"
#include "common/base/logger.h"
#include "common/io/file_system.h"
#include "common/loop/event_loop.h"
#include "store/flusher.h"
#include "store/ha/replica_acks.h"
#include "store/log_files.h"
#include "store/message_store.h"
#include "store/record_ends.h"

namespace apogee::store {

/// The log: one record after another (store/formats.md) in files of one size.
/// Thread: any for append and reads. One lock, tail_mutex_, covers giving a record its place and the copy of its
/// bytes; it is a leaf (but for the locks of the list of files), and nothing is waited for under it: an append that
/// finds no file or no populated pages ahead is parked. The allocator's thread makes the next file, populates a window
/// of pages ahead of the tail and then places what is parked, in order; both may hang with the disk, so a thread that
/// never touches it minds the deadlines. Whoever waits for the log to grow is woken once for all that a turn of a loop
/// has appended, at the turn's end, and at once for what other threads append.
class CommitLog {
 public:
  struct Options {
    std::string directory;
    int64_t file_bytes = 1LL << 30;
    Flusher::Options flush;
    int64_t window_bytes = 16LL << 20;    ///< pages populated ahead of the tail
    int64_t parked_ms_max = 1'000;        ///< osPageCacheBusyTimeOutMills
    int64_t parked_bytes_max = 64 << 20;  ///< of records that wait for the allocator
    bool warm_files = false;              ///< warmMapedFileEnable: the next file is populated whole, and locked
    std::function<int64_t()> now_ms;      ///< the clock of store times, ms since 1970; empty: the system's
    ReplicationRules replication;
    bool slave = false;  ///< everything comes with append_copy(); an empty log has no file until then
  };
  /// Encoded records of one unit (a message, or a batch that must not be torn apart).
  struct Unit {
    std::string bytes;  ///< whole records, without their places; not of a copy
    std::vector<uint32_t> record_bytes;
    std::string queue_key;  ///< key of next_offsets
    bool wait_for_sync = true;
    bool takes_queue_offset = true;  ///< false: stored with queue offset 0, in no queue (prepared, rolled back)
    /// A copy: bytes of another broker's log (look_at_copies), which carry their places.
    LogOffset copy_at = -1;
    SharedBytes copied;
    int64_t copy_store_time_ms = 0;
    bool written = false;  ///< a copy that goes into the file by write_at(), see write_parked()
    [[nodiscard]] std::string_view all() const { return copy_at >= 0 ? copied.bytes : std::string_view(bytes); }
    [[nodiscard]] int64_t size() const { return static_cast<int64_t>(all().size()); }
  };
  struct Placement {
    std::vector<LogOffset> offsets;  ///< one a record
    QueueOffset queue_offset = -1;   ///< of the first
    int64_t store_timestamp_ms = 0;
    Synced synced = Synced::kYes;
    Replicated replicated = Replicated::kYes;
  };
  /// Called once with the place, when the answer may go. Errors: kTooLarge; kClosed; kBusy: it was parked too long;
  /// kDiskFull, kIo: there is no file for it. Then readers see nothing of it.
  using Done = std::function<void(Result<Placement> placement)>;
  /// Why writes are refused; each comes and goes by itself. A failed sync, which stays, is known here alone.
  enum class Refusal : uint8_t { kDiskUse, kNoRoom, kQueues };

  CommitLog(Options options, io::FileSystem& files, const Logger& logger);
  ~CommitLog();

  /// Maps the files that are there. Errors: kCorrupt (a file of another size, a gap), kIo.
  [[nodiscard]] Status load() { return files_.load(); }
  struct RecoveredEnd {
    LogOffset end = 0;
    LogOffset maybe_unsynced_from = 0;  ///< what the process before us may have left in the page cache only
    int64_t last_store_time_ms = 0;     ///< store times go on from here
    bool only_zeros_behind = false;     ///< known, so that nothing needs to be looked at
  };
  /// After recovery: where the next record goes. Zeroes what lies behind within the file, removes later files and
  /// syncs. Returns what was cut, in words; "" when nothing was.
  [[nodiscard]] Result<std::string> set_end(const RecoveredEnd& recovered);
  void set_next_offset(std::string queue_key, QueueOffset next);
  /// Told when readable_end() has grown, on the thread that made it so; must be cheap. Before start().
  void set_growth_listener(std::function<void()> listener);
  /// Told after each append and each sync; see ReplicatedLog.
  void set_replication_listener(std::function<void()> listener);

  void start();
  /// Refuses appends, syncs everything, releases what waits. Error: the last sync failed.
  [[nodiscard]] Status stop();

  /// Places the records and copies them. `done` is called before this returns when nothing is to be waited for, else
  /// on the flusher's or the allocator's thread.
  void append(Unit unit, Done done);
  /// append() of messages that are encoded where they lie, `bytes` in all, when there is room, and nothing but the disk
  /// is waited for; else false, and nothing was done. See MessageStore::append_quickly().
  [[nodiscard]] bool append_quickly(const QuickMessages& messages, size_t bytes, QuickPlace& place,
                                    Flusher::Released synced);
  /// See ReplicatedLog.
  void append_copy(LogOffset at, SharedBytes bytes, std::function<void(Status)> done);
  void append_damaged(LogOffset at, SharedBytes bytes, std::function<void(Status)> done);

  [[nodiscard]] LogOffset begin() const { return files_.begin().value_or(end()); }
  [[nodiscard]] LogOffset end() const { return ends_.end.load(std::memory_order_seq_cst); }
  [[nodiscard]] LogOffset flushed() const { return ends_.flushed.load(std::memory_order_seq_cst); }
  /// What readers and the dispatcher may see: the flushed end under sync flush, else the end; of that, as a
  /// SYNC_MASTER, what is confirmed.
  [[nodiscard]] LogOffset readable_end() const {
    const LogOffset here = options_.flush.sync_flush ? flushed() : end();
    return acks_.waits() ? std::min(here, acks_.confirmed()) : here;
  }
  [[nodiscard]] ReplicaAcks& acks() { return acks_; }
  [[nodiscard]] bool admits(std::string* why) const { return acks_.admits(why); }
  /// Store time of the last record that is on disk.
  [[nodiscard]] int64_t flushed_time_ms() const { return ends_.flushed_time_ms; }
  [[nodiscard]] const LogFiles& files() const { return files_; }
  [[nodiscard]] LogFiles& files() { return files_; }

  /// Bytes [offset, offset + bytes) within one file, pinned; nullopt when they are not all in the log.
  [[nodiscard]] std::optional<SharedBytes> read(LogOffset offset, int64_t bytes) const;
  /// From offset to the end of its file or the given end, whichever is first.
  [[nodiscard]] std::optional<SharedBytes> read_up_to(LogOffset offset, LogOffset end) const;

  /// Removes files that end at or before the offset and are on disk; never the last one. What readers hold of them
  /// stays readable, and their room comes back when nobody holds anything. Returns how many went. Error: kIo.
  /// Thread: one at a time.
  [[nodiscard]] Result<int> remove_files_before(LogOffset offset) {
    return files_.remove_before(std::min(offset, flushed()));
  }

  [[nodiscard]] bool writable(std::string* why) const;
  void refuse_writes(Refusal refusal, std::string why);
  void take_writes(Refusal refusal) { refuse_writes(refusal, {}); }  ///< again, unless refused for another reason
  /// How long the append that holds the lock, or the first one that is parked, has been at it; 0: none.
  [[nodiscard]] int64_t append_busy_ms() const;

 private:
  struct Parked {
    Unit unit;
    Done done;
    int64_t since_ms;
  };
  struct Placed {
    Placement placement;
    LogOffset end;
    bool wait_for_sync;
    Done done;
  };
  /// A file made ahead of need, with its first pages populated.
  struct Spare {
    std::shared_ptr<LogFile> file;
    int64_t populated_bytes = 0;
    int64_t skipped_bytes = 0;  ///< an empty log begins behind them
  };
  /// The bytes that a unit needs in a next file, counted from that one's begin; 0: it goes into the present one.
  [[nodiscard]] int64_t needs_of_next_locked(const Unit& unit) const;
  [[nodiscard]] bool fits_locked(const Unit& unit) const;
  [[nodiscard]] Placed place_locked(Unit& unit, Done done);
  void take_next_file_locked();
  [[nodiscard]] int64_t store_time_locked();
  /// Of a clock that costs little to read and goes on in steps of some milliseconds.
  [[nodiscard]] static int64_t steady_ms();
  [[nodiscard]] LogOffset next_begin_locked() const;
  [[nodiscard]] bool goes_on_locked(const Unit& copy);
  [[nodiscard]] bool is_to_be_written_locked(const Unit& copy);
  /// Whether copies come faster than pages are worth to be populated for them.
  [[nodiscard]] bool far_behind_locked() const;
  [[nodiscard]] std::shared_ptr<LogFile> file_for_written_locked() const;
  [[nodiscard]] bool window_is_low_locked() const;
  void answer(Placed placed);
  void tell_replication();
  /// Wakes those who wait for the log to grow, now or at the end of the loop's turn.
  class Growth;
  void tell_growth();
  void wake_for_growth();
  void wake_allocator();
  void run_allocator();
  void run_deadlines();
  [[nodiscard]] bool place_parked();
  [[nodiscard]] bool write_parked();
  [[nodiscard]] Placed place_written_locked();
  void give_up_written(LogFile& file, Error why);
  void unpark_first_locked();
  void keep_window_writable();
  void expire_parked(const Error* everything);
  [[nodiscard]] bool populate_ahead();
  void make_next_file();

  const Options options_;
  const Logger& logger_;
  LogFiles files_;
  LogEnds ends_;
  RecordEnds record_ends_;  // of what was appended while slaves were waited for
  ReplicaAcks acks_;
  Flusher flusher_;
  std::function<void()> grown_;
  std::shared_mutex replication_mutex_;
  std::function<void()> replication_grown_;  // guarded by replication_mutex_
  std::atomic<bool> replication_listens_{false};
  const std::shared_ptr<Growth> growth_;

  mutable std::mutex tail_mutex_;
  std::shared_ptr<LogFile> tail_file_;                         // guarded by tail_mutex_
  LogOffset populated_to_ = 0;                                 // guarded by tail_mutex_: within tail_file_
  Spare spare_;                                                // guarded by tail_mutex_: the next file, ready
  std::unordered_map<std::string, QueueOffset> next_offsets_;  // guarded by tail_mutex_
  int64_t last_store_time_ms_ = 0;                             // guarded by tail_mutex_
  bool closed_ = true;                                         // guarded by tail_mutex_: until start(), after stop()
  std::deque<Parked> parked_;                                  // guarded by tail_mutex_
  int64_t parked_bytes_ = 0;                                   // guarded by tail_mutex_
  bool writing_first_ = false;                                 // guarded by tail_mutex_: of parked_, which stays there
  int large_copies_ = 0;                                       // guarded by tail_mutex_: lately, in a row or nearly so
  std::atomic<int64_t> tail_locked_at_ms_{0}, parked_since_ms_{0};

  std::mutex allocate_mutex_;
  std::condition_variable allocate_wanted_, deadlines_ended_;
  bool look_ahead_ = false;      // guarded by allocate_mutex_
  bool stop_allocator_ = false;  // guarded by allocate_mutex_
  std::atomic<bool> allocator_awake_{false};
  bool file_missing_ = false;    // the allocator's: the next file could not be made; tried again until it can
  int64_t next_attempt_ms_ = 0;  // the allocator's
  int64_t next_refresh_ms_ = 0;  // the allocator's
  LogOffset refreshed_at_ = -1;  // the allocator's
  std::string last_warning_;     // the allocator's
  std::string written_warning_;  // the allocator's

  mutable std::mutex state_mutex_;
  std::string sync_failure_;             // guarded by state_mutex_
  std::array<std::string, 3> refusals_;  // guarded by state_mutex_; by Refusal
  std::atomic<bool> writable_{true};

  std::thread allocator_, deadlines_;
};

}  // namespace apogee::store
