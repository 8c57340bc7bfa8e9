#include "nameserver/handlers/registration_handlers.h"

#include "common/base/crc32.h"
#include "common/remoting/bodies/kv_bodies.h"
#include "common/remoting/bodies/register_broker_body.h"

namespace apogee::nameserver {
namespace {

using remoting::Command;

/// First header version (V3_0_11) whose registration has a RegisterBrokerBody; before, it is the topic table alone.
constexpr int32_t kRegisterBrokerBodyVersion = 37;

/// The topics of a registration, whichever form its body has. No body: no topics.
Result<remoting::TopicConfigSerializeWrapper> registered_topics(const Command& request) {
  if (request.body.empty()) return remoting::TopicConfigSerializeWrapper{};
  if (auto crc = request.ext.get_int<int64_t>("bodyCrc32"); crc && *crc != 0 && *crc != crc32_31(request.body.bytes))
    return Error{Errc::kCorrupt, "crc32 not match: bodyCrc32 is not the checksum of the body"};
  if (request.version < kRegisterBrokerBodyVersion)
    return remoting::decode_topic_config_serialize_wrapper(request.body.bytes);
  auto body = request.ext.get_bool("compressed").value_or(false)
                  ? remoting::decode_compressed_register_broker_body(request.body.bytes, request.version)
                  : remoting::decode_register_broker_body(request.body.bytes);
  if (!body) return Error{body.error().code, "the body of the registration is unusable: " + body.error().message};
  return std::move(body->topic_config_wrapper);
}

/// Positive, or the field does not count.
std::optional<int64_t> announced_silence(const Command& request, std::string_view field) {
  auto value = request.ext.get_int<int64_t>(field);
  return value && *value > 0 ? value : std::nullopt;
}

}  // namespace

Command RegistrationHandlers::register_broker(const Caller& caller, const Command& request) const {
  Registration registration;
  APOGEE_FIELD(registration.cluster, request, required_text, "clusterName");
  APOGEE_FIELD(registration.broker_name, request, required_text, "brokerName");
  APOGEE_FIELD(registration.broker_address, request, required_text, "brokerAddr");
  APOGEE_FIELD(registration.broker_id, request, required_int, "brokerId");
  if (registration.broker_id < 0)
    return refusal(request, remoting::response_code::kSystemError, "the field brokerId is negative");
  registration.ha_server_address = request.ext.get("haServerAddr").value_or("");
  registration.connection = caller.connection;
  registration.silence_ms_max = announced_silence(request, "heartbeatTimeoutMillis");
  registration.acting_master = request.ext.get_bool("enableActingMaster");
  registration.delete_missing_topics = config_.delete_topic_with_broker_registration;
  auto topics = registered_topics(request);
  if (!topics) {
    logger_.warn("registration of {} ({}) refused: {}", registration.broker_name, caller.address,
                 topics.error().message);
    return refusal(request, topics.error());
  }
  registration.topics = std::move(*topics);

  auto master = routes_.register_broker(registration, now_ms_());
  if (!master) {
    logger_.warn("registration of {} ({}) refused: {}", registration.broker_name, caller.address,
                 master.error().message);
    return refusal(request, master.error());
  }
  logger_.debug("broker {} of {} registered: {} id {}, {} topics", registration.broker_name, registration.cluster,
                registration.broker_address, registration.broker_id, registration.topics.topic_config_table.size());
  auto response = reply(request);
  if (!master->master_address.empty()) {
    response.ext.set("masterAddr", master->master_address);
    response.ext.set("haServerAddr", master->ha_server_address);
  }
  if (config_.return_order_topic_config_to_broker) {
    if (auto order = kv_.list(kOrderTopicNamespace))
      response.body = SharedBytes::from(remoting::encode(remoting::KvTable{std::move(*order)}));
  }
  return response;
}

Command RegistrationHandlers::unregister_broker(const Caller& caller, const Command& request) const {
  APOGEE_FIELD(std::string cluster, request, required_text, "clusterName");
  APOGEE_FIELD(std::string name, request, required_text, "brokerName");
  APOGEE_FIELD(std::string address, request, required_text, "brokerAddr");
  const bool known = routes_.unregister_broker(cluster, name, address);
  logger_.info("broker {} of {} at {} signs off{} (from {})", name, cluster, address, known ? "" : "; it was not known",
               caller.address);
  return reply(request);
}

Command RegistrationHandlers::query_data_version(const Caller& /*caller*/, const Command& request) const {
  BrokerKey broker;
  APOGEE_FIELD(broker.cluster, request, required_text, "clusterName");
  APOGEE_FIELD(broker.address, request, required_text, "brokerAddr");
  auto version = remoting::decode_data_version(request.body.bytes);
  if (!version) return refusal(request, version.error());
  auto answer = routes_.compare_version(broker, *version, now_ms_());
  auto response = reply(request);
  response.ext.set("changed", answer.changed);
  if (answer.known) response.body = SharedBytes::from(remoting::encode(*answer.known));
  return response;
}

Command RegistrationHandlers::heartbeat(const Caller& /*caller*/, const Command& request) const {
  BrokerKey broker;
  APOGEE_FIELD(broker.cluster, request, required_text, "clusterName");
  APOGEE_FIELD(broker.address, request, required_text, "brokerAddr");
  routes_.heard(broker, now_ms_(), announced_silence(request, "heartbeatTimeoutMills"));
  return reply(request);
}

Command RegistrationHandlers::register_topic(const Caller& /*caller*/, const Command& request) const {
  APOGEE_FIELD(std::string topic, request, required_text, "topic");
  auto route = remoting::decode_topic_route_data(request.body.bytes);
  if (!route) return refusal(request, route.error());
  if (auto status = routes_.register_topic(topic, route->queue_datas); !status) return refusal(request, status.error());
  return reply(request);
}

Command RegistrationHandlers::members(const Caller& /*caller*/, const Command& request) const {
  APOGEE_FIELD(std::string cluster, request, required_text, "clusterName");
  APOGEE_FIELD(std::string name, request, required_text, "brokerName");
  return reply_with_body(request, remoting::encode(routes_.members(cluster, name)));
}

}  // namespace apogee::nameserver
