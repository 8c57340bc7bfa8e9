#include "store/consume_queues.h"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>

namespace apogee::store {

namespace {

constexpr size_t kOpenFilesMax = 512;

}  // namespace

ConsumeQueues::ConsumeQueues(std::string directory, std::string trash, int64_t file_bytes, io::FileSystem& files,
                             const Logger& logger)
    : directory_(std::move(directory)),
      trash_(std::move(trash)),
      file_bytes_(file_bytes),
      files_(files),
      logger_(logger),
      open_files_(files, kOpenFilesMax) {}

std::pair<std::string_view, int32_t> ConsumeQueues::parse_key(std::string_view key) {
  const size_t dash = key.rfind('-');
  int32_t queue_id = 0;
  if (dash == std::string_view::npos) return {};
  auto [end, error] = std::from_chars(key.data() + dash + 1, key.data() + key.size(), queue_id);
  if (error != std::errc() || end != key.data() + key.size()) return {};
  return {key.substr(0, dash), queue_id};
}

std::string ConsumeQueues::queue_key(std::string_view topic, int32_t queue_id) {
  return fmt::format("{}-{}", topic, queue_id);
}

Status ConsumeQueues::load(LogOffset log_begin, LogOffset trusted_end, LogOffset log_end, bool after_crash) {
  APOGEE_TRY(files_.make_directories(directory_));
  if (files_.exists(trash_)) APOGEE_TRY(files_.remove_all(trash_));  // a crash came in between
  APOGEE_TRY_ASSIGN(auto topics, files_.list(directory_));
  for (const auto& topic : topics) {
    std::string topic_directory = directory_ + "/" + topic;
    if (!files_.is_directory(topic_directory)) continue;
    APOGEE_TRY_ASSIGN(auto queues, files_.list(topic_directory));
    for (const auto& name : queues) {
      int32_t queue_id = 0;
      auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), queue_id);
      if (error != std::errc() || end != name.data() + name.size() || queue_id < 0) continue;
      auto queue = make(topic, queue_id);
      APOGEE_TRY(queue->load());
      const bool is_empty = queue->max() == 0;  // nothing makes one without an entry that goes there
      APOGEE_TRY(queue->cut_beyond(trusted_end, log_end, after_crash));
      APOGEE_TRY(queue->set_log_begin(log_begin));
      LogOffset goes_to = log_begin;  // its last message ends there
      if (queue->max() > 0) {
        auto last = queue->read(queue->max() - 1, 1);
        if (!last.empty()) {
          queue->set_last_record(last.front().physical_offset);
          goes_to = is_blank(last.front()) ? last.front().physical_offset : last.front().end();
          if (!is_blank(last.front())) dispatched_end_ = std::max(dispatched_end_, goes_to);
        }
      }
      if (is_empty || queue->damaged()) rebuild_from_ = std::min(rebuild_from_, goes_to);
      topics_[topic][queue_id] = std::move(queue);
    }
  }
  return {};
}

void ConsumeQueues::forget_empty() {
  std::unique_lock lock(mutex_);
  ++removals_;
  for (auto& [topic, ids] : topics_) {
    for (auto id = ids.begin(); id != ids.end();) {
      if (id->second->max() > 0) {
        ++id;
        continue;
      }
      open_files_.forget_below(id->second->directory());
      if (auto gone = files_.remove_all(id->second->directory()); !gone) logger_.warn("{}", gone.error().message);
      id = ids.erase(id);
    }
  }
}

void ConsumeQueues::flush_later(std::shared_ptr<ConsumeQueue> queue) {
  std::lock_guard lock(unwritten_mutex_);
  unwritten_.push_back(std::move(queue));
  queues_to_flush_.store(unwritten_.size(), std::memory_order_relaxed);
}

Status ConsumeQueues::flush() {
  std::lock_guard flushing(flush_mutex_);
  std::vector<std::shared_ptr<ConsumeQueue>> queues;
  {
    std::lock_guard lock(unwritten_mutex_);
    queues.swap(unwritten_);
    queues_to_flush_.store(0, std::memory_order_relaxed);
  }
  Status status;
  for (auto& queue : queues) {
    if (auto flushed = queue->flush(); !flushed && status) status = std::move(flushed);
    if (queue->take_flush_wanted()) flush_later(queue);
  }
  return status;
}

