#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "common/base/logger.h"
#include "common/io/file_system.h"
#include "store/commit_log.h"

namespace apogee::store {

/// Why files of the log may go.
enum class CleanReason : uint8_t {
  kNone,
  kHour,     ///< it is an hour of deleteWhen: expired files
  kDiskUse,  ///< the disk is used above diskMaxUsedSpaceRatio: expired files
  kManual,   ///< asked for by an administrator: expired files
  kForced,   ///< the disk is used above diskSpaceCleanForciblyRatio: the oldest files, expired or not
};
const char* to_string(CleanReason reason);

/// What may go now. `used`: of the disk, 0 to 1; below 0 when unknown, which counts as empty.
[[nodiscard]] CleanReason clean_reason(const RetentionOptions& options, int64_t now_ms, double used, bool manual);

/// Whether writes are refused at this use of the disk; `refused`: whether they are now. Between the two levels
/// nothing changes, so that one file's worth of messages does not switch to and fro.
[[nodiscard]] bool writes_refused(const RetentionOptions& options, double refuse_above, double used, bool refused);

/// Removes the oldest files of the log by age and disk use, and has writes refused while the disk is nearly full.
/// The last file never goes. A file's age counts from the store time of the first record behind it, which is when
/// it was full; so a copied or restored file is as old as its messages.
/// Thread: the store-keeper's, unless said otherwise.
class Retention {
 public:
  struct Parts {
    CommitLog& log;
    io::FileSystem& files;
    const Logger& logger;
    std::string log_directory, queues_directory;  ///< the fuller of their disks counts
    double refuse_above = 0.90;
    std::function<int64_t()> now_ms;  ///< empty: the system's clock
  };
  Retention(Parts parts, RetentionOptions options);

  void set_options(const RetentionOptions& options);  ///< Thread: any.
  /// As MessageStore::set_removal_listener.
  void set_removal_listener(RemovalListener listener) { may_remove_ = std::move(listener); }
  /// The next 20 rounds remove expired files at any hour. Thread: any.
  void clean_now();

  /// Has writes refused above a disk use, and taken again when there is room.
  void look_at_disk();

  struct Round {
    int removed = 0;
    bool held_back = false;  ///< a file would have gone, but `removable` or the listener stood in the way
  };
  /// One round if it is time for one. Files that end behind `removable` stay.
  /// pause: waits so many ms, or answers false when the store is stopping.
  Round run(LogOffset removable, const std::function<bool(int64_t ms)>& pause);

 private:
  using Clock = std::chrono::steady_clock;
  [[nodiscard]] RetentionOptions options() const;
  [[nodiscard]] double disk_used() const;
  [[nodiscard]] int64_t now() const;
  using Files = std::vector<std::shared_ptr<LogFile>>;
  /// Store time of the first record behind a file; nullopt when there is none.
  [[nodiscard]] std::optional<int64_t> full_since(const Files& files, size_t index) const;
  [[nodiscard]] Round remove_files(CleanReason reason, LogOffset removable, const RetentionOptions& options,
                                   const std::function<bool(int64_t ms)>& pause);

  const Parts parts_;
  RemovalListener may_remove_;  // constant after the start
  mutable std::mutex mutex_;
  RetentionOptions options_;  // guarded by mutex_
  int manual_rounds_ = 0;     // guarded by mutex_
  bool run_now_ = false;      // guarded by mutex_
  Clock::time_point next_round_;
  bool refused_ = false;
  bool told_no_room_ = false;
  LogOffset told_held_ = -1;  // the file that the listener holds back, as far as that was logged
};

}  // namespace apogee::store
