#include "broker/pull/held_pulls.h"

#include <limits>
#include <utility>

namespace apogee::broker {

namespace {

/// More than a burst of pulls comes and goes with is given back.
constexpr size_t kSpareMax = 64;

template <typename Node>
void keep(std::vector<Node>& spare, Node node) {
  if (spare.size() < kSpareMax) spare.push_back(std::move(node));
}

template <typename Taken>
std::vector<Taken>& room_of() {
  static thread_local std::vector<Taken> room;
  return room;
}

template <typename Set, typename Value>
void put(Set& set, const Value& value, std::vector<typename Set::node_type>& spare) {
  if (spare.empty()) {
    set.insert(value);
    return;
  }
  auto node = std::move(spare.back());
  spare.pop_back();
  node.value() = value;
  set.insert(std::move(node));
}

}  // namespace

template <typename Map, typename Of>
void HeldPulls::add_id(Map& map, const Of& key, Id id, std::vector<typename Map::node_type>& spare,
                       std::vector<Ids::node_type>& ids) {
  auto found = map.find(key);
  if (found == map.end()) {
    if (spare.empty()) {
      found = map.emplace(key, Ids()).first;
    } else {
      auto node = std::move(spare.back());
      spare.pop_back();
      node.key() = key;
      found = map.insert(std::move(node)).position;
    }
  }
  put(found->second, id, ids);
}

template <typename Map, typename Of>
void HeldPulls::remove_id(Map& map, const Of& key, Id id, std::vector<typename Map::node_type>& spare,
                          std::vector<Ids::node_type>& ids) {
  auto found = map.find(key);
  if (found == map.end()) return;
  if (auto node = found->second.extract(id)) keep(ids, std::move(node));
  if (found->second.empty()) keep(spare, map.extract(found));
}

HeldPulls::Shard& HeldPulls::shard_of(std::string_view topic, int32_t queue_id) {
  return shards_[(std::hash<std::string_view>()(topic) + static_cast<size_t>(queue_id)) % shards_.size()];
}

HeldPulls::Id HeldPulls::hold(Pull&& pull) {
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
  Spare& spare = shard.spare;
  add_id(shard.by_queue, KeyView(pull.topic, pull.queue_id), id, spare.queues, spare.ids);
  put(shard.by_deadline, std::pair(pull.deadline_ms, id), spare.deadlines);
  add_id(shard.by_connection, pull.connection, id, spare.connections, spare.ids);
  if (spare.pulls.empty()) {
    shard.pulls.emplace(id, std::move(pull));
  } else {
    auto node = std::move(spare.pulls.back());
    spare.pulls.pop_back();
    node.key() = id;
    Pull& room = node.mapped();
    room.topic.assign(pull.topic);  // its room stays
    room.connection = pull.connection;
    room.queue_id = pull.queue_id;
    room.offset = pull.offset;
    room.deadline_ms = pull.deadline_ms;
    room.filter = std::move(pull.filter);
    room.resume = std::move(pull.resume);
    room.dropped = std::move(pull.dropped);
    shard.pulls.insert(std::move(node));
  }
  return id;
}

std::vector<HeldPulls::Taken> HeldPulls::taken_room() { return std::exchange(room_of<Taken>(), {}); }

void HeldPulls::take(Shard& shard, Pulls::iterator at, std::vector<Taken>& to) {
  const Id id = at->first;
  Pull& pull = at->second;
  to.push_back({pull.connection, std::move(pull.resume), std::move(pull.dropped)});
  pull.filter = nullptr;
  Spare& spare = shard.spare;
  if (auto node = shard.by_deadline.extract({pull.deadline_ms, id})) keep(spare.deadlines, std::move(node));
  remove_id(shard.by_queue, KeyView(pull.topic, pull.queue_id), id, spare.queues, spare.ids);
  remove_id(shard.by_connection, pull.connection, id, spare.connections, spare.ids);
  keep(spare.pulls, shard.pulls.extract(at));
}

void HeldPulls::resume(std::vector<Taken> pulls) {
  held_.fetch_sub(pulls.size());
  for (auto& pull : pulls) post_(pull.connection, std::move(pull.resume));
  pulls.clear();
  if (pulls.capacity() <= kSpareMax) room_of<Taken>() = std::move(pulls);
}

void HeldPulls::wake(std::string_view topic, int32_t queue_id, Id id) {
  auto woken = taken_room();
  Shard& shard = shard_of(topic, queue_id);
  {
    std::lock_guard lock(shard.mutex);
    if (auto at = shard.pulls.find(id); at != shard.pulls.end()) take(shard, at, woken);
  }
  resume(std::move(woken));
}

void HeldPulls::on_arrivals(const std::vector<store::Arrival>& arrivals) {
  if (held_.load(std::memory_order_relaxed) == 0) return;
  auto woken = taken_room();
  for (const auto& arrival : arrivals) {
    Shard& shard = shard_of(arrival.topic, arrival.queue_id);
    std::lock_guard lock(shard.mutex);
    auto queue = shard.by_queue.find(KeyView(arrival.topic, arrival.queue_id));
    if (queue == shard.by_queue.end()) continue;
    shard.looked_at.assign(queue->second.begin(), queue->second.end());
    for (Id id : shard.looked_at) {
      auto at = shard.pulls.find(id);
      Pull& pull = at->second;
      if (arrival.max_offset <= pull.offset) continue;
      // The tags code is that of the last message: it speaks for the arrival only when there is one new message.
      if (pull.filter && arrival.max_offset == pull.offset + 1 && !pull.filter(arrival.tags_code)) {
        pull.offset = arrival.max_offset;
        continue;
      }
      take(shard, at, woken);
    }
  }
  resume(std::move(woken));
}

void HeldPulls::expire(int64_t now_ms) {
  auto due = taken_room();
  for (auto& shard : shards_) {
    std::lock_guard lock(shard.mutex);
    while (!shard.by_deadline.empty() && shard.by_deadline.begin()->first <= now_ms)
      take(shard, shard.pulls.find(shard.by_deadline.begin()->second), due);
  }
  resume(std::move(due));
}

void HeldPulls::connection_closed(remoting::ConnectionId connection) {
  std::vector<Taken> gone;  // destroyed without the lock
  for (auto& shard : shards_) {
    std::lock_guard lock(shard.mutex);
    auto found = shard.by_connection.find(connection);
    if (found == shard.by_connection.end()) continue;
    const std::vector<Id> ids(found->second.begin(), found->second.end());
    for (Id id : ids) take(shard, shard.pulls.find(id), gone);
  }
  held_.fetch_sub(gone.size());
  for (auto& pull : gone)
    if (pull.dropped) pull.dropped();
}

void HeldPulls::release_all() {
  released_.store(true);
  expire(std::numeric_limits<int64_t>::max());
}

}  // namespace apogee::broker