std::shared_ptr<ConsumeQueue> ConsumeQueues::find(std::string_view topic, int32_t queue_id) const {
  std::shared_lock lock(mutex_);
  auto found = topics_.find(topic);
  if (found == topics_.end()) return nullptr;
  auto queue = found->second.find(queue_id);
  return queue == found->second.end() ? nullptr : queue->second;
}

std::shared_ptr<ConsumeQueue> ConsumeQueues::find_or_create(std::string_view topic, int32_t queue_id) {
  if (auto queue = find(topic, queue_id)) return queue;
  std::unique_lock lock(mutex_);
  auto& queue = topics_[std::string(topic)][queue_id];
  if (!queue) queue = make(topic, queue_id);
  return queue;
}

QueueOffset ConsumeQueues::retired_below(std::string_view topic, int32_t queue_id) const {
  return floors_ == nullptr ? 0 : floors_->retired_below(queue_key(topic, queue_id));
}

std::shared_ptr<ConsumeQueue> ConsumeQueues::make(std::string_view topic, int32_t queue_id) {
  auto queue = std::make_shared<ConsumeQueue>(fmt::format("{}/{}/{}", directory_, topic, queue_id), file_bytes_,
                                              open_files_, files_);
  if (floors_ != nullptr) queue->set_floor(floors_->of(queue_key(topic, queue_id)));
  return queue;
}

std::string ConsumeQueues::move_away_locked(const std::string& directory) {
  open_files_.forget_below(directory);
  std::string gone = fmt::format("{}/{}", trash_, moved_away_.fetch_add(1));
  auto moved = files_.make_directories(trash_);
  if (moved) moved = files_.rename(directory, gone);
  if (moved) return gone;
  if (moved.error().code == Errc::kNotFound) return {};
  logger_.warn("{}", moved.error().message);
  return directory;
}

void ConsumeQueues::remove_topic(std::string_view topic) {
  std::string gone;
  {
    std::unique_lock lock(mutex_);
    auto found = topics_.find(topic);
    if (found == topics_.end()) return;
    ++removals_;
    for (auto& [id, queue] : found->second) queue->set_removed();
    topics_.erase(found);
    gone = move_away_locked(fmt::format("{}/{}", directory_, topic));
  }
  if (gone.empty()) return;
  if (auto removed = files_.remove_all(gone); !removed) logger_.warn("{}", removed.error().message);
}

std::vector<std::pair<std::string, QueueOffset>> ConsumeQueues::next_offsets(std::string_view topic) const {
  std::vector<std::pair<std::string, QueueOffset>> offsets;
  std::shared_lock lock(mutex_);
  for (auto& [name, ids] : topics_)
    for (auto& [id, queue] : ids)
      if (topic.empty() || topic == name) offsets.emplace_back(queue_key(name, id), queue->max());
  return offsets;
}

std::vector<std::pair<std::string, QueueFloor>> ConsumeQueues::floors() const {
  std::vector<std::pair<std::string, QueueFloor>> floors;
  std::shared_lock lock(mutex_);
  for (auto& [name, ids] : topics_)
    for (auto& [id, queue] : ids) floors.emplace_back(queue_key(name, id), queue->floor());
  return floors;
}

Status ConsumeQueues::restart(std::string_view topic, int32_t queue_id) {
  std::unique_lock lock(mutex_);
  auto found = topics_.find(topic);
  if (found == topics_.end() || found->second.count(queue_id) == 0) return {};
  ++removals_;
  auto& queue = found->second[queue_id];
  open_files_.forget_below(queue->directory());
  APOGEE_TRY(files_.remove_all(queue->directory()));
  queue = make(topic, queue_id);
  return {};
}

