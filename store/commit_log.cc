#include "store/commit_log.h"

#include <fmt/core.h>
#include <pthread.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <utility>

#include "common/base/check.h"
#include "common/message/message_record.h"
#include "store/file_names.h"

namespace apogee::store {

namespace {

constexpr int64_t kBlankBytes = static_cast<int64_t>(message::kBlankBytesMin);
constexpr auto kExpiryCheck = std::chrono::milliseconds(100);
/// An append waits this long for a file that is being made; as in Apache RocketMQ.
constexpr auto kFileWaitMax = std::chrono::seconds(5);
constexpr int64_t kRetryMs = 200;
constexpr size_t kCutLookedAtBytes = 16u << 20;

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
    : options_(std::move(options)), files_(files), logger_(logger) {}

CommitLog::~CommitLog() { stop().ignore("the owner's own stop has told"); }

Status CommitLog::load() {
  APOGEE_TRY(files_.make_directories(options_.directory));
  APOGEE_TRY_ASSIGN(auto names, files_.list(options_.directory));
  LogOffset expected = -1;
  for (size_t i = 0; i < names.size(); ++i) {
    std::string path = options_.directory + "/" + names[i];
    auto begin = offset_of_file_name(names[i]);
    if (!begin) {
      logger_.warn("{}: not a file of the log, left alone", path);
      continue;
    }
    APOGEE_TRY_ASSIGN(auto file, files_.open(path, io::OpenMode::kExisting));
    APOGEE_TRY_ASSIGN(int64_t bytes, file->size());
    if (bytes == 0 && i + 1 == names.size()) {
      logger_.warn("{}: empty last file removed", path);
      APOGEE_TRY(files_.remove(path));
      continue;
    }
    if (bytes != options_.file_bytes)
      return Error(Errc::kCorrupt,
                   fmt::format("{} has {} bytes, but mappedFileSizeCommitLog is {}: set it to the size that "
                               "the store was written with, or restore the file",
                               path, bytes, options_.file_bytes));
    if (expected >= 0 && *begin != expected)
      return Error(Errc::kCorrupt, fmt::format("{}: the log goes on at {}, but a file for {} is missing; restore it",
                                               path, *begin, expected));
    if (*begin % options_.file_bytes != 0)
      return Error(Errc::kCorrupt,
                   fmt::format("{}: its name is no multiple of mappedFileSizeCommitLog {}", path, options_.file_bytes));
    expected = *begin + options_.file_bytes;
    auto log_file = std::make_shared<LogFile>();
    log_file->begin = *begin;
    APOGEE_TRY_ASSIGN(log_file->map, file->map(static_cast<size_t>(options_.file_bytes)));
    log_file->file = std::move(file);
    list_.push_back(std::move(log_file));
  }
  return {};
}

Result<std::string> CommitLog::set_end(const RecoveredEnd& recovered) {
  std::lock_guard tail(tail_mutex_);
  std::unique_lock lock(list_mutex_);
  const LogOffset end = recovered.end;
  std::string cut;
  while (!list_.empty() && list_.back()->begin >= end && list_.back()->begin > list_.front()->begin) {
    auto last = list_.back();
    std::string name = file_name_of(last->begin);
    // The file made ahead of need holds only zeros; one with records in it is part of what is cut.
    if (load_be<int32_t>(last->map->data()) != 0) cut += fmt::format("; file {} removed", name);
    list_.pop_back();
    APOGEE_TRY(files_.remove(options_.directory + "/" + name));
  }
  if (!list_.empty()) {
    auto& last = *list_.back();
    auto position = static_cast<size_t>(end - last.begin);
    std::string_view rest(last.map->data() + position, last.map->size() - position);
    auto dirty_to = rest.substr(0, std::min(rest.size(), kCutLookedAtBytes)).find_last_not_of('\0');
    if (dirty_to != std::string_view::npos) {
      // Otherwise a later record that happens to end where an old one begins would bring that one back.
      cut =
          fmt::format("; {} bytes of no whole record in file {} zeroed", dirty_to + 1, file_name_of(last.begin)) + cut;
      APOGEE_TRY(last.file->zero(static_cast<int64_t>(position), static_cast<int64_t>(rest.size())));
      APOGEE_TRY(last.file->allocate(options_.file_bytes));
    }
    if (position < last.map->size()) tail_file_ = list_.back();
  }
  for (const auto& file : list_)
    if (file->begin + options_.file_bytes > recovered.maybe_unsynced_from) APOGEE_TRY(file->file->sync());
  APOGEE_TRY(files_.sync_directory(options_.directory));
  end_ = end;
  flushed_ = end;
  populated_to_ = end;
  last_store_time_ms_ = recovered.last_store_time_ms;
  end_time_ms_ = recovered.last_store_time_ms;
  flushed_time_ms_ = recovered.last_store_time_ms;
  return cut.empty() ? cut : cut.substr(2);
}

void CommitLog::set_next_offset(std::string queue_key, QueueOffset next) {
  std::lock_guard lock(tail_mutex_);
  next_offsets_[std::move(queue_key)] = next;
}

void CommitLog::start() {
  flusher_ = std::thread([this] {
    pthread_setname_np(pthread_self(), "flusher");
    run_flusher();
  });
  allocator_ = std::thread([this] {
    pthread_setname_np(pthread_self(), "allocator");
    run_allocator();
  });
  std::lock_guard lock(allocate_mutex_);
  tail_moved_ = true;
  allocate_wanted_.notify_one();
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
  }
  {
    std::lock_guard lock(flush_mutex_);
    stop_flusher_ = true;
    flush_wanted_.notify_one();
  }
  if (allocator_.joinable()) allocator_.join();
  if (flusher_.joinable()) flusher_.join();
  std::string why;
  return writable(&why) || why.empty() || flushed() == end() ? Status() : Status(Error(Errc::kIo, why));
}

Result<std::shared_ptr<LogFile>> CommitLog::make_file(LogOffset begin) {
  std::string path = options_.directory + "/" + file_name_of(begin);
  auto made = [&]() -> Result<std::shared_ptr<LogFile>> {
    auto file = std::make_shared<LogFile>();
    file->begin = begin;
    APOGEE_TRY_ASSIGN(file->file, files_.open(path, io::OpenMode::kCreate));
    APOGEE_TRY(file->file->allocate(options_.file_bytes));
    APOGEE_TRY(file->file->sync());
    APOGEE_TRY(files_.sync_directory(options_.directory));
    APOGEE_TRY_ASSIGN(file->map, file->file->map(static_cast<size_t>(options_.file_bytes)));
    return file;
  }();
  // A file of another length would stop the next start.
  if (!made) files_.remove(path).ignore("it may not have come into being");
  return made;
}

std::optional<Error> CommitLog::make_spare(LogOffset begin) {
  std::unique_lock lock(allocate_mutex_);
  spare_made_.wait_for(lock, kFileWaitMax, [&] { return making_ < 0; });
  if ((spare_ && spare_->begin == begin) || file_at(begin)) return std::nullopt;
  if (making_ >= 0) return Error(Errc::kBusy, "the next file of the log is still being made");
  making_ = begin;
  lock.unlock();
  auto made = make_file(begin);
  lock.lock();
  making_ = -1;
  spare_made_.notify_all();
  if (!made) return made.error();
  spare_ = std::move(*made);
  return std::nullopt;
}

Status CommitLog::roll_locked(LogOffset begin) {
  auto error = make_spare(begin);
  std::lock_guard lock(allocate_mutex_);
  if (error) {
    missing_ = begin;  // the allocator tries again until it can, and then has writes taken again
    refuse_writes(Refusal::kNoRoom, error->message);
    return *error;
  }
  tail_file_ = std::move(spare_);
  spare_ = nullptr;
  std::unique_lock list_lock(list_mutex_);
  list_.push_back(tail_file_);
  return {};
}

Status CommitLog::append(Unit unit, PutResult& result, Placed placed) {
  const auto bytes = static_cast<int64_t>(unit.bytes.size());
  if (bytes + kBlankBytes > options_.file_bytes)
    return Error(Errc::kTooLarge, fmt::format("{} bytes do not fit a log file of {}", bytes, options_.file_bytes));
  LogOffset end = 0;
  {
    std::lock_guard lock(tail_mutex_);
    if (closed_) return Error(Errc::kClosed, "the store is stopping");
    if (std::string why; !writable(&why)) return Error(Errc::kDiskFull, why);
    tail_locked_at_ms_.store(steady_ms(), std::memory_order_relaxed);
    struct Unlocked {
      std::atomic<int64_t>& at;
      ~Unlocked() { at.store(0, std::memory_order_relaxed); }
    } unlocked{tail_locked_at_ms_};

    LogOffset begin = this->end();
    if (!tail_file_) APOGEE_TRY(roll_locked(begin));  // an empty log, or one that ends with its last file
    int64_t left = tail_file_->begin + options_.file_bytes - begin;
    if (bytes + kBlankBytes > left) {
      auto full = tail_file_;
      LogOffset next_begin = full->begin + options_.file_bytes;
      APOGEE_TRY(roll_locked(next_begin));  // first: without it nothing may change
      char* blank = full->map->data() + (begin - full->begin);
      store_be<int32_t>(blank, static_cast<int32_t>(left));
      store_be<int32_t>(blank + 4, message::kBlankMagic);
      begin = next_begin;
    }

    QueueOffset none = 0;
    QueueOffset& next = unit.takes_queue_offset ? next_offsets_[unit.queue_key] : none;
    last_store_time_ms_ = std::max(last_store_time_ms_, wall_ms());
    result.queue_offset = next;
    result.store_timestamp_ms = last_store_time_ms_;
    char* to = unit.bytes.data();
    LogOffset at = begin;
    for (uint32_t record_bytes : unit.record_bytes) {
      message::place_record(to, next, at, last_store_time_ms_);
      result.offsets.push_back(at);
      if (unit.takes_queue_offset) ++next;
      to += record_bytes;
      at += record_bytes;
    }
    copy_records(unit, tail_file_->map->data() + (begin - tail_file_->begin));
    end = begin + bytes;
    end_time_ms_.store(last_store_time_ms_, std::memory_order_relaxed);
    end_.store(end, std::memory_order_seq_cst);
  }

  if (end + options_.populate_bytes / 2 > populated_to_.load(std::memory_order_relaxed)) {
    std::lock_guard lock(allocate_mutex_);
    if (!tail_moved_) {
      tail_moved_ = true;
      allocate_wanted_.notify_one();
    }
  }
  if (!options_.sync_flush) {
    if (grown_) grown_();
    placed(Synced::kYes);
    return {};
  }
  bool wait = unit.wait_for_sync;
  bool too_late = false;
  {
    std::lock_guard lock(flush_mutex_);
    too_late = flusher_ended_;
    if (wait && !too_late) {
      auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(options_.sync_flush_timeout_ms);
      parked_.push_back({end, deadline, std::move(placed)});
    }
    flush_now_ = true;
    flush_wanted_.notify_one();
  }
  if (too_late) {
    placed(!wait || flushed() >= end ? Synced::kYes : Synced::kTimeout);
  } else if (!wait) {
    placed(Synced::kYes);
  }
  return {};
}

void CommitLog::run_flusher() {
  auto interval = std::chrono::milliseconds(options_.sync_flush ? 1'000 : options_.flush_interval_ms);
  bool sync_failed = false;
  for (;;) {
    bool stopping;
    {
      std::unique_lock lock(flush_mutex_);
      flush_wanted_.wait_for(lock, interval, [this] { return flush_now_ || stop_flusher_; });
      flush_now_ = false;
      stopping = stop_flusher_;
    }
    int64_t end_time = end_time_ms_.load();  // before the end, so that it is never that of a record behind it
    LogOffset end = this->end();
    if (end > flushed() && !sync_failed) {
      if (auto synced = sync_to(end); synced) {
        flushed_.store(end, std::memory_order_seq_cst);
        flushed_time_ms_ = end_time;
        if (options_.sync_flush && grown_) grown_();
      } else {
        // The kernel may have dropped the pages that it could not write: a later sync that succeeds proves nothing.
        sync_failed = true;
        logger_.error("writes are refused from now on: {}", synced.error().message);
        std::lock_guard lock(state_mutex_);
        sync_failure_ = fmt::format("a sync of the log failed ({}); restart the broker when the disk is well",
                                    synced.error().message);
        writable_ = false;
      }
    }
    release(flushed());  // also what was parked just after the sync that covers it
    if (sync_failed) expire(true);
    if (stopping && (sync_failed || this->end() == flushed())) break;
  }
  {
    std::lock_guard lock(flush_mutex_);
    flusher_ended_ = true;
  }
  release(flushed());
  expire(true);
}

Status CommitLog::sync_to(LogOffset end) {
  for (LogOffset at = flushed(); at < end;) {
    auto file = file_at(at);
    APOGEE_CHECK(file != nullptr);
    APOGEE_TRY(file->file->sync());
    at = file->begin + options_.file_bytes;
  }
  return {};
}

void CommitLog::release(LogOffset synced_to) {
  std::vector<Parked> covered;
  {
    std::lock_guard lock(flush_mutex_);
    auto kept =
        std::stable_partition(parked_.begin(), parked_.end(), [&](const Parked& p) { return p.end <= synced_to; });
    covered.assign(std::make_move_iterator(parked_.begin()), std::make_move_iterator(kept));
    parked_.erase(parked_.begin(), kept);
  }
  for (auto& each : covered) each.placed(Synced::kYes);
}

void CommitLog::expire(bool all) {
  std::vector<Parked> late;
  {
    auto now = std::chrono::steady_clock::now();
    std::lock_guard lock(flush_mutex_);
    auto kept = std::stable_partition(parked_.begin(), parked_.end(),
                                      [&](const Parked& p) { return all || p.deadline <= now; });
    late.assign(std::make_move_iterator(parked_.begin()), std::make_move_iterator(kept));
    parked_.erase(parked_.begin(), kept);
  }
  for (auto& each : late) each.placed(Synced::kTimeout);
}

void CommitLog::run_allocator() {
  int64_t next_attempt_ms = 0;
  for (;;) {
    LogOffset missing;
    {
      std::unique_lock lock(allocate_mutex_);
      allocate_wanted_.wait_for(lock, kExpiryCheck, [this] { return tail_moved_ || stop_allocator_; });
      if (stop_allocator_) return;
      tail_moved_ = false;
      missing = missing_;
    }
    // A sync that hangs must not hold answers beyond their deadline, so expiry is not the flusher's work.
    expire(false);
    LogOffset end = this->end();
    auto file = file_at(end);
    if (file) populate_ahead(*file, end);
    // The next file, once this one is half full; an empty log gets its first one from the first append.
    LogOffset wanted = missing;
    if (wanted < 0 && file && end - file->begin > options_.file_bytes / 2) wanted = file->begin + options_.file_bytes;
    if (wanted < 0 || steady_ms() < next_attempt_ms) continue;
    if (auto error = make_spare(wanted)) {
      next_attempt_ms = steady_ms() + kRetryMs;
      // Appends that need it are refused with the same words, so one line a failure is enough.
      if (std::exchange(last_warning_, error->message) != error->message)
        logger_.warn("next file of the log: {}", error->message);
      continue;
    }
    last_warning_.clear();
    std::shared_ptr<LogFile> spare;
    {
      std::lock_guard lock(allocate_mutex_);
      spare = spare_;
      if (missing >= 0 && missing_ == missing) {
        missing_ = -1;
        take_writes(Refusal::kNoRoom);
        logger_.info("file {} of the log is there now: writes are taken again", file_name_of(missing));
      }
    }
    if (spare && std::exchange(spare_populated_, spare->begin) != spare->begin)
      spare->map->populate(0, static_cast<size_t>(std::min(options_.file_bytes, options_.populate_bytes)));
  }
}

void CommitLog::populate_ahead(const LogFile& file, LogOffset end) {
  const LogOffset file_end = file.begin + options_.file_bytes;
  const LogOffset from = std::max(populated_to_.load(), end);
  const LogOffset to = std::min(file_end, end + options_.populate_bytes);
  if (to <= from || (to < file_end && to - from < options_.populate_bytes / 4)) return;
  file.map->populate(static_cast<size_t>(from - file.begin), static_cast<size_t>(to - from));
  populated_to_ = to;
}

LogOffset CommitLog::begin() const {
  std::shared_lock lock(list_mutex_);
  return list_.empty() ? end() : list_.front()->begin;
}

std::vector<std::shared_ptr<LogFile>> CommitLog::files() const {
  std::shared_lock lock(list_mutex_);
  return list_;
}

Result<int> CommitLog::remove_files_before(LogOffset offset) {
  int removed = 0;
  for (;;) {
    std::shared_ptr<LogFile> first;
    {
      std::shared_lock lock(list_mutex_);
      if (list_.size() < 2 || list_.front()->begin + options_.file_bytes > std::min(offset, flushed())) return removed;
      first = list_.front();
    }
    APOGEE_TRY(files_.remove(options_.directory + "/" + file_name_of(first->begin)));
    {
      std::unique_lock lock(list_mutex_);
      list_.erase(list_.begin());
    }
    ++removed;
    // Before the next one goes: a log with a file missing in the middle would not start.
    APOGEE_TRY(files_.sync_directory(options_.directory));
  }
}

std::shared_ptr<LogFile> CommitLog::file_at(LogOffset offset) const {
  std::shared_lock lock(list_mutex_);
  if (list_.empty() || offset < list_.front()->begin) return nullptr;
  auto index = static_cast<size_t>((offset - list_.front()->begin) / options_.file_bytes);
  return index < list_.size() ? list_[index] : nullptr;
}

std::optional<SharedBytes> CommitLog::read(LogOffset offset, int64_t bytes) const {
  if (offset < 0 || bytes < 0 || offset + bytes > readable_end()) return std::nullopt;
  auto file = file_at(offset);
  if (!file || offset + bytes > file->begin + options_.file_bytes) return std::nullopt;
  return SharedBytes(file->map,
                     std::string_view(file->map->data() + (offset - file->begin), static_cast<size_t>(bytes)));
}

std::optional<SharedBytes> CommitLog::read_up_to(LogOffset offset, LogOffset end) const {
  auto file = file_at(offset);
  if (!file || offset >= end) return std::nullopt;
  auto bytes = std::min(end, file->begin + options_.file_bytes) - offset;
  return SharedBytes(file->map,
                     std::string_view(file->map->data() + (offset - file->begin), static_cast<size_t>(bytes)));
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

int64_t CommitLog::lock_held_since_ms() const {
  int64_t at = tail_locked_at_ms_.load(std::memory_order_relaxed);
  return at == 0 ? 0 : steady_ms() - at;
}

}  // namespace apogee::store
