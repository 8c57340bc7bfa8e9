#pragma once

#include <functional>
#include <optional>
#include <string>

#include "broker/filter/consumer_filters.h"
#include "broker/groups/consumer_groups.h"
#include "broker/groups/producer_groups.h"
#include "broker/groups/subscription_groups.h"
#include "broker/locks/queue_locks.h"
#include "broker/topics/topic_table.h"

namespace apogee::broker {

/// What clients tell of themselves: heartbeats, leaving, members of a group, queue locks, filter checks.
/// Runs on: the IO loop, so that a pull which follows a heartbeat finds its subscription.
class ClientHandlers {
 public:
  struct Parts {
    ConsumerGroups& consumers;
    ProducerGroups& producers;
    SubscriptionGroups& groups;
    TopicTable& topics;
    QueueLocks& locks;
    ConsumerFilters& filters;
    const Logger& logger;
    NowMs now_ms = system_now_ms;
    /// Runs what writes a file elsewhere; false: it will not. Empty: here and now.
    std::function<bool(std::function<void()>)> readers = {};
  };
  explicit ClientHandlers(Parts parts) : parts_(std::move(parts)) {}

  void heartbeat(const remoting::Caller& caller, remoting::Command request, remoting::Responder respond);  ///< 34
  void unregister_client(const remoting::Caller& caller, remoting::Command request,
                         remoting::Responder respond);                                                         ///< 35
  void consumer_list(const remoting::Caller& caller, remoting::Command request, remoting::Responder respond);  ///< 38
  void lock_batch(const remoting::Caller& caller, remoting::Command request, remoting::Responder respond);     ///< 41
  void unlock_batch(const remoting::Caller& caller, remoting::Command request, remoting::Responder respond);   ///< 42
  void check_client_config(const remoting::Caller& caller, remoting::Command request,
                           remoting::Responder respond);  ///< 46

 private:
  void after_save(std::function<void()> answer);
  /// Returns the retry topic that is to be made; nullopt: none.
  struct RetryTopic {
    std::string name;
    int32_t queue_nums = 1, sys_flag = 0;
  };
  std::optional<RetryTopic> register_consumer(const ClientInfo& client, const remoting::ConsumerData& data,
                                              bool without_subscriptions);
  Parts parts_;
};

}  // namespace apogee::broker
