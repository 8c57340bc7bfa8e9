#include "store/dispatcher.h"

#include <fmt/core.h>
#include <pthread.h>

#include <algorithm>
#include <charconv>
#include <functional>
#include <optional>
#include <utility>

#include "common/base/hash.h"
#include "common/message/message_record.h"
#include "common/message/properties.h"
#include "common/message/property_names.h"
#include "common/message/sys_flag.h"

namespace apogee::store {

namespace {

constexpr int64_t kBatchBytesMax = 4 << 20;
constexpr auto kRecordBytesMin = static_cast<int64_t>(message::kRecordBytesMin);
constexpr auto kRetryInterval = std::chrono::milliseconds(200);
/// So much is dispatched by who appends; more is the thread's.
constexpr int64_t kAppenderBytesMax = 256 << 10;
/// Entries go to files so long after they came; with many queues later, as each costs a write.
constexpr auto kFlushAfter = std::chrono::milliseconds(100);
constexpr auto kFlushAfterEachQueue = std::chrono::microseconds(500);
constexpr auto kFlushAfterMax = std::chrono::seconds(5);
constexpr int64_t kHeldEntriesMax = 262'144;
/// While nobody waits for messages, those of so much time are done together: a wake-up costs more than a message.
constexpr auto kNap = std::chrono::milliseconds(1);
/// Of a batch so many messages are told one by one, as filters by tags want it; of more, the last one.
constexpr size_t kArrivalsOneByOne = 16;
constexpr size_t kSlots = 256;  // a power of two
constexpr size_t kKnownQueuesMax = 65'536;

/// The one that this thread dispatches for: an arrival listener may have pulls wait again.
thread_local const Dispatcher* dispatching = nullptr;

}  // namespace

bool has_queue_entry(int32_t sys_flag) {
  auto type = sys_flag & message::sys_flag::kTransactionMask;
  return type == message::sys_flag::kTransactionNot || type == message::sys_flag::kTransactionCommit;
}

void Dispatcher::start() {
  thread_ = std::thread([this] {
    pthread_setname_np(pthread_self(), "dispatcher");
    run();
  });
}

void Dispatcher::stop() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    wanted_.notify_one();
  }
  if (thread_.joinable()) thread_.join();
}

void Dispatcher::wake() {
  if (!asleep_.load(std::memory_order_seq_cst)) return;
  {
    std::lock_guard lock(mutex_);
    pending_ = true;
  }
  wanted_.notify_one();  // without the lock, or who wakes on the same processor goes back to sleep for it
}

int64_t Dispatcher::tags_code_of(const message::RecordView& record) const {
  return tags_code(record.topic, record.store_timestamp_ms, known_properties(record.properties));
}

int64_t Dispatcher::tags_code(std::string_view topic, int64_t store_time_ms, const KnownProperties& known) const {
  if (topic == kScheduleTopic) {
    const auto text = known.delay_level;
    int64_t level = 0;
    std::from_chars(text.data(), text.data() + text.size(), level);
    if (level > 0 && !delay_levels_ms_.empty())
      return store_time_ms +
             delay_levels_ms_[static_cast<size_t>(std::min(level, static_cast<int64_t>(delay_levels_ms_.size()))) - 1];
  }
  return known.tags.empty() ? 0 : java_string_hash(known.tags);
}

Status Dispatcher::catch_up(bool stop_at_gaps) {
  APOGEE_TRY(catch_up_in_memory(stop_at_gaps));
  return queues_.flush();
}

Status Dispatcher::catch_up_in_memory(bool stop_at_gaps) {
  while (position() < log_.readable_end()) {
    {
      std::lock_guard lock(dispatch_mutex_);
      APOGEE_TRY(dispatch_batch(log_.readable_end(), stop_at_gaps));
    }
    if (held_entries_.load(std::memory_order_relaxed) < kHeldEntriesMax) continue;
    held_entries_.store(0, std::memory_order_relaxed);
    APOGEE_TRY(queues_.flush());
  }
  return {};
}

void Dispatcher::append_done() {
  if (!waiting_for_arrivals_ || !waiting_for_arrivals_()) return wake();
  dispatch_here();
}

