#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "broker/groups/client_info.h"
#include "common/remoting/bodies/client_bodies.h"

namespace apogee::broker {

using remoting::ConsumeFromWhere;
using remoting::ConsumeType;
using remoting::MessageModel;

/// What a group wants of one topic. Immutable once registered.
struct Subscription {
  std::string topic;
  std::string expression = "*";         ///< subString: "*", "TagA || TagB", or SQL
  std::string expression_type = "TAG";  ///< "TAG" or "SQL92"
  bool class_filter_mode = false;
  std::vector<std::string> tags;  ///< empty: all
  std::vector<int32_t> codes;     ///< Java's hash of each tag, ascending; empty: all
  int64_t version = 0;            ///< subVersion: ms at which the client subscribed

  /// Whether a message with this tags code may go out: the hash of its tag, of which the low 32 bits count, or less
  /// than any hash where the entry points into consumequeue_ext. Always true then, without tags, for SQL92 and in
  /// class filter mode.
  [[nodiscard]] bool may_match(int64_t tags_code) const;
};

/// The consumer part of one heartbeat.
struct ConsumerRegistration {
  std::string group;
  ConsumeType consume_type = ConsumeType::kPassively;
  MessageModel message_model = MessageModel::kClustering;
  ConsumeFromWhere consume_from = ConsumeFromWhere::kLastOffset;
  std::vector<Subscription> subscriptions;
};

/// A group at one moment; immutable. Members' last_update_ms is that of the moment they joined.
struct ConsumerGroup {
  std::string name;
  ConsumeType consume_type = ConsumeType::kPassively;
  MessageModel message_model = MessageModel::kClustering;
  ConsumeFromWhere consume_from = ConsumeFromWhere::kLastOffset;
  std::vector<ClientInfo> members;                                                        ///< one a connection
  std::map<std::string, std::shared_ptr<const Subscription>, std::less<>> subscriptions;  ///< by topic

  /// nullptr when the group does not subscribe to the topic.
  [[nodiscard]] std::shared_ptr<const Subscription> subscription(std::string_view topic) const;
  /// The members' client ids, each once, ascending.
  [[nodiscard]] std::vector<std::string> client_ids() const;
  /// nullptr when no member has the id.
  [[nodiscard]] const ClientInfo* member(std::string_view client_id) const;
};

/// Who consumes: groups, their members and what they subscribe to. A group exists while it has members.
/// Thread: any; a lock per shard, held for map operations only. The listener is called without a lock.
class ConsumerGroups {
 public:
  /// Told after members or subscriptions of a group have changed; `group` is nullptr when the last one left.
  using ChangeListener = std::function<void(const std::string& name, std::shared_ptr<const ConsumerGroup> group)>;

  explicit ConsumerGroups(NowMs now_ms = system_now_ms, int64_t member_life_ms = 120'000);

  /// Before first use.
  void set_change_listener(ChangeListener listener);

  /// Adds or renews a member. The group's subscriptions become those of the registration; one of the same
  /// topic is replaced only by a newer one. True when members or subscriptions changed.
  bool register_consumer(const ClientInfo& client, const ConsumerRegistration& registration);
  void unregister(std::string_view group, remoting::ConnectionId connection);
  /// Removes what was registered by a connection.
  void connection_closed(remoting::ConnectionId connection);
  /// Removes members whose last heartbeat is older than the life; call every 10 s. Returns how many.
  size_t expire();

  /// nullptr when the group has no members.
  [[nodiscard]] std::shared_ptr<const ConsumerGroup> find(std::string_view group) const;
  [[nodiscard]] std::vector<std::shared_ptr<const ConsumerGroup>> all() const;
  /// Names of the groups that subscribe to the topic, ascending.
  [[nodiscard]] std::vector<std::string> groups_of_topic(std::string_view topic) const;

 private:
  struct State {
    ConsumerRegistration latest;  // its subscriptions are not kept here
    std::vector<ClientInfo> members;
    std::map<std::string, std::shared_ptr<const Subscription>, std::less<>> subscriptions;
    std::shared_ptr<const ConsumerGroup> snapshot;
  };
  struct Shard {
    mutable std::mutex mutex;
    std::map<std::string, State, std::less<>> groups;  // guarded by mutex
  };
  struct Change {
    std::string name;
    std::shared_ptr<const ConsumerGroup> group;
  };
  [[nodiscard]] Shard& shard_of(std::string_view group) const;
  static void take_snapshot(const std::string& name, State& state);
  template <typename Gone>
  size_t remove_members(Gone gone);
  void tell(const std::vector<Change>& changes) const;

  NowMs now_ms_;
  int64_t member_life_ms_;
  ChangeListener listener_;
  mutable std::array<Shard, 16> shards_;
};

}  // namespace apogee::broker
