#include "store/commit_log.h"

#include <fmt/core.h>
#include <pthread.h>

#include <algorithm>
#include <chrono>
#include <cstring>

#include "common/base/check.h"
#include "common/message/message_record.h"
#include "store/file_names.h"

namespace apogee::store {

namespace {

constexpr int64_t kBlankBytes = static_cast<int64_t>(message::kBlankBytesMin);
constexpr auto kExpiryCheck = std::chrono::milliseconds(100);

int64_t wall_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch()).count();
}
int64_t steady_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now().time_since_epoch()).count();
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
      return Error(Errc::kCorrupt, fmt::format("{} has {} bytes, but mappedFileSizeCommitLog is {}: set it to the size that "
                                               "the store was written with, or restore the file", path, bytes,
                                               options_.file_bytes));
    if (expected >= 0 && *begin != expected)
      return Error(Errc::kCorrupt, fmt::format("{}: the log goes on at {}, but a file for {} is missing; restore it", path,
                                               *begin, expected));
    if (*begin % options_.file_bytes != 0)
      return Error(Errc::kCorrupt, fmt::format("{}: its name is no multiple of mappedFileSizeCommitLog {}", path,
                                               options_.file_bytes));
    expected = *begin + options_.file_bytes;
    auto log_file = std::make_shared<LogFile>();
    log_file->begin = *begin;
    APOGEE_TRY_ASSIGN(log_file->map, file->map(static_cast<size_t>(options_.file_bytes)));
    log_file->file = std::move(file);
    list_.push_back(std::move(log_file));
  }
  return {};
}