void Dispatcher::dispatch_here() {
  if (position() >= log_.readable_end()) return;
  if (dispatching == this) return wake();
  {
    std::unique_lock lock(dispatch_mutex_, std::try_to_lock);
    const LogOffset end = log_.readable_end();
    if (!lock || failing_.load() || end - position() > kAppenderBytesMax ||
        held_entries_.load(std::memory_order_relaxed) >= kHeldEntriesMax || !dispatch_batch(end, false)) {
      lock = {};
      return wake();
    }
  }
  if (position() < log_.readable_end()) wake();
  if (flush_planned_.load(std::memory_order_relaxed) || flush_planned_.exchange(true)) return;
  {
    std::lock_guard lock(mutex_);
    pending_ = true;
  }
  wanted_.notify_one();
}

void Dispatcher::run() {
  using Clock = std::chrono::steady_clock;
  std::optional<Clock::time_point> held_since;
  bool flush = false;
  for (;;) {
    const LogOffset begun_at = position();
    auto done = catch_up_in_memory(false);
    const bool failing = failing_.load();
    if (done && (flush || failing)) {
      held_since.reset();
      flush_planned_.store(false);
      held_entries_.store(0, std::memory_order_relaxed);
      done = queues_.flush();
    }
    flush = false;
    if (!done && !failing) {
      // What cannot be found by its queue must not be taken in either.
      logger_.error("dispatch stands at {}, writes are refused: {}", position(), done.error().message);
      log_.refuse_writes(CommitLog::Refusal::kQueues, "consume queues cannot be written: " + done.error().message);
    } else if (done && failing) {
      logger_.info("consume queues can be written again");
      log_.take_writes(CommitLog::Refusal::kQueues);
    }
    failing_.store(!done);
    std::unique_lock lock(mutex_);
    if (stopping_) break;
    if (!done) {
      wanted_.wait_for(lock, kRetryInterval, [this] { return stopping_; });
      continue;
    }
    if (!held_since && (flush_planned_.load() || held_entries_.load(std::memory_order_relaxed) > 0)) {
      flush_planned_.store(true);
      held_since = Clock::now();
    }
    if (position() != begun_at && waiting_for_arrivals_ && !waiting_for_arrivals_())
      wanted_.wait_for(lock, kNap, [this] { return stopping_ || flush_asked_; });
    // Sleep is announced before the last look at the log: an append after that look sees it and wakes us.
    asleep_.store(true, std::memory_order_seq_cst);
    auto woken = [this] { return pending_ || stopping_ || flush_asked_; };
    Clock::time_point due = Clock::time_point::max();
    if (held_since) {
      const auto after = kFlushAfter + kFlushAfterEachQueue * static_cast<int64_t>(queues_.queues_to_flush());
      due = *held_since + std::min<Clock::duration>(after, kFlushAfterMax);
    }
    if (position() < log_.readable_end()) {
      // there is more
    } else if (!held_since) {
      wanted_.wait(lock, woken);
    } else {
      wanted_.wait_until(lock, due, woken);
    }
    flush = std::exchange(flush_asked_, false) || Clock::now() >= due;
    asleep_.store(false, std::memory_order_seq_cst);
    pending_ = false;
  }
  if (auto done = catch_up(); !done) logger_.error("dispatch ends at {}: {}", position(), done.error().message);
}

void Dispatcher::sync_queues() {
  // Taken first: what was dispatched by then is marked.
  SyncedTo dispatched;
  {
    std::lock_guard lock(place_mutex_);
    dispatched = {position(), last_record_};
  }
  const int64_t time = dispatched_time_ms_.load();
  if (sync_failed_ || synced_to_.position == dispatched.position) return;
  if (auto flushed = queues_.flush(); !flushed) {
    // The thread tries it again, and refuses writes until it succeeds.
    std::lock_guard lock(mutex_);
    flush_asked_ = true;
    wanted_.notify_one();
    return;
  }
  if (auto synced = queues_.sync(); !synced) {
    // A later sync would prove nothing about these bytes. The checkpoint stays where it is, so that the next
    // start dispatches them again.
    sync_failed_ = true;
    logger_.error("consume queues: {}; the next start will build them again from {} on", synced.error().message,
                  synced_time_ms_.load());
    return;
  }
  synced_time_ms_ = time;
  synced_to_ = dispatched;
}

void Dispatcher::set_place(LogOffset position, LogOffset last_record) {
  std::lock_guard lock(place_mutex_);
  last_record_ = last_record;
  position_.store(position, std::memory_order_release);
  if (waiting_ > 0) placed_.notify_all();
}

