#include <algorithm>
#include <utility>

#include "client/src/message_access.h"
#include "client/src/producer_impl.h"
#include "common/base/text.h"
#include "common/message/property_names.h"
#include "common/message/recall_handle.h"
#include "common/message/sys_flag.h"

namespace apogee {

using remoting::Command;

uint32_t Producer::Impl::next_index(const std::string& topic) {
  std::lock_guard lock(mutex_);
  auto [entry, fresh] = next_index_.try_emplace(topic, 0);
  if (fresh) entry->second = random_();
  return entry->second++;
}

std::vector<MessageQueue> Producer::Impl::named(const std::vector<MessageQueue>& queues) const {
  auto copy = queues;
  if (!config_.name_space.empty()) {
    for (auto& queue : copy) queue.topic = without_namespace(config_.name_space, queue.topic);
  }
  return copy;
}

Result<MessageQueue> Producer::Impl::choose(const SendPtr& send, const TopicRoute& route) {
  if (!send->options.queue.broker_name.empty()) return send->options.queue;
  const auto& queues = route.write_queues;
  if (queues.empty()) {
    return Error{Errc::kNotFound, "topic " + send->topic + ": no queue can be written to",
                 remoting::response_code::kTopicNotExist};
  }
  if (!send->options.sharding_key.empty()) {
    return queues[queue_index_of_key(send->options.sharding_key, queues.size())];
  }
  if (send->options.selector) {
    size_t index = queues.size();
    try {
      index = send->options.selector(named(queues), send->message);
    } catch (...) {
      return Error{Errc::kInvalidArgument, "selector: it threw an exception"};
    }
    if (index >= queues.size()) {
      return Error{Errc::kInvalidArgument,
                   "selector: index " + std::to_string(index) + " of " + std::to_string(queues.size()) + " queues"};
    }
    return queues[index];
  }
  if (send->attempts == 0 && !send->preferred_broker.empty()) {
    for (const auto& queue : queues) {
      if (queue.broker_name == send->preferred_broker) return queue;
    }
  }
  const int64_t now = steady_ms();
  const MessageQueue* other_broker = nullptr;
  for (size_t i = 0; i < queues.size(); ++i) {
    const auto& queue = queues[next_index(send->prepared.topic) % queues.size()];
    if (queue.broker_name == send->last_broker) continue;
    if (other_broker == nullptr) other_broker = &queue;
    if (!config_.latency_fault_avoidance || faults_.is_available(queue.broker_name, now)) return queue;
  }
  if (config_.latency_fault_avoidance) {
    std::vector<std::string> brokers;
    for (const auto& queue : queues) {
      if (queue.broker_name != send->last_broker) brokers.push_back(queue.broker_name);
    }
    const std::string least_bad = faults_.least_bad(brokers);
    for (size_t i = 0; i < queues.size() && !least_bad.empty(); ++i) {
      const auto& queue = queues[next_index(send->prepared.topic) % queues.size()];
      if (queue.broker_name == least_bad) return queue;
    }
  }
  if (other_broker != nullptr) return *other_broker;
  return queues[next_index(send->prepared.topic) % queues.size()];
}

void Producer::Impl::send(const Message& message, SendOptions options, bool oneway, SendCallback done) {
  if (!running_) return done(producer_closed());
  auto prepared = prepare_send(config_, *ids_, message, options.sharding_key);
  if (!prepared) return done(std::move(prepared).error());
  submit(std::move(*prepared), message, std::move(options), oneway, std::move(done));
}

Status Producer::Impl::cancel_timer(const SendReceipt& receipt) {
  if (receipt.deliver_at_ms <= 0 || receipt.msg_id.empty() || receipt.queue.broker_name.empty()) {
    return Error{Errc::kInvalidArgument, "receipt: it is not that of a message with an instant"};
  }
  Message cancellation(receipt.queue.topic, "-");
  cancellation.set_deliver_at(receipt.deliver_at_ms);
  MessageAccess::set_system_property(cancellation, std::string(message::property::kTimerDeleteUniqueKey),
                                     with_namespace(config_.name_space, receipt.queue.topic) + "+" + receipt.msg_id);
  APOGEE_TRY(wait_for("cancel_timer", [&](SendCallback done) {
    send(cancellation, SendOptions::to(receipt.queue), false, std::move(done));
  }));
  return {};
}

Result<std::string> Producer::Impl::recall(const std::string& topic, const std::string& handle) {
  APOGEE_TRY_ASSIGN(const auto wanted, message::decode_recall_handle(handle));
  const std::string full = with_namespace(config_.name_space, topic);
  if (wanted.topic != full) return Error{Errc::kInvalidArgument, "recall handle: it is not of topic " + topic};
  APOGEE_TRY(queues(topic));  // so that the brokers of the topic are known
  const auto address = instance_.request_address(wanted.broker_name);
  if (!address) return Error{Errc::kNotFound, "broker " + wanted.broker_name + ": no master is known"};
  Command request = Command::request(remoting::RequestCode::kRecallMessage);
  request.ext.set("producerGroup", group_);
  request.ext.set("topic", full);
  request.ext.set("recallHandle", handle);
  request.ext.set("bname", wanted.broker_name);
  auto promise = std::make_shared<std::promise<Result<Command>>>();
  auto result = promise->get_future();
  instance_.call(*address, std::move(request), config_.send_timeout.count(),
                 [promise](Result<Command> reply) { promise->set_value(std::move(reply)); });
  APOGEE_TRY_ASSIGN(const auto reply, result.get());
  if (reply.code != remoting::response_code::kSuccess) return broker_error(reply, "recall");
  return std::string(reply.ext.get("msgId").value_or(""));
}

std::chrono::milliseconds Producer::Impl::timeout_of(const SendOptions& options) const {
  return options.timeout.count() > 0 ? options.timeout : config_.send_timeout;
}

void Producer::Impl::submit(PreparedSend prepared, const Message& first, SendOptions options, bool oneway,
                            SendCallback done) {
  if (!options.queue.broker_name.empty() && options.queue.topic != first.topic()) {
    return done(Error{Errc::kInvalidArgument,
                      "queue: is one of topic " + options.queue.topic + ", the message's is " + first.topic()});
  }
  if (trace_ && !prepared.traces.empty()) done = traced(std::move(prepared.traces), std::move(done));
  const auto messages = static_cast<int64_t>(prepared.messages);
  auto send = std::make_shared<Send>();
  send->prepared = std::move(prepared);
  send->topic = first.topic();
  if (options.selector) send->message = first;
  send->wait_store_ok = first.wait_store_ok();
  send->preferred_broker = MessageAccess::preferred_broker(first);
  send->may_retry = options.queue.broker_name.empty() && options.sharding_key.empty() && !options.selector && !oneway;
  send->deadline_ms = steady_ms() + timeout_of(options).count();
  send->options = std::move(options);
  send->oneway = oneway;
  send->done = std::move(done);
  if (!register_send(send)) return;
  const auto admitted = rate_.admit(messages, steady_us(), send->deadline_ms * 1000, [this, send] {
    if (!send->finished) gather_or_dispatch(send);
  });
  if (!admitted) return finish(send, admitted.error());
  if (*admitted) gather_or_dispatch(send);
  if (!running_) finish(send, producer_closed());  // shutdown may have looked before it was handed on
}

// As in Java, a send without an answer is not traced.
SendCallback Producer::Impl::traced(std::vector<TraceRecord> records, SendCallback done) {
  return [this, begun_ms = now_ms(), records = std::move(records),
          done = std::move(done)](Result<SendReceipt> receipt) mutable {
    if (receipt && receipt->trace_on) {
      const int64_t cost_ms = now_ms() - begun_ms;
      const auto places = split(receipt->offset_msg_id, ",");
      const auto address = instance_.broker_address(receipt->queue.broker_name);
      for (size_t i = 0; i < records.size(); ++i) {
        auto& record = records[i];
        record.time_ms = begun_ms;
        record.region = receipt->region_id;
        record.group = config_.group;
        record.store_host = address.value_or("");
        record.cost_ms = cost_ms;
        record.offset_msg_id = i < places.size() ? std::string(places[i]) : std::string();
        record.success = receipt->status == SendStatus::kOk;
      }
      trace_->add(std::move(records));
    }
    done(std::move(receipt));
  };
}

// False: the producer is shut down, and the send is answered.
bool Producer::Impl::register_send(const SendPtr& send) {
  {
    std::lock_guard lock(mutex_);
    outstanding_.insert(send);
  }
  if (running_) return true;
  finish(send, producer_closed());
  return false;
}

void Producer::Impl::dispatch(const SendPtr& send) {
  auto route = instance_.route(send->prepared.topic);
  if (route) return attempt(send, *route);
  // The answer of the look-up may come after this send's deadline.
  instance_.loop().post([this, send] {
    const int64_t left = std::max<int64_t>(1, send->deadline_ms - steady_ms());
    instance_.loop().run_after(loop::Milliseconds(left), [this, weak = std::weak_ptr<Send>(send)] {
      auto waiting = weak.lock();
      if (waiting && waiting->attempts == 0) {
        finish(waiting, Error{Errc::kTimeout, "send: no route for topic " + waiting->topic + " in time"});
      }
    });
  });
  instance_.fetch_route(send->prepared.topic, config_.default_topic_queues, [this, send](Result<TopicRoutePtr> found) {
    if (send->finished) return;
    if (!found) return finish(send, std::move(found).error());
    attempt(send, **found);
  });
}

void Producer::Impl::attempt(const SendPtr& send, const TopicRoute& route) {
  auto queue = choose(send, route);
  if (!queue) return finish(send, std::move(queue).error());
  const auto address = instance_.request_address(queue->broker_name);
  if (!address) {
    return finish(send, Error{Errc::kNotFound, "broker " + queue->broker_name + ": no master is known"});
  }
  const int64_t now = steady_ms();
  int64_t timeout = send->deadline_ms - now;
  if (timeout <= 0) return finish(send, Error{Errc::kTimeout, "send: no time left"});
  if (config_.attempt_timeout.count() > 0) timeout = std::min<int64_t>(timeout, config_.attempt_timeout.count());
  ++send->attempts;
  send->last_broker = queue->broker_name;
  auto request = make_send_request(send->prepared, group_, *queue, config_.default_topic_queues);
  if (send->oneway) {
    instance_.rpc().send_oneway(*address, std::move(request), [this, send, target = *queue](Status written) {
      if (!written) return finish(send, std::move(written).error());
      SendReceipt receipt;
      receipt.msg_id = send->prepared.unique_id;
      receipt.queue = target;
      finish(send, std::move(receipt));
    });
    return;
  }
  instance_.rpc().call(*address, std::move(request), timeout,
                       [this, send, target = std::move(*queue), now](Result<Command> reply) {
                         on_reply(send, target, now, std::move(reply));
                       });
}

void Producer::Impl::on_reply(const SendPtr& send, const MessageQueue& queue, int64_t started_ms,
                              Result<Command> reply) {
  const int64_t now = steady_ms();
  if (send->finished) return;
  if (!reply) {
    faults_.update(queue.broker_name, now - started_ms, reply.error().code != Errc::kClosed, now);
    Error error = std::move(reply).error();
    error.message = "send to " + queue.broker_name + ": " + error.message;
    if (error.code == Errc::kNetwork)
      instance_.fetch_route(send->prepared.topic, config_.default_topic_queues, nullptr);
    if (error.code != Errc::kClosed && retry(send, error)) return;
    return finish(send, std::move(error));
  }
  MessageQueue named = queue;
  named.topic = send->topic;
  auto receipt = read_send_reply(*reply, send->prepared, named);
  if (!receipt) {
    Error error = std::move(receipt).error();
    if (error.response_code == remoting::response_code::kFlowControl && send_later(send)) return;
    faults_.update(queue.broker_name, now - started_ms, is_retryable(error.response_code), now);
    // A broker that could not reach the requester has said so; the reply may be stored by now.
    if (!send->prepared.reply && is_retryable(error.response_code) && retry(send, error)) return;
    return finish(send, std::move(error));
  }
  faults_.update(queue.broker_name, now - started_ms, false, now);
  if (receipt->status != SendStatus::kOk && config_.retry_another_broker_when_not_store_ok &&
      retry(send, Error{Errc::kBroker, to_string(receipt->status), reply->code})) {
    return;
  }
  finish(send, std::move(receipt));
}

// The broker has a limit and has stored nothing: the same again after a while, as long as there is time.
bool Producer::Impl::send_later(const SendPtr& send) {
  constexpr std::chrono::milliseconds kFlowControlDelay{50};
  if (!running_ || steady_ms() + kFlowControlDelay.count() >= send->deadline_ms) return false;
  ++send->postponed;
  instance_.loop().run_after(kFlowControlDelay, [this, send] {
    if (send->finished) return;
    auto route = instance_.route(send->prepared.topic);
    if (!running_ || !route) return finish(send, Error{Errc::kNotFound, "send: no route for topic " + send->topic});
    attempt(send, *route);
  });
  return true;
}

bool Producer::Impl::retry(const SendPtr& send, const Error& error) {
  if (!running_ || !send->may_retry || send->attempts - send->postponed > config_.retries ||
      send->deadline_ms <= steady_ms()) {
    return false;
  }
  // A second half message of the same transaction would be decided as the first one is, and delivered besides it.
  if ((send->prepared.sys_flag & message::sys_flag::kTransactionPrepared) != 0 && error.code != Errc::kBroker) {
    return false;
  }
  // An attempt that may take all the time has taken it, whatever the two clocks say.
  if (error.code == Errc::kTimeout && config_.attempt_timeout.count() == 0) return false;
  auto route = instance_.route(send->prepared.topic);
  if (!route) return false;
  instance_.logger().info("message {} is sent again after: {}", send->prepared.unique_id, error.message);
  attempt(send, *route);
  return true;
}

void Producer::Impl::finish(const SendPtr& send, Result<SendReceipt> result) {
  if (send->finished.exchange(true)) return;
  {
    std::lock_guard lock(mutex_);
    outstanding_.erase(send);
  }
  if (send->done) {
    auto done = std::move(send->done);
    done(std::move(result));
  }
}

}  // namespace apogee
