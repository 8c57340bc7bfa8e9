#pragma once

#include "common/base/logger.h"
#include "common/remoting/remoting_server.h"
#include "nameserver/config.h"
#include "nameserver/handlers/request_fields.h"
#include "nameserver/kv_config.h"
#include "nameserver/route_table.h"

namespace apogee::nameserver {

/// What brokers ask for. Thread: any.
class RegistrationHandlers {
 public:
  RegistrationHandlers(RouteTable& routes, const KvConfig& kv, const NameServerConfig& config, ClockMs now_ms,
                       const Logger& logger)
      : routes_(routes), kv_(kv), config_(config), now_ms_(std::move(now_ms)), logger_(logger) {}

  using Caller = remoting::Caller;
  using Command = remoting::Command;
  Command register_broker(const Caller& caller, const Command& request) const;     // REGISTER_BROKER
  Command unregister_broker(const Caller& caller, const Command& request) const;   // UNREGISTER_BROKER
  Command query_data_version(const Caller& caller, const Command& request) const;  // QUERY_DATA_VERSION
  Command heartbeat(const Caller& caller, const Command& request) const;           // BROKER_HEARTBEAT
  Command register_topic(const Caller& caller, const Command& request) const;      // REGISTER_TOPIC_IN_NAMESRV
  Command members(const Caller& caller, const Command& request) const;             // GET_BROKER_MEMBER_GROUP

 private:
  RouteTable& routes_;
  const KvConfig& kv_;
  const NameServerConfig& config_;
  ClockMs now_ms_;
  const Logger& logger_;
};

}  // namespace apogee::nameserver
