#include <utility>

#include "client/src/push_consumer_impl.h"
#include "client/src/received_message.h"
#include "common/message/property_names.h"

namespace apogee {

using remoting::Command;
using remoting::RequestCode;
namespace response_code = remoting::response_code;

bool PushConsumer::Impl::on_request(Command& request, const remoting::Responder& respond) {
  switch (request.request_code()) {
    case RequestCode::kResetConsumerClientOffset: reset_offsets(request); return true;
    case RequestCode::kGetConsumerStatusFromClient: consumer_status(request, respond); return true;
    case RequestCode::kGetConsumerRunningInfo: running_info(request, respond); return true;
    case RequestCode::kConsumeMessageDirectly: consume_directly(request, respond); return true;
    default: return false;
  }
}

bool PushConsumer::Impl::is_own_group(const Command& request, const char* field,
                                      const remoting::Responder& respond) const {
  const auto group = request.ext.get(field);
  if (group && *group == core_.group()) return true;
  respond(Command::response_to(
      request, response_code::kSystemError,
      std::string(field) + ": this client is no member of group \"" + std::string(group.value_or("")) + "\""));
  return false;
}

void PushConsumer::Impl::reset_offsets(const Command& request) {
  if (request.ext.get("group").value_or("") != core_.group()) return;
  auto body = remoting::decode_reset_offset_body(request.body.bytes);
  if (!body) {
    core_.logger().warn("reset of offsets: {}", body.error().message);
    return;
  }
  const auto topic = request.ext.get("topic");
  for (const auto& queue : queues()) {
    auto wanted = body->offset_table.find(queue->queue());
    if (wanted == body->offset_table.end() || queue->dropped()) continue;
    if (topic && *topic != queue->queue().topic) continue;
    core_.logger().info("offset of queue {} of {} is reset to {}", queue->queue().queue_id, queue->queue().topic,
                        wanted->second);
    drop_queue(queue, wanted->second);
  }
}

void PushConsumer::Impl::consumer_status(const Command& request, const remoting::Responder& respond) {
  if (!is_own_group(request, "group", respond)) return;
  const auto topic = request.ext.get("topic");
  remoting::GetConsumerStatusBody body;
  for (const auto& [queue, offset] : core_.offsets().all()) {
    if (!topic || *topic == queue.topic) body.message_queue_table[queue] = offset;
  }
  Command reply = Command::response_to(request, response_code::kSuccess);
  reply.body = SharedBytes::from(remoting::encode(body));
  respond(std::move(reply));
}

void PushConsumer::Impl::running_info(const Command& request, const remoting::Responder& respond) {
  if (!is_own_group(request, "consumerGroup", respond)) return;
  remoting::ConsumerRunningInfo info;
  info.properties["PROP_CONSUMEORDERLY"] = orderly_ ? "true" : "false";
  info.properties["PROP_CONSUME_TYPE"] = remoting::to_string(remoting::ConsumeType::kPassively);
  info.properties["PROP_CLIENT_VERSION"] = "V5_3_3";
  info.properties["PROP_CONSUMER_START_TIMESTAMP"] = std::to_string(started_ms_);
  info.properties["PROP_NAMESERVER_ADDR"] = core_.instance().name_servers_text();
  info.properties["PROP_THREADPOOL_CORE_SIZE"] = std::to_string(config_.consume_threads);
  for (const auto& subscription : core_.subscriptions()) info.subscription_set.push_back(*subscription);
  for (const auto& queue : queues()) {
    auto& of_queue = info.mq_table[queue->queue()];
    of_queue = queue->info();
    of_queue.commit_offset = core_.offsets().get(queue->queue()).value_or(-1);
  }
  info.status_table = counters_.status();
  Command reply = Command::response_to(request, response_code::kSuccess);
  reply.body = SharedBytes::from(remoting::encode(info));
  respond(std::move(reply));
}

void PushConsumer::Impl::consume_directly(const Command& request, const remoting::Responder& respond) {
  if (!is_own_group(request, "consumerGroup", respond)) return;
  auto message = decode_received_message(request.body, request.ext.get("brokerName").value_or(""));
  if (!message) {
    respond(Command::response_to(request, response_code::kSystemError, "body: " + message.error().message));
    return;
  }
  auto original = message->property(message::property::kRetryTopic);
  const std::string topic = original ? std::string(*original) : message->topic();
  *message = with_topic(*message, without_namespace(config_.name_space, topic));
  const bool submitted = pool_.submit([this, request, respond, message = std::move(*message)] {
    remoting::ConsumeMessageDirectlyResult body;
    body.order = orderly_;
    const int64_t started = steady_ms();
    try {
      if (orderly_) {
        OrderlyContext context;
        context.queue = message.queue();
        const auto result = orderly_listener_({message}, context);
        body.consume_result = result == OrderlyResult::kSuccess ? remoting::ConsumeDirectlyResultCode::kSuccess
                                                                : remoting::ConsumeDirectlyResultCode::kLater;
      } else {
        ConcurrentContext context;
        context.queue = message.queue();
        const auto result = concurrent_({message}, context);
        body.consume_result = result == ConsumeResult::kSuccess ? remoting::ConsumeDirectlyResultCode::kSuccess
                                                                : remoting::ConsumeDirectlyResultCode::kLater;
      }
    } catch (const std::exception& error) {
      body.consume_result = remoting::ConsumeDirectlyResultCode::kThrowException;
      body.remark = error.what();
    } catch (...) {
      body.consume_result = remoting::ConsumeDirectlyResultCode::kThrowException;
      body.remark = "an exception of an unknown type";
    }
    body.spent_time_mills = steady_ms() - started;
    Command reply = Command::response_to(request, response_code::kSuccess);
    reply.body = SharedBytes::from(remoting::encode(body));
    respond(std::move(reply));
  });
  if (!submitted) {
    respond(Command::response_to(request, response_code::kSystemError, "this client is shutting down"));
  }
}

}  // namespace apogee
