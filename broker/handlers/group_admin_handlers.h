#pragma once

#include "broker/groups/consumer_groups.h"
#include "broker/groups/producer_groups.h"
#include "broker/groups/subscription_groups.h"
#include "broker/handlers/broker_identity.h"
#include "broker/locks/queue_locks.h"
#include "broker/offsets/consumer_offsets.h"
#include "broker/stats/broker_stats.h"
#include "broker/topics/topic_table.h"

namespace apogee::broker {

/// Subscription groups, who is connected, and groups' offsets. Runs on: reader pool (tables are saved before the
/// answer, and answers may be large).
class GroupAdminHandlers {
 public:
  struct Parts {
    BrokerIdentity identity;
    SubscriptionGroups& groups;
    ConsumerGroups& consumers;
    ProducerGroups& producers;
    ConsumerOffsets& offsets;
    TopicTable& topics;
    QueueLocks& locks;
    BrokerStats& stats;
    const Logger& logger;
  };
  explicit GroupAdminHandlers(Parts parts) : parts_(std::move(parts)) {}

  void all_consumer_offset(const remoting::Caller& caller, remoting::Command request,
                           remoting::Responder respond);                                                      ///< 43
  void update_group(const remoting::Caller& caller, remoting::Command request, remoting::Responder respond);  ///< 200
  void all_group_config(const remoting::Caller& caller, remoting::Command request,
                        remoting::Responder respond);  ///< 201
  void consumer_connections(const remoting::Caller& caller, remoting::Command request,
                            remoting::Responder respond);  ///< 203
  void producer_connections(const remoting::Caller& caller, remoting::Command request,
                            remoting::Responder respond);                                                     ///< 204
  void delete_group(const remoting::Caller& caller, remoting::Command request, remoting::Responder respond);  ///< 207
  void update_group_list(const remoting::Caller& caller, remoting::Command request,
                         remoting::Responder respond);                                                         ///< 225
  void consumed_by(const remoting::Caller& caller, remoting::Command request, remoting::Responder respond);    ///< 300
  void clone_offsets(const remoting::Caller& caller, remoting::Command request, remoting::Responder respond);  ///< 314
  void all_producers(const remoting::Caller& caller, remoting::Command request, remoting::Responder respond);  ///< 328
  void topics_by_consumer(const remoting::Caller& caller, remoting::Command request,
                          remoting::Responder respond);  ///< 343
  void subscription_by_consumer(const remoting::Caller& caller, remoting::Command request,
                                remoting::Responder respond);                                                 ///< 345
  void group_config(const remoting::Caller& caller, remoting::Command request, remoting::Responder respond);  ///< 352
  /// Groups pull here: PULL is what they do already, POP is refused.
  void set_request_mode(const remoting::Caller& caller, remoting::Command request,
                        remoting::Responder respond);  ///< 401

 private:
  Parts parts_;
};

/// As the bodies carry it.
remoting::SubscriptionData body_of(const Subscription& subscription);

}  // namespace apogee::broker
