#include "broker/schedule/delay_service.h"

#include <pthread.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <limits>
#include <utility>

#include "broker/messages/stored_copy.h"
#include "broker/schedule/delay_levels.h"
#include "common/base/text.h"
#include "common/config/properties_file.h"
#include "common/message/properties.h"
#include "common/message/property_names.h"

namespace apogee::broker {

namespace property = message::property;

namespace {

constexpr int32_t kLevelsAlways = 18;
constexpr int32_t kLevelsMax = 1'000;
constexpr int32_t kEntriesOfOneLook = 256;  // then the other levels have their turn
constexpr int64_t kRetryMs = 100;
constexpr int kRefusalsForGoodMax = 3;
constexpr int64_t kClockCheckMs = 1'000;  // the longest sleep while anything waits: the clock may have been set
constexpr int64_t kFailureLogMs = 60'000;
constexpr int64_t kNever = std::numeric_limits<int64_t>::max();
constexpr std::string_view kHalfTopic = "RMQ_SYS_TRANS_HALF_TOPIC";

}  // namespace

DelayService::DelayService(Parts parts) : parts_(std::move(parts)) {}

DelayService::~DelayService() { stop(); }

Result<remoting::DelayOffsetTable> DelayService::read() const {
  Status first;
  for (const auto& path : {parts_.file, parts_.file + ".bak"}) {
    auto text = config::read_whole_file(path);
    if (!text && text.error().code == Errc::kNotFound) continue;
    auto table =
        text ? remoting::decode_delay_offset_table(*text) : Result<remoting::DelayOffsetTable>(std::move(text).error());
    if (table) {
      if (!first) parts_.logger.warn("{}; {} is taken instead", first.error().message, path);
      return table;
    }
    if (first) first = Error{Errc::kCorrupt, path + ": " + table.error().message};
  }
  if (!first) return std::move(first).error();
  return remoting::DelayOffsetTable{};
}

Status DelayService::load() {
  remoting::DelayOffsetTable table;
  if (!parts_.file.empty()) {
    APOGEE_TRY_ASSIGN(table, read());
  }
  auto count = std::max(kLevelsAlways, static_cast<int32_t>(parts_.delays_ms.size()));
  for (const auto& [level, offset] : table.offset_table)
    if (level <= kLevelsMax) count = std::max(count, level);
  while (count < kLevelsMax && parts_.store.max_offset(kScheduleTopic, count) > 0) ++count;
  for (int32_t queue_id = 0; queue_id < count; ++queue_id) {
    Level& level = levels_.emplace_back();
    level.queue_id = queue_id;
    const auto index = static_cast<size_t>(queue_id);
    if (index < parts_.delays_ms.size()) level.delay_ms = parts_.delays_ms[index];
    auto known = table.offset_table.find(level.number());
    const int64_t wanted = known == table.offset_table.end() ? 0 : known->second;
    const int64_t min = std::max<int64_t>(parts_.store.min_offset(kScheduleTopic, queue_id), 0);
    const int64_t max = std::max(parts_.store.max_offset(kScheduleTopic, queue_id), min);
    level.offset = std::clamp(wanted, min, max);
    if (wanted != level.offset && wanted != 0)
      parts_.logger.warn("delay level {}: offset {} is taken as {}, because its messages are {} to {}", level.number(),
                         wanted, level.offset.load(), min, max);
  }
  std::lock_guard lock(save_mutex_);
  saved_ = std::move(table.offset_table);
  snapshot_ms_ = parts_.now_ms();
  return {};
}

void DelayService::start(store::HostAddress store_host) {
  store_host_ = std::move(store_host);
  thread_ = std::thread([this] {
    pthread_setname_np(pthread_self(), "delay");
    run();
  });
}

void DelayService::stop() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    wanted_.notify_one();
  }
  if (thread_.joinable()) thread_.join();
}

void DelayService::wake() {
  {
    std::lock_guard lock(mutex_);
    woken_ = true;
  }
  wanted_.notify_one();
}

void DelayService::on_arrivals(const std::vector<store::Arrival>& arrivals) {
  bool any = false;
  for (const auto& arrival : arrivals) {
    if (arrival.topic != kScheduleTopic) continue;
    const auto index = static_cast<size_t>(arrival.queue_id);
    if (index < levels_.size() && levels_[index].empty.exchange(false)) any = true;
  }
  if (any) wake();
}