void Dispatcher::wait_for(LogOffset offset, std::chrono::milliseconds longest) {
  std::unique_lock lock(place_mutex_);
  ++waiting_;
  placed_.wait_for(lock, longest, [this, offset] { return position() >= offset; });
  --waiting_;
}

void Dispatcher::set_recovered(LogOffset log_end, std::vector<Hole> holes) {
  checked_below_ = log_end;
  holes_ = std::move(holes);
  lost_bytes_ = 0;
  for (const auto& hole : holes_) lost_bytes_ += hole.end - hole.begin;
}

Status Dispatcher::dispatch_batch(LogOffset end, bool stop_at_gaps) {
  const auto* const outer = std::exchange(dispatching, this);
  auto done = dispatch_next(end, stop_at_gaps);
  dispatching = outer;
  return done;
}

Status Dispatcher::dispatch_next(LogOffset end, bool stop_at_gaps) {
  LogOffset at = position();
  auto bytes = log_.read_up_to(at, end);
  if (!bytes) {
    LogOffset next = std::max(at, log_.begin());
    if (next == at) next = end;
    if (at > 0) logger_.error("dispatch: the log has nothing at {}, going on at {}", at, next);
    set_place(next, next);
    return {};
  }
  begin_round();
  std::string_view rest = bytes->bytes;
  int64_t done = 0, last_time = dispatched_time_ms_;
  LogOffset last_record = at;
  while (!rest.empty() && done < kBatchBytesMax) {
    // A blank reaches to the end of its file, which is where `rest` ends when the log goes on.
    const LogOffset hole_end = holes_.empty() ? -1 : end_of_hole(holes_, at + done);
    RecordSketch record;
    auto position = hole_end < 0 ? sketcher_.look_at(rest, at + done, record) : LogPosition{};
    if (position.kind == LogPosition::Kind::kRecord) {
      if (!record.topic_as_before) {
        topic_hash_ = std::hash<std::string_view>()(record.topic);
        recent_.fill(0);
      }
      if (at + done < checked_below_) position = look_at(rest, at + done, true);
    }
    if (position.kind == LogPosition::Kind::kNothing) {
      auto skipped = static_cast<int64_t>(rest.size());
      if (hole_end >= 0)
        skipped = std::min(skipped, hole_end - at - done);
      else if (auto file = log_.files().at(at))
        if (auto next = next_record(*file, at + done + 1, end); next && *next > 0)
          skipped = std::min(skipped, *next - at - done);
      if (hole_end < 0) {
        logger_.warn("dispatch: no message at {}, {} bytes skipped", at + done, skipped);
        lost_bytes_ += skipped;
      }
      done += skipped;
      last_record = at + done;
      rest.remove_prefix(static_cast<size_t>(skipped));
      continue;
    }
    last_record = at + done;
    if (position.kind == LogPosition::Kind::kRecord) {
      if (has_queue_entry(record.sys_flag)) {
        const auto code = tags_code(record.topic, record.store_timestamp_ms, known_properties(record.properties));
        batch_of(record).entries.push_back({at + done, static_cast<int32_t>(position.bytes), code});
      }
      last_time = record.store_timestamp_ms;
    }
    done += position.bytes;
    rest.remove_prefix(static_cast<size_t>(position.bytes));
  }
  arrivals_.clear();
  Status status;
  for (size_t i = 0; i < batches_used_; ++i) {
    auto added = add(batches_[i], stop_at_gaps);
    if (added) continue;
    if (added.error().code == Errc::kCorrupt && stop_at_gaps) return added;
    if (status) status = std::move(added);
  }
  if (status) {
    dispatched_time_ms_ = last_time;
    set_place(at + done, last_record);
  }
  if (listener_ && !arrivals_.empty()) listener_(arrivals_);
  return status;
}

