#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "broker/groups/consumer_groups.h"
#include "broker/groups/subscription_groups.h"
#include "common/remoting/remoting_server.h"

namespace apogee::broker {

/// How the broker reaches its clients: RemotingServer's calls, or what a test puts in their place.
struct ClientCalls {
  std::function<void(remoting::ConnectionId, remoting::Command, int64_t timeout_ms, remoting::ReplyCallback)> call;
  std::function<void(remoting::ConnectionId, remoting::Command)> send_oneway;
};
/// The server outlives the result.
ClientCalls calls_by(remoting::RemotingServer& server);

/// A request to one client, in the serialization that the client itself uses.
remoting::Command request_for(const ClientInfo& client, remoting::RequestCode code);

/// For ConsumerGroups::set_change_listener: sends NOTIFY_CONSUMER_IDS_CHANGED to every member of a group that
/// changed, where the group's notifyConsumerIdsChangedEnable is on. `groups` outlives the result.
ConsumerGroups::ChangeListener notify_members(ClientCalls calls, const SubscriptionGroups& groups);

}  // namespace apogee::broker
