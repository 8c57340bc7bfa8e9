#include "apogee/producer.h"

#include <unistd.h>

#include <atomic>
#include <map>
#include <mutex>
#include <random>
#include <set>
#include <utility>

#include "client/src/client_instance.h"
#include "client/src/latency_faults.h"
#include "client/src/send_request.h"
#include "common/base/text.h"
#include "common/message/message_record.h"

namespace apogee {

using remoting::Command;

const char* to_string(SendStatus status) {
  switch (status) {
    case SendStatus::kOk: return "SEND_OK";
    case SendStatus::kFlushDiskTimeout: return "FLUSH_DISK_TIMEOUT";
    case SendStatus::kFlushSlaveTimeout: return "FLUSH_SLAVE_TIMEOUT";
    case SendStatus::kSlaveNotAvailable: return "SLAVE_NOT_AVAILABLE";
  }
  return "UNKNOWN";
}

namespace {

/// One send from its call to its result. Touched by the calling thread until the first attempt is under way, then on
/// the loop only.
struct Send {
  PreparedSend prepared;
  std::string topic;  ///< as the application named it
  SendOptions options;
  Message message;  ///< for a selector only
  SendCallback done;
  bool oneway = false;
  bool may_retry = true;
  int64_t deadline_ms = 0;  ///< steady
  int attempts = 0;
  std::string last_broker;
  std::atomic<bool> finished{false};
};
using SendPtr = std::shared_ptr<Send>;

Error closed() { return {Errc::kClosed, "the producer is not started, or is shut down"}; }

}  // namespace

class Producer::Impl {
 public:
  explicit Impl(ProducerConfig config) : config_(std::move(config)), instance_(config_, "apogee-producer") {}

  Status start();
  Status shutdown();
  void send(const Message* message, const std::vector<Message>* batch, SendOptions options, bool oneway,
            SendCallback done);
  Result<SendReceipt> send_and_wait(const Message* message, const std::vector<Message>* batch,
                                    const SendOptions& options);
  Status send_oneway(const Message& message, const SendOptions& options);
  Result<std::vector<MessageQueue>> queues(const std::string& topic);
  [[nodiscard]] const std::string& client_id() const { return instance_.client_id(); }

 private:
  void dispatch(const SendPtr& send);
  void attempt(const SendPtr& send, const TopicRoute& route);
  void on_reply(const SendPtr& send, const MessageQueue& queue, int64_t started_ms, Result<Command> reply);
  bool retry(const SendPtr& send, const Error& error);
  void finish(const SendPtr& send, Result<SendReceipt> result);
  Result<MessageQueue> choose(const SendPtr& send, const TopicRoute& route);
  uint32_t next_index(const std::string& topic);
  [[nodiscard]] std::vector<MessageQueue> named(const std::vector<MessageQueue>& queues) const;

  const ProducerConfig config_;
  std::string group_;
  LatencyFaults faults_;
  std::unique_ptr<message::UniqueIdGenerator> ids_;
  std::atomic<bool> running_{false};
  std::mutex state_mutex_;  // start and shutdown
  bool started_ = false;

  std::mutex mutex_;
  std::map<std::string, uint32_t> next_index_;   // guarded by mutex_
  std::set<SendPtr> outstanding_;                // guarded by mutex_
  std::mt19937 random_{std::random_device()()};  // guarded by mutex_

  ClientInstance instance_;
};

Status Producer::Impl::start() {
  std::lock_guard lock(state_mutex_);
  if (started_) return Error{Errc::kAlreadyExists, "the producer was started before"};
  if (config_.group.empty()) return Error{Errc::kInvalidArgument, "group: is not set"};
  APOGEE_TRY(check_group_name(config_.group));
  if (config_.retries < 0) return Error{Errc::kInvalidArgument, "retries: is negative"};
  if (config_.compress_level < 1 || config_.compress_level > 9) {
    return Error{Errc::kInvalidArgument, "compress_level: must be 1 to 9"};
  }
  group_ = with_namespace(config_.name_space, config_.group);
  ClientInstance::Hooks hooks;
  hooks.heartbeat = [this] {
    remoting::HeartbeatData data;
    data.producer_data_set.push_back({group_});
    return data;
  };
  APOGEE_TRY(instance_.start(std::move(hooks)));
  std::string ip = message::ip_bytes_of(instance_.client_ip());
  if (ip.empty()) ip = std::string("\x7f\0\0\x01", 4);
  ids_ = std::make_unique<message::UniqueIdGenerator>(ip, getpid(), static_cast<int32_t>(std::random_device()()));
  started_ = true;
  running_ = true;
  return {};
}

Status Producer::Impl::shutdown() {
  if (instance_.on_loop()) {
    return Error{Errc::kInvalidArgument, "shutdown() cannot be called in a callback of the producer"};
  }
  std::lock_guard lock(state_mutex_);
  running_ = false;
  instance_.shutdown(started_ ? group_ : "", "");
  std::set<SendPtr> left;
  {
    std::lock_guard guard(mutex_);
    left.swap(outstanding_);
  }
  for (const auto& send : left) finish(send, closed());
  return {};
}

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

void Producer::Impl::send(const Message* message, const std::vector<Message>* batch, SendOptions options, bool oneway,
                          SendCallback done) {
  if (!running_) return done(closed());
  auto send = std::make_shared<Send>();
  auto prepared = batch != nullptr ? prepare_batch(config_, *ids_, *batch, options.sharding_key)
                                   : prepare_send(config_, *ids_, *message, options.sharding_key);
  if (!prepared) return done(std::move(prepared).error());
  send->prepared = std::move(*prepared);
  const Message& first = batch != nullptr ? batch->front() : *message;
  send->topic = first.topic();
  if (options.selector) send->message = first;
  send->may_retry = options.queue.broker_name.empty() && options.sharding_key.empty() && !options.selector && !oneway;
  if (!options.queue.broker_name.empty() && options.queue.topic != first.topic()) {
    return done(Error{Errc::kInvalidArgument,
                      "queue: is one of topic " + options.queue.topic + ", the message's is " + first.topic()});
  }
  const auto timeout = options.timeout.count() > 0 ? options.timeout : config_.send_timeout;
  send->deadline_ms = steady_ms() + timeout.count();
  send->options = std::move(options);
  send->oneway = oneway;
  send->done = std::move(done);
  {
    std::lock_guard lock(mutex_);
    outstanding_.insert(send);
  }
  dispatch(send);
  if (!running_) finish(send, closed());  // shutdown may have looked before it was in the set
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
    faults_.update(queue.broker_name, now - started_ms, is_retryable(error.response_code), now);
    if (is_retryable(error.response_code) && retry(send, error)) return;
    return finish(send, std::move(error));
  }
  faults_.update(queue.broker_name, now - started_ms, false, now);
  if (receipt->status != SendStatus::kOk && config_.retry_another_broker_when_not_store_ok &&
      retry(send, Error{Errc::kBroker, to_string(receipt->status), reply->code})) {
    return;
  }
  finish(send, std::move(receipt));
}

