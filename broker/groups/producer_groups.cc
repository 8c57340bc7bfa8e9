#include "broker/groups/producer_groups.h"

#include <algorithm>

namespace apogee::broker {

ProducerGroups::ProducerGroups(NowMs now_ms, int64_t member_life_ms)
    : now_ms_(std::move(now_ms)), member_life_ms_(member_life_ms) {}

void ProducerGroups::register_producer(std::string_view group, const ClientInfo& client) {
  std::lock_guard<std::mutex> lock(mutex_);
  auto slot = groups_.find(group);
  if (slot == groups_.end()) slot = groups_.emplace(std::string(group), std::vector<ClientInfo>{}).first;
  for (auto& member : slot->second) {
    if (member.connection != client.connection) continue;
    member = client;
    return;
  }
  slot->second.push_back(client);
}

void ProducerGroups::unregister(std::string_view group, remoting::ConnectionId connection) {
  std::lock_guard<std::mutex> lock(mutex_);
  auto slot = groups_.find(group);
  if (slot == groups_.end()) return;
  auto& members = slot->second;
  members.erase(std::remove_if(members.begin(), members.end(),
                               [connection](const ClientInfo& m) { return m.connection == connection; }),
                members.end());
  if (members.empty()) groups_.erase(slot);
}

template <typename Gone>
size_t ProducerGroups::remove_members(Gone gone) {
  size_t removed = 0;
  std::lock_guard<std::mutex> lock(mutex_);
  for (auto slot = groups_.begin(); slot != groups_.end();) {
    auto& members = slot->second;
    size_t before = members.size();
    members.erase(std::remove_if(members.begin(), members.end(), gone), members.end());
    removed += before - members.size();
    slot = members.empty() ? groups_.erase(slot) : std::next(slot);
  }
  return removed;
}

void ProducerGroups::connection_closed(remoting::ConnectionId connection) {
  remove_members([connection](const ClientInfo& member) { return member.connection == connection; });
}

size_t ProducerGroups::expire() {
  const int64_t oldest = now_ms_() - member_life_ms_;
  return remove_members([oldest](const ClientInfo& member) { return member.last_update_ms < oldest; });
}

std::vector<ClientInfo> ProducerGroups::members(std::string_view group) const {
  std::lock_guard<std::mutex> lock(mutex_);
  auto slot = groups_.find(group);
  return slot == groups_.end() ? std::vector<ClientInfo>{} : slot->second;
}

std::optional<ClientInfo> ProducerGroups::find_client(std::string_view client_id) const {
  std::lock_guard<std::mutex> lock(mutex_);
  for (const auto& [name, members] : groups_)
    for (const auto& member : members)
      if (member.client_id == client_id) return member;
  return std::nullopt;
}

std::map<std::string, std::vector<ClientInfo>> ProducerGroups::all() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return {groups_.begin(), groups_.end()};
}

}  // namespace apogee::broker
