#include "broker/replication/member_group.h"

#include <utility>

namespace apogee::broker {

namespace {
constexpr int64_t kTimeoutMs = 2'000;
}  // namespace

Result<remoting::BrokerMemberGroup> ask_member_group(const std::string& name_server, const BrokerConfig& config,
                                                     remoting::RpcClient& client) {
  auto request = remoting::Command::request(remoting::RequestCode::kGetBrokerMemberGroup);
  request.ext.set("clusterName", config.cluster_name);
  request.ext.set("brokerName", config.broker_name);
  auto reply = client.call_and_wait(name_server, std::move(request), kTimeoutMs);
  if (!reply) return std::move(reply).error();
  if (reply->code != remoting::response_code::kSuccess)
    return Error{Errc::kBroker, std::to_string(reply->code) + " " + reply->remark.value_or("")};
  return remoting::decode_broker_member_group(reply->body.bytes);
}

}  // namespace apogee::broker
