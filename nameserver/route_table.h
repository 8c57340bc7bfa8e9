#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <shared_mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "apogee/result.h"
#include "common/base/bytes.h"
#include "common/remoting/bodies/register_broker_body.h"
#include "common/remoting/bodies/route_bodies.h"
#include "nameserver/broker_liveness.h"

namespace apogee::nameserver {

/// What REGISTER_BROKER says.
struct Registration {
  std::string cluster, broker_name, broker_address, ha_server_address;
  int64_t broker_id = 0;  ///< 0 = master
  remoting::ConnectionId connection = 0;
  std::optional<bool> acting_master;      ///< enableActingMaster; brokers older than 5 do not say
  std::optional<int64_t> silence_ms_max;  ///< what the broker announced instead of kBrokerSilenceMsMax
  remoting::TopicConfigSerializeWrapper topics;
  bool delete_missing_topics = false;  ///< topics that the broker had and does not name now
};

/// What a slave is told about its master; empty for a master, and while there is none.
struct MasterInfo {
  std::string master_address, ha_server_address;
};

/// The smallest id among the brokers of a name is another one.
struct MinIdChange {
  std::string broker_name;
  int64_t min_id = 0;
  std::string min_address;
  std::string offline_address;       ///< who is gone; empty when one came
  std::string ha_address;            ///< of who came
  std::vector<std::string> to_tell;  ///< addresses
};

/// Which brokers exist, which topics they have, and which of them are alive.
/// Thread: any; one lock, shared by readers. Answers are copies.
class RouteTable {
 public:
  /// Called by whoever changed something, without the lock. Before use.
  void set_min_id_listener(std::function<void(const MinIdChange&)> listener) { min_id_listener_ = std::move(listener); }

  /// Adds or refreshes a broker and, of a master, the topics that it names; topics that it does not name stay. So do
  /// those of the slave with the smallest id while there is no master, without the permission to write where it may
  /// act for the master.
  /// Errors: kInvalidArgument for a registration that must not be taken over: its table is older (state version) than
  /// that of the broker that has its name and id, or an unknown broker announces one topic only, which would make
  /// its full table look known.
  [[nodiscard]] Result<MasterInfo> register_broker(const Registration& registration, int64_t now_ms);
  /// False when no such broker was registered.
  bool unregister_broker(const std::string& cluster, const std::string& broker_name, const std::string& address);
  /// Removes every broker that registered by this connection; returns their addresses.
  std::vector<std::string> remove_by_connection(remoting::ConnectionId connection);
  struct Removed {
    std::string address;
    remoting::ConnectionId connection = 0;
  };
  /// Removes brokers that were silent for too long.
  std::vector<Removed> remove_silent(int64_t now_ms);
  /// BROKER_HEARTBEAT. False when the broker is not known.
  bool heard(const BrokerKey& broker, int64_t now_ms, std::optional<int64_t> silence_ms_max);

  struct VersionAnswer {
    bool changed = true;
    std::optional<remoting::DataVersion> known;
  };
  /// QUERY_DATA_VERSION; an equal version counts as a sign of life.
  VersionAnswer compare_version(const BrokerKey& broker, const remoting::DataVersion& version, int64_t now_ms);

  /// nullopt when the topic is unknown or none of its brokers is alive. acting_masters: where a master is gone the
  /// slave with the smallest id is shown as id 0, if it may act and nobody may write there.
  [[nodiscard]] std::optional<remoting::TopicRouteData> route(const std::string& topic,
                                                              bool acting_masters = false) const;
  enum class RouteForm : uint8_t { kStandard, kForOldClients };
  /// The same, encoded; kept until the topic or a broker changes.
  [[nodiscard]] std::optional<SharedBytes> encoded_route(std::string_view topic, bool acting_masters,
                                                         RouteForm form) const;
  [[nodiscard]] remoting::ClusterInfo cluster_info() const;
  [[nodiscard]] remoting::BrokerMemberGroup members(const std::string& cluster, const std::string& broker_name) const;

  /// REGISTER_TOPIC_IN_NAMESRV. Error: kNotFound for a broker that is not registered; then nothing is changed.
  [[nodiscard]] Status register_topic(const std::string& topic, const std::vector<remoting::QueueData>& queues);
  /// From one cluster, or everywhere when it is empty.
  void delete_topic(const std::string& topic, const std::string& cluster);
  /// Takes the write permission from every topic of a broker name, or gives read and write permission, until the
  /// broker registers a changed table. Returns how many topics it has.
  int32_t wipe_write_permission(const std::string& broker_name);
  int32_t add_write_permission(const std::string& broker_name);

  [[nodiscard]] std::vector<std::string> topics() const;
  [[nodiscard]] std::vector<std::string> topics_of_cluster(const std::string& cluster) const;
  /// Names of clusters and brokers, which are topics of theirs, and the address of some broker.
  struct SystemTopics {
    std::vector<std::string> topics;
    std::string broker_address;
  };
  [[nodiscard]] SystemTopics system_topics() const;
  enum class UnitKind : uint8_t { kUnit, kUnitSubscription, kUnitSubscriptionOnly };
  [[nodiscard]] std::vector<std::string> unit_topics(UnitKind kind) const;

 private:
  struct TextHash {
    using is_transparent = void;
    size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
  };
  using QueuesByBroker = std::map<std::string, remoting::QueueData>;
  struct Topic {
    QueuesByBroker queues;
    uint64_t changes = 0;  ///< another number after each change of the queues
  };
  using Topics = std::map<std::string, Topic, std::less<>>;
  struct Encoded {
    uint64_t topic_changes = 0, broker_changes = 0;
    /// Of all topics, when it was last known to be right: then the topic need not be looked up.
    mutable std::atomic<uint64_t> all_changes{0};
    SharedBytes body;
  };
  /// By form, with and without acting masters.
  using EncodedForms = std::array<Encoded, 4>;

  using Changes = std::vector<MinIdChange>;

  void tell(const Changes& changes) const;  // without mutex_
  [[nodiscard]] std::optional<remoting::TopicRouteData> route_locked(const Topic& topic, bool acting_masters) const;
  void changed(Topic& topic) { topic.changes = ++topic_changes_; }
  // All with mutex_ held.
  [[nodiscard]] Result<MasterInfo> register_locked(const Registration& registration, int64_t now_ms, Changes& changes);
  void take_over_topics(const Registration& registration, bool first, bool changed_table, bool wipe_write);
  bool unregister_locked(const std::string& cluster, const std::string& broker_name, const std::string& address,
                         Changes& changes);
  bool remove_address(const BrokerKey& broker, Changes& changes);
  void remove_topics_of(const std::string& broker_name);
  int32_t change_permission(const std::string& broker_name, int32_t clear, int32_t set);

  std::function<void(const MinIdChange&)> min_id_listener_;
  mutable std::shared_mutex mutex_;  // guards everything below
  Topics topics_;
  uint64_t topic_changes_ = 0, broker_changes_ = 0;
  std::map<std::string, remoting::BrokerData> brokers_;
  std::map<std::string, std::set<std::string>> clusters_;
  BrokerLiveness liveness_;

  mutable std::shared_mutex encoded_mutex_;                                                   // after mutex_
  mutable std::unordered_map<std::string, EncodedForms, TextHash, std::equal_to<>> encoded_;  // guarded by it
};

}  // namespace apogee::nameserver
