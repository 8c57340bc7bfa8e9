#include "store/commit_log.h"

#include <fmt/core.h>
#include <pthread.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "common/message/message_record.h"
#include "store/file_names.h"
#include "store/log_copies.h"

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
/// Parked units placed under one hold of the lock.
constexpr size_t kPlacedAtOnce = 64;

int64_t wall_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch())
      .count();
}
int64_t steady_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

/// Copies the records so that a process killed half-way leaves no record that looks whole but is not, and none
/// behind one that is not whole: their lengths and magics come last, in order.
void copy_records(const CommitLog::Unit& unit, char* to) {
  constexpr size_t kHeadBytes = 8;
  size_t at = 0;
  for (uint32_t bytes : unit.record_bytes) {
    std::memcpy(to + at + kHeadBytes, unit.bytes.data() + at + kHeadBytes, bytes - kHeadBytes);
    at += bytes;
  }
  at = 0;
  for (uint32_t bytes : unit.record_bytes) {
    std::atomic_signal_fence(std::memory_order_seq_cst);
    std::memcpy(to + at, unit.bytes.data() + at, kHeadBytes);
    at += bytes;
  }
}

}  // namespace

CommitLog::CommitLog(Options options, io::FileSystem& files, const Logger& logger)
    : options_(std::move(options)),
      logger_(logger),
      files_(options_.directory, options_.file_bytes, files, logger),
      acks_(
          // What is not on the disk of a SYNC_FLUSH master is with no slave.
          options_.replication, [this] { return options_.flush.sync_flush ? flushed() : end(); }, logger),
      flusher_(options_.flush, ends_, files_, logger) {}

CommitLog::~CommitLog() { stop().ignore("the owner's own stop has told"); }

Result<std::string> CommitLog::set_end(const RecoveredEnd& recovered) {
  APOGEE_TRY_ASSIGN(std::string cut, files_.cut(recovered.end, recovered.maybe_unsynced_from));
  LogOffset end = recovered.end;
  if (options_.slave && end == files_.begin()) {
    // Its master may begin elsewhere.
    APOGEE_TRY(files_.remove_all());
    end = 0;
  }
  std::lock_guard lock(tail_mutex_);
  tail_file_ = files_.at(end);  // nullptr: the log is empty, or ends with its last file
  populated_to_ = end;
  last_store_time_ms_ = recovered.last_store_time_ms;
  ends_.end = ends_.flushed = end;
  ends_.end_time_ms = ends_.flushed_time_ms = recovered.last_store_time_ms;
  return cut;
}

void CommitLog::set_growth_listener(std::function<void()> listener) {
  grown_ = listener;
  acks_.set_confirm_listener(std::move(listener));
}

void CommitLog::set_replication_listener(std::function<void()> listener) {
  std::unique_lock lock(replication_mutex_);
  replication_grown_ = std::move(listener);
  replication_listens_ = replication_grown_ != nullptr;
}

void CommitLog::tell_replication() {
  if (!replication_listens_.load(std::memory_order_relaxed)) return;
  std::shared_lock lock(replication_mutex_);
  if (replication_grown_) replication_grown_();
}

void CommitLog::set_next_offset(std::string queue_key, QueueOffset next) {
  std::lock_guard lock(tail_mutex_);
  next_offsets_[std::move(queue_key)] = next;
}

void CommitLog::start() {
  flusher_.start(
      [this] {
        tell_replication();
        if (options_.flush.sync_flush && grown_) grown_();
      },
      [this](const Error& error) {
        std::lock_guard lock(state_mutex_);
        sync_failure_ =
            fmt::format("a sync of the log failed ({}); restart the broker when the disk is well", error.message);
        writable_ = false;
      });
  allocator_ = std::thread([this] {
    pthread_setname_np(pthread_self(), "allocator");
    run_allocator();
  });
  deadlines_ = std::thread([this] {
    pthread_setname_np(pthread_self(), "log-deadlines");
    run_deadlines();
  });
  {
    std::lock_guard lock(tail_mutex_);
    closed_ = false;
  }
  wake_allocator();
}

Status CommitLog::stop() {
  {
    std::lock_guard lock(tail_mutex_);
    closed_ = true;
  }
  {
    std::lock_guard lock(allocate_mutex_);
    stop_allocator_ = true;
    allocate_wanted_.notify_one();
    deadlines_ended_.notify_one();
  }
  if (allocator_.joinable()) allocator_.join();
  if (deadlines_.joinable()) deadlines_.join();
  const Error stopping(Errc::kClosed, "the store is stopping");
  expire_parked(&stopping);
  // Nobody acknowledges any more. What no slave has becomes readable, as it is for the next start of a master.
  acks_.stop();
  flusher_.stop();
  std::string why;
  return writable(&why) || why.empty() || flushed() == end() ? Status() : Status(Error(Errc::kIo, why));
}

