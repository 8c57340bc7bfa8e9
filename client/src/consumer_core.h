#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "apogee/consumer_types.h"
#include "apogee/message_selector.h"
#include "client/src/client_instance.h"
#include "client/src/offset_store.h"

namespace apogee {

/// What push and pull consumers have in common: subscriptions, the share of the queues that this member has, where a
/// queue begins, and the persisting of offsets. All names are those of the wire (with the namespace).
/// Thread: any; callbacks and hooks come on the loop.
class ConsumerCore {
 public:
  using SubscriptionPtr = std::shared_ptr<const remoting::SubscriptionData>;
  using OffsetCallback = std::function<void(Result<int64_t> offset)>;

  struct Hooks {
    /// The queues of a topic that this member has from now on, sorted; called after every look, also without change.
    std::function<void(const std::string& topic, const std::vector<MessageQueue>& queues)> assigned;
    /// Requests of brokers other than NOTIFY_CONSUMER_IDS_CHANGED; see ClientInstance::Hooks.
    std::function<bool(remoting::Command& request, const remoting::Responder& respond)> request;
    remoting::ConsumeType consume_type = remoting::ConsumeType::kPassively;
    /// Whether the offset of the queue may go to the broker now, on the loop; empty: always.
    std::function<bool(const MessageQueue& queue)> may_commit;
  };

  ConsumerCore(const ConsumerConfig& config, const char* thread_name);

  /// Error: kInvalidArgument.
  Status start(Hooks hooks);
  /// No more hooks.assigned after this returned and the loop has run once.
  void stop_rebalancing() { stopping_ = true; }
  /// Leaves the group, ends the loop.
  void shutdown();

  [[nodiscard]] ClientInstance& instance() { return instance_; }
  [[nodiscard]] const Logger& logger() const { return instance_.logger(); }
  [[nodiscard]] loop::EventLoop& loop() { return instance_.loop(); }
  [[nodiscard]] OffsetStore& offsets() { return offsets_; }
  [[nodiscard]] const std::string& group() const { return group_; }
  [[nodiscard]] const ConsumerConfig& config() const { return config_; }
  [[nodiscard]] bool clustering() const { return config_.model == GroupModel::kClustering; }
  [[nodiscard]] std::string wire_name(const std::string& name) const {
    return with_namespace(config_.name_space, name);
  }
  [[nodiscard]] MessageQueue wire_queue(const MessageQueue& queue) const {
    return {wire_name(queue.topic), queue.broker_name, queue.queue_id};
  }
  [[nodiscard]] MessageQueue named_queue(const MessageQueue& queue) const {
    return {without_namespace(config_.name_space, queue.topic), queue.broker_name, queue.queue_id};
  }

  /// Errors: kInvalidArgument; after the start, for SQL, what a broker says of it.
  Status subscribe(const std::string& wire_topic, const MessageSelector& selector);
  void unsubscribe(const std::string& wire_topic);
  [[nodiscard]] SubscriptionPtr subscription(const std::string& wire_topic) const;
  [[nodiscard]] std::vector<SubscriptionPtr> subscriptions() const;

  void rebalance_now();
  void rebalance_after(int64_t delay_ms);

  /// The offset of a queue that is new here: what is persisted, else where the configuration says.
  void find_start_offset(const MessageQueue& queue, OffsetCallback done);
  /// What is persisted. Error: kNotFound.
  void fetch_committed(const MessageQueue& queue, OffsetCallback done);
  /// kGetMaxOffset, kGetMinOffset, kSearchOffsetByTimestamp (with time_ms).
  void query_offset(const MessageQueue& queue, remoting::RequestCode code, int64_t time_ms, OffsetCallback done);

  /// Persists the offsets of `queues` that changed. `done` (may be null) when all have been answered.
  void persist(const std::vector<MessageQueue>& queues, std::function<void(Status)> done);
  /// All queues whose offset changed.
  void persist_all(std::function<void(Status)> done);

 private:
  remoting::HeartbeatData heartbeat() const;
  /// Shows an SQL subscription to a broker of its topic, and waits for the answer, at most request_timeout. Does
  /// nothing on the loop. Errors: the broker's refusal.
  Status check_at_broker(const remoting::SubscriptionData& subscription);
  void rebalance();
  void rebalance_topic(const std::string& topic, std::function<void()> done);
  void assign(const std::string& topic, const std::vector<std::string>& members);
  /// Where offsets are asked for and committed: the master, or, as RocketMQ's clients do, another of its name.
  [[nodiscard]] std::optional<BrokerPlace> place_of_offsets(const std::string& broker_name) const;
  void commit_one(const MessageQueue& queue, int64_t offset, std::function<void(Status)> done);
  Status save_file();

  const ConsumerConfig config_;
  std::string group_;
  Hooks hooks_;
  OffsetStore offsets_;
  std::unique_ptr<OffsetFile> file_;  // broadcasting
  std::atomic<int64_t> started_ms_{0};
  std::atomic<bool> stopping_{false};

  mutable std::mutex mutex_;
  std::map<std::string, SubscriptionPtr> subscriptions_;  // guarded by mutex_

  // On the loop only.
  bool ready_ = false;  ///< start() is through: where to begin is known, and that brokers take the subscriptions
  bool rebalancing_ = false;
  bool rebalance_again_ = false;
  bool rebalance_planned_ = false;
  int failures_ = 0;  // looks in a row in which something was missing

  ClientInstance instance_;
};

}  // namespace apogee
