#include "broker/groups/consumer_groups.h"

#include <algorithm>
#include <chrono>
#include <functional>
#include <set>

namespace apogee::broker {

int64_t system_now_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch())
      .count();
}

int64_t steady_now_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

ClientInfo client_info(const remoting::Caller& caller, const remoting::Command& request, std::string client_id,
                       int64_t now_ms) {
  ClientInfo info;
  info.connection = caller.connection;
  info.client_id = std::move(client_id);
  info.address = caller.address;
  info.language = request.language;
  info.version = request.version;
  info.serialize = request.serialize;
  info.last_update_ms = now_ms;
  return info;
}

bool Subscription::may_match(int64_t tags_code) const {
  if (codes.empty() || class_filter_mode || expression_type != "TAG") return true;
  // Below every hash: the address of a unit in consumequeue_ext, which is not read here; the client compares the tag.
  if (tags_code < INT32_MIN) return true;
  // Above every hash: a time (delayed messages). RocketMQ compares the low 32 bits of whatever there is.
  return std::binary_search(codes.begin(), codes.end(), static_cast<int32_t>(tags_code));
}

std::shared_ptr<const Subscription> ConsumerGroup::subscription(std::string_view topic) const {
  auto found = subscriptions.find(topic);
  return found == subscriptions.end() ? nullptr : found->second;
}

std::vector<std::string> ConsumerGroup::client_ids() const {
  std::set<std::string> ids;
  for (const auto& member : members) ids.insert(member.client_id);
  return {ids.begin(), ids.end()};
}

const ClientInfo* ConsumerGroup::member(std::string_view client_id) const {
  for (const auto& member : members)
    if (member.client_id == client_id) return &member;
  return nullptr;
}

ConsumerGroups::ConsumerGroups(NowMs now_ms, int64_t member_life_ms)
    : now_ms_(std::move(now_ms)), member_life_ms_(member_life_ms) {}

void ConsumerGroups::set_change_listener(ChangeListener listener) { listener_ = std::move(listener); }

ConsumerGroups::Shard& ConsumerGroups::shard_of(std::string_view group) const {
  return shards_[std::hash<std::string_view>{}(group) % shards_.size()];
}

void ConsumerGroups::take_snapshot(const std::string& name, State& state) {
  auto group = std::make_shared<ConsumerGroup>();
  group->name = name;
  group->consume_type = state.latest.consume_type;
  group->message_model = state.latest.message_model;
  group->consume_from = state.latest.consume_from;
  group->members = state.members;
  group->subscriptions = state.subscriptions;
  state.snapshot = std::move(group);
}

namespace {

using SubscriptionTable = std::map<std::string, std::shared_ptr<const Subscription>, std::less<>>;

// True when a topic came, went, or has other contents than an older version had. A newer version of the same
// expression replaces the old one without being a change that members must hear of.
bool update_subscriptions(SubscriptionTable& table, const std::vector<Subscription>& latest, bool* replaced) {
  bool changed = false;
  std::set<std::string_view> topics;
  for (const auto& subscription : latest) {
    topics.insert(subscription.topic);
    auto& slot = table[subscription.topic];
    if (slot != nullptr && slot->version >= subscription.version) continue;
    changed = changed || slot == nullptr;
    auto copy = std::make_shared<Subscription>(subscription);
    std::sort(copy->codes.begin(), copy->codes.end());
    slot = std::move(copy);
    *replaced = true;
  }
  for (auto it = table.begin(); it != table.end();) {
    if (topics.count(it->first) != 0) {
      ++it;
      continue;
    }
    it = table.erase(it);
    changed = true;
  }
  return changed;
}

}  // namespace

