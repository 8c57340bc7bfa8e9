#include "nameserver/route_table.h"

#include <fmt/core.h>

#include <algorithm>
#include <mutex>

namespace apogee::nameserver {
namespace {

constexpr int32_t kUnitFlag = 1;
constexpr int32_t kUnitSubscriptionFlag = 2;
constexpr int64_t kMasterId = 0;
constexpr size_t kEncodedSpare = 1'024;
/// Topics whose routes tell brokers who is in their group, by old NameServers.
constexpr std::string_view kMemberTopicPrefix = "rmq_sys_SYNC_BROKER_MEMBER_";

/// Everybody who is there is told that one is gone; that one came, those that were there before.
MinIdChange min_id_change(const remoting::BrokerData& broker, std::string offline_address, std::string ha_address) {
  const auto& [id, address] = *broker.broker_addrs.begin();
  MinIdChange change{broker.broker_name, id, address, std::move(offline_address), std::move(ha_address), {}};
  const bool all = !change.offline_address.empty() || broker.broker_addrs.size() == 1;
  for (const auto& each : broker.broker_addrs)
    if (all || each.first != id) change.to_tell.push_back(each.second);
  return change;
}

remoting::QueueData queue_data(const std::string& broker_name, const remoting::TopicConfig& topic) {
  remoting::QueueData queues;
  queues.broker_name = broker_name;
  queues.read_queue_nums = topic.read_queue_nums;
  queues.write_queue_nums = topic.write_queue_nums;
  queues.perm = topic.perm;
  queues.topic_sys_flag = topic.topic_sys_flag;
  return queues;
}

}  // namespace

void RouteTable::tell(const Changes& changes) const {
  if (!min_id_listener_) return;
  for (const auto& change : changes) min_id_listener_(change);
}

Result<MasterInfo> RouteTable::register_broker(const Registration& r, int64_t now_ms) {
  Changes changes;
  auto registered = [&] {
    std::unique_lock lock(mutex_);
    return register_locked(r, now_ms, changes);
  }();
  tell(changes);
  return registered;
}

Result<MasterInfo> RouteTable::register_locked(const Registration& r, int64_t now_ms, Changes& changes) {
  const BrokerKey key{r.cluster, r.broker_address};
  auto known = brokers_.find(r.broker_name);
  if (known != brokers_.end()) {
    const auto& addresses = known->second.broker_addrs;
    auto same_id = addresses.find(r.broker_id);
    if (same_id != addresses.end() && same_id->second != r.broker_address) {
      const auto* live = liveness_.find({r.cluster, same_id->second});
      if (live != nullptr && live->data_version.state_version > r.topics.data_version.state_version) {
        liveness_.remove(key);
        return Error{
            Errc::kInvalidArgument,
            fmt::format("register broker failed: {} has {} with id {} and state version {}, which is newer than {}",
                        r.broker_name, same_id->second, r.broker_id, live->data_version.state_version,
                        r.topics.data_version.state_version)};
      }
    }
  }
  const bool id_known = known != brokers_.end() && known->second.broker_addrs.count(r.broker_id) != 0;
  if (!id_known && r.topics.topic_config_table.size() == 1) {
    return Error{Errc::kInvalidArgument,
                 fmt::format("register broker failed: {} with id {} must register all its topics first", r.broker_name,
                             r.broker_id)};
  }

  auto& broker = brokers_[r.broker_name];
  const auto before = broker;
  const bool acted = broker.enable_acting_master;
  broker.broker_name = r.broker_name;
  if (broker.cluster != r.cluster) {
    if (auto old = clusters_.find(broker.cluster); old != clusters_.end()) {
      old->second.erase(r.broker_name);
      if (old->second.empty()) clusters_.erase(old);
    }
    broker.cluster = r.cluster;
  }
  clusters_[r.cluster].insert(r.broker_name);
  broker.enable_acting_master = r.acting_master.value_or(false);
  const int64_t min_id_before = broker.broker_addrs.empty() ? kMasterId : broker.broker_addrs.begin()->first;
  for (auto each = broker.broker_addrs.begin(); each != broker.broker_addrs.end();) {
    const bool moved = each->second == r.broker_address && each->first != r.broker_id;  // a slave became master
    each = moved ? broker.broker_addrs.erase(each) : std::next(each);
  }
  broker.broker_addrs[r.broker_id] = r.broker_address;
  if (!(before == broker) || acted != broker.enable_acting_master) ++broker_changes_;

  const auto* live = liveness_.find(key);
  const bool changed = live == nullptr || live->data_version != r.topics.data_version;
  const bool first_slave = r.acting_master && r.broker_id == broker.broker_addrs.begin()->first;
  if (r.broker_id == kMasterId || first_slave)
    take_over_topics(r, !id_known, changed, r.broker_id != kMasterId && broker.enable_acting_master);

  BrokerLiveness::Entry entry;
  entry.heard_at_ms = now_ms;
  entry.silence_ms_max = r.silence_ms_max.value_or(kBrokerSilenceMsMax);
  entry.data_version = r.topics.data_version;
  entry.connection = r.connection;
  entry.ha_server_address = r.ha_server_address;
  liveness_.put(key, std::move(entry));
  if (r.broker_id < min_id_before) changes.push_back(min_id_change(broker, {}, r.ha_server_address));

  MasterInfo answer;
  auto master = broker.broker_addrs.find(kMasterId);
  if (r.broker_id != kMasterId && master != broker.broker_addrs.end()) {
    if (const auto* master_live = liveness_.find({r.cluster, master->second})) {
      answer.master_address = master->second;
      answer.ha_server_address = master_live->ha_server_address;
    }
  }
  return answer;
}

void RouteTable::take_over_topics(const Registration& r, bool first, bool changed_table, bool wipe_write) {
  const auto& named = r.topics.topic_config_table;
  // A table of one topic is an addition to what was registered before, not the whole.
  if (r.delete_missing_topics && changed_table && named.size() > 1) {
    for (auto each = topics_.begin(); each != topics_.end();) {
      if (named.count(each->first) == 0 && each->second.queues.erase(r.broker_name) != 0) changed(each->second);
      each = each->second.queues.empty() ? topics_.erase(each) : std::next(each);
    }
  }
  // Both tables are in order: with many topics one is found by going on from the one before.
  constexpr size_t kFewTopics = 64;
  const bool walk = named.size() > kFewTopics && named.size() > topics_.size() / 8;
  auto at = topics_.begin();
  for (const auto& [name, topic] : named) {
    if (walk) {
      while (at != topics_.end() && at->first < name) ++at;
    } else {
      at = topics_.lower_bound(name);
    }
    if (at == topics_.end() || at->first != name) at = topics_.emplace_hint(at, name, Topic());
    auto& queues = at->second.queues;
    auto known = queues.find(r.broker_name);
    if (!first && !changed_table && known != queues.end()) continue;
    auto data = queue_data(r.broker_name, topic);
    if (wipe_write) data.perm &= ~remoting::perm::kWrite;
    if (known != queues.end() && known->second == data) continue;
    queues[r.broker_name] = std::move(data);
    changed(at->second);
  }
}

bool RouteTable::unregister_broker(const std::string& cluster, const std::string& broker_name,
                                   const std::string& address) {
  Changes changes;
  const bool was_alive = [&] {
    std::unique_lock lock(mutex_);
    return unregister_locked(cluster, broker_name, address, changes);
  }();
  tell(changes);
  return was_alive;
}

bool RouteTable::unregister_locked(const std::string& cluster, const std::string& broker_name,
                                   const std::string& address, Changes& changes) {
  const bool was_alive = liveness_.remove({cluster, address});
  auto found = brokers_.find(broker_name);
  if (found == brokers_.end()) return was_alive;
  auto& addresses = found->second.broker_addrs;
  const bool was_first = !addresses.empty() && addresses.begin()->second == address;
  ++broker_changes_;
  for (auto each = addresses.begin(); each != addresses.end();)
    each = each->second == address ? addresses.erase(each) : std::next(each);
  if (!addresses.empty()) {
    if (!found->second.enable_acting_master) return was_alive;
    if (addresses.begin()->first != kMasterId) change_permission(broker_name, remoting::perm::kWrite, 0);
    if (was_first) changes.push_back(min_id_change(found->second, address, {}));
    return was_alive;
  }
  if (auto names = clusters_.find(found->second.cluster); names != clusters_.end()) {
    names->second.erase(broker_name);
    if (names->second.empty()) clusters_.erase(names);
  }
  brokers_.erase(found);
  remove_topics_of(broker_name);
  return was_alive;
}

bool RouteTable::remove_address(const BrokerKey& broker, Changes& changes) {
  for (const auto& [name, data] : brokers_) {
    if (data.cluster != broker.cluster) continue;
    for (const auto& id_and_address : data.broker_addrs)
      if (id_and_address.second == broker.address)
        return unregister_locked(broker.cluster, std::string(name), broker.address, changes);
  }
  return liveness_.remove(broker);
}

void RouteTable::remove_topics_of(const std::string& broker_name) {
  for (auto each = topics_.begin(); each != topics_.end();) {
    if (each->second.queues.erase(broker_name) != 0) changed(each->second);
    each = each->second.queues.empty() ? topics_.erase(each) : std::next(each);
  }
}

std::vector<std::string> RouteTable::remove_by_connection(remoting::ConnectionId connection) {
  std::vector<std::string> removed;
  Changes changes;
  {
    std::unique_lock lock(mutex_);
    for (const auto& broker : liveness_.of_connection(connection)) {
      remove_address(broker, changes);
      removed.push_back(broker.address);
    }
  }
  tell(changes);
  return removed;
}

std::vector<RouteTable::Removed> RouteTable::remove_silent(int64_t now_ms) {
  std::vector<Removed> removed;
  Changes changes;
  {
    std::unique_lock lock(mutex_);
    for (const auto& broker : liveness_.silent_at(now_ms)) {
      const auto* entry = liveness_.find(broker);
      removed.push_back({broker.address, entry == nullptr ? 0 : entry->connection});
      remove_address(broker, changes);
    }
  }
  tell(changes);
  return removed;
}

bool RouteTable::heard(const BrokerKey& broker, int64_t now_ms, std::optional<int64_t> silence_ms_max) {
  std::unique_lock lock(mutex_);
  if (silence_ms_max) liveness_.set_silence_ms_max(broker, *silence_ms_max);
  return liveness_.heard(broker, now_ms);
}

RouteTable::VersionAnswer RouteTable::compare_version(const BrokerKey& broker, const remoting::DataVersion& version,
                                                      int64_t now_ms) {
  std::unique_lock lock(mutex_);
  const auto* entry = liveness_.find(broker);
  if (entry == nullptr) return {};
  VersionAnswer answer;
  answer.known = entry->data_version;
  answer.changed = entry->data_version != version;
  if (!answer.changed) liveness_.heard(broker, now_ms);
  return answer;
}

std::optional<remoting::TopicRouteData> RouteTable::route(const std::string& topic, bool acting_masters) const {
  std::shared_lock lock(mutex_);
  auto found = topics_.find(topic);
  if (found == topics_.end()) return std::nullopt;
  return route_locked(found->second, acting_masters && topic.rfind(kMemberTopicPrefix, 0) != 0);
}

std::optional<remoting::TopicRouteData> RouteTable::route_locked(const Topic& topic, bool acting_masters) const {
  remoting::TopicRouteData route;
  for (const auto& [broker_name, queues] : topic.queues) {
    route.queue_datas.push_back(queues);
    auto broker = brokers_.find(broker_name);
    if (broker == brokers_.end()) continue;
    auto& data = route.broker_datas.emplace_back(broker->second);
    auto& addresses = data.broker_addrs;
    const bool wanted = acting_masters && data.enable_acting_master && (queues.perm & remoting::perm::kWrite) == 0;
    if (wanted && !addresses.empty() && addresses.begin()->first != kMasterId) {
      auto acting = addresses.extract(addresses.begin());
      acting.key() = kMasterId;
      addresses.insert(std::move(acting));
    }
  }
  if (route.broker_datas.empty()) return std::nullopt;
  return route;
}

std::optional<SharedBytes> RouteTable::encoded_route(std::string_view topic, bool acting_masters,
                                                     RouteForm form) const {
  if (topic.rfind(kMemberTopicPrefix, 0) == 0) acting_masters = false;
  const size_t index = (form == RouteForm::kForOldClients ? 2 : 0) + (acting_masters ? 1 : 0);
  std::shared_lock lock(mutex_);
  auto found = topics_.end();
  {
    std::shared_lock reading(encoded_mutex_);
    auto kept = encoded_.find(topic);
    const Encoded* encoded = kept == encoded_.end() ? nullptr : &kept->second[index];
    const bool of_these_brokers =
        encoded != nullptr && encoded->broker_changes == broker_changes_ && !encoded->body.empty();
    if (of_these_brokers && encoded->all_changes.load(std::memory_order_relaxed) == topic_changes_)
      return encoded->body;
    found = topics_.find(topic);
    if (found == topics_.end()) return std::nullopt;
    if (of_these_brokers && encoded->topic_changes == found->second.changes) {
      encoded->all_changes.store(topic_changes_, std::memory_order_relaxed);
      return encoded->body;
    }
  }
  auto route = route_locked(found->second, acting_masters);
  if (!route) return std::nullopt;
  auto body = SharedBytes::from(form == RouteForm::kStandard ? remoting::encode(*route)
                                                             : remoting::encode_for_old_clients(*route));
  std::unique_lock writing(encoded_mutex_);
  // Of topics that have gone little may be left.
  if (encoded_.size() > 2 * topics_.size() + kEncodedSpare) encoded_.clear();
  Encoded& encoded = encoded_[std::string(topic)][index];
  encoded.topic_changes = found->second.changes;
  encoded.broker_changes = broker_changes_;
  encoded.all_changes.store(topic_changes_, std::memory_order_relaxed);
  encoded.body = body;
  return body;
}

remoting::ClusterInfo RouteTable::cluster_info() const {
  std::shared_lock lock(mutex_);
  remoting::ClusterInfo info;
  info.broker_addr_table = brokers_;
  for (const auto& [cluster, names] : clusters_) info.cluster_addr_table[cluster].assign(names.begin(), names.end());
  return info;
}

remoting::BrokerMemberGroup RouteTable::members(const std::string& cluster, const std::string& broker_name) const {
  std::shared_lock lock(mutex_);
  remoting::BrokerMemberGroup group;
  group.cluster = cluster;
  group.broker_name = broker_name;
  auto found = brokers_.find(broker_name);
  if (found != brokers_.end() && found->second.cluster == cluster) group.broker_addrs = found->second.broker_addrs;
  return group;
}

Status RouteTable::register_topic(const std::string& topic, const std::vector<remoting::QueueData>& queues) {
  std::unique_lock lock(mutex_);
  for (const auto& each : queues)
    if (brokers_.count(each.broker_name) == 0)
      return Error{Errc::kNotFound, fmt::format("the broker {} is not registered", each.broker_name)};
  if (queues.empty()) return {};
  auto& entry = topics_[topic];
  for (const auto& each : queues) entry.queues[each.broker_name] = each;
  changed(entry);
  return {};
}

void RouteTable::delete_topic(const std::string& topic, const std::string& cluster) {
  std::unique_lock lock(mutex_);
  auto found = topics_.find(topic);
  if (found == topics_.end()) return;
  if (cluster.empty()) {
    ++topic_changes_;
    topics_.erase(found);
    return;
  }
  auto names = clusters_.find(cluster);
  if (names == clusters_.end()) return;
  for (const auto& name : names->second) found->second.queues.erase(name);
  changed(found->second);
  if (found->second.queues.empty()) topics_.erase(found);
}

int32_t RouteTable::change_permission(const std::string& broker_name, int32_t clear, int32_t set) {
  int32_t count = 0;
  for (auto& [name, topic] : topics_) {
    auto found = topic.queues.find(broker_name);
    if (found == topic.queues.end()) continue;
    found->second.perm = (found->second.perm & ~clear) | set;
    changed(topic);
    ++count;
  }
  return count;
}

int32_t RouteTable::wipe_write_permission(const std::string& broker_name) {
  std::unique_lock lock(mutex_);
  return change_permission(broker_name, remoting::perm::kWrite, 0);
}

int32_t RouteTable::add_write_permission(const std::string& broker_name) {
  std::unique_lock lock(mutex_);
  return change_permission(broker_name, ~0, remoting::perm::kRead | remoting::perm::kWrite);
}

std::vector<std::string> RouteTable::topics() const {
  std::shared_lock lock(mutex_);
  std::vector<std::string> names;
  names.reserve(topics_.size());
  for (const auto& entry : topics_) names.push_back(entry.first);
  return names;
}

std::vector<std::string> RouteTable::topics_of_cluster(const std::string& cluster) const {
  std::shared_lock lock(mutex_);
  std::vector<std::string> names;
  auto members = clusters_.find(cluster);
  if (members == clusters_.end()) return names;
  for (const auto& [name, topic] : topics_) {
    if (std::any_of(topic.queues.begin(), topic.queues.end(),
                    [&](const auto& each) { return members->second.count(each.first) != 0; }))
      names.push_back(name);
  }
  return names;
}

RouteTable::SystemTopics RouteTable::system_topics() const {
  std::shared_lock lock(mutex_);
  SystemTopics answer;
  std::set<std::string> names;
  for (const auto& [cluster, brokers] : clusters_) {
    names.insert(cluster);
    names.insert(brokers.begin(), brokers.end());
  }
  answer.topics.assign(names.begin(), names.end());
  for (const auto& [name, broker] : brokers_) {
    if (broker.broker_addrs.empty()) continue;
    answer.broker_address = broker.broker_addrs.begin()->second;
    break;
  }
  return answer;
}

std::vector<std::string> RouteTable::unit_topics(UnitKind kind) const {
  std::shared_lock lock(mutex_);
  std::vector<std::string> names;
  for (const auto& [name, topic] : topics_) {
    if (topic.queues.empty()) continue;
    const int32_t flags = topic.queues.begin()->second.topic_sys_flag;
    const bool unit = (flags & kUnitFlag) != 0, subscription = (flags & kUnitSubscriptionFlag) != 0;
    const bool wanted = kind == UnitKind::kUnit               ? unit
                        : kind == UnitKind::kUnitSubscription ? subscription
                                                              : subscription && !unit;
    if (wanted) names.push_back(name);
  }
  return names;
}

}  // namespace apogee::nameserver
