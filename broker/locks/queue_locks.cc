#include "broker/locks/queue_locks.h"

namespace apogee::broker {

QueueLocks::QueueLocks(NowMs now_ms, int64_t life_ms) : now_ms_(std::move(now_ms)), life_ms_(life_ms) {}

std::vector<MessageQueue> QueueLocks::lock(std::string_view group, std::string_view client_id,
                                           const std::vector<MessageQueue>& queues) {
  std::vector<MessageQueue> granted;
  if (queues.empty()) return granted;
  const int64_t now = now_ms_();
  std::lock_guard<std::mutex> guard(mutex_);
  auto slot = groups_.find(group);
  if (slot == groups_.end()) slot = groups_.emplace(std::string(group), std::map<MessageQueue, Lock>{}).first;
  for (const auto& queue : queues) {
    auto [entry, added] = slot->second.try_emplace(queue);
    Lock& held = entry->second;
    if (!added && held.client_id != client_id && !expired(held, now)) continue;
    held.client_id = client_id;
    held.renewed_ms = now;
    granted.push_back(queue);
  }
  return granted;
}

void QueueLocks::unlock(std::string_view group, std::string_view client_id, const std::vector<MessageQueue>& queues) {
  std::lock_guard<std::mutex> guard(mutex_);
  auto slot = groups_.find(group);
  if (slot == groups_.end()) return;
  for (const auto& queue : queues) {
    auto entry = slot->second.find(queue);
    if (entry != slot->second.end() && entry->second.client_id == client_id) slot->second.erase(entry);
  }
  if (slot->second.empty()) groups_.erase(slot);
}

bool QueueLocks::any_locked(std::string_view group) const {
  const int64_t now = now_ms_();
  std::lock_guard<std::mutex> guard(mutex_);
  auto slot = groups_.find(group);
  if (slot == groups_.end()) return false;
  for (const auto& [queue, held] : slot->second)
    if (!expired(held, now)) return true;
  return false;
}

std::string QueueLocks::owner(std::string_view group, const MessageQueue& queue) const {
  const int64_t now = now_ms_();
  std::lock_guard<std::mutex> guard(mutex_);
  auto slot = groups_.find(group);
  if (slot == groups_.end()) return {};
  auto entry = slot->second.find(queue);
  if (entry == slot->second.end() || expired(entry->second, now)) return {};
  return entry->second.client_id;
}

size_t QueueLocks::expire() {
  const int64_t now = now_ms_();
  size_t removed = 0;
  std::lock_guard<std::mutex> guard(mutex_);
  for (auto slot = groups_.begin(); slot != groups_.end();) {
    for (auto entry = slot->second.begin(); entry != slot->second.end();) {
      if (expired(entry->second, now)) {
        entry = slot->second.erase(entry);
        ++removed;
      } else {
        ++entry;
      }
    }
    slot = slot->second.empty() ? groups_.erase(slot) : std::next(slot);
  }
  return removed;
}

void QueueLocks::remove_group(std::string_view group) {
  std::lock_guard<std::mutex> guard(mutex_);
  auto slot = groups_.find(group);
  if (slot != groups_.end()) groups_.erase(slot);
}

}  // namespace apogee::broker
