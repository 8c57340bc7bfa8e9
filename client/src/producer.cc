#include "apogee/producer.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <utility>

#include "client/src/producer_impl.h"
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

Error producer_closed() { return {Errc::kClosed, "the producer is not started, or is shut down"}; }

namespace {

constexpr double kBurstSeconds = 0.1;

PublishRate::Options rate_options(const ProducerConfig& config) {
  PublishRate::Options options;
  options.per_second = config.publish_rate_max;
  options.burst = config.publish_burst > 0
                      ? config.publish_burst
                      : std::max<int64_t>(1, std::llround(config.publish_rate_max * kBurstSeconds));
  options.waiting_max = static_cast<size_t>(std::max(0, config.publish_waiting_max));
  return options;
}

SendBatches::Options batch_options(const ProducerConfig& config) {
  SendBatches::Options options;
  options.linger_ms = config.batch_linger.count();
  options.bytes_max = std::min(config.batch_bytes_max, config.message_bytes_max);
  options.messages_max = static_cast<size_t>(std::max(1, config.batch_messages_max));
  return options;
}

}  // namespace

Producer::Impl::Impl(ProducerConfig config)
    : config_(std::move(config)),
      instance_(config_, "apogee-producer"),
      rate_(rate_options(config_), instance_.loop()),
      batches_(batch_options(config_), instance_.loop(),
               [this](SendBatches::Batch batch) { send_gathered(std::move(batch)); }) {}

Status Producer::Impl::start() {
  std::lock_guard lock(state_mutex_);
  if (started_) return Error{Errc::kAlreadyExists, "the producer was started before"};
  if (config_.group.empty()) return Error{Errc::kInvalidArgument, "group: is not set"};
  APOGEE_TRY(check_group_name(config_.group));
  if (config_.retries < 0) return Error{Errc::kInvalidArgument, "retries: is negative"};
  if (config_.compress_level < 1 || config_.compress_level > 9) {
    return Error{Errc::kInvalidArgument, "compress_level: must be 1 to 9"};
  }
  if (!(config_.publish_rate_max >= 0 && config_.publish_rate_max <= 1e9) || config_.publish_burst < 0) {
    return Error{Errc::kInvalidArgument, "publish_rate_max: must be 0 to 1e9, and publish_burst not negative"};
  }
  if (config_.auto_batch &&
      (config_.batch_linger.count() < 0 || config_.batch_bytes_max == 0 || config_.batch_messages_max < 1)) {
    return Error{Errc::kInvalidArgument, "batch_linger, batch_bytes_max, batch_messages_max: not negative, above 0"};
  }
  group_ = with_namespace(config_.name_space, config_.group);
  ClientInstance::Hooks hooks;
  hooks.heartbeat = [this] {
    remoting::HeartbeatData data;
    data.producer_data_set.push_back({group_});
    return data;
  };
  hooks.request = [this](Command& request, const remoting::Responder& respond) { return on_request(request, respond); };
  APOGEE_TRY(instance_.start(std::move(hooks)));
  if (config_.enable_trace) {
    trace_ = std::make_unique<TraceWriter>(config_, config_.group, config_.trace_topic);
    APOGEE_TRY(trace_->start());
  }
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
  batches_.close(producer_closed());
  instance_.shutdown(started_ ? group_ : "", "");
  std::set<SendPtr> left;
  {
    std::lock_guard guard(mutex_);
    left.swap(outstanding_);
  }
  for (const auto& send : left) finish(send, producer_closed());
  requests_.finish_all(producer_closed());
  if (trace_) trace_->stop();
  return {};
}

Result<SendReceipt> Producer::Impl::wait_for(const char* method, const std::function<void(SendCallback)>& start) {
  if (instance_.on_loop()) {
    return Error{Errc::kInvalidArgument,
                 std::string(method) + "() cannot be called in a callback of the producer; use " + method + "_async()"};
  }
  auto promise = std::make_shared<std::promise<Result<SendReceipt>>>();
  auto result = promise->get_future();
  start([promise](Result<SendReceipt> receipt) { promise->set_value(std::move(receipt)); });
  return result.get();
}

Status Producer::Impl::send_oneway(const Message& message, const SendOptions& options) {
  if (instance_.on_loop()) {
    send(message, options, true, [](const Result<SendReceipt>&) {});
    return {};
  }
  auto promise = std::make_shared<std::promise<Status>>();
  auto result = promise->get_future();
  send(message, options, true, [promise](Result<SendReceipt> receipt) {
    promise->set_value(receipt ? Status() : Status(std::move(receipt).error()));
  });
  return result.get();
}

Result<std::vector<MessageQueue>> Producer::Impl::queues(const std::string& topic) {
  if (!running_) return producer_closed();
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
  return impl_->wait_for("send", [&](SendCallback done) { impl_->send(message, options, false, std::move(done)); });
}
void Producer::send_async(const Message& message, SendCallback done, const SendOptions& options) {
  impl_->send(message, options, false, std::move(done));
}
std::future<Result<SendReceipt>> Producer::send_future(const Message& message, const SendOptions& options) {
  auto promise = std::make_shared<std::promise<Result<SendReceipt>>>();
  auto result = promise->get_future();
  impl_->send(message, options, false,
              [promise](Result<SendReceipt> receipt) { promise->set_value(std::move(receipt)); });
  return result;
}
Status Producer::send_oneway(const Message& message, const SendOptions& options) {
  return impl_->send_oneway(message, options);
}
Status Producer::cancel_timer(const SendReceipt& receipt) { return impl_->cancel_timer(receipt); }
Result<std::string> Producer::recall(const std::string& topic, const std::string& handle) {
  return impl_->recall(topic, handle);
}
Result<SendReceipt> Producer::send_batch(const std::vector<Message>& messages, const SendOptions& options) {
  return impl_->wait_for("send_batch",
                         [&](SendCallback done) { impl_->send_list(messages, options, std::move(done)); });
}
void Producer::send_batch_async(const std::vector<Message>& messages, SendCallback done, const SendOptions& options) {
  impl_->send_list(messages, options, std::move(done));
}
Result<ReceivedMessage> Producer::request(const Message& message, const SendOptions& options) {
  return impl_->request_and_wait(message, options);
}
void Producer::request_async(const Message& message, RequestCallback done, const SendOptions& options) {
  impl_->request(message, options, std::move(done));
}
std::future<Result<ReceivedMessage>> Producer::request_future(const Message& message, const SendOptions& options) {
  return impl_->request_future(message, options);
}
Result<std::vector<MessageQueue>> Producer::queues(const std::string& topic) { return impl_->queues(topic); }
std::string Producer::client_id() const { return impl_->client_id(); }

}  // namespace apogee
