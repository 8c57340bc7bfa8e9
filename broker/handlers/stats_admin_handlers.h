#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "broker/groups/consumer_groups.h"
#include "broker/groups/subscription_groups.h"
#include "broker/handlers/broker_identity.h"
#include "broker/offsets/consumer_offsets.h"
#include "broker/stats/broker_stats.h"
#include "broker/topics/topic_table.h"
#include "common/remoting/bodies/group_bodies.h"
#include "common/remoting/bodies/stats_bodies.h"
#include "store/message_store.h"

namespace apogee::broker {

/// Figures of the broker, its topics and its groups. Runs on: reader pool (they look into queues and the log).
class StatsAdminHandlers {
 public:
  struct Parts {
    BrokerIdentity identity;
    SubscriptionGroups& groups;
    ConsumerGroups& consumers;
    ConsumerOffsets& offsets;
    TopicTable& topics;
    BrokerStats& stats;
    store::MessageStore& store;
    int64_t boot_time_ms = 0;
    std::string commit_log_dir;
    /// Figures that other parts know, by the names of GET_BROKER_RUNTIME_INFO; they replace ours. May be empty.
    std::function<std::map<std::string, std::string>()> more_figures;
    NowMs now_ms = system_now_ms;
    std::function<remoting::DelayOffsetTable()> delay_offsets;  ///< how far each level is delivered; may be empty
  };
  explicit StatsAdminHandlers(Parts parts) : parts_(std::move(parts)) {}

  void runtime_info(const remoting::Caller& caller, remoting::Command request, remoting::Responder respond);  ///< 28
  void all_delay_offset(const remoting::Caller& caller, remoting::Command request,
                        remoting::Responder respond);                                                          ///< 45
  void topic_stats(const remoting::Caller& caller, remoting::Command request, remoting::Responder respond);    ///< 202
  void consume_stats(const remoting::Caller& caller, remoting::Command request, remoting::Responder respond);  ///< 208
  void consume_time_span(const remoting::Caller& caller, remoting::Command request,
                         remoting::Responder respond);  ///< 303
  void correction_offset(const remoting::Caller& caller, remoting::Command request,
                         remoting::Responder respond);                                                      ///< 308
  void view_stats(const remoting::Caller& caller, remoting::Command request, remoting::Responder respond);  ///< 315
  void broker_consume_stats(const remoting::Caller& caller, remoting::Command request,
                            remoting::Responder respond);  ///< 317
  void query_consume_queue(const remoting::Caller& caller, remoting::Command request,
                           remoting::Responder respond);  ///< 321

 private:
  /// nullopt when the topic does not exist or the group, though online, does not subscribe to it.
  [[nodiscard]] std::optional<remoting::ConsumeStats> stats_of(const std::string& group,
                                                               const std::string& topic) const;
  [[nodiscard]] std::map<int32_t, int64_t> lowest_offsets(const std::string& topic,
                                                          const std::vector<std::string>& but_groups) const;
  Parts parts_;
};

}  // namespace apogee::broker