int64_t CommitLog::needs_of_next_locked(const Unit& unit) const {
  const auto bytes = static_cast<int64_t>(unit.bytes.size());
  if (unit.copy_at >= 0)
    return tail_file_ && unit.copy_at < tail_file_->end() ? 0 : unit.copy_at % options_.file_bytes + bytes;
  return tail_file_ && end() + bytes + kBlankBytes <= tail_file_->end() ? 0 : bytes + kBlankBytes;
}

bool CommitLog::fits_locked(const Unit& unit) const {
  const auto bytes = static_cast<int64_t>(unit.bytes.size());
  const LogOffset at = end();
  const bool copy = unit.copy_at >= 0;
  const int64_t of_next = needs_of_next_locked(unit);
  if (of_next == 0) return at + bytes + (copy ? 0 : kBlankBytes) <= populated_to_;
  if (!spare_.file || spare_.file->begin != next_begin_locked() || of_next > spare_.populated_bytes) return false;
  if (!tail_file_ && spare_.skipped_bytes != at - spare_.file->begin) return false;
  return copy || !tail_file_ || at + kBlankBytes <= populated_to_;
}

bool CommitLog::window_is_low_locked() const {
  if (!tail_file_) return !spare_.file;
  const LogOffset at = end();
  if (populated_to_ < tail_file_->end() && populated_to_ - at < options_.window_bytes / 2) return true;
  return !spare_.file && at - tail_file_->begin > options_.file_bytes / 2;
}

LogOffset CommitLog::next_begin_locked() const {
  return tail_file_ ? tail_file_->end() : end() - end() % options_.file_bytes;
}

void CommitLog::take_next_file_locked() {
  tail_file_ = std::move(spare_.file);
  populated_to_ = tail_file_->begin + spare_.populated_bytes;
  spare_ = {};
  files_.push_back(tail_file_);
}

/// Whether the copy begins where the log will end when what is parked is placed. An empty log begins with it.
bool CommitLog::goes_on_locked(const Unit& copy) {
  if (!parked_.empty()) {
    const auto& last = parked_.back().unit;
    return last.copy_at >= 0 && last.copy_at + static_cast<LogOffset>(last.bytes.size()) == copy.copy_at;
  }
  if (end() == copy.copy_at) return true;
  if (tail_file_ || files_.begin()) return false;
  files_.set_data_begin(copy.copy_at);
  ends_.flushed.store(copy.copy_at, std::memory_order_seq_cst);
  ends_.end.store(copy.copy_at, std::memory_order_seq_cst);
  return true;
}

CommitLog::Placed CommitLog::place_locked(Unit& unit, Done done) {
  const auto bytes = static_cast<int64_t>(unit.bytes.size());
  const bool copy = unit.copy_at >= 0;
  LogOffset at = end();
  if (copy) {
    if (needs_of_next_locked(unit) > 0) take_next_file_locked();
  } else if (!tail_file_ || at + bytes + kBlankBytes > tail_file_->end()) {
    if (tail_file_) {
      char* blank = tail_file_->map->data() + (at - tail_file_->begin);
      store_be<int32_t>(blank, static_cast<int32_t>(tail_file_->end() - at));
      std::atomic_signal_fence(std::memory_order_seq_cst);
      store_be<int32_t>(blank + 4, message::kBlankMagic);
    }
    take_next_file_locked();
    at = tail_file_->begin;
  }
  QueueOffset none = 0;
  QueueOffset& next = unit.takes_queue_offset && !copy ? next_offsets_[unit.queue_key] : none;
  last_store_time_ms_ = std::max(last_store_time_ms_, copy              ? unit.copy_store_time_ms
                                                      : options_.now_ms ? options_.now_ms()
                                                                        : wall_ms());
  Placed placed;
  placed.placement.queue_offset = next;
  placed.placement.store_timestamp_ms = last_store_time_ms_;
  placed.placement.offsets.reserve(unit.record_bytes.size());
  placed.wait_for_sync = unit.wait_for_sync;
  placed.done = std::move(done);
  char* record = unit.bytes.data();
  LogOffset record_at = at;
  for (uint32_t record_bytes : unit.record_bytes) {
    if (copy) break;
    message::place_record(record, next, record_at, last_store_time_ms_);
    placed.placement.offsets.push_back(record_at);
    if (unit.takes_queue_offset) ++next;
    record += record_bytes;
    record_at += record_bytes;
  }
  copy_records(unit, tail_file_->map->data() + (at - tail_file_->begin));
  placed.end = at + bytes;
  ends_.end_time_ms.store(last_store_time_ms_, std::memory_order_relaxed);
  ends_.end.store(placed.end, std::memory_order_seq_cst);
  return placed;
}