std::vector<std::pair<std::string, QueueOffset>> ConsumeQueues::begin_at(std::string_view topic, LogOffset end) const {
  std::vector<std::pair<std::string, QueueOffset>> begins;
  std::shared_lock lock(mutex_);
  const auto found = topics_.find(topic);
  if (found == topics_.end()) return begins;
  for (const auto& [id, queue] : found->second)
    if (auto first = queue->first_from(end)) begins.emplace_back(queue_key(topic, id), *first);
  return begins;
}

void ConsumeQueues::remove_before(std::string_view topic, LogOffset end) {
  std::lock_guard beginning(begin_mutex_);
  std::vector<std::string> gone;
  std::vector<std::shared_ptr<ConsumeQueue>> left;
  {
    // As in remove_expired().
    std::unique_lock lock(mutex_);
    auto found = topics_.find(topic);
    if (found == topics_.end()) return;
    ++removals_;
    auto& ids = found->second;
    for (auto each = ids.begin(); each != ids.end();) {
      if (!each->second->close_if_before(end)) {
        left.push_back(each->second);
        ++each;
        continue;
      }
      gone.push_back(move_away_locked(each->second->directory()));
      each = ids.erase(each);
    }
    if (ids.empty()) {
      topics_.erase(found);
      gone.push_back(move_away_locked(fmt::format("{}/{}", directory_, topic)));
    }
  }
  for (const auto& queue : left) {
    auto done = queue->set_log_begin(end);
    if (done) done = queue->remove_old_files();
    if (!done) logger_.warn("{}", done.error().message);
  }
  remove_closed(gone);
}

void ConsumeQueues::remove_closed(const std::vector<std::string>& gone) {
  for (const auto& directory : gone)
    if (!directory.empty())
      if (auto done = files_.remove_all(directory); !done) logger_.warn("{}", done.error().message);
}

void ConsumeQueues::set_log_begin(LogOffset log_begin) {
  std::lock_guard beginning(begin_mutex_);
  std::vector<std::shared_ptr<ConsumeQueue>> all;
  {
    std::shared_lock lock(mutex_);
    for (auto& [topic, ids] : topics_)
      for (auto& [id, queue] : ids) all.push_back(queue);
  }
  for (auto& queue : all) {
    auto done = queue->set_log_begin(log_begin);
    if (done) done = queue->remove_old_files();
    if (!done) logger_.warn("{}", done.error().message);  // done again when the next file of the log goes
  }
}

std::vector<ExpiredQueue> ConsumeQueues::expired() const {
  std::vector<ExpiredQueue> queues;
  std::shared_lock lock(mutex_);
  for (auto& [topic, ids] : topics_) {
    if (topic == kScheduleTopic) continue;  // the delay service keeps offsets of its own; as in Apache RocketMQ
    for (auto& [id, queue] : ids)
      if (queue->expired()) queues.push_back({topic, id, queue->max()});
  }
  return queues;
}

size_t ConsumeQueues::remove_expired(const std::vector<ExpiredQueue>& queues) {
  std::vector<std::string> gone;
  size_t removed = 0;
  for (const auto& each : queues) {
    // The dispatcher finds its queue under this lock, so an entry that comes now goes to a queue that begins anew.
    std::unique_lock lock(mutex_);
    auto topic = topics_.find(each.topic);
    if (topic == topics_.end()) continue;
    auto queue = topic->second.find(each.queue_id);
    if (queue == topic->second.end() || !queue->second->close_if_expired()) continue;
    std::string directory = queue->second->directory();
    ++removals_;
    topic->second.erase(queue);
    if (topic->second.empty()) {
      directory.resize(directory.rfind('/'));
      topics_.erase(topic);
    }
    gone.push_back(move_away_locked(directory));
    ++removed;
    logger_.info("queue {} of topic {} removed: all of its {} messages have expired", each.queue_id, each.topic,
                 each.next);
  }
  remove_closed(gone);
  return removed;
}

std::vector<std::string> ConsumeQueues::topics() const {
  std::vector<std::string> names;
  std::shared_lock lock(mutex_);
  for (auto& each : topics_) names.push_back(each.first);
  return names;
}

}  // namespace apogee::store