Result<bool> CommitLog::set_end(LogOffset end) {
  std::lock_guard tail(tail_mutex_);
  std::unique_lock lock(list_mutex_);
  bool cut = false;
  while (!list_.empty() && list_.back()->begin >= end && list_.back()->begin > list_.front()->begin) {
    auto last = list_.back();
    // The file made ahead of need holds only zeros; one with records in it is part of what is cut.
    cut = cut || load_be<int32_t>(last->map->data()) != 0;
    list_.pop_back();
    APOGEE_TRY(files_.remove(options_.directory + "/" + file_name_of(last->begin)));
  }
  if (!list_.empty()) {
    auto& last = *list_.back();
    auto position = static_cast<size_t>(end - last.begin);
    std::string_view rest(last.map->data() + position, last.map->size() - position);
    auto dirty = rest.substr(0, std::min<size_t>(rest.size(), 16u << 20)).find_first_not_of('\0');
    if (dirty != std::string_view::npos) {
      // Otherwise a later record that happens to end where an old one begins would bring that one back.
      cut = true;
      APOGEE_TRY(last.file->zero(end, static_cast<int64_t>(rest.size())));
    }
    if (position < last.map->size()) tail_file_ = list_.back();
  }
  end_ = end;
  flushed_ = end;
  populated_to_ = end;
  return cut;
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

Status CommitLog::roll_locked(LogOffset begin) {
  std::shared_ptr<LogFile> next;
  {
    std::lock_guard lock(allocate_mutex_);
    if (spare_ && spare_->begin == begin) next = std::move(spare_);
    spare_ = nullptr;
  }
  if (!next) {
    APOGEE_TRY_ASSIGN(next, make_file(begin));
  }
  {
    std::unique_lock lock(list_mutex_);
    list_.push_back(next);
  }
  tail_file_ = next;
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

    QueueOffset& next = next_offsets_[unit.queue_key];
    last_store_time_ms_ = std::max(last_store_time_ms_, wall_ms());
    result.queue_offset = next;
    result.store_timestamp_ms = last_store_time_ms_;
    char* to = unit.bytes.data();
    LogOffset at = begin;
    for (uint32_t record_bytes : unit.record_bytes) {
      message::place_record(to, next, at, last_store_time_ms_);
      result.offsets.push_back(at);
      ++next;
      to += record_bytes;
      at += record_bytes;
    }
    std::memcpy(tail_file_->map->data() + (begin - tail_file_->begin), unit.bytes.data(), unit.bytes.size());
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
  {
    std::lock_guard lock(flush_mutex_);
    if (wait) {
      auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(options_.sync_flush_timeout_ms);
      parked_.push_back({end, deadline, std::move(placed)});
    }
    flush_now_ = true;
    flush_wanted_.notify_one();
  }
  if (!wait) placed(Synced::kYes);
  return {};
}

void CommitLog::run_flusher() {
  auto interval = std::chrono::milliseconds(options_.sync_flush ? 1'000 : options_.flush_interval_ms);
  for (;;) {
    bool stopping;
    {
      std::unique_lock lock(flush_mutex_);
      flush_wanted_.wait_for(lock, interval, [this] { return flush_now_ || stop_flusher_; });
      flush_now_ = false;
      stopping = stop_flusher_;
    }
    LogOffset end = this->end();
    int64_t end_time = end_time_ms_.load();
    if (end > flushed()) {
      if (auto synced = sync_to(end); synced) {
        flushed_.store(end, std::memory_order_seq_cst);
        flushed_time_ms_ = end_time;
        release(end);
        if (options_.sync_flush && grown_) grown_();
      } else {
        // The kernel may have dropped the pages that it could not write: a later sync that succeeds proves nothing.
        {
          std::lock_guard lock(state_mutex_);
          sync_failure_ = fmt::format("a sync of the log failed ({}); restart the broker when the disk is well",
                                      synced.error().message);
          writable_ = false;
        }
        logger_.error("{}", synced.error().message);
        expire(true);
      }
    }
    if (stopping && (this->end() == flushed() || !writable(nullptr))) break;
  }
  expire(true);
}

Status CommitLog::sync_to(LogOffset end) {
  {
    std::lock_guard lock(state_mutex_);
    if (!sync_failure_.empty()) return Error(Errc::kIo, sync_failure_);
  }
  for (auto& file : files()) {
    if (file->begin + options_.file_bytes <= flushed() || file->begin >= end) continue;
    APOGEE_TRY(file->file->sync());
  }
  return {};
}

void CommitLog::release(LogOffset synced_to) {
  std::vector<Parked> covered;
  {
    std::lock_guard lock(flush_mutex_);
    auto kept = std::stable_partition(parked_.begin(), parked_.end(), [&](const Parked& p) { return p.end <= synced_to; });
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
    auto kept = std::stable_partition(parked_.begin(), parked_.end(), [&](const Parked& p) { return all || p.deadline <= now; });
    late.assign(std::make_move_iterator(parked_.begin()), std::make_move_iterator(kept));
    parked_.erase(parked_.begin(), kept);
  }
  for (auto& each : late) each.placed(Synced::kTimeout);
}

void CommitLog::run_allocator() {
  for (;;) {
    {
      std::unique_lock lock(allocate_mutex_);
      allocate_wanted_.wait_for(lock, kExpiryCheck, [this] { return tail_moved_ || stop_allocator_; });
      if (stop_allocator_) return;
      tail_moved_ = false;
    }
    // A sync that hangs must not hold answers beyond their deadline, so expiry is not the flusher's work.
    expire(false);
    LogOffset end = this->end();
    auto file = file_at(end);
    if (!file) continue;  // empty log: the first append makes the first file
    LogOffset window_end = std::min(file->begin + options_.file_bytes, end + options_.populate_bytes);
    LogOffset from = std::max(populated_to_.load(), end);
    if (window_end > from + options_.populate_bytes / 4 || window_end == file->begin + options_.file_bytes) {
      if (window_end > from)
        file->map->populate(static_cast<size_t>(from - file->begin), static_cast<size_t>(window_end - from));
      populated_to_ = std::max(populated_to_.load(), window_end);
    }
    // The next file, once this one is half full; small files are made one ahead at all times.
    LogOffset next_begin = file->begin + options_.file_bytes;
    bool wanted = end - file->begin > options_.file_bytes / 2;
    {
      std::lock_guard lock(allocate_mutex_);
      wanted = wanted && !(spare_ && spare_->begin == next_begin);
    }
    if (!wanted || file_at(next_begin)) continue;
    std::unique_lock tail(tail_mutex_);  // the appender makes the file itself if it comes first
    if (this->end() >= next_begin || file_at(next_begin)) continue;
    tail.unlock();
    std::lock_guard lock(allocate_mutex_);
    if (this->end() >= next_begin || file_at(next_begin)) continue;
    auto made = make_file(next_begin);
    if (made) {
      spare_ = std::move(*made);
      spare_->map->populate(0, static_cast<size_t>(std::min(options_.file_bytes, options_.populate_bytes)));
    } else {
      logger_.warn("next log file: {}", made.error().message);
    }
  }
}

LogOffset CommitLog::begin() const {
  std::shared_lock lock(list_mutex_);
  return list_.empty() ? end() : list_.front()->begin;
}

std::vector<std::shared_ptr<LogFile>> CommitLog::files() const {
  std::shared_lock lock(list_mutex_);
  return list_;
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
  return SharedBytes(file->map, std::string_view(file->map->data() + (offset - file->begin), static_cast<size_t>(bytes)));
}

std::optional<SharedBytes> CommitLog::read_up_to(LogOffset offset, LogOffset end) const {
  auto file = file_at(offset);
  if (!file || offset >= end) return std::nullopt;
  auto bytes = std::min(end, file->begin + options_.file_bytes) - offset;
  return SharedBytes(file->map, std::string_view(file->map->data() + (offset - file->begin), static_cast<size_t>(bytes)));
}

bool CommitLog::writable(std::string* why) const {
  if (writable_.load(std::memory_order_acquire)) return true;
  std::lock_guard lock(state_mutex_);
  if (why) *why = sync_failure_.empty() ? refused_ : sync_failure_;
  return false;
}

void CommitLog::refuse_writes(std::string why) {
  std::lock_guard lock(state_mutex_);
  refused_ = std::move(why);
  writable_ = refused_.empty() && sync_failure_.empty();
}

int64_t CommitLog::lock_held_since_ms() const {
  int64_t at = tail_locked_at_ms_.load(std::memory_order_relaxed);
  return at == 0 ? 0 : steady_ms() - at;
}

}  // namespace apogee::store
