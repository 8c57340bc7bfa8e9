#pragma once

#include <map>
#include <string>
#include <utility>

#include "broker/groups/consumer_groups.h"
#include "broker/groups/subscription_groups.h"
#include "broker/handlers/broker_identity.h"
#include "broker/offsets/consumer_offsets.h"
#include "broker/relay/client_calls.h"
#include "broker/topics/topic_table.h"
#include "store/message_store.h"

namespace apogee::broker {

/// Moves a group's offsets, and asks consumers where they are. Runs on: reader pool (offsets by time read the log).
class ResetOffsetHandlers {
 public:
  struct Parts {
    BrokerIdentity identity;
    SubscriptionGroups& groups;
    ConsumerGroups& consumers;
    ConsumerOffsets& offsets;
    TopicTable& topics;
    store::MessageStore& store;
    ClientCalls calls;
    const Logger& logger;
  };
  explicit ResetOffsetHandlers(Parts parts) : parts_(std::move(parts)) {}

  /// Online consumers are told the new offsets (220) and commit them themselves; without any, the committed
  /// offsets are rewritten here.
  void reset_offset(const remoting::Caller& caller, remoting::Command request, remoting::Responder respond);  ///< 222
  void consumer_status(const remoting::Caller& caller, remoting::Command request,
                       remoting::Responder respond);  ///< 223

 private:
  using OffsetTable = std::map<MessageQueue, int64_t>;
  void tell_members(const ConsumerGroup& group, const std::string& topic, int64_t timestamp, bool force,
                    const OffsetTable& table) const;
  Parts parts_;
};

}  // namespace apogee::broker
