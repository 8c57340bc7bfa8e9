#include "nameserver/handlers/route_handlers.h"

#include <fmt/format.h>

#include <string>
#include <string_view>
#include <vector>

#include "common/remoting/bodies/kv_bodies.h"
#include "common/remoting/bodies/route_bodies.h"

namespace apogee::nameserver {
namespace {

using remoting::Command;

/// First header version (V4_9_4) of clients that read standard JSON here.
constexpr int32_t kStandardJsonVersion = 401;
/// Up to this size a route goes out as a copy, with the answers beside it; larger ones as what is kept.
constexpr size_t kCopiedBytesMax = 2'048;

Command topic_list(const Command& request, std::vector<std::string> topics, std::string broker_address = {}) {
  return reply_with_body(request, remoting::encode(remoting::TopicList{std::move(topics), std::move(broker_address)}));
}
Command switched_off(const Command& request, const char* key) {
  return refusal(request, remoting::response_code::kSystemError, fmt::format("disabled: the setting {} is false", key));
}

}  // namespace

Command RouteHandlers::route(const Caller& /*caller*/, const Command& request) const {
  APOGEE_FIELD(std::string topic, request, required_text, "topic");
  if (config_.need_wait_for_service && now_ms_() - started_at_ms_ < int64_t{config_.wait_s_for_service} * 1000)
    return refusal(request, remoting::response_code::kSystemError,
                   "name server not ready: it waits for brokers to register");
  const bool standard =
      request.version >= kStandardJsonVersion || request.ext.get_bool("acceptStandardJsonOnly").value_or(false);
  const std::string order = config_.order_message_enable ? kv_.get(kOrderTopicNamespace, topic).value_or("") : "";
  auto unknown = [&] {
    return refusal(request, remoting::response_code::kTopicNotExist,
                   fmt::format("No topic route info in name server for the topic: {}", topic));
  };
  if (order.empty()) {
    auto encoded =
        routes_.encoded_route(topic, config_.support_acting_master,
                              standard ? RouteTable::RouteForm::kStandard : RouteTable::RouteForm::kForOldClients);
    if (!encoded) return unknown();
    auto response = reply(request);
    response.body = std::move(*encoded);
    return response;
  }
  auto route = routes_.route(topic, config_.support_acting_master);
  if (!route) return unknown();
  route->order_topic_conf = order;
  return reply_with_body(request, standard ? remoting::encode(*route) : remoting::encode_for_old_clients(*route));
}

bool RouteHandlers::quick_route(const remoting::HeaderView& header, remoting::QuickReply reply) const {
  if (header.binary || header.code != static_cast<int32_t>(remoting::RequestCode::kGetRouteinfoByTopic) ||
      (header.flag & remoting::kOnewayFlag) != 0 || config_.need_wait_for_service || config_.order_message_enable)
    return false;
  std::string_view topic;
  bool standard = header.version >= kStandardJsonVersion;
  for (size_t i = 0; i < header.field_count; ++i) {
    const auto& field = header.fields[i];
    if (field.name == "topic") {
      if (field.escaped) return false;
      topic = field.value;
    } else if (field.name == "acceptStandardJsonOnly") {
      if (field.escaped || (field.value != "true" && field.value != "false")) return false;
      standard = header.version >= kStandardJsonVersion || field.value == "true";
    }
  }
  if (topic.empty()) return false;
  const auto body =
      routes_.encoded_route(topic, config_.support_acting_master,
                            standard ? RouteTable::RouteForm::kStandard : RouteTable::RouteForm::kForOldClients);
  if (!body) return false;
  static thread_local std::string frame;  // kept for its room
  frame.assign(remoting::kFrameHeadBytes, '\0');
  frame += "{\"code\":0,\"flag\":1,\"language\":\"CPP\",\"opaque\":";
  const fmt::format_int opaque(header.opaque);
  frame.append(opaque.data(), opaque.size());
  frame += answer_tail_;
  remoting::store_frame_head(frame.data(), remoting::SerializeType::kJson, frame.size() - remoting::kFrameHeadBytes,
                             body->size());
  if (body->size() <= kCopiedBytesMax) {
    frame += body->bytes;
    reply.send(frame);
  } else {
    static thread_local std::vector<SharedBytes> parts;
    parts.assign(1, *body);
    reply.send(frame, parts);
    parts.clear();
  }
  return true;
}

Command RouteHandlers::cluster_info(const Caller& /*caller*/, const Command& request) const {
  return reply_with_body(request, remoting::encode(routes_.cluster_info()));
}

Command RouteHandlers::all_topics(const Caller& /*caller*/, const Command& request) const {
  if (!config_.enable_all_topic_list) return switched_off(request, "enableAllTopicList");
  return topic_list(request, routes_.topics());
}

Command RouteHandlers::topics_of_cluster(const Caller& /*caller*/, const Command& request) const {
  if (!config_.enable_topic_list) return switched_off(request, "enableTopicList");
  APOGEE_FIELD(std::string cluster, request, required_text, "cluster");
  return topic_list(request, routes_.topics_of_cluster(cluster));
}

Command RouteHandlers::system_topics(const Caller& /*caller*/, const Command& request) const {
  auto answer = routes_.system_topics();
  return topic_list(request, std::move(answer.topics), std::move(answer.broker_address));
}

Command RouteHandlers::unit_topics(const Caller& /*caller*/, const Command& request) const {
  if (!config_.enable_topic_list) return switched_off(request, "enableTopicList");
  using remoting::RequestCode;
  auto kind = RouteTable::UnitKind::kUnit;
  if (request.request_code() == RequestCode::kGetHasUnitSubTopicList) kind = RouteTable::UnitKind::kUnitSubscription;
  if (request.request_code() == RequestCode::kGetHasUnitSubUnunitTopicList)
    kind = RouteTable::UnitKind::kUnitSubscriptionOnly;
  return topic_list(request, routes_.unit_topics(kind));
}

Command RouteHandlers::delete_topic(const Caller& caller, const Command& request) const {
  APOGEE_FIELD(std::string topic, request, required_text, "topic");
  const std::string cluster(request.ext.get("clusterName").value_or(""));
  routes_.delete_topic(topic, cluster);
  logger_.info("topic {} deleted from {}, as asked by {}", topic, cluster.empty() ? "every cluster" : cluster,
               caller.address);
  return reply(request);
}

Command RouteHandlers::wipe_write_permission(const Caller& caller, const Command& request) const {
  APOGEE_FIELD(std::string name, request, required_text, "brokerName");
  const int32_t count = routes_.wipe_write_permission(name);
  logger_.info("write permission taken from {} topics of broker {}, as asked by {}", count, name, caller.address);
  auto response = reply(request);
  response.ext.set("wipeTopicCount", count);
  return response;
}

Command RouteHandlers::add_write_permission(const Caller& caller, const Command& request) const {
  APOGEE_FIELD(std::string name, request, required_text, "brokerName");
  const int32_t count = routes_.add_write_permission(name);
  logger_.info("write permission given to {} topics of broker {}, as asked by {}", count, name, caller.address);
  auto response = reply(request);
  response.ext.set("addTopicCount", count);
  return response;
}

}  // namespace apogee::nameserver
