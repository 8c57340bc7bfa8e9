// How the log gets room ahead of need: the next file, populated pages, and what waits for them.
#include <fmt/core.h>

#include <algorithm>
#include <utility>

#include "common/message/message_record.h"
#include "store/commit_log.h"
#include "store/file_names.h"

namespace apogee::store {

namespace {

constexpr int64_t kBlankBytes = static_cast<int64_t>(message::kBlankBytesMin);
/// What waits is looked at this often for its deadline.
constexpr auto kExpiryCheck = std::chrono::milliseconds(100);
constexpr int64_t kRetryMs = 200;
constexpr int64_t kRefreshMs = 5'000;
constexpr auto kRefreshInterval = std::chrono::milliseconds(500);
/// Populated at once, so that appends that wait for pages go on as early as possible.
constexpr int64_t kPopulateStep = 2 << 20;
/// Populated at once while no append is near the window's end: whoever else wants the processor has it in between.
constexpr int64_t kPopulateQuietStep = 64 << 10;
/// Parked units placed under one hold of the lock.
constexpr size_t kPlacedAtOnce = 64;

}  // namespace

void CommitLog::wake_allocator() {
  if (allocator_awake_.exchange(true)) return;
  {
    std::lock_guard lock(allocate_mutex_);
    look_ahead_ = true;
  }
  allocate_wanted_.notify_one();
}

void CommitLog::run_deadlines() {
  std::unique_lock lock(allocate_mutex_);
  while (!deadlines_ended_.wait_for(lock, kExpiryCheck, [this] { return stop_allocator_; })) {
    lock.unlock();
    flusher_.expire();
    acks_.expire();
    expire_parked(nullptr);
    lock.lock();
  }
}

void CommitLog::run_allocator() {
  for (;;) {
    {
      std::unique_lock lock(allocate_mutex_);
      allocate_wanted_.wait_for(lock, kRefreshInterval, [this] { return look_ahead_ || stop_allocator_; });
      if (stop_allocator_) return;
      look_ahead_ = false;
      allocator_awake_ = false;
    }
    make_next_file();
    bool more = populate_ahead();
    more = write_parked() || more;
    more = place_parked() || more;
    if (more) wake_allocator();
    keep_window_writable();
  }
}

/// The kernel writes the zeros of the window back from time to time, and makes the pages read-only by that.
void CommitLog::keep_window_writable() {
  if (steady_ms() < next_refresh_ms_) return;
  next_refresh_ms_ = steady_ms() + kRefreshMs;
  std::shared_ptr<LogFile> file;
  LogOffset from, to;
  {
    std::lock_guard lock(tail_mutex_);
    file = tail_file_;
    from = end();
    to = file ? std::min(populated_to_, from + kPopulateStep) : from;
  }
  if (from == refreshed_at_ || from >= to) return;
  refreshed_at_ = from;
  file->map->populate(static_cast<size_t>(from - file->begin), static_cast<size_t>(to - from));
}

/// Makes the next file of the log once the present one is half full, or when an append waits for it, and populates its
/// first pages.
void CommitLog::make_next_file() {
  LogOffset begin;
  int64_t wanted_bytes = options_.window_bytes, skipped_bytes = 0;
  {
    std::lock_guard lock(tail_mutex_);
    const bool written = parked_.empty() ? far_behind_locked() : parked_.front().unit.written;
    const int64_t waited_for = parked_.empty() ? 0 : needs_of_next_locked(parked_.front().unit);
    if (written) wanted_bytes = 0;
    if (!tail_file_ && waited_for == 0 && options_.slave && !file_missing_) return;
    const LogOffset at = end();
    begin = next_begin_locked();
    skipped_bytes = at - std::min(at, begin);
    wanted_bytes = std::max(wanted_bytes + skipped_bytes, written ? 0 : waited_for);
    wanted_bytes = options_.warm_files ? options_.file_bytes : std::min(wanted_bytes, options_.file_bytes);
    if (spare_.file && spare_.file->begin == begin && spare_.skipped_bytes == skipped_bytes &&
        spare_.populated_bytes >= wanted_bytes)
      return;
    bool half_full = tail_file_ && at - tail_file_->begin > options_.file_bytes / 2;
    if (tail_file_ && waited_for == 0 && !half_full && !file_missing_) return;
  }
  if (file_missing_ && steady_ms() < next_attempt_ms_) return;
  auto refuse = [&](const Error& error) {
    file_missing_ = true;
    next_attempt_ms_ = steady_ms() + kRetryMs;
    refuse_writes(Refusal::kNoRoom, error.message);
    expire_parked(&error);
    // Appends are refused with the same words, so one line a failure is enough.
    if (std::exchange(last_warning_, error.message) != error.message)
      logger_.warn("next file of the log: {}", error.message);
  };
  Spare spare;
  {
    std::lock_guard lock(tail_mutex_);
    spare = spare_;
  }
  if (spare.file && (spare.file->begin != begin || spare.skipped_bytes != skipped_bytes)) {
    // An empty log that was to begin elsewhere.
    if (auto gone = files_.discard(*spare.file); !gone) return refuse(gone.error());
    spare = {};
    std::lock_guard lock(tail_mutex_);
    spare_ = {};
  }
  if (!spare.file) {
    auto made = files_.make(begin, begin + skipped_bytes);
    if (!made) return refuse(made.error());
    spare.file = std::move(*made);
    spare.skipped_bytes = skipped_bytes;
    if (!options_.warm_files) spare.populated_bytes = skipped_bytes;
    if (options_.warm_files && !spare.file->map->lock_in_memory())
      logger_.warn("{} cannot be locked in memory: raise RLIMIT_MEMLOCK or switch warmMapedFileEnable off",
                   file_name_of(begin));
  }
  Status populated;
  if (spare.populated_bytes < wanted_bytes) {
    populated = spare.file->make_room(begin + spare.populated_bytes, begin + wanted_bytes, options_.flush.sync_flush);
    if (populated) spare.populated_bytes = wanted_bytes;
  }
  {
    std::lock_guard lock(tail_mutex_);
    if (next_begin_locked() == spare.file->begin) spare_ = spare;
  }
  if (!populated) return refuse(populated.error());
  if (std::exchange(file_missing_, false)) {
    last_warning_.clear();
    take_writes(Refusal::kNoRoom);
    logger_.info("file {} of the log is there now: writes are taken again", file_name_of(begin));
  }
}

/// Populates a step of the window in the tail's file. Returns whether there is more to do.
bool CommitLog::populate_ahead() {
  std::shared_ptr<LogFile> file;
  LogOffset from, to;
  bool hurried;
  {
    std::lock_guard lock(tail_mutex_);
    if (!tail_file_ || (parked_.empty() ? far_behind_locked() : parked_.front().unit.written)) return false;
    int64_t window = options_.window_bytes;
    if (!parked_.empty()) window = std::max(window, parked_.front().unit.size() + kBlankBytes);
    file = tail_file_;
    from = std::max(populated_to_, end());
    to = std::min(file->end(), end() + window);
    hurried = !parked_.empty() || from - end() < window / 4;
    // Whole pieces: the kernel keeps and writes each as one.
    if (!hurried) to -= (to - file->begin) % io::zeros_piece(options_.flush.sync_flush);
  }
  if (from >= to) return false;
  const bool on_disk = options_.flush.sync_flush;
  // The disk is waited for once for a thousand messages, not for each few.
  if (on_disk && !hurried && to - from < kPopulateStep && to < file->end()) return false;
  const LogOffset step_end = std::min(to, from + (hurried || on_disk ? kPopulateStep : kPopulateQuietStep));
  if (auto made = file->make_room(from, step_end, on_disk); !made) {
    if (std::exchange(last_warning_, made.error().message) != made.error().message)
      logger_.warn("the log has no room from {} of file {} on, appends wait: {}", from - file->begin,
                   file_name_of(file->begin), made.error().message);
    return false;
  }
  {
    std::lock_guard lock(tail_mutex_);
    if (tail_file_ == file) populated_to_ = std::max(populated_to_, step_end);
  }
  // An IO loop on the same processor answers in the middle of a window, not behind it.
  if (!hurried) std::this_thread::yield();
  return step_end < to;
}

/// Places what fits now, in order. Returns whether anything was placed.
bool CommitLog::place_parked() {
  std::vector<Placed> placed;
  {
    std::lock_guard lock(tail_mutex_);
    while (!parked_.empty() && placed.size() < kPlacedAtOnce && !parked_.front().unit.written &&
           fits_locked(parked_.front().unit)) {
      auto& front = parked_.front();
      placed.push_back(place_locked(front.unit, std::move(front.done)));
      unpark_first_locked();
    }
  }
  for (auto& each : placed) answer(std::move(each));
  return !placed.empty();
}

/// Refuses what has waited too long; with an error everything, with that.
void CommitLog::expire_parked(const Error* everything) {
  std::vector<Parked> late;
  {
    std::lock_guard lock(tail_mutex_);
    const int64_t limit = steady_ms() - options_.parked_ms_max;
    while (!parked_.empty() && !writing_first_ && (everything || parked_.front().since_ms <= limit)) {
      late.push_back(std::move(parked_.front()));
      parked_bytes_ -= late.back().unit.size();
      parked_.pop_front();
    }
    parked_since_ms_ = parked_.empty() ? 0 : parked_.front().since_ms;
  }
  for (auto& each : late)
    each.done(everything ? *everything
                         : Error(Errc::kBusy,
                                 fmt::format("the disk gave no room in the log for {} ms", options_.parked_ms_max)));
}

}  // namespace apogee::store
