#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstdint>
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
#include "store/message_store.h"

namespace apogee::store {

/// One file of the log. Slices of the mapping keep it mapped after the file has gone from the list.
struct LogFile {
  LogOffset begin = 0;
  std::unique_ptr<io::File> file;
  std::shared_ptr<io::MappedRegion> map;
};

/// The log: files of one size, mapped whole, one record after another (store/formats.md).
/// Thread: any for append and reads. One lock, tail_mutex_, covers giving a record its place and the copy of its
/// bytes; it is a leaf. Two threads of its own: the flusher syncs and releases answers that wait for a sync; the
/// allocator makes the next file and populates pages ahead of the tail.
class CommitLog {
 public:
  struct Options {
    std::string directory;
    int64_t file_bytes = 1LL << 30;
    bool sync_flush = false;
    int64_t flush_interval_ms = 500;
    int64_t sync_flush_timeout_ms = 5'000;
    int64_t populate_bytes = 16LL << 20;  ///< window ahead of the tail
  };
  /// Encoded records of one unit (a message, or a batch that must not be torn apart).
  struct Unit {
    std::string bytes;  ///< whole records, without their places
    std::vector<uint32_t> record_bytes;
    std::string queue_key;  ///< key of next_offsets
    bool wait_for_sync = true;
    bool takes_queue_offset = true;  ///< false: stored with queue offset 0, in no queue (prepared, rolled back)
  };
  enum class Synced : uint8_t { kYes, kTimeout };
  /// Why writes are refused; each comes and goes by itself. A failed sync, which stays, is known here alone.
  enum class Refusal : uint8_t { kDiskUse, kNoRoom, kQueues };
  /// Called when the unit's answer may go: at once, or by the flusher.
  using Placed = std::function<void(Synced synced)>;

  CommitLog(Options options, io::FileSystem& files, const Logger& logger);
  ~CommitLog();

  /// Maps the files that are there. Errors: kCorrupt (a file of another size, a gap), kIo.
  [[nodiscard]] Status load();
  struct RecoveredEnd {
    LogOffset end = 0;
    LogOffset maybe_unsynced_from = 0;  ///< what the process before us may have left in the page cache only
    int64_t last_store_time_ms = 0;     ///< store times go on from here
  };
  /// After recovery: where the next record goes. Zeroes what lies behind within the file, removes later files and
  /// syncs. Returns what was cut, in words; "" when nothing was.
  [[nodiscard]] Result<std::string> set_end(const RecoveredEnd& recovered);
  void set_next_offset(std::string queue_key, QueueOffset next);
  /// Told after each append and each sync, on the thread that made it; must be cheap.
  void set_growth_listener(std::function<void()> listener) { grown_ = std::move(listener); }

  void start();
  /// Refuses appends, syncs everything, releases what waits. Error: the last sync failed.
  [[nodiscard]] Status stop();

  /// Places the records and copies them. `result` gets offsets and store time before `placed` is called.
  /// Errors: kClosed, kDiskFull, kIo; then readers see nothing of it.
  [[nodiscard]] Status append(Unit unit, PutResult& result, Placed placed);

  [[nodiscard]] LogOffset begin() const;
  [[nodiscard]] LogOffset end() const { return end_.load(std::memory_order_seq_cst); }
  [[nodiscard]] LogOffset flushed() const { return flushed_.load(std::memory_order_seq_cst); }
  /// What readers and the dispatcher may see: the flushed end under sync flush, else the end.
  [[nodiscard]] LogOffset readable_end() const { return options_.sync_flush ? flushed() : end(); }
  [[nodiscard]] int64_t file_bytes() const { return options_.file_bytes; }
  /// Store time of the last record that is on disk.
  [[nodiscard]] int64_t flushed_time_ms() const { return flushed_time_ms_.load(); }

