#include "broker/handlers/relay_handlers.h"

#include <memory>
#include <utility>

#include "broker/handlers/request_fields.h"
#include "common/message/message_id.h"

namespace apogee::broker {

namespace code = remoting::response_code;

namespace {

constexpr int64_t kRelayTimeoutMs = 10'000;
constexpr int32_t kRelayVersionMin = 62;  // V3_1_8_SNAPSHOT, the first that answers these requests

void copy_fields(const remoting::ExtFields& from, remoting::ExtFields& to) {
  for (size_t i = 0; i < from.size(); ++i) to.set(from.name(i), from.value(i));
}

}  // namespace

void RelayHandlers::relay(remoting::Command request, remoting::Responder respond, remoting::Command to_client,
                          const std::string& group, const std::string& client_id) {
  const std::string name = "The Consumer <" + group + "> <" + client_id + ">";
  auto members = parts_.consumers.find(group);
  const ClientInfo* member = members == nullptr ? nullptr : members->member(client_id);
  if (member == nullptr) return refuse(request, respond, code::kSystemError, name + " not online");
  if (member->version < kRelayVersionMin)
    return refuse(request, respond, code::kSystemError,
                  name + " Version is too low to finish, please upgrade it to V3_1_8_SNAPSHOT");
  to_client.serialize = member->serialize;
  parts_.calls.call(
      member->connection, std::move(to_client), kRelayTimeoutMs,
      [request = std::move(request), respond, name](Result<remoting::Command> reply) {
        if (!reply)
          return refuse(request, respond,
                        reply.error().code == Errc::kTimeout ? code::kConsumeMsgTimeout : code::kSystemError,
                        name + ": " + reply.error().message);
        remoting::Command response = remoting::Command::response_to(request, reply->code, std::move(reply->remark));
        response.body = std::move(reply->body);
        respond(std::move(response));
      });
}

void RelayHandlers::running_info(const remoting::Caller& /*caller*/, remoting::Command request,
                                 remoting::Responder respond) {
  RequestFields fields(request);
  const std::string group = fields.text("consumerGroup");
  const std::string client_id = fields.text("clientId");
  if (!fields.ok()) return refuse(request, respond, fields);
  remoting::Command to_client = remoting::Command::request(remoting::RequestCode::kGetConsumerRunningInfo);
  copy_fields(request.ext, to_client.ext);
  relay(std::move(request), std::move(respond), std::move(to_client), group, client_id);
}

void RelayHandlers::consume_directly(const remoting::Caller& /*caller*/, remoting::Command request,
                                     remoting::Responder respond) {
  RequestFields fields(request);
  const std::string group = fields.text("consumerGroup");
  const std::string client_id = fields.text("clientId");
  const std::string msg_id = fields.text("msgId");
  if (!fields.ok()) return refuse(request, respond, fields);
  auto id = message::decode_offset_message_id(msg_id);
  if (!id)
    return refuse(request, respond, code::kInvalidParameter,
                  "the header field msgId is no offset id: " + id.error().message);
  auto record = parts_.store.record_at(id->physical_offset);
  if (!record)
    return refuse(request, respond, code::kSystemError, "no message begins at the offset of msgId " + msg_id);
  remoting::Command to_client = remoting::Command::request(remoting::RequestCode::kConsumeMessageDirectly);
  copy_fields(request.ext, to_client.ext);
  to_client.ext.set("brokerName", parts_.identity.broker_name);
  to_client.body = std::move(*record);
  relay(std::move(request), std::move(respond), std::move(to_client), group, client_id);
}

}  // namespace apogee::broker
