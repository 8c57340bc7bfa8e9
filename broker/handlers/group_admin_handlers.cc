#include "broker/handlers/group_admin_handlers.h"

#include <set>
#include <utility>

#include "broker/handlers/request_fields.h"
#include "common/base/text.h"
#include "common/remoting/bodies/client_bodies.h"
#include "common/remoting/bodies/group_bodies.h"
#include "common/remoting/bodies/json_writer.h"
#include "common/remoting/bodies/kv_bodies.h"
#include "common/remoting/bodies/request_mode_bodies.h"

namespace apogee::broker {

namespace code = remoting::response_code;

remoting::SubscriptionData body_of(const Subscription& subscription) {
  remoting::SubscriptionData data;
  data.topic = subscription.topic;
  data.sub_string = subscription.expression;
  data.tags_set = subscription.tags;
  data.code_set = subscription.codes;
  data.sub_version = subscription.version;
  data.expression_type = subscription.expression_type;
  data.class_filter_mode = subscription.class_filter_mode;
  return data;
}

void GroupAdminHandlers::all_consumer_offset(const remoting::Caller& /*caller*/, remoting::Command request,
                                             remoting::Responder respond) {
  remoting::ConsumerOffsetSerializeWrapper wrapper;
  for (auto& entry : parts_.offsets.all())
    wrapper.offset_table[entry.topic + "@" + entry.group] = std::move(entry.offsets);
  accept(request, respond, encode(wrapper));
}

void GroupAdminHandlers::update_group(const remoting::Caller& caller, remoting::Command request,
                                      remoting::Responder respond) {
  auto config = remoting::decode_subscription_group_config(request.body.bytes);
  if (!config) return refuse_body(request, respond, "SubscriptionGroupConfig", config.error());
  const std::string name = config->group_name;
  if (Status status = parts_.groups.put(std::move(*config)); !status) return refuse(request, respond, status.error());
  parts_.logger.info("subscription group {} created or changed by {}", name, caller.address);
  accept(request, respond);
}

void GroupAdminHandlers::update_group_list(const remoting::Caller& caller, remoting::Command request,
                                           remoting::Responder respond) {
  auto list = remoting::decode_subscription_group_list(request.body.bytes);
  if (!list) return refuse_body(request, respond, "SubscriptionGroupList", list.error());
  const size_t count = list->group_config_list.size();
  if (Status status = parts_.groups.put_all(std::move(list->group_config_list)); !status)
    return refuse(request, respond, status.error());
  parts_.logger.info("{} subscription groups created or changed by {}", count, caller.address);
  accept(request, respond);
}

void GroupAdminHandlers::all_group_config(const remoting::Caller& /*caller*/, remoting::Command request,
                                          remoting::Responder respond) {
  remoting::SubscriptionGroupWrapper wrapper;
  wrapper.data_version = parts_.groups.version();
  wrapper.other_members = parts_.groups.other_members();
  const auto page = page_of(request, respond, "groupSeq", "maxGroupNum", wrapper.data_version);
  if (!page) return;
  const auto all = parts_.groups.all();
  for (size_t i = 0; i < all.size(); ++i)
    if (page->holds(i)) wrapper.subscription_group_table[all[i]->group_name] = *all[i];
  remoting::Command response = remoting::Command::response_to(request, code::kSuccess);
  response.ext.set("totalGroupNum", static_cast<int64_t>(all.size()));
  response.body = SharedBytes::from(encode(wrapper));
  respond(std::move(response));
}

namespace {

remoting::Connection connection_of(const ClientInfo& client) {
  remoting::Connection connection;
  connection.client_id = client.client_id;
  connection.client_addr = client.address;
  connection.language = remoting::to_string(client.language);
  connection.version = client.version;
  return connection;
}

}  // namespace

void GroupAdminHandlers::consumer_connections(const remoting::Caller& /*caller*/, remoting::Command request,
                                              remoting::Responder respond) {
  const auto name = required_text(request, respond, "consumerGroup");
  if (!name) return;
  auto group = parts_.consumers.find(*name);
  if (group == nullptr)
    return refuse(request, respond, code::kConsumerNotOnline, "the consumer group[" + *name + "] not online");
  remoting::ConsumerConnection body;
  body.consume_type = group->consume_type;
  body.message_model = group->message_model;
  body.consume_from_where = group->consume_from;
  for (const auto& member : group->members) body.connection_set.push_back(connection_of(member));
  for (const auto& [topic, subscription] : group->subscriptions)
    body.subscription_table[topic] = body_of(*subscription);
  accept(request, respond, encode(body));
}

void GroupAdminHandlers::producer_connections(const remoting::Caller& /*caller*/, remoting::Command request,
                                              remoting::Responder respond) {
  const auto name = required_text(request, respond, "producerGroup");
  if (!name) return;
  const auto members = parts_.producers.members(*name);
  if (members.empty())
    return refuse(request, respond, code::kSystemError, "the producer group[" + *name + "] not exist");
  remoting::ProducerConnection body;
  for (const auto& member : members) body.connection_set.push_back(connection_of(member));
  accept(request, respond, encode(body));
}

void GroupAdminHandlers::all_producers(const remoting::Caller& /*caller*/, remoting::Command request,
                                       remoting::Responder respond) {
  remoting::ProducerTableInfo body;
  for (const auto& [group, members] : parts_.producers.all()) {
    auto& infos = body.data[group];
    for (const auto& member : members) {
      remoting::ProducerInfo info;
      info.client_id = member.client_id;
      info.remote_ip = "/" + member.address;
      info.language = remoting::to_string(member.language);
      info.version = member.version;
      info.last_update_timestamp = member.last_update_ms;
      infos.push_back(std::move(info));
    }
  }
  accept(request, respond, encode(body));
}

void GroupAdminHandlers::delete_group(const remoting::Caller& caller, remoting::Command request,
                                      remoting::Responder respond) {
  RequestFields fields(request);
  const std::string group = fields.text("groupName");
  const bool with_offsets = fields.boolean_or("removeOffset", false) || fields.boolean_or("cleanOffset", false);
  if (!fields.ok()) return refuse(request, respond, fields);
  if (Status status = parts_.groups.remove(group); !status && status.error().code != Errc::kNotFound)
    return refuse(request, respond, status.error());
  parts_.locks.remove_group(group);
  parts_.stats.remove_group(group);
  if (with_offsets) {
    parts_.offsets.remove_group(group);
    if (Status status = parts_.offsets.flush(true); !status) return refuse(request, respond, status.error());
  }
  parts_.logger.info("subscription group {} deleted by {}", group, caller.address);
  accept(request, respond);
}

void GroupAdminHandlers::group_config(const remoting::Caller& /*caller*/, remoting::Command request,
                                      remoting::Responder respond) {
  const auto name = required_text(request, respond, "group");
  if (!name) return;
  auto config = parts_.groups.find(*name);
  if (config == nullptr)
    return refuse(request, respond, code::kSubscriptionGroupNotExist, "No group in this broker. group: " + *name);
  accept(request, respond, encode(*config));
}

void GroupAdminHandlers::consumed_by(const remoting::Caller& /*caller*/, remoting::Command request,
                                     remoting::Responder respond) {
  const auto topic = required_text(request, respond, "topic");
  if (!topic) return;
  std::set<std::string> groups;
  for (auto& group : parts_.consumers.groups_of_topic(*topic)) groups.insert(std::move(group));
  for (auto& group : parts_.offsets.groups_of_topic(*topic)) groups.insert(std::move(group));
  accept(request, respond, encode(remoting::GroupList{{groups.begin(), groups.end()}}));
}

void GroupAdminHandlers::clone_offsets(const remoting::Caller& caller, remoting::Command request,
                                       remoting::Responder respond) {
  RequestFields fields(request);
  const std::string source = fields.text("srcGroup");
  const std::string destination = fields.text("destGroup");
  const std::string only_topic = fields.text_or("topic", "");
  const bool offline = fields.boolean_or("offline", false);
  if (!fields.ok()) return refuse(request, respond, fields);

  std::vector<std::string> topics;
  if (only_topic.empty()) {
    topics = parts_.offsets.topics_of_group(source);
  } else {
    topics.push_back(only_topic);
  }
  auto online = parts_.consumers.find(source);
  size_t copied = 0;
  for (const auto& topic : topics) {
    if (parts_.topics.find(topic) == nullptr) continue;
    // A topic that the group has left is cloned only on request.
    if (!offline && online != nullptr && online->subscription(topic) == nullptr) continue;
    copied += parts_.offsets.clone(source, destination, topic);
  }
  if (Status status = parts_.offsets.flush(true); !status) return refuse(request, respond, status.error());
  parts_.logger.info("{} offsets of group {} cloned to {} by {}", copied, source, destination, caller.address);
  accept(request, respond);
}

void GroupAdminHandlers::topics_by_consumer(const remoting::Caller& /*caller*/, remoting::Command request,
                                            remoting::Responder respond) {
  const auto group = required_text(request, respond, "group");
  if (!group) return;
  remoting::TopicList list;
  list.topic_list = parts_.offsets.topics_of_group(*group);
  list.broker_addr = parts_.identity.address;
  accept(request, respond, encode(list));
}

void GroupAdminHandlers::subscription_by_consumer(const remoting::Caller& /*caller*/, remoting::Command request,
                                                  remoting::Responder respond) {
  RequestFields fields(request);
  const std::string name = fields.text("group");
  const std::string topic = fields.text_or("topic", "");
  if (!fields.ok()) return refuse(request, respond, fields);
  auto group = parts_.consumers.find(name);
  std::shared_ptr<const Subscription> subscription = group == nullptr ? nullptr : group->subscription(topic);
  remoting::JsonWriter body;
  body.begin_object().member("group", name);
  if (subscription != nullptr) body.key("subscriptionData").raw(encode(body_of(*subscription)));
  body.member("topic", topic).end_object();
  accept(request, respond, body.take());
}

void GroupAdminHandlers::set_request_mode(const remoting::Caller& /*caller*/, remoting::Command request,
                                          remoting::Responder respond) {
  auto body = remoting::decode_set_message_request_mode_body(request.body.bytes);
  if (!body) return refuse_body(request, respond, "SetMessageRequestModeRequestBody", body.error());
  if (is_retry_topic(body->topic))
    return refuse(request, respond, code::kNoPermission, "retry topic is not allowed to set mode");
  if (parts_.topics.find(body->topic) == nullptr)
    return refuse(request, respond, code::kTopicNotExist, "topic[" + body->topic + "] not exist");
  if (parts_.groups.find(body->consumer_group) == nullptr)
    return refuse(request, respond, code::kSubscriptionGroupNotExist, "group[" + body->consumer_group + "] not exist");
  if (body->mode != remoting::MessageRequestMode::kPull)
    return refuse(request, respond, code::kRequestCodeNotSupported,
                  "this broker has no POP consumption: the members of every group pull");
  accept(request, respond);
}

}  // namespace apogee::broker
