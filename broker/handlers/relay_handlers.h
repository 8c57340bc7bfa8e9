#pragma once

#include <string>

#include "broker/groups/consumer_groups.h"
#include "broker/handlers/broker_identity.h"
#include "broker/relay/client_calls.h"
#include "store/message_store.h"

namespace apogee::broker {

/// Hands an admin's request on to one consumer and its answer back. Runs on: reader pool (309 reads the log).
class RelayHandlers {
 public:
  struct Parts {
    BrokerIdentity identity;
    ConsumerGroups& consumers;
    store::MessageStore& store;
    ClientCalls calls;
  };
  explicit RelayHandlers(Parts parts) : parts_(std::move(parts)) {}

  void running_info(const remoting::Caller& caller, remoting::Command request, remoting::Responder respond);  ///< 307
  void consume_directly(const remoting::Caller& caller, remoting::Command request,
                        remoting::Responder respond);  ///< 309

 private:
  void relay(remoting::Command request, remoting::Responder respond, remoting::Command to_client,
             const std::string& group, const std::string& client_id);
  Parts parts_;
};

}  // namespace apogee::broker
