#include "broker/handlers/client_handlers.h"

#include <atomic>
#include <memory>
#include <optional>
#include <utility>

#include "broker/handlers/request_fields.h"
#include "common/base/text.h"
#include "common/remoting/bodies/client_bodies.h"

namespace apogee::broker {

namespace code = remoting::response_code;

namespace {

constexpr int32_t kUnitSubscriptionFlag = 2;  // topicSysFlag: has subscribers in units

Subscription subscription_of(const remoting::SubscriptionData& data) {
  Subscription subscription;
  subscription.topic = data.topic;
  subscription.expression = data.sub_string;
  subscription.expression_type = data.expression_type.empty() ? "TAG" : data.expression_type;
  subscription.class_filter_mode = data.class_filter_mode;
  subscription.tags = data.tags_set;
  subscription.codes = data.code_set;
  subscription.version = data.sub_version;
  return subscription;
}

}  // namespace

std::optional<ClientHandlers::RetryTopic> ClientHandlers::register_consumer(const ClientInfo& client,
                                                                            const remoting::ConsumerData& data,
                                                                            bool without_subscriptions) {
  auto config = parts_.groups.find_or_create(data.group_name);
  if (config == nullptr) {
    parts_.logger.warn("heartbeat of {} at {}: group {} does not exist and may not be created", client.client_id,
                       client.address, data.group_name);
    return std::nullopt;
  }
  ConsumerRegistration registration;
  registration.group = data.group_name;
  registration.consume_type = data.consume_type;
  registration.message_model = data.message_model;
  registration.consume_from = data.consume_from_where;
  for (const auto& subscription : data.subscription_data_set)
    registration.subscriptions.push_back(subscription_of(subscription));
  if (auto known = without_subscriptions ? parts_.consumers.find(data.group_name) : nullptr)
    for (const auto& [topic, subscription] : known->subscriptions) registration.subscriptions.push_back(*subscription);
  parts_.filters.register_group(data.group_name, registration.subscriptions);
  if (parts_.consumers.register_consumer(client, registration))
    parts_.logger.info("group {}: consumer {} at {} joined or changed its subscriptions", data.group_name,
                       client.client_id, client.address);
  std::string retry_topic = retry_topic_of(data.group_name);
  if (config->retry_queue_nums <= 0 || parts_.topics.find(retry_topic) != nullptr) return std::nullopt;
  return RetryTopic{std::move(retry_topic), config->retry_queue_nums, data.unit_mode ? kUnitSubscriptionFlag : 0};
}

void ClientHandlers::heartbeat(const remoting::Caller& caller, remoting::Command request, remoting::Responder respond) {
  auto body = remoting::decode_heartbeat_data(request.body.bytes);
  if (!body) return refuse_body(request, respond, "HeartbeatData", body.error());
  if (body->client_id.empty())
    return refuse(request, respond, code::kInvalidParameter, "the body's clientID is missing or blank");
  for (const auto& consumer : body->consumer_data_set) {
    if (Status status = check_group_name(consumer.group_name); !status)
      return refuse(request, respond, code::kInvalidParameter,
                    "the body's groupName in consumerDataSet: " + status.error().message);
    for (const auto& subscription : consumer.subscription_data_set)
      if (subscription.topic.empty())
        return refuse(request, respond, code::kInvalidParameter,
                      "the body's topic in subscriptionDataSet is missing or blank");
  }
  const ClientInfo client = client_info(caller, request, body->client_id, parts_.now_ms());
  std::vector<RetryTopic> retry_topics;
  for (const auto& consumer : body->consumer_data_set)
    if (auto topic = register_consumer(client, consumer, body->without_sub)) retry_topics.push_back(std::move(*topic));
  for (const auto& producer : body->producer_data_set)
    if (!producer.group_name.empty()) parts_.producers.register_producer(producer.group_name, client);
  if (retry_topics.empty()) return accept(request, respond);

  // The client goes on to pull its retry topic, so that the answer waits until all are there.
  auto missing = std::make_shared<std::atomic<size_t>>(retry_topics.size());
  for (const auto& topic : retry_topics)
    parts_.topics.create_group_topic(
        topic.name, topic.queue_nums, topic.sys_flag,
        [missing, request, respond, name = topic.name, logger = &parts_.logger](Status status) {
          if (!status) logger->warn("retry topic {}: {}", name, status.error().message);
          if (missing->fetch_sub(1) == 1) accept(request, respond);
        });
}

void ClientHandlers::unregister_client(const remoting::Caller& caller, remoting::Command request,
                                       remoting::Responder respond) {
  RequestFields fields(request);
  const std::string client_id = fields.text("clientID");
  const std::string producer_group = fields.text_or("producerGroup", "");
  const std::string consumer_group = fields.text_or("consumerGroup", "");
  if (!fields.ok()) return refuse(request, respond, fields);
  if (!producer_group.empty()) parts_.producers.unregister(producer_group, caller.connection);
  if (!consumer_group.empty()) {
    parts_.consumers.unregister(consumer_group, caller.connection);
    parts_.logger.info("group {}: consumer {} at {} left", consumer_group, client_id, caller.address);
  }
  accept(request, respond);
}

void ClientHandlers::consumer_list(const remoting::Caller& /*caller*/, remoting::Command request,
                                   remoting::Responder respond) {
  const auto name = required_text(request, respond, "consumerGroup");
  if (!name) return;
  auto group = parts_.consumers.find(*name);
  if (group == nullptr) return refuse(request, respond, code::kSystemError, "no consumer for this group, " + *name);
  accept(request, respond, encode(remoting::GetConsumerList{group->client_ids()}));
}

namespace {

// The error that a lock request's body deserves besides not being JSON; empty: none.
std::string wrong_in(const remoting::LockBatchRequest& body) {
  if (body.consumer_group.empty()) return "the body's consumerGroup is missing or blank";
  if (body.client_id.empty()) return "the body's clientId is missing or blank";
  for (const auto& queue : body.mq_set) {
    if (queue.topic.empty()) return "the body's topic in mqSet is missing or blank";
    if (queue.queue_id < 0) return "the body's queueId in mqSet is negative";
  }
  return {};
}

// The body of a request to lock or unlock; nullopt after the request was refused.
std::optional<remoting::LockBatchRequest> lock_body(const remoting::Command& request,
                                                    const remoting::Responder& respond, const char* what) {
  auto body = remoting::decode_lock_batch_request(request.body.bytes);
  if (!body) {
    refuse_body(request, respond, what, body.error());
    return std::nullopt;
  }
  auto wrong = wrong_in(*body);
  if (wrong.empty()) return std::move(*body);
  refuse(request, respond, code::kInvalidParameter, std::move(wrong));
  return std::nullopt;
}

}  // namespace

void ClientHandlers::lock_batch(const remoting::Caller& /*caller*/, remoting::Command request,
                                remoting::Responder respond) {
  const auto body = lock_body(request, respond, "LockBatchRequestBody");
  if (!body) return;
  remoting::LockBatchResponse granted;
  granted.lock_ok_mq_set = parts_.locks.lock(body->consumer_group, body->client_id, body->mq_set);
  after_save([request = std::move(request), respond = std::move(respond), body = encode(granted)]() mutable {
    accept(request, respond, std::move(body));
  });
}

void ClientHandlers::unlock_batch(const remoting::Caller& /*caller*/, remoting::Command request,
                                  remoting::Responder respond) {
  const auto body = lock_body(request, respond, "UnlockBatchRequestBody");
  if (!body) return;
  parts_.locks.unlock(body->consumer_group, body->client_id, body->mq_set);
  after_save([request = std::move(request), respond = std::move(respond)] { accept(request, respond); });
}

// The locks change on the loop, in the order of the requests; what changed is saved elsewhere before it is answered.
void ClientHandlers::after_save(std::function<void()> answer) {
  if (!parts_.locks.changed()) return answer();
  auto save = [this, shared = std::make_shared<std::function<void()>>(std::move(answer))] {
    if (auto saved = parts_.locks.save_if_changed(); !saved)
      parts_.logger.error("queue locks are not saved, a restart would forget them: {}", saved.error().message);
    (*shared)();
  };
  if (!parts_.readers || !parts_.readers(save)) save();
}

void ClientHandlers::check_client_config(const remoting::Caller& /*caller*/, remoting::Command request,
                                         remoting::Responder respond) {
  auto body = remoting::decode_check_client_request(request.body.bytes);
  if (!body) return refuse_body(request, respond, "CheckClientRequestBody", body.error());
  const std::string& type = body->subscription_data.expression_type;
  if (is_tag_type(type)) return accept(request, respond);
  if (!parts_.filters.enabled())
    return refuse(request, respond, code::kSystemError,
                  "The broker does not support consumer to filter message by " + type);
  auto compiled = parts_.filters.compile(type, body->subscription_data.sub_string);
  if (!compiled) return refuse(request, respond, code::kSubscriptionParseFailed, compiled.error().message);
  accept(request, respond);
}

}  // namespace apogee::broker
