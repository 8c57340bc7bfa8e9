#include "broker/locks/queue_locks.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <utility>

#include "common/config/properties_file.h"

namespace apogee::broker {

using nlohmann::json;

namespace {

/// time: the member's name, and its value for a lock.
template <typename Groups, typename Time>
json list_of(const Groups& groups, const char* time_name, Time time) {
  json locks = json::array();
  for (const auto& [group, queues] : groups)
    for (const auto& [queue, lock] : queues)
      locks.push_back({{"group", group},
                       {"topic", queue.topic},
                       {"brokerName", queue.broker_name},
                       {"queueId", queue.queue_id},
                       {"clientId", lock.client_id},
                       {time_name, time(lock)}});
  return locks;
}

}  // namespace

QueueLocks::QueueLocks(Options options) : options_(std::move(options)), life_ms_(options_.life_ms) {}

Status QueueLocks::load() {
  std::error_code none;
  if (options_.file.empty() || !std::filesystem::exists(options_.file, none)) return {};
  std::ifstream file(options_.file, std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(file)), {});
  if (file.bad()) return Error(Errc::kIo, options_.file + ": cannot be read");
  APOGEE_TRY_ASSIGN(auto groups, parse(text, options_.file));
  std::lock_guard<std::mutex> guard(mutex_);
  groups_ = std::move(groups);
  return {};
}

// In the file times of the wall clock, from another broker ages.
Result<QueueLocks::Groups> QueueLocks::parse(std::string_view text, const std::string& where) const {
  const json read = json::parse(text, nullptr, false);
  const auto damaged = [&where] { return Error(Errc::kCorrupt, where + ": is no list of locks"); };
  if (!read.is_object() || !read.contains("locks") || !read["locks"].is_array()) return damaged();
  const int64_t now = options_.now_ms(), wall = options_.wall_ms(), life = life_ms_;
  Groups groups;
  try {
    for (const auto& each : read["locks"]) {
      const int64_t told =
          each.contains("age") ? each.at("age").get<int64_t>() : wall - each.at("renewed").get<int64_t>();
      groups[each.at("group").get<std::string>()]
            [{each.at("topic").get<std::string>(), each.at("brokerName").get<std::string>(),
              each.at("queueId").get<int32_t>()}] =
                Lock{each.at("clientId").get<std::string>(), now - std::clamp<int64_t>(told, 0, life + 1)};
    }
  } catch (const json::exception&) {
    return damaged();
  }
  return groups;
}

std::string QueueLocks::to_json() const {
  const int64_t now = options_.now_ms();
  json locks;
  {
    std::lock_guard<std::mutex> guard(mutex_);
    locks = list_of(groups_, "age", [now](const auto& lock) { return now - lock.renewed_ms; });
  }
  return json{{"locks", std::move(locks)}}.dump(-1, ' ', false, json::error_handler_t::replace);
}

uint64_t QueueLocks::version() const {
  std::lock_guard<std::mutex> guard(mutex_);
  return version_;
}

Status QueueLocks::take_over(std::string_view text) {
  APOGEE_TRY_ASSIGN(auto groups, parse(text, "queue locks of the master"));
  std::lock_guard<std::mutex> guard(mutex_);
  groups_ = std::move(groups);
  changed_locked();
  return {};
}

Status QueueLocks::merge(std::string_view text) {
  APOGEE_TRY_ASSIGN(auto groups, parse(text, "queue locks of a slave"));
  std::lock_guard<std::mutex> guard(mutex_);
  for (auto& [group, queues] : groups)
    for (auto& [queue, lock] : queues) {
      auto [entry, added] = groups_[group].try_emplace(queue, lock);
      if (!added && entry->second.renewed_ms < lock.renewed_ms) entry->second = lock;
    }
  changed_locked();
  return {};
}

bool QueueLocks::changed() const {
  std::lock_guard<std::mutex> guard(mutex_);
  return !options_.file.empty() && saved_version_ != version_;
}

Status QueueLocks::save_if_changed() {
  if (options_.file.empty()) return {};
  std::lock_guard<std::mutex> saving(save_mutex_);
  json locks;
  uint64_t version = 0;
  {
    const int64_t ahead = options_.wall_ms() - options_.now_ms();
    std::lock_guard<std::mutex> guard(mutex_);
    if (saved_version_ == version_) return {};
    version = version_;
    locks = list_of(groups_, "renewed", [ahead](const auto& lock) { return lock.renewed_ms + ahead; });
  }
  const json written = {{"locks", std::move(locks)}};
  APOGEE_TRY(config::replace_file(options_.file, written.dump(1, ' ', false, json::error_handler_t::replace)));
  std::lock_guard<std::mutex> guard(mutex_);
  saved_version_ = version;
  return {};
}

std::vector<MessageQueue> QueueLocks::lock(std::string_view group, std::string_view client_id,
                                           const std::vector<MessageQueue>& queues) {
  std::vector<MessageQueue> granted;
  if (queues.empty()) return granted;
  const int64_t now = options_.now_ms();
  std::lock_guard<std::mutex> guard(mutex_);
  auto slot = groups_.find(group);
  if (slot == groups_.end()) slot = groups_.emplace(std::string(group), std::map<MessageQueue, Lock>{}).first;
  for (const auto& queue : queues) {
    auto [entry, added] = slot->second.try_emplace(queue);
    Lock& held = entry->second;
    if (!added && held.client_id != client_id && !expired(held, now)) continue;
    if (held.client_id != client_id) changed_locked();
    held.client_id = client_id;
    held.renewed_ms = now;
    renewed_ = true;
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
    if (entry == slot->second.end() || entry->second.client_id != client_id) continue;
    slot->second.erase(entry);
    changed_locked();
  }
  if (slot->second.empty()) groups_.erase(slot);
}

bool QueueLocks::any_locked(std::string_view group) const {
  const int64_t now = options_.now_ms();
  std::lock_guard<std::mutex> guard(mutex_);
  auto slot = groups_.find(group);
  if (slot == groups_.end()) return false;
  for (const auto& [queue, held] : slot->second)
    if (!expired(held, now)) return true;
  return false;
}

std::string QueueLocks::owner(std::string_view group, const MessageQueue& queue) const {
  const int64_t now = options_.now_ms();
  std::lock_guard<std::mutex> guard(mutex_);
  auto slot = groups_.find(group);
  if (slot == groups_.end()) return {};
  auto entry = slot->second.find(queue);
  if (entry == slot->second.end() || expired(entry->second, now)) return {};
  return entry->second.client_id;
}

size_t QueueLocks::expire() {
  const int64_t now = options_.now_ms();
  size_t removed = 0;
  std::lock_guard<std::mutex> guard(mutex_);
  for (auto slot = groups_.begin(); slot != groups_.end();) {
    for (auto entry = slot->second.begin(); entry != slot->second.end();) {
      if (expired(entry->second, now)) {
        entry = slot->second.erase(entry);
        ++removed;
        changed_locked();
      } else {
        ++entry;
      }
    }
    slot = slot->second.empty() ? groups_.erase(slot) : std::next(slot);
  }
  if (std::exchange(renewed_, false)) changed_locked();
  return removed;
}

void QueueLocks::remove_group(std::string_view group) {
  std::lock_guard<std::mutex> guard(mutex_);
  auto slot = groups_.find(group);
  if (slot == groups_.end()) return;
  groups_.erase(slot);
  changed_locked();
}

}  // namespace apogee::broker