Status Dispatcher::add(QueueBatch& batch, bool stop_at_gaps) {
  auto& known = known_[batch.known];
  // In this order: a queue that is removed later is looked up again.
  const int64_t removals = queues_.removals();
  if (!known.queue || known.removals != removals) known.queue = queues_.find(known.topic, known.queue_id);
  known.removals = removals;
  auto& queue = known.queue;
  if (!queue) {
    // A deleted topic does not come back with what the log still has of it.
    const auto retired = std::clamp<QueueOffset>(queues_.retired_below(known.topic, known.queue_id) - batch.first, 0,
                                                 static_cast<QueueOffset>(batch.entries.size()));
    batch.entries.erase(batch.entries.begin(), batch.entries.begin() + retired);
    batch.first += retired;
    if (batch.entries.empty()) return {};
    queue = queues_.find_or_create(known.topic, known.queue_id);
  }
  QueueOffset before = queue->max();
  if (stop_at_gaps && batch.first > before && before > 0 && lost_bytes_ == 0)
    return Error(Errc::kCorrupt,
                 fmt::format("{} ends with {}, but {} comes next", queue->directory(), before - 1, batch.first));
  if (batch.first > before && before > 0)
    logger_.error("dispatch: {}: a message comes with offset {}, but {} is next", queue->directory(), batch.first,
                  before);
  const int64_t gap_max = lost_bytes_ / kRecordBytesMin;
  auto added = queue->append(batch.first, batch.entries, gap_max);
  while (!added && added.error().code == Errc::kClosed) {
    queue = queues_.find_or_create(known.topic, known.queue_id);
    before = queue->max();
    added = queue->append(batch.first, batch.entries, gap_max);
  }
  if (!added && added.error().code != Errc::kCorrupt) return added;
  if (!added) logger_.error("dispatch: {}", added.error().message);
  if (!added) return {};
  held_entries_.fetch_add(static_cast<int64_t>(batch.entries.size()), std::memory_order_relaxed);
  if (queue->take_flush_wanted()) queues_.flush_later(queue);
  if (!listener_ || queue->max() == before) return {};
  const size_t count = batch.entries.size();
  for (size_t i = 0; i < count; ++i) {
    const QueueOffset offset = batch.first + static_cast<QueueOffset>(i);
    if (offset >= before && (i < kArrivalsOneByOne || i + 1 == count))
      arrivals_.push_back({known.topic, known.queue_id, offset + 1, batch.entries[i].tags_code});
  }
  return {};
}

void Dispatcher::begin_round() {
  if (slots_.empty() || known_.size() > kKnownQueuesMax) {
    known_.clear();
    recent_.fill(0);
    slots_.assign(kSlots, 0);
  }
  ++round_;
  batches_used_ = 0;
}

/// Its index in known_.
uint32_t Dispatcher::known_queue(std::string_view topic, int32_t queue_id) {
  const size_t hash = topic_hash_ + static_cast<size_t>(queue_id) * 0x9E3779B97F4A7C15ULL;
  const size_t mask = slots_.size() - 1;
  size_t slot = (hash >> 32) & mask;
  for (; slots_[slot] != 0; slot = (slot + 1) & mask) {
    const auto& there = known_[slots_[slot] - 1];
    if (there.hash == hash && there.queue_id == queue_id && there.topic == topic) return slots_[slot] - 1;
  }
  known_.push_back({std::string(topic), queue_id, hash, nullptr, 0, 0, 0});
  slots_[slot] = static_cast<uint32_t>(known_.size());
  if (known_.size() * 2 > slots_.size()) {
    slots_.assign(slots_.size() * 2, 0);
    for (size_t i = 0; i < known_.size(); ++i) {
      size_t at = (known_[i].hash >> 32) & (slots_.size() - 1);
      while (slots_[at] != 0) at = (at + 1) & (slots_.size() - 1);
      slots_[at] = static_cast<uint32_t>(i + 1);
    }
  }
  return static_cast<uint32_t>(known_.size() - 1);
}

/// The batch that takes the message: its queue's latest, or a new one if that does not go on with its offset.
Dispatcher::QueueBatch& Dispatcher::batch_of(const RecordSketch& record) {
  uint32_t& recent = recent_[static_cast<uint32_t>(record.queue_id) % recent_.size()];
  if (recent == 0 || known_[recent - 1].queue_id != record.queue_id)
    recent = known_queue(record.topic, record.queue_id) + 1;
  auto& known = known_[recent - 1];
  if (known.round == round_) {
    auto& latest = batches_[known.batch];
    if (latest.first + static_cast<QueueOffset>(latest.entries.size()) == record.queue_offset) return latest;
  }
  if (batches_used_ == batches_.size()) batches_.emplace_back();
  known.round = round_;
  known.batch = static_cast<uint32_t>(batches_used_);
  auto& batch = batches_[batches_used_++];
  batch.known = recent - 1;
  batch.first = record.queue_offset;
  batch.entries.clear();
  return batch;
}

}  // namespace apogee::store