void DelayService::run() {
  for (;;) {
    int64_t now = parts_.now_ms();
    int64_t next_ms = kNever;
    for (auto& level : levels_) {
      if (stopping_) return;
      const bool came = level.next_ms == kNever && !level.empty;
      // Due later than a message that came now would be: the clock was set back.
      const bool beyond = level.failing_since_ms == 0 && level.next_ms != kNever && level.delay_ms >= 0 &&
                          level.next_ms - now > level.delay_ms;
      if (came || beyond || level.next_ms <= now) look(level);
      next_ms = std::min(next_ms, level.next_ms);
    }
    std::unique_lock lock(mutex_);
    now = parts_.now_ms();
    auto ready = [this] { return woken_ || stopping_.load(); };
    if (next_ms == kNever) {
      wanted_.wait(lock, ready);
    } else if (next_ms > now) {
      wanted_.wait_for(lock, std::chrono::milliseconds(std::min(next_ms - now, kClockCheckMs)), ready);
    }
    woken_ = false;
    if (stopping_) return;
  }
}

// Delivers what is due, a bounded number of messages, and says when to look again.
void DelayService::look(Level& level) {
  const int64_t now = parts_.now_ms();
  const auto entries = parts_.store.queue_entries(kScheduleTopic, level.queue_id, level.offset, kEntriesOfOneLook);
  if (entries.empty()) return look_at_end(level);
  for (const auto& entry : entries) {
    if (stopping_) return;
    const int64_t due = entry.tags_code;
    // A message that is due later than one that came now was parked with another clock or another configuration.
    const bool beyond = level.delay_ms >= 0 && due > now && due - now > level.delay_ms;
    if (due > now && !beyond) {
      level.next_ms = due;
      return;
    }
    if (!deliver(level, entry)) {
      level.next_ms = parts_.now_ms() + kRetryMs;
      return;
    }
    level.offset.fetch_add(1, std::memory_order_release);
  }
  level.next_ms = now;
}

void DelayService::look_at_end(Level& level) {
  const int64_t min = parts_.store.min_offset(kScheduleTopic, level.queue_id);
  if (level.offset < min) {
    parts_.logger.error("delay level {}: messages {} to {} have left the log before they were due", level.number(),
                        level.offset.load(), min - 1);
    level.offset = min;
    level.next_ms = 0;
    return;
  }
  // An arrival after this exchange sees it and wakes us; one before is seen by the look at the end of the queue.
  level.empty.exchange(true);
  const bool came = parts_.store.max_offset(kScheduleTopic, level.queue_id) > level.offset;
  if (came) level.empty = false;
  level.next_ms = came ? 0 : kNever;
}

// False: the same message is to be tried again in a while.
bool DelayService::deliver(Level& level, const store::QueueEntry& entry) {
  auto skip = [&](const char* why) {
    parts_.logger.error("delay level {}: message {} (log offset {}) is skipped: {}", level.number(),
                        level.offset.load(), entry.physical_offset, why);
    skipped_.fetch_add(1, std::memory_order_relaxed);
    return true;
  };
  auto bytes = parts_.store.record_at(entry.physical_offset);
  if (!bytes) return skip("it is not in the log any more");
  auto copy = StoredCopy::of(std::move(*bytes));
  if (!copy || copy->record.topic != kScheduleTopic || copy->record.queue_id != level.queue_id ||
      copy->record.queue_offset != level.offset)
    return skip("its entry leads to another record");
  auto topic = message::find_property(copy->properties, property::kRealTopic);
  auto queue = message::find_property(copy->properties, property::kRealQueueId);
  int32_t queue_id = -1;
  if (queue) std::from_chars(queue->data(), queue->data() + queue->size(), queue_id);
  if (!topic || queue_id < 0) return skip("it does not say where to (REAL_TOPIC, REAL_QID)");
  if (*topic == kHalfTopic) return skip("half messages are not delayed");
  copy->topic = std::string(*topic);
  copy->queue_id = queue_id;
  copy->wait_store_ok = false;
  if (!topic_is_there(level, copy->topic)) return false;
  const auto result = put_and_wait(copy->draft(store_host_));
  if (!result.stored() && refused_for_good(result) && ++level.refusals_for_good >= kRefusalsForGoodMax) {
    parts_.logger.error("delay level {}: {} is not delivered, because the store refuses it: {}", level.number(),
                        copy->name(), result.detail);
    skipped_.fetch_add(1, std::memory_order_relaxed);
    recovered(level);
    return true;
  }
  if (!result.stored()) {
    note_failure(level, copy->topic, result.detail);
    return false;
  }
  delivered_.fetch_add(1, std::memory_order_relaxed);
  recovered(level);
  return true;
}

// The present message is over.
void DelayService::recovered(Level& level) {
  level.refusals_for_good = 0;
  if (level.failing_since_ms != 0)
    parts_.logger.info("delay level {} is delivered again, after {} ms", level.number(),
                       parts_.now_ms() - level.failing_since_ms);
  level.failing_since_ms = 0;
}

