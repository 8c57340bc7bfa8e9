#pragma once

#include <functional>

#include "broker/broker_config.h"
#include "common/remoting/bodies/ha_bodies.h"
#include "common/remoting/remoting_server.h"
#include "store/message_store.h"

namespace apogee::broker {

/// What administrators and slaves ask about replication. Runs on: reader pool.
class HaAdminHandlers {
 public:
  struct Parts {
    const BrokerConfig& config;
    store::MessageStore& store;
    std::string address, ha_address;  ///< of this broker
    std::function<remoting::HaRuntimeInfo()> status;
    std::function<remoting::EpochEntryCache()> epochs;
  };
  explicit HaAdminHandlers(Parts parts) : parts_(std::move(parts)) {}

  /// 906 of a slave: where this master is. A peer that tells something instead is refused.
  void exchange_info(const remoting::Caller& caller, remoting::Command request, remoting::Responder respond);
  void ha_status(const remoting::Caller& caller, remoting::Command request, remoting::Responder respond);    ///< 907
  void epoch_cache(const remoting::Caller& caller, remoting::Command request, remoting::Responder respond);  ///< 1007

 private:
  const Parts parts_;
};

}  // namespace apogee::broker
