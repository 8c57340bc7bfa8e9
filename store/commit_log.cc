#include "store/commit_log.h"

#include <fmt/core.h>
#include <pthread.h>

#include <algorithm>
#include <cstring>
#include <ctime>
#include <utility>

#include "common/message/message_record.h"
#include "common/message/record_form.h"
#include "store/record_sketch.h"

namespace apogee::store {

namespace {

constexpr int64_t kBlankBytes = static_cast<int64_t>(message::kBlankBytesMin);

int64_t wall_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch())
      .count();
}
constexpr size_t kHeadBytes = 8;

void copy_head(const char* record, char* to) {
  std::atomic_signal_fence(std::memory_order_seq_cst);
  std::memcpy(to, record, kHeadBytes);
}

void copy_behind_head(const char* record, size_t bytes, char* to) {
  std::memcpy(to + kHeadBytes, record + kHeadBytes, bytes - kHeadBytes);
}

/// Copies the records so that a process killed half-way leaves no record that looks whole but is not, and none
/// behind one that is not whole: their lengths and magics come last, in order.
void copy_records(const CommitLog::Unit& unit, char* to) {
  const char* from = unit.all().data();
  size_t at = 0;
  for (uint32_t bytes : unit.record_bytes) {
    copy_behind_head(from + at, bytes, to + at);
    at += bytes;
  }
  at = 0;
  for (uint32_t bytes : unit.record_bytes) {
    copy_head(from + at, to + at);
    at += bytes;
  }
}

/// Writes the records from `at` on, which is `to`, in the order of copy_records().
void encode_records(const QuickMessages& messages, QuickPlace& place, LogOffset at, char* to) {
  message::RecordPlace each{place.queue_offset, at, place.store_timestamp_ms};
  for (size_t i = 0; i < messages.count; ++i) {
    place.offsets[i] = each.physical_offset;
    messages.form.encode_behind_head(messages.parts[i], each, to + (each.physical_offset - at));
    each.physical_offset += static_cast<LogOffset>(messages.form.record_bytes(messages.parts[i]));
    ++each.queue_offset;
  }
  for (size_t i = 0; i < messages.count; ++i) {
    std::atomic_signal_fence(std::memory_order_seq_cst);
    messages.form.encode_head(messages.form.record_bytes(messages.parts[i]), to + (place.offsets[i] - at));
  }
}

}  // namespace

/// Belongs to the loops as much as to the log, which may go in the middle of a turn.
class CommitLog::Growth final : public loop::TurnWork {
 public:
  explicit Growth(CommitLog& log) : log_(&log) {}
  void turn_ends() override {
    std::shared_lock lock(mutex_);
    if (log_ != nullptr) log_->wake_for_growth();
  }
  void log_goes() {
    std::unique_lock lock(mutex_);
    log_ = nullptr;
  }

 private:
  std::shared_mutex mutex_;
  CommitLog* log_;  // guarded by mutex_
};

CommitLog::CommitLog(Options options, io::FileSystem& files, const Logger& logger)
    : options_(std::move(options)),
      logger_(logger),
      files_(options_.directory, options_.file_bytes, files, logger),
      acks_(
          // What is not on the disk of a SYNC_FLUSH master is with no slave.
          options_.replication, [this] { return options_.flush.sync_flush ? flushed() : end(); },
          [this](LogOffset from, LogOffset to) {
            return whole_records_end(files_, record_ends_.nearest(from, to), to, end());
          },
          logger),
      flusher_(options_.flush, ends_, files_, logger),
      growth_(std::make_shared<Growth>(*this)) {}

CommitLog::~CommitLog() {
  stop().ignore("the owner's own stop has told");
  growth_->log_goes();
}

Result<std::string> CommitLog::set_end(const RecoveredEnd& recovered) {
  APOGEE_TRY_ASSIGN(std::string cut,
                    files_.cut(recovered.end, recovered.maybe_unsynced_from, recovered.only_zeros_behind));
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
  const auto bytes = unit.size();
  if (unit.copy_at >= 0)
    return tail_file_ && unit.copy_at < tail_file_->end() ? 0 : unit.copy_at % options_.file_bytes + bytes;
  return tail_file_ && end() + bytes + kBlankBytes <= tail_file_->end() ? 0 : bytes + kBlankBytes;
}

