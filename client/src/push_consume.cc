#include <algorithm>
#include <exception>
#include <utility>

#include "client/src/push_consumer_impl.h"
#include "client/src/received_message.h"
#include "client/src/send_request.h"
#include "common/base/text.h"
#include "common/message/properties.h"
#include "common/message/property_names.h"

namespace apogee {

using remoting::Command;
using remoting::RequestCode;
namespace property = message::property;
namespace response_code = remoting::response_code;

namespace {

constexpr int kRetriesDefault = 16;
constexpr std::chrono::milliseconds kSuspendMin{10};
constexpr std::chrono::milliseconds kSuspendMax{30'000};

int32_t trace_code(bool success, bool threw) {
  constexpr int32_t kException = 2, kFailed = 4;
  return success ? 0 : threw ? kException : kFailed;
}

}  // namespace

int32_t PushConsumer::Impl::max_reconsume_times() const {
  if (config_.max_reconsume_times >= 0) return config_.max_reconsume_times;
  return orderly_ ? INT32_MAX : kRetriesDefault;
}

void PushConsumer::Impl::submit_concurrent(const ProcessQueuePtr& queue, std::vector<ReceivedMessage> messages) {
  pool_.submit([this, queue, messages = std::move(messages)] { consume_concurrently(queue, messages); });
}

void PushConsumer::Impl::submit_orderly(const ProcessQueuePtr& queue) {
  pool_.submit([this, queue] { consume_orderly(queue); });
}

void PushConsumer::Impl::consume_concurrently(const ProcessQueuePtr& queue,
                                              const std::vector<ReceivedMessage>& messages) {
  if (queue->dropped()) return;
  ConcurrentContext context;
  context.queue = core_.named_queue(queue->queue());
  const int64_t begun = now_ms();
  queue->mark_started(messages, begun);
  queue->last_consume_ms = begun;
  ConsumeTrace trace(trace_.get(), core_.group(), messages);
  bool threw = true;
  ConsumeResult result = ConsumeResult::kLater;
  try {
    result = concurrent_(messages, context);
    threw = false;
  } catch (const std::exception& error) {
    core_.logger().error("listener threw: {}", error.what());
  } catch (...) {
    core_.logger().error("listener threw an exception");
  }
  trace.end(result == ConsumeResult::kSuccess, trace_code(result == ConsumeResult::kSuccess, threw));
  const auto total = static_cast<int64_t>(messages.size());
  int64_t done = 0;
  if (result == ConsumeResult::kSuccess) done = std::clamp<int64_t>(int64_t{context.ack_index} + 1, 0, total);
  counters_.consumed(queue->queue().topic, total, total - done, now_ms() - begun);

  std::vector<ReceivedMessage> finished(messages.begin(), messages.begin() + static_cast<std::ptrdiff_t>(done));
  std::vector<ReceivedMessage> again;
  for (auto message = messages.begin() + static_cast<std::ptrdiff_t>(done); message != messages.end(); ++message) {
    if (!core_.clustering()) {
      core_.logger().warn("message {} failed; broadcasting has no redelivery", message->msg_id());
      finished.push_back(*message);
    } else if (!queue->contains(*message) || send_back(*message, context.delay_level_when_later)) {
      finished.push_back(*message);
    } else {
      again.push_back(with_reconsume_times(*message, message->reconsume_times() + 1));
    }
  }
  if (queue->remove(finished, core_.offsets())) pull_soon(queue);
  if (again.empty()) return;
  core_.loop().post([this, queue, again = std::move(again)] {
    core_.loop().run_after(config_.retry_locally_delay, [this, queue, again] {
      if (!stopping_ && !queue->dropped()) submit_concurrent(queue, again);
    });
  });
}

Command PushConsumer::Impl::send_back_request(const ReceivedMessage& message, int delay_level) const {
  Command request = Command::request(RequestCode::kConsumerSendMsgBack);
  auto& ext = request.ext;
  ext.set("offset", message.physical_offset());
  ext.set("group", core_.group());
  ext.set("delayLevel", delay_level);
  ext.set("originMsgId", message.offset_msg_id());
  ext.set("originTopic", core_.wire_name(message.topic()));
  ext.set("unitMode", false);
  ext.set("maxReconsumeTimes", max_reconsume_times());
  ext.set("bname", message.queue().broker_name);
  return request;
}

bool PushConsumer::Impl::send_back(const ReceivedMessage& message, int delay_level) {
  if (is_inner_batch(message)) {  // of which the broker would send back the whole record
    const int32_t times = delay_level < 0 ? max_reconsume_times() : message.reconsume_times() + 1;
    return send_to_retry_topic(message, times, delay_level > 0 ? delay_level : 3 + message.reconsume_times());
  }
  auto address = core_.instance().request_address(message.queue().broker_name);
  if (!address) address = message.store_host();
  auto reply = core_.instance().rpc().call_and_wait(*address, send_back_request(message, delay_level),
                                                    config_.request_timeout.count());
  if (reply && reply->code == response_code::kSuccess) return true;
  core_.logger().warn("message {} could not be sent back: {}", message.msg_id(),
                      reply ? broker_error(*reply, "refused").message : reply.error().message);
  if (!reply && reply.error().code == Errc::kClosed) return false;
  return send_to_retry_topic(message, message.reconsume_times() + 1, 3 + message.reconsume_times());
}

bool PushConsumer::Impl::send_to_retry_topic(const ReceivedMessage& message, int32_t reconsume_times, int delay_level) {
  PreparedSend send;
  send.topic = retry_topic_of(core_.group());
  send.unique_id = message.msg_id();
  send.flag = message.flag();
  send.reconsume_times = reconsume_times;
  send.max_reconsume_times = max_reconsume_times();
  send.body = SharedBytes::from(std::string(message.body()));
  for (const auto& [name, value] : message.properties()) {
    if (name != property::kTransactionPrepared && name != property::kDelayLevel) {
      message::append_property(send.properties, name, value);
    }
  }
  if (!message.property(property::kRetryTopic)) {
    message::set_property(send.properties, property::kRetryTopic, core_.wire_name(message.topic()));
  }
  if (!message.property(property::kOriginMessageId)) {
    message::set_property(send.properties, property::kOriginMessageId, message.offset_msg_id());
  }
  if (delay_level > 0) {
    message::set_property(send.properties, property::kDelayLevel, std::to_string(delay_level));
  }
  MessageQueue target{send.topic, message.queue().broker_name, 0};
  const auto route = core_.instance().route(send.topic);
  if (route && !route->write_queues.empty()) {
    target = route->write_queues[static_cast<size_t>(message.physical_offset()) % route->write_queues.size()];
  }
  const auto address = core_.instance().request_address(target.broker_name);
  if (!address) return false;
  auto reply = core_.instance().rpc().call_and_wait(
      *address, make_send_request(send, "CLIENT_INNER_PRODUCER", target, 4), config_.request_timeout.count());
  if (!reply) {
    core_.logger().warn("message {} could not be sent to {}: {}", message.msg_id(), send.topic, reply.error().message);
    return false;
  }
  auto receipt = read_send_reply(*reply, send, target);
  if (!receipt) {
    core_.logger().warn("message {} could not be sent to {}: {}", message.msg_id(), send.topic,
                        receipt.error().message);
  }
  return receipt.has_value();
}

void PushConsumer::Impl::consume_orderly(const ProcessQueuePtr& queue) {
  const int64_t begun_ms = steady_ms();
  const auto batch = static_cast<size_t>(config_.consume_batch_max);
  for (;;) {
    std::unique_lock listener(queue->listener_mutex());
    if (stopping_ || queue->dropped()) return queue->leave();
    if (!lock_is_valid(*queue)) {
      queue->leave();
      listener.unlock();
      return begin_orderly_after(queue, config_.lock_retry_delay, true);
    }
    if (paused_ || steady_ms() - begun_ms > config_.continuous_consume_max.count()) {
      listener.unlock();
      return submit_orderly(queue);
    }
    const auto messages = queue->take(batch);
    if (messages.empty()) return;
    OrderlyContext context;
    context.queue = core_.named_queue(queue->queue());
    const int64_t started = now_ms();
    queue->last_consume_ms = started;
    ConsumeTrace trace(trace_.get(), core_.group(), messages);
    bool threw = true;
    OrderlyResult result = OrderlyResult::kSuspend;
    try {
      result = orderly_listener_(messages, context);
      threw = false;
    } catch (const std::exception& error) {
      core_.logger().error("listener threw: {}", error.what());
    } catch (...) {
      core_.logger().error("listener threw an exception");
    }
    const auto count = static_cast<int64_t>(messages.size());
    const bool success = result == OrderlyResult::kSuccess;
    trace.end(success, trace_code(success, threw));
    counters_.consumed(queue->queue().topic, count, success ? 0 : count, now_ms() - started);
    if (success) {
      if (queue->commit(core_.offsets())) pull_soon(queue);
    } else if (suspend_orderly(queue, messages, context.suspend_time)) {
      return;
    }
  }
}

/// Puts the messages back that are to be handed out again, and leaves the queue until then; false when all of them
/// went to the dead letters, so that the queue goes on.
bool PushConsumer::Impl::suspend_orderly(const ProcessQueuePtr& queue, const std::vector<ReceivedMessage>& messages,
                                         std::chrono::milliseconds suspend_time) {
  std::vector<ReceivedMessage> again;
  for (const auto& message : messages) {
    const bool beyond = message.reconsume_times() >= max_reconsume_times();
    if (beyond && !core_.clustering()) continue;
    if (beyond && send_to_retry_topic(message, message.reconsume_times() + 1, 0)) continue;
    const int32_t times = message.reconsume_times();
    again.push_back(with_reconsume_times(message, times == INT32_MAX ? times : times + 1));
  }
  if (again.empty()) {
    if (queue->commit(core_.offsets())) pull_soon(queue);
    return false;
  }
  queue->put_back(again);
  queue->leave();
  if (suspend_time.count() == 0) suspend_time = config_.suspend_time;
  begin_orderly_after(queue, std::clamp(suspend_time, kSuspendMin, kSuspendMax), false);
  return true;
}

void PushConsumer::Impl::begin_orderly_after(const ProcessQueuePtr& queue, std::chrono::milliseconds delay,
                                             bool lock_first) {
  core_.loop().post([this, queue, delay, lock_first] {
    core_.loop().run_after(delay, [this, queue, lock_first] {
      if (stopping_ || queue->dropped()) return;
      auto begin = [this, queue] {
        if (!stopping_ && queue->begin_again()) submit_orderly(queue);
      };
      if (lock_first && !lock_is_valid(*queue)) return lock_queues({queue}, begin);
      begin();
    });
  });
}

}  // namespace apogee
