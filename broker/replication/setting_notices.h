#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "broker/groups/subscription_groups.h"
#include "broker/relay/client_calls.h"
#include "broker/request_table.h"
#include "broker/topics/topic_table.h"
#include "common/loop/event_loop.h"
#include "store/ha/replica_acks.h"

namespace apogee::broker {

/// Of a master: topics and groups are with the slaves in sync before their change is acknowledged to an administrator.
/// A slave that asks for a table says which version it has; it is told of a newer one at once, on the connection by
/// which it asks. Who waits for slaves that do not answer goes on after a second: a slave that lacks a topic makes it
/// of what its log has (lost_topics.h). Topics made by a send are only told of. Thread: any.
class SettingNotices {
 public:
  struct Parts {
    TopicTable& topics;
    SubscriptionGroups& groups;
    store::ReplicaAcks& acks;
    loop::EventLoop& loop;  ///< for deadlines
    ClientCalls calls;
    std::string boot;  ///< of this process; in front of each version
    const Logger& logger;
  };
  enum class Table : uint8_t { kTopics, kGroups };

  explicit SettingNotices(Parts parts) : parts_(std::move(parts)) {}

  /// As slaves are told it, and tell it again.
  [[nodiscard]] std::string version(Table table) const;
  /// A slave has what this version says (also "", nothing), and is told of others by this connection.
  void asked(const remoting::Caller& slave, int64_t broker_id, Table table, std::string_view known);
  void connection_closed(remoting::ConnectionId connection);
  /// Tells every slave to ask. Cheap.
  void tell();
  /// Tells them, and calls back once the slaves in sync have both tables as they are now, or after a second; at once
  /// where no slave is waited for, as at an ASYNC_MASTER.
  void wait(std::function<void()> then);
  /// Calls back all that wait; later ones at once.
  void stop();

  /// Makes the rows that change topics and groups answer when slaves have the change. Before the table is used.
  void wrap(RequestTable& table);

 private:
  using Clock = std::chrono::steady_clock;
  struct Slave {
    remoting::ConnectionId connection = 0;
    int64_t topics = -1, groups = -1;  ///< counters of the versions that it has
  };
  struct Waiting {
    int64_t topics = 0, groups = 0;
    Clock::time_point until;
    std::function<void()> then;
  };
  /// What is through with it is taken out of waiting_.
  [[nodiscard]] std::vector<Waiting> release_locked(const std::vector<store::ReplicaAcks::Slave>& followers,
                                                    Clock::time_point now);
  void look();

  const Parts parts_;
  std::mutex mutex_;                 // a leaf
  std::map<int64_t, Slave> slaves_;  // guarded by mutex_; by brokerId
  std::vector<Waiting> waiting_;     // guarded by mutex_
  bool stopped_ = false;             // guarded by mutex_
};

}  // namespace apogee::broker