bool CommitLog::fits_locked(const Unit& unit) const {
  const auto bytes = unit.size();
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

CommitLog::Placed CommitLog::place_locked(Unit& unit, Done done) {
  const auto bytes = unit.size();
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
  last_store_time_ms_ = copy ? std::max(last_store_time_ms_, unit.copy_store_time_ms) : store_time_locked();
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
  if (ends_.grow_to(placed.end, last_store_time_ms_) && acks_.waits()) record_ends_.add(at);
  return placed;
}

int64_t CommitLog::steady_ms() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
  return static_cast<int64_t>(now.tv_sec) * 1'000 + now.tv_nsec / 1'000'000;
}

int64_t CommitLog::store_time_locked() {
  return std::max(last_store_time_ms_, options_.now_ms ? options_.now_ms() : wall_ms());
}

bool CommitLog::append_quickly(const QuickMessages& messages, size_t bytes, QuickPlace& place,
                               Flusher::Released synced) {
  if (acks_.waits()) return false;
  place.offsets.resize(messages.count);
  bool low = false;
  {
    std::lock_guard lock(tail_mutex_);
    const LogOffset at = end();
    const LogOffset unit_end = at + static_cast<LogOffset>(bytes);
    if (closed_ || !parked_.empty() || !tail_file_ || unit_end + kBlankBytes > tail_file_->end() ||
        unit_end + kBlankBytes > populated_to_ || !writable(nullptr))
      return false;
    tail_locked_at_ms_.store(steady_ms(), std::memory_order_relaxed);
    if (messages.queue.next == nullptr) messages.queue.next = &next_offsets_[messages.queue.key];
    QueueOffset& next = *messages.queue.next;
    last_store_time_ms_ = store_time_locked();
    place.queue_offset = next;
    place.store_timestamp_ms = last_store_time_ms_;
    place.end = unit_end;
    place.waits = options_.flush.sync_flush && messages.wait_store_ok;
    encode_records(messages, place, at, tail_file_->map->data() + (at - tail_file_->begin));
    next += static_cast<QueueOffset>(messages.count);
    ends_.grow_to(unit_end, last_store_time_ms_);
    tail_locked_at_ms_.store(0, std::memory_order_relaxed);
    low = window_is_low_locked();
  }
  if (low) wake_allocator();
  if (place.waits) flusher_.wait_for(place.end, std::move(synced));
  tell_growth();
  return true;
}

void CommitLog::append(Unit unit, Done done) {
  const auto bytes = unit.size();
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
    } else if (unit.written = is_to_be_written_locked(unit); !unit.written && parked_.empty() && fits_locked(unit)) {
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

void CommitLog::tell_growth() {
  if (auto* loop = loop::EventLoop::current()) return loop->at_turn_end(growth_);
  wake_for_growth();
}

void CommitLog::wake_for_growth() {
  flusher_.grown(end());
  if (!options_.flush.sync_flush && grown_ && acks_.follows_end()) grown_();
  tell_replication();
}

void CommitLog::answer(Placed placed) {
  const bool disk = options_.flush.sync_flush && placed.wait_for_sync;
  const bool replicas = acks_.waits() && placed.wait_for_sync;
  if (!disk && !replicas) {
    tell_growth();
    return placed.done(std::move(placed.placement));
  }
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
  tell_growth();  // now that the answer waits, so that the next sync releases it
}

std::optional<SharedBytes> CommitLog::read(LogOffset offset, int64_t bytes) const {
  if (offset < 0 || bytes < 0 || offset + bytes > readable_end()) return std::nullopt;
  return files_.slice(offset, offset + bytes);
}

std::optional<SharedBytes> CommitLog::read_up_to(LogOffset offset, LogOffset end) const {
  return files_.slice_up_to(offset, end);
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
