#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "apogee/admin_cluster_types.h"
#include "apogee/admin_group_types.h"
#include "apogee/admin_message_types.h"
#include "apogee/admin_trace_types.h"
#include "apogee/log.h"
#include "apogee/message.h"
#include "apogee/message_queue.h"
#include "apogee/producer.h"
#include "apogee/result.h"

namespace apogee {

struct AdminConfig {
  /// "host:port;host:port". May be empty when no call needs a NameServer; the environment is not read.
  std::string name_servers;
  std::chrono::milliseconds connect_timeout{3'000};
  std::chrono::milliseconds request_timeout{5'000};  ///< of each request
  LogSink log_sink;
  LogLevel log_level = LogLevel::kWarn;
};

/// Looks at and changes a cluster: what mqadmin does. Every call blocks until the answer is there, at most
/// AdminConfig::request_timeout for each request that it needs. Thread: any; calls may run at the same time.
/// Errors of every call: kInvalidArgument; kNetwork and kTimeout naming the address; kNotFound, kPermission,
/// kBusy, kUnsupported and kBroker for a peer that refuses, with its response code and its remark.
class AdminClient {
 public:
  using Properties = std::map<std::string, std::string>;
  /// Told after each broker of a call that changes several.
  using BrokerDone = std::function<void(const std::string& address, size_t done, size_t total)>;

  explicit AdminClient(AdminConfig config);
  ~AdminClient();
  AdminClient(const AdminClient&) = delete;
  AdminClient& operator=(const AdminClient&) = delete;

  // Brokers and clusters.
  [[nodiscard]] Result<admin::Cluster> cluster();
  /// Error: kNotFound when there is no such cluster.
  [[nodiscard]] Result<std::vector<std::string>> master_addresses(const std::string& cluster);
  /// The master's, or that of the slave with the lowest id.
  [[nodiscard]] Result<std::string> broker_address(const std::string& broker_name);
  [[nodiscard]] Result<Properties> broker_runtime_info(const std::string& address);
  [[nodiscard]] Result<admin::ReplicationState> replication_state(const std::string& address);
  [[nodiscard]] Result<admin::LogEpochs> log_epochs(const std::string& address);
  [[nodiscard]] Result<Properties> broker_config(const std::string& address);
  [[nodiscard]] Status update_broker_config(const std::string& address, const std::string& key,
                                            const std::string& value);
  /// name: such as TOPIC_PUT_NUMS; key: such as the topic, or "topic@group". nullopt: the broker has counted nothing.
  [[nodiscard]] Result<std::optional<admin::Counter>> broker_counter(const std::string& address,
                                                                     const std::string& name, const std::string& key);
  /// Topics that the broker itself uses.
  [[nodiscard]] Result<std::vector<std::string>> system_topics(const std::string& broker_address);

  // What is on a broker's disk.
  /// Removes queues whose messages have all expired.
  [[nodiscard]] Status clean_expired_queues(const std::string& broker_address);
  /// Removes the queues of topics that the broker does not have any more.
  [[nodiscard]] Status clean_unused_topics(const std::string& broker_address);
  /// Has expired files of the log removed at whatever hour; they go after the answer.
  [[nodiscard]] Status delete_expired_log_files(const std::string& broker_address);
  [[nodiscard]] Result<admin::QueueEntries> queue_entries(const std::string& broker_address,
                                                          const admin::QueueEntriesRequest& request);

  // NameServers. What changes one changes all.
  [[nodiscard]] const std::vector<std::string>& namesrv_addresses() const;
  [[nodiscard]] Result<Properties> namesrv_config(const std::string& namesrv);
  [[nodiscard]] Status update_namesrv_config(const std::string& key, const std::string& value);
  [[nodiscard]] Status put_kv(const std::string& space, const std::string& key, const std::string& value);
  [[nodiscard]] Status delete_kv(const std::string& space, const std::string& key);
  [[nodiscard]] Result<std::string> kv(const std::string& space, const std::string& key);
  [[nodiscard]] Result<Properties> kv_list(const std::string& space);
  /// Answers with the number of topics that changed.
  [[nodiscard]] Result<int32_t> wipe_write_perm(const std::string& namesrv, const std::string& broker_name);
  [[nodiscard]] Result<int32_t> add_write_perm(const std::string& namesrv, const std::string& broker_name);

  // Topics.
  [[nodiscard]] Result<std::vector<std::string>> topics();
  [[nodiscard]] Result<std::vector<std::string>> topics_of_cluster(const std::string& cluster);
  [[nodiscard]] Result<std::vector<std::string>> clusters_of_topic(const std::string& topic);
  [[nodiscard]] Result<admin::TopicRoute> topic_route(const std::string& topic);
  /// All readable queues of a topic, in the order in which groups divide them.
  [[nodiscard]] Result<std::vector<MessageQueue>> queues_of_topic(const std::string& topic);
  [[nodiscard]] Result<std::map<std::string, admin::TopicConfig>> topic_configs(const std::string& broker_address);
  [[nodiscard]] Status create_topic(const std::string& broker_address, const admin::TopicConfig& config);
  /// On every master of the cluster; with `order` the order configuration of the NameServers too.
  [[nodiscard]] Status create_topic_in_cluster(const std::string& cluster, const admin::TopicConfig& config,
                                               const BrokerDone& done = nullptr);
  /// Sets how many queues of an ordered topic each broker has. Brokers not named here stay, unless `replace`.
  [[nodiscard]] Status update_order_config(const std::string& topic, const std::map<std::string, int32_t>& queues,
                                           bool replace);
  /// "broker:queues;broker:queues". Error: kNotFound when the topic has none.
  [[nodiscard]] Result<std::string> order_config(const std::string& topic);
  [[nodiscard]] Status delete_order_config(const std::string& topic);
  [[nodiscard]] Status delete_topic_on_broker(const std::string& broker_address, const std::string& topic);
  [[nodiscard]] Status delete_topic_on_namesrv(const std::string& topic, const std::string& cluster = "");
  /// From the cluster's masters and from the NameServers.
  [[nodiscard]] Status delete_topic(const std::string& cluster, const std::string& topic,
                                    const BrokerDone& done = nullptr);
  [[nodiscard]] Result<std::map<MessageQueue, admin::QueueRange>> topic_stats(const std::string& topic);
  [[nodiscard]] Result<std::vector<std::string>> groups_of_topic(const std::string& topic);

  // Groups and clients.
  [[nodiscard]] Result<std::map<std::string, admin::GroupConfig>> groups(const std::string& broker_address);
  /// Error: kNotFound when the broker does not have the group.
  [[nodiscard]] Result<admin::GroupConfig> group_config(const std::string& broker_address, const std::string& group);
  [[nodiscard]] Status create_group(const std::string& broker_address, const admin::GroupConfig& config);
  [[nodiscard]] Status create_group_in_cluster(const std::string& cluster, const admin::GroupConfig& config,
                                               const BrokerDone& done = nullptr);
  [[nodiscard]] Status delete_group(const std::string& broker_address, const std::string& group, bool remove_offsets);
  /// From the cluster's masters; its retry and dead-letter topics go with it.
  [[nodiscard]] Status delete_group_in_cluster(const std::string& cluster, const std::string& group,
                                               bool remove_offsets, const BrokerDone& done = nullptr);
  /// topic: empty = all topics that the group has offsets for.
  [[nodiscard]] Result<admin::GroupProgress> group_progress(const std::string& group, const std::string& topic = "");
  /// How long messages have been waiting for the group, by queue.
  [[nodiscard]] Result<std::map<MessageQueue, admin::ConsumeTimes>> consume_times(const std::string& group,
                                                                                  const std::string& topic);
  /// Of all groups of one broker, or of its ordered topics only.
  [[nodiscard]] Result<admin::BrokerLag> broker_lag(const std::string& broker_address, bool ordered_only);
  /// broker_address: empty = a broker that has the group's retry topic. kNotFound when nobody is connected.
  [[nodiscard]] Result<admin::GroupClients> group_clients(const std::string& group,
                                                          const std::string& broker_address = "");
  [[nodiscard]] Result<std::vector<admin::Client>> producer_clients(const std::string& group, const std::string& topic);
  /// Every producer that is connected to the broker, by group.
  [[nodiscard]] Result<std::map<std::string, std::vector<admin::ProducerClient>>> producers(
      const std::string& broker_address);
  /// Has the members of a group pull or pop. Error: kUnsupported from a broker without POP.
  [[nodiscard]] Status set_consume_mode(const std::string& broker_address, const admin::ConsumeModeChange& change);
  [[nodiscard]] Result<admin::ConsumerState> consumer_state(const std::string& group, const std::string& client_id,
                                                            bool with_stacks, const std::string& broker_address = "");
  /// Offsets that the members of a group hold, by client id. client_id: empty = all members.
  [[nodiscard]] Result<std::map<std::string, std::map<MessageQueue, int64_t>>> consumer_status(
      const std::string& group, const std::string& topic, const std::string& client_id = "");

  // Offsets.
  [[nodiscard]] Result<int64_t> min_offset(const MessageQueue& queue);
  [[nodiscard]] Result<int64_t> max_offset(const MessageQueue& queue);
  /// Of the first message stored at or after a time (ms since 1970); the max offset when there is none.
  [[nodiscard]] Result<int64_t> offset_by_time(const MessageQueue& queue, int64_t timestamp_ms);
  /// ms since 1970; -1 = no message.
  [[nodiscard]] Result<int64_t> earliest_message_ms(const MessageQueue& queue);
  /// nullopt when the group never committed one.
  [[nodiscard]] Result<std::optional<int64_t>> consumer_offset(const std::string& group, const MessageQueue& queue);
  [[nodiscard]] Status update_consumer_offset(const std::string& group, const MessageQueue& queue, int64_t offset);
  /// Through the brokers, which tell running consumers; brokers that can only do it while a consumer runs get the
  /// new offsets written. Answers with the offsets that the group has now.
  [[nodiscard]] Result<std::map<MessageQueue, int64_t>> reset_offset_by_time(const admin::OffsetReset& reset);
  [[nodiscard]] Status clone_group_offset(const std::string& from_group, const std::string& to_group,
                                          const std::string& topic, bool offline);

  // Messages.
  /// Hands a message of the group's dead letters (topic %DLQ%GROUP) to the group once more, as if it had not been
  /// consumed yet: through the group's retry topic on the same broker, so that no other group gets it. With `topic` it
  /// is sent there instead, as an ordinary message. The dead letter itself stays. A group without retries
  /// (retryMaxTimes 0) can only be helped with `topic`: its retry topic leads to the dead letters.
  [[nodiscard]] Result<SendReceipt> resend_dead_letter(const std::string& group, const ReceivedMessage& letter,
                                                       const std::string& topic = "");
  [[nodiscard]] Result<SendReceipt> send(const Message& message, const admin::SendTarget& target = {});
  [[nodiscard]] Result<admin::Pulled> pull(const admin::PullRequest& request);
  /// offset_msg_id: as in SendReceipt and ReceivedMessage. kInvalidArgument when it is not such an id; kNotFound
  /// when it names no broker of the cluster, or no message.
  [[nodiscard]] Result<ReceivedMessage> message_by_id(const std::string& offset_msg_id);
  /// From the indexes of all brokers of the topic. Nothing found is no error, unless a broker could not be asked.
  [[nodiscard]] Result<admin::FoundMessages> query_messages(const admin::MessageQuery& query);
  /// What the clients of a message wrote to the trace topic. Error: kNotFound (no trace topic).
  [[nodiscard]] Result<admin::MessageTrace> message_trace(const admin::TraceQuery& query);
  /// msg_id: either id of a message, the one that its producer gave it or the offset id; of several copies the
  /// first. Error: kNotFound.
  [[nodiscard]] Result<ReceivedMessage> find_message(const std::string& topic, const std::string& msg_id);
  /// What each group that reads the message's topic did with it.
  [[nodiscard]] Result<std::vector<admin::MessageTrack>> message_track(const ReceivedMessage& message);
  /// The queues that messages of the topic can be sent to, sorted by broker name and queue id.
  [[nodiscard]] Result<std::vector<MessageQueue>> writable_queues(const std::string& topic);
  /// Sends a stored message once more: body (compressed if it was), keys, tags, flag, id, time of birth and the
  /// application's properties; what belongs to its former way (delay, timer, transaction, retry) is left out.
  /// more: further properties.
  [[nodiscard]] Result<SendReceipt> send_copy(const ReceivedMessage& message, const MessageQueue& to,
                                              const Properties& more = {});
  [[nodiscard]] Result<ReceivedMessage> message_by_offset(const MessageQueue& queue, int64_t offset);
  /// Lets one running consumer consume a stored message now.
  [[nodiscard]] Result<admin::ConsumedDirectly> consume_directly(const std::string& group, const std::string& client_id,
                                                                 const std::string& offset_msg_id);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace apogee