  /// Bytes [offset, offset + bytes) within one file, pinned; nullopt when they are not all in the log.
  [[nodiscard]] std::optional<SharedBytes> read(LogOffset offset, int64_t bytes) const;
  /// From offset to the end of its file or the given end, whichever is first.
  [[nodiscard]] std::optional<SharedBytes> read_up_to(LogOffset offset, LogOffset end) const;
  [[nodiscard]] std::vector<std::shared_ptr<LogFile>> files() const;

  /// Removes files that end at or before the offset and are on disk; never the last one. What readers hold of them
  /// stays readable, and their room comes back when nobody holds anything. Returns how many went. Error: kIo.
  /// Thread: one at a time.
  [[nodiscard]] Result<int> remove_files_before(LogOffset offset);

  [[nodiscard]] bool writable(std::string* why) const;
  void refuse_writes(Refusal refusal, std::string why);
  void take_writes(Refusal refusal) { refuse_writes(refusal, {}); }  ///< again, unless refused for another reason
  [[nodiscard]] int64_t longest_copy_ms() const { return lock_held_since_ms(); }

 private:
  struct Parked {
    LogOffset end;
    std::chrono::steady_clock::time_point deadline;
    Placed placed;
  };
  [[nodiscard]] Result<std::shared_ptr<LogFile>> make_file(LogOffset begin);
  [[nodiscard]] Status roll_locked(LogOffset begin);
  /// Makes the file that begins there, unless it is there already; waits for another thread that is at it.
  [[nodiscard]] std::optional<Error> make_spare(LogOffset begin);
  void populate_ahead(const LogFile& file, LogOffset end);
  [[nodiscard]] std::shared_ptr<LogFile> file_at(LogOffset offset) const;
  void run_flusher();
  void run_allocator();
  [[nodiscard]] Status sync_to(LogOffset end);
  void release(LogOffset synced_to);
  void expire(bool all);
  [[nodiscard]] int64_t lock_held_since_ms() const;

  const Options options_;
  io::FileSystem& files_;
  const Logger& logger_;
  std::function<void()> grown_;

  mutable std::shared_mutex list_mutex_;
  std::vector<std::shared_ptr<LogFile>> list_;  // guarded by list_mutex_; ascending, without gaps

  std::mutex tail_mutex_;
  std::shared_ptr<LogFile> tail_file_;                         // guarded by tail_mutex_
  std::unordered_map<std::string, QueueOffset> next_offsets_;  // guarded by tail_mutex_
  int64_t last_store_time_ms_ = 0;                             // guarded by tail_mutex_
  bool closed_ = false;                                        // guarded by tail_mutex_
  std::atomic<int64_t> tail_locked_at_ms_{0};
  std::atomic<LogOffset> end_{0}, flushed_{0};
  std::atomic<int64_t> end_time_ms_{0}, flushed_time_ms_{0};

  std::mutex flush_mutex_;
  std::condition_variable flush_wanted_;
  std::vector<Parked> parked_;  // guarded by flush_mutex_
  bool flush_now_ = false;      // guarded by flush_mutex_
  bool stop_flusher_ = false;   // guarded by flush_mutex_
  bool flusher_ended_ = false;  // guarded by flush_mutex_: nothing may be parked any more

  std::mutex allocate_mutex_;
  std::condition_variable allocate_wanted_, spare_made_;
  std::shared_ptr<LogFile> spare_;  // guarded by allocate_mutex_: the next file, ready
  LogOffset making_ = -1;           // guarded by allocate_mutex_: being made, outside of the lock
  LogOffset missing_ = -1;          // guarded by allocate_mutex_: could not be made; tried again until it can
  bool stop_allocator_ = false;     // guarded by allocate_mutex_
  bool tail_moved_ = false;         // guarded by allocate_mutex_
  std::atomic<LogOffset> populated_to_{0};
  LogOffset spare_populated_ = -1;  // the allocator's
  std::string last_warning_;        // the allocator's

  mutable std::mutex state_mutex_;
  std::string sync_failure_;             // guarded by state_mutex_
  std::array<std::string, 3> refusals_;  // guarded by state_mutex_; by Refusal
  std::atomic<bool> writable_{true};

  std::thread flusher_, allocator_;
};

}  // namespace apogee::store
