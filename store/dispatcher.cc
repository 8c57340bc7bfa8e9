#include "store/dispatcher.h"

#include <fmt/core.h>
#include <pthread.h>

#include <algorithm>
#include <charconv>
#include <map>

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

struct QueueBatch {
  std::string topic;
  int32_t queue_id = 0;
  QueueOffset first = 0;
  std::vector<QueueEntry> entries;
};

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
  std::lock_guard lock(mutex_);
  pending_ = true;
  wanted_.notify_one();
}

int64_t Dispatcher::tags_code_of(const message::RecordView& record) const {
  if (record.topic == kScheduleTopic) {
    auto text = message::find_property(record.properties, message::property::kDelayLevel);
    int64_t level = 0;
    if (text) std::from_chars(text->data(), text->data() + text->size(), level);
    if (level > 0 && !delay_levels_ms_.empty())
      return record.store_timestamp_ms +
             delay_levels_ms_[static_cast<size_t>(std::min(level, static_cast<int64_t>(delay_levels_ms_.size()))) - 1];
  }
  auto tags = message::find_property(record.properties, message::property::kTags);
  return tags ? java_string_hash(*tags) : 0;
}

Status Dispatcher::catch_up(bool stop_at_gaps) {
  while (position() < log_.readable_end()) APOGEE_TRY(dispatch_batch(log_.readable_end(), stop_at_gaps));
  return {};
}

void Dispatcher::run() {
  bool failing = false;
  for (;;) {
    auto done = catch_up();
    if (!done && !failing) {
      // What cannot be found by its queue must not be taken in either.
      logger_.error("dispatch stands at {}, writes are refused: {}", position(), done.error().message);
      log_.refuse_writes(CommitLog::Refusal::kQueues, "consume queues cannot be written: " + done.error().message);
    } else if (done && failing) {
      logger_.info("consume queues can be written again");
      log_.take_writes(CommitLog::Refusal::kQueues);
    }
    failing = !done;
    std::unique_lock lock(mutex_);
    if (stopping_) break;
    if (failing) {
      wanted_.wait_for(lock, kRetryInterval, [this] { return stopping_; });
      continue;
    }
    // Sleep is announced before the last look at the log: an append after that look sees it and wakes us.
    asleep_.store(true, std::memory_order_seq_cst);
    if (position() >= log_.readable_end()) wanted_.wait(lock, [this] { return pending_ || stopping_; });
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
  LogOffset at = position();
  auto bytes = log_.read_up_to(at, end);
  if (!bytes) {
    LogOffset next = std::max(at, log_.begin());
    if (next == at) next = end;
    if (at > 0) logger_.error("dispatch: the log has nothing at {}, going on at {}", at, next);
    set_place(next, next);
    return {};
  }
  std::map<std::pair<std::string_view, int32_t>, std::vector<QueueBatch>> batches;
  std::string_view rest = bytes->bytes;
  int64_t done = 0, last_time = dispatched_time_ms_;
  LogOffset last_record = at;
  while (!rest.empty() && done < kBatchBytesMax) {
    // A blank reaches to the end of its file, which is where `rest` ends when the log goes on.
    const LogOffset hole_end = end_of_hole(holes_, at + done);
    auto position = hole_end < 0 ? look_at(rest, at + done, at + done < checked_below_) : LogPosition{};
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
      auto record = message::decode_record(rest);
      if (record && has_queue_entry(record->sys_flag)) {
        QueueEntry entry{at + done, static_cast<int32_t>(position.bytes), tags_code_of(*record)};
        auto& list = batches[{record->topic, record->queue_id}];
        if (list.empty() ||
            list.back().first + static_cast<QueueOffset>(list.back().entries.size()) != record->queue_offset)
          list.push_back({std::string(record->topic), record->queue_id, record->queue_offset, {}});
        list.back().entries.push_back(entry);
      }
      if (record) last_time = record->store_timestamp_ms;
    }
    done += position.bytes;
    rest.remove_prefix(static_cast<size_t>(position.bytes));
  }
  std::vector<Arrival> arrivals;
  Status status;
  for (auto& [key, list] : batches) {
    for (auto& batch : list) {
      if (!queues_.find(batch.topic, batch.queue_id)) {
        // A deleted topic does not come back with what the log still has of it.
        const auto retired = std::clamp<QueueOffset>(queues_.retired_below(batch.topic, batch.queue_id) - batch.first,
                                                     0, static_cast<QueueOffset>(batch.entries.size()));
        batch.entries.erase(batch.entries.begin(), batch.entries.begin() + retired);
        batch.first += retired;
        if (batch.entries.empty()) continue;
      }
      auto queue = queues_.find_or_create(batch.topic, batch.queue_id);
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
        queue = queues_.find_or_create(batch.topic, batch.queue_id);
        before = queue->max();
        added = queue->append(batch.first, batch.entries, gap_max);
      }
      if (!added) {
        if (added.error().code == Errc::kCorrupt) {
          logger_.error("dispatch: {}", added.error().message);
        } else if (status) {
          status = std::move(added);
        }
        continue;
      }
      if (!listener_ || queue->max() == before) continue;
      for (size_t i = 0; i < batch.entries.size(); ++i) {
        QueueOffset offset = batch.first + static_cast<QueueOffset>(i);
        if (offset >= before) arrivals.push_back({batch.topic, batch.queue_id, offset + 1, batch.entries[i].tags_code});
      }
    }
  }
  if (status) {
    dispatched_time_ms_ = last_time;
    set_place(at + done, last_record);
  }
  if (listener_ && !arrivals.empty()) listener_(arrivals);
  return status;
}

}  // namespace apogee::store