void CommitLog::append(Unit unit, Done done) {
  const auto bytes = static_cast<int64_t>(unit.bytes.size());
  if (unit.copy_at < 0 && bytes + kBlankBytes > options_.file_bytes)
    return done(
        Error(Errc::kTooLarge, fmt::format("{} bytes do not fit a log file of {}", bytes, options_.file_bytes)));
  std::optional<Error> refused;
  std::optional<Placed> placed;
  bool low = false;
  {
    std::lock_guard lock(tail_mutex_);
    if (std::string why; closed_) {
      refused.emplace(Errc::kClosed, "the store is stopping");
    } else if (!writable(&why)) {
      refused.emplace(Errc::kDiskFull, why);
    } else if (unit.copy_at >= 0 && !goes_on_locked(unit)) {
      refused.emplace(Errc::kInvalidArgument,
                      fmt::format("a copy for {} comes, but the log ends at {}", unit.copy_at, end()));
    } else if (parked_.empty() && fits_locked(unit)) {
      tail_locked_at_ms_.store(steady_ms(), std::memory_order_relaxed);
      placed = place_locked(unit, std::move(done));
      tail_locked_at_ms_.store(0, std::memory_order_relaxed);
      low = window_is_low_locked();
    } else if (parked_bytes_ + bytes > options_.parked_bytes_max && !parked_.empty()) {
      refused.emplace(Errc::kBusy, fmt::format("{} bytes wait for the log to grow already", parked_bytes_));
    } else {
      low = true;
      int64_t now = steady_ms();
      if (parked_.empty()) parked_since_ms_ = now;
      parked_bytes_ += bytes;
      parked_.push_back({std::move(unit), std::move(done), now});
    }
  }
  if (refused) return done(std::move(*refused));  // NOLINT(bugprone-use-after-move): moved in the other cases only
  if (low) wake_allocator();
  if (placed) answer(std::move(*placed));
}

void CommitLog::append_copy(LogOffset at, std::string bytes, std::function<void(Status)> done) {
  auto copies = look_at_copies(bytes, at, options_.file_bytes);
  if (!copies) return done(copies.error());
  Unit unit;
  unit.bytes = std::move(bytes);
  unit.record_bytes = std::move(copies->piece_bytes);
  unit.copy_at = at;
  unit.copy_store_time_ms = copies->last_store_time_ms;
  unit.wait_for_sync = false;
  append(std::move(unit),
         [done = std::move(done)](Result<Placement> placed) { done(placed ? Status() : Status(placed.error())); });
}

void CommitLog::append_damaged(LogOffset at, std::string bytes, std::function<void(Status)> done) {
  const auto size = static_cast<int64_t>(bytes.size());
  if (size < kBlankBytes || at < 0 || at % options_.file_bytes + size > options_.file_bytes)
    return done(Error(Errc::kInvalidArgument, fmt::format("{} bytes at {} are no part of a file", size, at)));
  Unit unit;
  unit.record_bytes.push_back(static_cast<uint32_t>(size));
  unit.bytes = std::move(bytes);
  unit.copy_at = at;
  unit.wait_for_sync = false;
  append(std::move(unit),
         [done = std::move(done)](Result<Placement> placed) { done(placed ? Status() : Status(placed.error())); });
}

void CommitLog::answer(Placed placed) {
  tell_replication();
  const bool disk = options_.flush.sync_flush && placed.wait_for_sync;
  const bool replicas = acks_.waits() && placed.wait_for_sync;
  if (!disk) flusher_.grown(placed.end);
  if (!options_.flush.sync_flush && grown_ && acks_.follows_end()) grown_();
  if (!disk && !replicas) return placed.done(std::move(placed.placement));
  // Both are waited for at the same time; whoever is last tells. std::function wants what it holds to be copyable.
  struct Waiting {
    Placed placed;
    std::atomic<int> left;
  };
  auto shared = std::make_shared<Waiting>();
  shared->placed = std::move(placed);
  shared->left = disk && replicas ? 2 : 1;
  auto one_less = [shared] {
    if (shared->left.fetch_sub(1) == 1) shared->placed.done(std::move(shared->placed.placement));
  };
  const LogOffset end = shared->placed.end;
  if (disk)
    flusher_.wait_for(end, [shared, one_less](Synced synced) {
      shared->placed.placement.synced = synced;
      one_less();
    });
  if (replicas)
    acks_.wait_for(end, [shared, one_less](Replicated replicated) {
      shared->placed.placement.replicated = replicated;
      one_less();
    });
}