// The retry topic of a group that is still there is made again, and waited for. Any other topic need not be there: the
// message is stored all the same, and found when the topic is made again.
bool DelayService::topic_is_there(Level& level, const std::string& topic) {
  if (parts_.topics.find(topic) != nullptr) {
    if (!missing_topics_.empty()) missing_topics_.erase(topic);
    return true;
  }
  if (is_retry_topic(topic)) {
    if (auto group = parts_.groups.find(topic.substr(kRetryTopicPrefix.size())); group != nullptr) {
      note_failure(level, topic, "it was deleted, and is made again");
      parts_.topics.create_group_topic(
          topic, std::max(group->retry_queue_nums, 1), 0, [this, topic](const Status& made) {
            if (!made) return parts_.logger.error("{} could not be made again: {}", topic, made.error().message);
            wake();
          });
      return false;
    }
  }
  if (missing_topics_.insert(topic).second)
    parts_.logger.warn(
        "delay level {}: the topic {} is gone; its delayed messages are stored, and will be found when it is made "
        "again",
        level.number(), topic);
  return true;
}

store::PutResult DelayService::put_and_wait(const store::MessageDraft& draft) {
  parts_.put.deliver(draft, [this](store::PutResult result) {
    std::lock_guard lock(outcome_.mutex);
    outcome_.result = std::move(result);
    outcome_.there.notify_one();
  });
  std::unique_lock lock(outcome_.mutex);
  outcome_.there.wait(lock, [this] { return outcome_.result.has_value(); });
  store::PutResult result = std::move(*outcome_.result);
  outcome_.result.reset();
  return result;
}

void DelayService::note_failure(Level& level, const std::string& topic, const std::string& why) {
  const int64_t now = parts_.now_ms();
  if (level.failing_since_ms == 0) {
    level.failing_since_ms = now;
  } else if (now - level.failure_logged_ms < kFailureLogMs) {
    return;
  }
  level.failure_logged_ms = now;
  parts_.logger.warn("delay level {}: message {} for {} is tried again: {}", level.number(), level.offset.load(), topic,
                     why.empty() ? "the store refused it" : why);
}

remoting::DelayOffsetTable DelayService::offsets() const {
  remoting::DelayOffsetTable table;
  for (const auto& level : levels_)
    if (const int64_t offset = level.offset.load(std::memory_order_acquire); offset > 0)
      table.offset_table[level.number()] = offset;
  return table;
}

Status DelayService::follow(const remoting::DelayOffsetTable& master) {
  std::lock_guard lock(save_mutex_);
  for (auto& level : levels_)
    if (auto known = master.offset_table.find(level.number()); known != master.offset_table.end())
      level.offset = known->second;
  snapshot_.reset();
  if (parts_.file.empty() || master.offset_table == saved_) return {};
  APOGEE_TRY(config::replace_file(parts_.file, encode(master)));
  saved_ = master.offset_table;
  return {};
}

Status DelayService::save(int64_t interval_ms) {
  if (parts_.file.empty()) return {};
  std::lock_guard lock(save_mutex_);
  const int64_t now = parts_.now_ms();
  if (interval_ms == 0 || (!snapshot_ && (now - snapshot_ms_ >= interval_ms || now < snapshot_ms_))) {
    snapshot_ms_ = now;
    auto table = offsets();
    if (table.offset_table == saved_) {
      snapshot_.reset();
      return {};
    }
    snapshot_ = std::move(table);
    snapshot_end_ = parts_.store.figures().log_max_offset;
  }
  if (!snapshot_ || parts_.store.figures().flushed_offset < snapshot_end_) return {};
  APOGEE_TRY(config::replace_file(parts_.file, encode(*snapshot_)));
  saved_ = std::move(snapshot_->offset_table);
  snapshot_.reset();
  return {};
}

bool DelayService::may_remove(store::LogOffset new_begin) const {
  std::lock_guard lock(save_mutex_);
  for (const auto& level : levels_) {
    int64_t offset = level.offset;
    // Where a restart would begin.
    if (!parts_.file.empty()) {
      auto saved = saved_.find(level.number());
      offset = std::min(offset, saved == saved_.end() ? 0 : saved->second);
    }
    offset = std::max(offset, parts_.store.min_offset(kScheduleTopic, level.queue_id));
    const auto first = parts_.store.queue_entries(kScheduleTopic, level.queue_id, offset, 1);
    if (!first.empty() && first.front().physical_offset < new_begin) return false;
  }
  return true;
}

std::map<std::string, std::string> DelayService::figures() const {
  std::map<std::string, std::string> figures{{"scheduleMessagesSkipped", std::to_string(skipped_.load())}};
  for (const auto& level : levels_) {
    const int64_t max = parts_.store.max_offset(kScheduleTopic, level.queue_id);
    if (max > 0)
      figures["scheduleMessageOffset_" + std::to_string(level.number())] =
          std::to_string(level.offset.load()) + "," + std::to_string(max);
  }
  return figures;
}

}  // namespace apogee::broker
