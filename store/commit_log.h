#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
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
    std::string bytes;                ///< whole records, without their places
    std::vector<uint32_t> record_bytes;
    std::string queue_key;            ///< key of next_offsets
    bool wait_for_sync = true;
  };
  enum class Synced : uint8_t { kYes, kTimeout };
  /// Called when the unit's answer may go: at once, or by the flusher.
  using Placed = std::function<void(Synced synced)>;

  CommitLog(Options options, io::FileSystem& files, const Logger& logger);
  ~CommitLog();

  /// Maps the files that are there. Errors: kCorrupt (a file of another size, a gap), kIo.
  [[nodiscard]] Status load();
  /// After recovery: where the next record goes; zeroes what lies behind within the file and removes later
  /// files. Returns whether anything was cut.
  [[nodiscard]] Result<bool> set_end(LogOffset end);
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

  /// A failed sync or a full disk; writes are refused while set.
  [[nodiscard]] bool writable(std::string* why) const;
  void refuse_writes(std::string why);  ///< empty: writes are taken again, unless a sync failed
  [[nodiscard]] int64_t longest_copy_ms() const { return lock_held_since_ms(); }

 private:
  struct Parked {
    LogOffset end;
    std::chrono::steady_clock::time_point deadline;
    Placed placed;
  };
  [[nodiscard]] Result<std::shared_ptr<LogFile>> make_file(LogOffset begin);
  [[nodiscard]] Status roll_locked(LogOffset begin);
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
  std::shared_ptr<LogFile> tail_file_;                          // guarded by tail_mutex_
  std::unordered_map<std::string, QueueOffset> next_offsets_;   // guarded by tail_mutex_
  int64_t last_store_time_ms_ = 0;                              // guarded by tail_mutex_
  bool closed_ = false;                                         // guarded by tail_mutex_
  std::atomic<int64_t> tail_locked_at_ms_{0};
  std::atomic<LogOffset> end_{0}, flushed_{0};
  std::atomic<int64_t> end_time_ms_{0}, flushed_time_ms_{0};

  std::mutex flush_mutex_;
  std::condition_variable flush_wanted_;
  std::vector<Parked> parked_;    // guarded by flush_mutex_
  bool flush_now_ = false;        // guarded by flush_mutex_
  bool stop_flusher_ = false;     // guarded by flush_mutex_

  std::mutex allocate_mutex_;
  std::condition_variable allocate_wanted_;
  std::shared_ptr<LogFile> spare_;      // guarded by allocate_mutex_: the next file, ready
  LogOffset spare_wanted_ = -1;         // guarded by allocate_mutex_
  bool stop_allocator_ = false;         // guarded by allocate_mutex_
  bool tail_moved_ = false;             // guarded by allocate_mutex_
  std::atomic<LogOffset> populated_to_{0};

  mutable std::mutex state_mutex_;
  std::string sync_failure_, refused_;  // guarded by state_mutex_
  std::atomic<bool> writable_{true};

  std::thread flusher_, allocator_;
};

}  // namespace apogee::store
