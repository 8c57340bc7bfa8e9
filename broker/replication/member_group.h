#pragma once

#include <string>

#include "apogee/result.h"
#include "broker/broker_config.h"
#include "common/remoting/bodies/route_bodies.h"
#include "common/remoting/rpc_client.h"

namespace apogee::broker {

/// The brokers that a NameServer knows by this broker's name. Blocks for at most two seconds: not for loops.
/// Errors: kNetwork, kBroker (another answer), kCorrupt.
[[nodiscard]] Result<remoting::BrokerMemberGroup> ask_member_group(const std::string& name_server,
                                                                   const BrokerConfig& config,
                                                                   remoting::RpcClient& client);

}  // namespace apogee::broker
