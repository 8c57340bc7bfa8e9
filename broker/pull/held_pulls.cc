#include "broker/pull/held_pulls.h"

#include <limits>

namespace apogee::broker {

HeldPulls::Shard& HeldPulls::shard_of(std::string_view topic, int32_t queue_id) {
  return shards_[(std::hash<std::string_view>()(topic) + static_cast<size_t>(queue_id)) % shards_.size()];
}

HeldPulls::Id HeldPulls::hold(Pull pull) {
  if (held_.fetch_add(1) >= pulls_max_.load(std::memory_order_relaxed)) {
    held_.fetch_sub(1);
    return 0;
  }
  const Id id = next_id_.fetch_add(1, std::memory_order_relaxed);
  Shard& shard = shard_of(pull.topic, pull.queue_id);
  std::lock_guard lock(shard.mutex);
  if (released_.load()) {  // release_all() takes each shard's lock after setting this
    held_.fetch_sub(1);
    return 0;
  }
  shard.by_queue[{pull.topic, pull.queue_id}].insert(id);
  shard.by_deadline.insert({pull.deadline_ms, id});
  shard.by_connection[pull.connection].insert(id);
  shard.pulls.emplace(id, std::move(pull));
  return id;
}

HeldPulls::Pull HeldPulls::take(Shard& shard, std::map<Id, Pull>::iterator at) {
  const Id id = at->first;
  Pull pull = std::move(at->second);
  shard.pulls.erase(at);
  shard.by_deadline.erase({pull.deadline_ms, id});
  if (auto queue = shard.by_queue.find({pull.topic, pull.queue_id}); queue != shard.by_queue.end()) {
    queue->second.erase(id);
    if (queue->second.empty()) shard.by_queue.erase(queue);
  }
  if (auto connection = shard.by_connection.find(pull.connection); connection != shard.by_connection.end()) {
    connection->second.erase(id);
    if (connection->second.empty()) shard.by_connection.erase(connection);
  }
  held_.fetch_sub(1);
  return pull;
}

void HeldPulls::resume(std::vector<Pull> pulls) {
  for (auto& pull : pulls) post_(pull.connection, std::move(pull.resume));
}

void HeldPulls::wake(std::string_view topic, int32_t queue_id, Id id) {
  std::vector<Pull> woken;
  Shard& shard = shard_of(topic, queue_id);
  {
    std::lock_guard lock(shard.mutex);
    if (auto at = shard.pulls.find(id); at != shard.pulls.end()) woken.push_back(take(shard, at));
  }
  resume(std::move(woken));
}

void HeldPulls::on_arrivals(const std::vector<store::Arrival>& arrivals) {
  if (held_.load(std::memory_order_relaxed) == 0) return;
  std::vector<Pull> woken;
  for (const auto& arrival : arrivals) {
    Shard& shard = shard_of(arrival.topic, arrival.queue_id);
    std::lock_guard lock(shard.mutex);
    auto queue = shard.by_queue.find({arrival.topic, arrival.queue_id});
    if (queue == shard.by_queue.end()) continue;
    const std::vector<Id> ids(queue->second.begin(), queue->second.end());
    for (Id id : ids) {
      auto at = shard.pulls.find(id);
      Pull& pull = at->second;
      if (arrival.max_offset <= pull.offset) continue;
      // The tags code is that of the last message: it speaks for the arrival only when there is one new message.
      if (pull.filter && arrival.max_offset == pull.offset + 1 && !pull.filter(arrival.tags_code)) {
        pull.offset = arrival.max_offset;
        continue;
      }
      woken.push_back(take(shard, at));
    }
  }
  resume(std::move(woken));
}

void HeldPulls::expire(int64_t now_ms) {
  std::vector<Pull> due;
  for (auto& shard : shards_) {
    std::lock_guard lock(shard.mutex);
    while (!shard.by_deadline.empty() && shard.by_deadline.begin()->first <= now_ms)
      due.push_back(take(shard, shard.pulls.find(shard.by_deadline.begin()->second)));
  }
  resume(std::move(due));
}

void HeldPulls::connection_closed(remoting::ConnectionId connection) {
  std::vector<Pull> dropped;  // destroyed without the lock
  for (auto& shard : shards_) {
    std::lock_guard lock(shard.mutex);
    auto found = shard.by_connection.find(connection);
    if (found == shard.by_connection.end()) continue;
    const std::vector<Id> ids(found->second.begin(), found->second.end());
    for (Id id : ids) dropped.push_back(take(shard, shard.pulls.find(id)));
  }
}

void HeldPulls::release_all() {
  released_.store(true);
  expire(std::numeric_limits<int64_t>::max());
}

}  // namespace apogee::broker
