#include "client/src/process_queue.h"

#include <algorithm>

#include "client/src/client_instance.h"

namespace apogee {

ProcessQueue::Cached ProcessQueue::cached() const {
  std::lock_guard lock(mutex_);
  return cached_locked();
}

ProcessQueue::Cached ProcessQueue::cached_locked() const {
  Cached cached{messages_.size() + taken_.size(), bytes_, 0};
  if (!messages_.empty()) cached.span = messages_.rbegin()->first - messages_.begin()->first;
  return cached;
}

bool ProcessQueue::fits_locked(const Limits& limits) const {
  const Cached cached = cached_locked();
  return cached.count < limits.count && cached.bytes < limits.bytes && (limits.span < 0 || cached.span <= limits.span);
}

bool ProcessQueue::has_room_or_waits(const Limits& limits) {
  std::lock_guard lock(mutex_);
  if (fits_locked(limits)) return true;
  waits_for_ = limits;
  return false;
}

bool ProcessQueue::stop_waiting_locked() {
  if (!waits_for_ || !fits_locked(*waits_for_)) return false;
  waits_for_.reset();
  return true;
}

bool ProcessQueue::put(const std::vector<ReceivedMessage>& messages) {
  std::lock_guard lock(mutex_);
  for (const auto& message : messages) {
    if (messages_.emplace(message.queue_offset(), Entry{message, 0}).second) {
      bytes_ += static_cast<int64_t>(message.body().size());
    }
    end_offset_ = std::max(end_offset_, message.queue_offset() + 1);
  }
  if (messages_.empty() || in_charge_ || dropped_) return false;
  return in_charge_ = true;
}

void ProcessQueue::skip_to(int64_t next_offset, OffsetStore& offsets) {
  std::lock_guard lock(mutex_);
  end_offset_ = std::max(end_offset_, next_offset);
  if (messages_.empty() && taken_.empty() && !dropped_) offsets.update(queue_, next_offset, true);
}

void ProcessQueue::mark_started(const std::vector<ReceivedMessage>& messages, int64_t now_ms) {
  std::lock_guard lock(mutex_);
  for (const auto& message : messages) {
    auto found = messages_.find(message.queue_offset());
    if (found != messages_.end()) found->second.started_ms = now_ms;
  }
}

bool ProcessQueue::contains(const ReceivedMessage& message) const {
  std::lock_guard lock(mutex_);
  return messages_.count(message.queue_offset()) != 0;
}

bool ProcessQueue::remove(const std::vector<ReceivedMessage>& messages, OffsetStore& offsets) {
  std::lock_guard lock(mutex_);
  for (const auto& message : messages) {
    auto found = messages_.find(message.queue_offset());
    if (found == messages_.end()) continue;
    bytes_ -= static_cast<int64_t>(found->second.message.body().size());
    messages_.erase(found);
  }
  if (!dropped_) commit_locked(offsets);
  return stop_waiting_locked();
}

void ProcessQueue::commit_locked(OffsetStore& offsets) const {
  if (discarded_ || end_offset_ < 0) return;
  offsets.update(queue_, messages_.empty() ? end_offset_ : messages_.begin()->first, true);
}

std::vector<ReceivedMessage> ProcessQueue::started_until(int64_t time_ms, size_t count_max) const {
  std::vector<ReceivedMessage> found;
  std::lock_guard lock(mutex_);
  for (const auto& [offset, entry] : messages_) {
    if (found.size() >= count_max || entry.started_ms == 0 || entry.started_ms > time_ms) break;
    found.push_back(entry.message);
  }
  return found;
}

std::vector<ReceivedMessage> ProcessQueue::take(size_t count_max) {
  std::vector<ReceivedMessage> next;
  std::lock_guard lock(mutex_);
  while (!dropped_ && next.size() < count_max && !messages_.empty()) {
    auto first = messages_.begin();
    next.push_back(first->second.message);
    taken_.emplace(first->first, std::move(first->second.message));
    messages_.erase(first);
  }
  if (next.empty()) in_charge_ = false;
  return next;
}

bool ProcessQueue::commit(OffsetStore& offsets) {
  std::lock_guard lock(mutex_);
  for (const auto& [offset, message] : taken_) bytes_ -= static_cast<int64_t>(message.body().size());
  taken_.clear();
  commit_locked(offsets);
  return stop_waiting_locked();
}

void ProcessQueue::put_back(const std::vector<ReceivedMessage>& messages) {
  std::lock_guard lock(mutex_);
  for (const auto& message : messages) {
    taken_.erase(message.queue_offset());
    messages_[message.queue_offset()] = Entry{message, 0};
  }
}

void ProcessQueue::leave() {
  std::lock_guard lock(mutex_);
  in_charge_ = false;
}

bool ProcessQueue::begin_again() {
  std::lock_guard lock(mutex_);
  if (messages_.empty() || in_charge_ || dropped_) return false;
  return in_charge_ = true;
}

void ProcessQueue::drop(bool discard) {
  std::lock_guard lock(mutex_);
  dropped_ = true;
  discarded_ = discarded_ || discard;
}

bool ProcessQueue::dropped() const {
  std::lock_guard lock(mutex_);
  return dropped_;
}

void ProcessQueue::set_locked(bool locked, int64_t asked_ms) {
  std::lock_guard lock(mutex_);
  locked_ = locked;
  if (locked) locked_ms_ = asked_ms;
}

bool ProcessQueue::lock_is_valid(int64_t now_ms, int64_t valid_ms) const {
  std::lock_guard lock(mutex_);
  return locked_ && now_ms - locked_ms_ <= valid_ms;
}

remoting::ProcessQueueInfo ProcessQueue::info() const {
  remoting::ProcessQueueInfo info;
  std::lock_guard lock(mutex_);
  if (!messages_.empty()) {
    info.cached_msg_min_offset = messages_.begin()->first;
    info.cached_msg_max_offset = messages_.rbegin()->first;
  }
  info.cached_msg_count = static_cast<int32_t>(messages_.size());
  info.cached_msg_size_in_mib = static_cast<int32_t>(bytes_ / (1024 * 1024));
  if (!taken_.empty()) {
    info.transaction_msg_min_offset = taken_.begin()->first;
    info.transaction_msg_max_offset = taken_.rbegin()->first;
  }
  info.transaction_msg_count = static_cast<int32_t>(taken_.size());
  info.locked = locked_;
  if (locked_) info.last_lock_timestamp = now_ms() - (steady_ms() - locked_ms_);
  info.dropped = dropped_;
  info.last_pull_timestamp = last_pull_ms;
  info.last_consume_timestamp = last_consume_ms;
  return info;
}

}  // namespace apogee