bool Producer::Impl::retry(const SendPtr& send, const Error& error) {
  if (!running_ || !send->may_retry || send->attempts > config_.retries || send->deadline_ms <= steady_ms()) {
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

Result<SendReceipt> Producer::Impl::send_and_wait(const Message* message, const std::vector<Message>* batch,
                                                  const SendOptions& options) {
  if (instance_.on_loop()) {
    return Error{Errc::kInvalidArgument, "send() cannot be called in a callback of the producer; use send_async()"};
  }
  auto promise = std::make_shared<std::promise<Result<SendReceipt>>>();
  auto result = promise->get_future();
  send(message, batch, options, false,
       [promise](Result<SendReceipt> receipt) { promise->set_value(std::move(receipt)); });
  return result.get();
}

Status Producer::Impl::send_oneway(const Message& message, const SendOptions& options) {
  if (instance_.on_loop()) {
    send(&message, nullptr, options, true, [](const Result<SendReceipt>&) {});
    return {};
  }
  auto promise = std::make_shared<std::promise<Status>>();
  auto result = promise->get_future();
  send(&message, nullptr, options, true, [promise](Result<SendReceipt> receipt) {
    promise->set_value(receipt ? Status() : Status(std::move(receipt).error()));
  });
  return result.get();
}

Result<std::vector<MessageQueue>> Producer::Impl::queues(const std::string& topic) {
  if (!running_) return closed();
  if (instance_.on_loop()) {
    return Error{Errc::kInvalidArgument, "queues() cannot be called in a callback of the producer"};
  }
  APOGEE_TRY(check_topic_name(topic));
  const std::string full = with_namespace(config_.name_space, topic);
  if (auto known = instance_.route(full)) return named(known->write_queues);
  auto promise = std::make_shared<std::promise<Result<TopicRoutePtr>>>();
  auto result = promise->get_future();
  instance_.fetch_route(full, config_.default_topic_queues,
                        [promise](Result<TopicRoutePtr> found) { promise->set_value(std::move(found)); });
  // Longer than the look-up itself can take, in case that the client is shut down meanwhile.
  if (result.wait_for(config_.request_timeout * 2 + std::chrono::seconds(1)) != std::future_status::ready) {
    return Error{Errc::kTimeout, "route of topic " + topic};
  }
  APOGEE_TRY_ASSIGN(auto route, result.get());
  return named(route->write_queues);
}

Producer::Producer(ProducerConfig config) : impl_(std::make_unique<Impl>(std::move(config))) {}
Producer::~Producer() { impl_->shutdown().ignore("nothing is left to be told"); }
Status Producer::start() { return impl_->start(); }
Status Producer::shutdown() { return impl_->shutdown(); }
Result<SendReceipt> Producer::send(const Message& message, const SendOptions& options) {
  return impl_->send_and_wait(&message, nullptr, options);
}
void Producer::send_async(const Message& message, SendCallback done, const SendOptions& options) {
  impl_->send(&message, nullptr, options, false, std::move(done));
}
std::future<Result<SendReceipt>> Producer::send_future(const Message& message, const SendOptions& options) {
  auto promise = std::make_shared<std::promise<Result<SendReceipt>>>();
  auto result = promise->get_future();
  impl_->send(&message, nullptr, options, false,
              [promise](Result<SendReceipt> receipt) { promise->set_value(std::move(receipt)); });
  return result;
}
Status Producer::send_oneway(const Message& message, const SendOptions& options) {
  return impl_->send_oneway(message, options);
}
Result<SendReceipt> Producer::send_batch(const std::vector<Message>& messages, const SendOptions& options) {
  return impl_->send_and_wait(nullptr, &messages, options);
}
void Producer::send_batch_async(const std::vector<Message>& messages, SendCallback done, const SendOptions& options) {
  impl_->send(nullptr, &messages, options, false, std::move(done));
}
Result<std::vector<MessageQueue>> Producer::queues(const std::string& topic) { return impl_->queues(topic); }
std::string Producer::client_id() const { return impl_->client_id(); }

}  // namespace apogee