bool ConsumerGroups::register_consumer(const ClientInfo& client, const ConsumerRegistration& registration) {
  Change change;
  {
    Shard& shard = shard_of(registration.group);
    std::lock_guard<std::mutex> lock(shard.mutex);
    auto [slot, added] = shard.groups.try_emplace(registration.group);
    State& state = slot->second;
    auto member = std::find_if(state.members.begin(), state.members.end(),
                               [&client](const ClientInfo& m) { return m.connection == client.connection; });
    bool joined = member == state.members.end() || member->client_id != client.client_id;
    if (member == state.members.end()) {
      state.members.push_back(client);
    } else {
      *member = client;
    }
    bool replaced = false;
    bool subscribed = update_subscriptions(state.subscriptions, registration.subscriptions, &replaced);
    bool other_kind = added || state.latest.consume_type != registration.consume_type ||
                      state.latest.message_model != registration.message_model ||
                      state.latest.consume_from != registration.consume_from;
    state.latest.consume_type = registration.consume_type;
    state.latest.message_model = registration.message_model;
    state.latest.consume_from = registration.consume_from;
    if (joined || subscribed || replaced || other_kind) take_snapshot(slot->first, state);
    if (!joined && !subscribed) return false;
    change = {slot->first, state.snapshot};
  }
  tell({std::move(change)});
  return true;
}

void ConsumerGroups::unregister(std::string_view group, remoting::ConnectionId connection) {
  Change change;
  {
    Shard& shard = shard_of(group);
    std::lock_guard<std::mutex> lock(shard.mutex);
    auto slot = shard.groups.find(group);
    if (slot == shard.groups.end()) return;
    auto& members = slot->second.members;
    auto member = std::find_if(members.begin(), members.end(),
                               [connection](const ClientInfo& m) { return m.connection == connection; });
    if (member == members.end()) return;
    members.erase(member);
    change.name = slot->first;
    if (members.empty()) {
      shard.groups.erase(slot);
    } else {
      take_snapshot(slot->first, slot->second);
      change.group = slot->second.snapshot;
    }
  }
  tell({std::move(change)});
}

template <typename Gone>
size_t ConsumerGroups::remove_members(Gone gone) {
  size_t removed = 0;
  std::vector<Change> changes;
  for (auto& shard : shards_) {
    std::lock_guard<std::mutex> lock(shard.mutex);
    for (auto slot = shard.groups.begin(); slot != shard.groups.end();) {
      auto& members = slot->second.members;
      size_t before = members.size();
      members.erase(std::remove_if(members.begin(), members.end(), gone), members.end());
      if (members.size() == before) {
        ++slot;
        continue;
      }
      removed += before - members.size();
      if (members.empty()) {
        changes.push_back({slot->first, nullptr});
        slot = shard.groups.erase(slot);
      } else {
        take_snapshot(slot->first, slot->second);
        changes.push_back({slot->first, slot->second.snapshot});
        ++slot;
      }
    }
  }
  tell(changes);
  return removed;
}

void ConsumerGroups::connection_closed(remoting::ConnectionId connection) {
  remove_members([connection](const ClientInfo& member) { return member.connection == connection; });
}

size_t ConsumerGroups::expire() {
  const int64_t oldest = now_ms_() - member_life_ms_;
  return remove_members([oldest](const ClientInfo& member) { return member.last_update_ms < oldest; });
}

void ConsumerGroups::tell(const std::vector<Change>& changes) const {
  if (!listener_) return;
  for (const auto& change : changes) listener_(change.name, change.group);
}

std::shared_ptr<const ConsumerGroup> ConsumerGroups::find(std::string_view group) const {
  Shard& shard = shard_of(group);
  std::lock_guard<std::mutex> lock(shard.mutex);
  auto slot = shard.groups.find(group);
  return slot == shard.groups.end() ? nullptr : slot->second.snapshot;
}

std::vector<std::shared_ptr<const ConsumerGroup>> ConsumerGroups::all() const {
  std::vector<std::shared_ptr<const ConsumerGroup>> groups;
  for (auto& shard : shards_) {
    std::lock_guard<std::mutex> lock(shard.mutex);
    for (const auto& [name, state] : shard.groups) groups.push_back(state.snapshot);
  }
  return groups;
}

std::vector<std::string> ConsumerGroups::groups_of_topic(std::string_view topic) const {
  std::vector<std::string> names;
  for (const auto& group : all())
    if (group->subscriptions.find(topic) != group->subscriptions.end()) names.push_back(group->name);
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace apogee::broker
