#include "broker/relay/client_calls.h"

#include <utility>

namespace apogee::broker {

ClientCalls calls_by(remoting::RemotingServer& server) {
  ClientCalls calls;
  calls.call = [&server](remoting::ConnectionId connection, remoting::Command request, int64_t timeout_ms,
                         remoting::ReplyCallback done) {
    server.call(connection, std::move(request), timeout_ms, std::move(done));
  };
  calls.send_oneway = [&server](remoting::ConnectionId connection, remoting::Command request) {
    server.send_oneway(connection, std::move(request));
  };
  return calls;
}

remoting::Command request_for(const ClientInfo& client, remoting::RequestCode code) {
  remoting::Command request = remoting::Command::request(code);
  request.serialize = client.serialize;
  return request;
}

ConsumerGroups::ChangeListener notify_members(ClientCalls calls, const SubscriptionGroups& groups) {
  return [calls = std::move(calls), &groups](const std::string& name, std::shared_ptr<const ConsumerGroup> group) {
    if (group == nullptr) return;
    auto config = groups.find(name);
    if (config != nullptr && !config->notify_consumer_ids_changed_enable) return;
    for (const auto& member : group->members) {
      remoting::Command request = request_for(member, remoting::RequestCode::kNotifyConsumerIdsChanged);
      request.ext.set("consumerGroup", name);
      calls.send_oneway(member.connection, std::move(request));
    }
  };
}

}  // namespace apogee::broker