void CommitLog::wake_allocator() {
  if (allocator_awake_.exchange(true)) return;
  std::lock_guard lock(allocate_mutex_);
  look_ahead_ = true;
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
    const int64_t waited_for = parked_.empty() ? 0 : needs_of_next_locked(parked_.front().unit);
    if (!tail_file_ && waited_for == 0 && options_.slave && !file_missing_) return;
    const LogOffset at = end();
    begin = next_begin_locked();
    skipped_bytes = at - std::min(at, begin);
    wanted_bytes = std::max(wanted_bytes + skipped_bytes, waited_for);
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
  bool populated = spare.file->map->populate(static_cast<size_t>(spare.populated_bytes),
                                             static_cast<size_t>(wanted_bytes - spare.populated_bytes));
  if (populated) spare.populated_bytes = wanted_bytes;
  {
    std::lock_guard lock(tail_mutex_);
    if (next_begin_locked() == spare.file->begin) spare_ = spare;
  }
  if (!populated) return refuse(Error(Errc::kDiskFull, file_name_of(begin) + ": its pages cannot be had"));
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
  {
    std::lock_guard lock(tail_mutex_);
    if (!tail_file_) return false;
    int64_t window = options_.window_bytes;
    if (!parked_.empty())
      window = std::max(window, static_cast<int64_t>(parked_.front().unit.bytes.size()) + kBlankBytes);
    file = tail_file_;
    from = std::max(populated_to_, end());
    to = std::min(file->end(), end() + window);
  }
  if (from >= to) return false;
  LogOffset step_end = std::min(to, from + kPopulateStep);
  if (!file->map->populate(static_cast<size_t>(from - file->begin), static_cast<size_t>(step_end - from))) {
    if (std::exchange(last_warning_, "pages") != "pages")
      logger_.warn("file {} of the log: the pages from {} on cannot be had, appends wait", file_name_of(file->begin),
                   from - file->begin);
    return false;
  }
  {
    std::lock_guard lock(tail_mutex_);
    if (tail_file_ == file) populated_to_ = std::max(populated_to_, step_end);
  }
  return step_end < to;
}

/// Places what fits now, in order. Returns whether anything was placed.
bool CommitLog::place_parked() {
  std::vector<Placed> placed;
  {
    std::lock_guard lock(tail_mutex_);
    while (!parked_.empty() && placed.size() < kPlacedAtOnce && fits_locked(parked_.front().unit)) {
      auto& front = parked_.front();
      parked_bytes_ -= static_cast<int64_t>(front.unit.bytes.size());
      placed.push_back(place_locked(front.unit, std::move(front.done)));
      parked_.pop_front();
    }
    parked_since_ms_ = parked_.empty() ? 0 : parked_.front().since_ms;
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
    while (!parked_.empty() && (everything || parked_.front().since_ms <= limit)) {
      parked_bytes_ -= static_cast<int64_t>(parked_.front().unit.bytes.size());
      late.push_back(std::move(parked_.front()));
      parked_.pop_front();
    }
    parked_since_ms_ = parked_.empty() ? 0 : parked_.front().since_ms;
  }
  for (auto& each : late)
    each.done(everything ? *everything
                         : Error(Errc::kBusy,
                                 fmt::format("the disk gave no room in the log for {} ms", options_.parked_ms_max)));
}

std::optional<SharedBytes> CommitLog::read(LogOffset offset, int64_t bytes) const {
  if (offset < 0 || bytes < 0 || offset + bytes > readable_end()) return std::nullopt;
  return files_.slice(offset, offset + bytes);
}

std::optional<SharedBytes> CommitLog::read_up_to(LogOffset offset, LogOffset end) const {
  auto file = files_.at(offset);
  if (!file || offset >= end) return std::nullopt;
  return files_.slice(offset, std::min(end, file->end()));
}

bool CommitLog::writable(std::string* why) const {
  if (writable_.load(std::memory_order_acquire)) return true;
  std::lock_guard lock(state_mutex_);
  if (!why) return false;
  *why = sync_failure_;
  for (const auto& refusal : refusals_)
    if (why->empty()) *why = refusal;
  return false;
}

void CommitLog::refuse_writes(Refusal refusal, std::string why) {
  std::lock_guard lock(state_mutex_);
  refusals_[static_cast<size_t>(refusal)] = std::move(why);
  bool refused = !sync_failure_.empty();
  for (const auto& each : refusals_) refused = refused || !each.empty();
  writable_ = !refused;
}

int64_t CommitLog::append_busy_ms() const {
  int64_t longest = 0;
  for (int64_t since : {tail_locked_at_ms_.load(std::memory_order_relaxed), parked_since_ms_.load()})
    if (since != 0) longest = std::max(longest, steady_ms() - since);
  return longest;
}

}  // namespace apogee::store
