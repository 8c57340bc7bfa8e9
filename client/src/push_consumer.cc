#include "apogee/push_consumer.h"

#include <algorithm>
#include <future>
#include <utility>

#include "client/src/push_consumer_impl.h"
#include "common/base/text.h"
#include "common/message/sys_flag.h"

namespace apogee {

using remoting::Command;
using remoting::RequestCode;
namespace response_code = remoting::response_code;
namespace flags = message::pull_sys_flag;

namespace {

constexpr std::chrono::milliseconds kBeginAgainDelay{1'000};
constexpr std::chrono::milliseconds kListenerCheckDelay{50};

}  // namespace

PushConsumer::Impl::Impl(PushConsumerConfig config) : config_(std::move(config)), core_(config_, "apogee-push") {}

Status PushConsumer::Impl::check_config() const {
  if (static_cast<bool>(concurrent_) == static_cast<bool>(orderly_listener_)) {
    return Error{Errc::kInvalidArgument, "listener: exactly one of the two must be set"};
  }
  if (config_.consume_threads < 1 || config_.consume_threads > 1000) {
    return Error{Errc::kInvalidArgument, "consume_threads: must be 1 to 1000"};
  }
  if (config_.consume_batch_max < 1 || config_.consume_batch_max > 1024) {
    return Error{Errc::kInvalidArgument, "consume_batch_max: must be 1 to 1024"};
  }
  return {};
}

Status PushConsumer::Impl::subscribe(const std::string& topic, const MessageSelector& selector) {
  return core_.subscribe(core_.wire_name(topic), selector);
}

Status PushConsumer::Impl::unsubscribe(const std::string& topic) {
  core_.unsubscribe(core_.wire_name(topic));
  return {};
}

Status PushConsumer::Impl::start() {
  std::lock_guard lock(state_mutex_);
  if (started_ || shut_down_) return Error{Errc::kAlreadyExists, "the consumer was started before"};
  APOGEE_TRY(check_config());
  orderly_ = static_cast<bool>(orderly_listener_);
  if (core_.clustering()) APOGEE_TRY(core_.subscribe(retry_topic_of(core_.group()), MessageSelector::by_tags("*")));
  started_ms_ = now_ms();
  ConsumerCore::Hooks hooks;
  hooks.assigned = [this](const std::string& topic, const std::vector<MessageQueue>& queues) {
    on_assigned(topic, queues);
  };
  hooks.may_commit = [this](const MessageQueue& queue) { return may_commit(queue); };
  hooks.request = [this](Command& request, const remoting::Responder& respond) { return on_request(request, respond); };
  if (config_.enable_trace) {
    trace_ = std::make_unique<TraceWriter>(config_, config_.group, config_.trace_topic);
    APOGEE_TRY(trace_->start());
  }
  APOGEE_TRY(core_.start(std::move(hooks)));
  started_ = true;
  pool_.start(config_.consume_threads);
  core_.loop().post([this] {
    if (needs_lock()) {
      core_.loop().run_every(config_.lock_interval, [this] {
        std::vector<ProcessQueuePtr> held;
        // Also those that are given away while their listener still runs, and while shutdown() waits for listeners.
        for (const auto& queue : queues()) {
          if (queue->started && !queue->given_back) held.push_back(queue);
        }
        if (!given_back_) lock_queues(held, [] {});
      });
    }
    if (!orderly_ && core_.clustering()) {
      const auto sweep = std::clamp<std::chrono::milliseconds>(config_.consume_timeout / 4,
                                                               std::chrono::milliseconds(10), std::chrono::minutes(1));
      core_.loop().run_every(sweep, [this] { sweep_overdue(); });
    }
  });
  return {};
}

Status PushConsumer::Impl::shutdown() {
  if (core_.instance().on_loop() || pool_.on_pool_thread()) {
    return Error{Errc::kInvalidArgument, "shutdown() cannot be called in a listener"};
  }
  std::lock_guard lock(state_mutex_);
  if (std::exchange(shut_down_, true)) return {};
  stopping_ = true;
  core_.stop_rebalancing();
  const bool ended = pool_.stop(config_.shutdown_timeout);
  if (started_) {
    const auto patience = config_.request_timeout + std::chrono::seconds(1);
    auto persisted = std::make_shared<std::promise<void>>();
    auto future = persisted->get_future();
    core_.persist_all([persisted](const Status&) { persisted->set_value(); });
    future.wait_for(patience);
    if (needs_lock()) {
      auto unlocked = std::make_shared<std::promise<void>>();
      future = unlocked->get_future();
      core_.loop().post([this, unlocked] {
        given_back_ = true;
        std::vector<MessageQueue> held;
        // Where a listener did not end, the lock protects what it still does, until the broker lets it expire.
        for (const auto& queue : queues())
          if (std::unique_lock listener(queue->listener_mutex(), std::try_to_lock); listener.owns_lock())
            held.push_back(queue->queue());
        unlock_queues(held, [unlocked] { unlocked->set_value(); });
      });
      future.wait_for(patience);
    }
  }
  core_.shutdown();
  if (trace_) trace_->stop();
  if (!ended) return Error{Errc::kTimeout, "listeners did not end in time"};
  return {};
}

void PushConsumer::Impl::set_paused(bool paused) {
  paused_ = paused;
  pool_.set_paused(paused);
  if (paused) return;
  core_.loop().post([this] {
    for (const auto& queue : queues()) {
      if (std::exchange(queue->paused, false)) pull(queue);
    }
  });
}

std::vector<ProcessQueuePtr> PushConsumer::Impl::queues() const {
  std::vector<ProcessQueuePtr> all;
  std::lock_guard lock(mutex_);
  for (const auto& [key, queue] : table_) all.push_back(queue);
  return all;
}

std::vector<MessageQueue> PushConsumer::Impl::assignment() const {
  std::vector<MessageQueue> mine;
  for (const auto& queue : queues()) {
    if (!queue->dropped() && !is_retry_topic(queue->queue().topic)) mine.push_back(core_.named_queue(queue->queue()));
  }
  return mine;
}

bool PushConsumer::Impl::lock_is_valid(const ProcessQueue& queue) const {
  return !needs_lock() || queue.lock_is_valid(steady_ms(), config_.lock_valid.count());
}

void PushConsumer::Impl::on_assigned(const std::string& topic, const std::vector<MessageQueue>& assigned) {
  if (stopping_) return;
  for (const auto& queue : queues()) {
    if (queue->queue().topic != topic) continue;
    const bool mine = std::binary_search(assigned.begin(), assigned.end(), queue->queue());
    if (!mine) {
      wanted_again_.erase(queue->queue());
      if (!queue->dropped()) drop_queue(queue, std::nullopt);
    } else if (queue->dropped()) {
      wanted_again_.insert(queue->queue());
    }
  }
  std::vector<ProcessQueuePtr> fresh;
  {
    std::lock_guard lock(mutex_);
    for (const auto& key : assigned) {
      auto& entry = table_[key];
      if (entry) continue;
      entry = std::make_shared<ProcessQueue>(key);
      fresh.push_back(entry);
    }
  }
  if (fresh.empty()) return;
  core_.logger().info("{} new queues of {}", fresh.size(), topic);
  begin_queues(fresh);
}

void PushConsumer::Impl::begin_queues(const std::vector<ProcessQueuePtr>& fresh) {
  if (!needs_lock()) {
    for (const auto& queue : fresh) begin_queue(queue);
    return;
  }
  lock_queues(fresh, [this, fresh] {
    std::vector<ProcessQueuePtr> refused;
    for (const auto& queue : fresh) {
      if (queue->dropped()) continue;
      if (lock_is_valid(*queue)) {
        begin_queue(queue);
      } else {
        refused.push_back(queue);
      }
    }
    if (refused.empty() || stopping_) return;
    core_.logger().info("{} queues are still locked by another member", refused.size());
    core_.loop().run_after(config_.lock_retry_delay, [this, refused] {
      std::vector<ProcessQueuePtr> wanted;
      for (const auto& queue : refused) {
        if (!queue->dropped()) wanted.push_back(queue);
      }
      if (!stopping_ && !wanted.empty()) begin_queues(wanted);
    });
  });
}

void PushConsumer::Impl::begin_queue(const ProcessQueuePtr& queue) {
  core_.find_start_offset(queue->queue(), [this, queue](Result<int64_t> offset) {
    if (stopping_ || queue->dropped()) return;
    if (!offset) {
      core_.logger().warn("start offset: {}", offset.error().message);
      core_.loop().run_after(std::min(config_.pull_error_delay, kBeginAgainDelay), [this, queue] {
        if (!stopping_ && !queue->dropped()) begin_queues({queue});
      });
      return;
    }
    queue->next_offset = *offset;
    queue->started = true;
    core_.offsets().update(queue->queue(), *offset, false);
    pull(queue);
  });
}

/// Sends the queues to their brokers, each broker its own; `answered` gets them with the reply, and `done` comes when
/// all have answered or could not be asked.
void PushConsumer::Impl::ask_brokers(
    RequestCode code, const std::vector<MessageQueue>& queues,
    const std::function<void(const std::vector<MessageQueue>&, Result<Command>)>& answered,
    std::function<void()> done) {
  std::map<std::string, std::vector<MessageQueue>> by_broker;
  for (const auto& queue : queues) by_broker[queue.broker_name].push_back(queue);
  if (by_broker.empty()) return done();
  auto left = std::make_shared<size_t>(by_broker.size());
  auto part = [left, done = std::move(done)] {
    if (--*left == 0) done();
  };
  for (const auto& [broker, members] : by_broker) {
    const auto address = core_.instance().request_address(broker);
    if (!address) {
      part();
      continue;
    }
    remoting::LockBatchRequest body;
    body.consumer_group = core_.group();
    body.client_id = core_.instance().client_id();
    body.mq_set = members;
    Command request = Command::request(code);
    request.body = SharedBytes::from(remoting::encode(body));
    core_.instance().call(*address, std::move(request), 0, [members = members, answered, part](Result<Command> reply) {
      answered(members, std::move(reply));
      part();
    });
  }
}

void PushConsumer::Impl::lock_queues(const std::vector<ProcessQueuePtr>& wanted, std::function<void()> done) {
  std::map<MessageQueue, ProcessQueuePtr> by_key;
  std::vector<MessageQueue> keys;
  for (const auto& queue : wanted) {
    by_key[queue->queue()] = queue;
    keys.push_back(queue->queue());
  }
  // Where the answer is none, the locks that we hold stay valid for their time.
  auto answered = [this, by_key = std::move(by_key), asked_ms = steady_ms()](const std::vector<MessageQueue>& members,
                                                                             const Result<Command>& reply) {
    if (!reply || reply->code != response_code::kSuccess) {
      core_.logger().warn("lock of queues: {}",
                          reply ? broker_error(*reply, "refused").message : reply.error().message);
      return;
    }
    auto granted = remoting::decode_lock_batch_response(reply->body.bytes);
    if (!granted) {
      core_.logger().warn("lock of queues: {}", granted.error().message);
      return;
    }
    const auto& set = granted->lock_ok_mq_set;
    for (const auto& key : members) {
      const auto& queue = by_key.at(key);
      const bool ok = std::find(set.begin(), set.end(), key) != set.end();
      const bool kept = ok && queue->lock_is_valid(asked_ms, config_.lock_valid.count());
      queue->set_locked(ok, asked_ms);
      if (queue->started && !queue->dropped() && !kept) lose_queue(queue);
    }
  };
  ask_brokers(RequestCode::kLockBatchMq, keys, answered, std::move(done));
}

void PushConsumer::Impl::unlock_queues(const std::vector<MessageQueue>& held, std::function<void()> done) {
  auto answered = [this](const std::vector<MessageQueue>&, const Result<Command>& reply) {
    if (!reply) core_.logger().warn("unlock of queues: {}", reply.error().message);
  };
  ask_brokers(RequestCode::kUnlockBatchMq, held, answered, std::move(done));
}

void PushConsumer::Impl::drop_queue(const ProcessQueuePtr& queue, std::optional<int64_t> reset_offset) {
  queue->drop(reset_offset.has_value());
  if (reset_offset) core_.offsets().update(queue->queue(), *reset_offset, false);
  core_.logger().info("queue {} of {} on {} is given away", queue->queue().queue_id, queue->queue().topic,
                      queue->queue().broker_name);
  release_queue(queue, reset_offset);
}

void PushConsumer::Impl::release_queue(const ProcessQueuePtr& queue, std::optional<int64_t> reset_offset) {
  if (stopping_) return;
  if (orderly_) {
    // The next owner may begin only when our listener has ended.
    std::unique_lock listener(queue->listener_mutex(), std::try_to_lock);
    if (!listener.owns_lock()) {
      core_.loop().run_after(kListenerCheckDelay, [this, queue, reset_offset] { release_queue(queue, reset_offset); });
      return;
    }
  }
  core_.persist({queue->queue()}, [this, queue, reset_offset](const Status& persisted) {
    if (!persisted && reset_offset && !stopping_) {  // whoever gets the queue must begin there
      core_.loop().run_after(kBeginAgainDelay, [this, queue, reset_offset] { release_queue(queue, reset_offset); });
      return;
    }
    const bool again = reset_offset.has_value();
    if (!needs_lock()) return forget_queue(queue, again);
    // Whether we have the lock or not: a request for it may be under way, and the broker takes them in their order.
    queue->given_back = true;
    unlock_queues({queue->queue()}, [this, queue, again] { forget_queue(queue, again); });
  });
}

bool PushConsumer::Impl::may_commit(const MessageQueue& key) const {
  if (!needs_lock()) return true;
  ProcessQueuePtr queue;
  {
    std::lock_guard lock(mutex_);
    auto found = table_.find(key);
    if (found != table_.end()) queue = found->second;
  }
  return queue && lock_is_valid(*queue);
}

/// Another member has the lock, or may have had it: what we hold of the queue is out of date, and so is the offset
/// that we know. If it is still ours, it begins again at the committed offset.
void PushConsumer::Impl::lose_queue(const ProcessQueuePtr& queue) {
  core_.logger().warn("the lock of queue {} of {} on {} was lost", queue->queue().queue_id, queue->queue().topic,
                      queue->queue().broker_name);
  queue->drop(true);
  core_.offsets().remove(queue->queue());
  forget_lost_queue(queue);
}

void PushConsumer::Impl::forget_lost_queue(const ProcessQueuePtr& queue) {
  if (stopping_) return;
  std::unique_lock listener(queue->listener_mutex(), std::try_to_lock);
  if (!listener.owns_lock()) {
    core_.loop().run_after(kListenerCheckDelay, [this, queue] { forget_lost_queue(queue); });
    return;
  }
  forget_queue(queue, true);
}

void PushConsumer::Impl::forget_queue(const ProcessQueuePtr& queue, bool begin_again) {
  {
    std::lock_guard lock(mutex_);
    auto found = table_.find(queue->queue());
    if (found == table_.end() || found->second != queue) return;
    table_.erase(found);
  }
  if (core_.clustering()) core_.offsets().remove(queue->queue());
  if (wanted_again_.erase(queue->queue()) != 0 || begin_again) core_.rebalance_now();
}

void PushConsumer::Impl::pull_after(const ProcessQueuePtr& queue, std::chrono::milliseconds delay) {
  core_.loop().run_after(delay, [this, queue] { pull(queue); });
}

void PushConsumer::Impl::pull_soon(const ProcessQueuePtr& queue) {
  core_.loop().post([this, queue] { pull(queue); });
}

void PushConsumer::Impl::pull(const ProcessQueuePtr& queue) {
  if (stopping_ || queue->dropped()) return;
  queue->last_pull_ms = now_ms();
  if (paused_) {
    queue->paused = true;
    return;
  }
  const ProcessQueue::Limits limits{static_cast<size_t>(config_.cached_messages_max), config_.cached_bytes_max,
                                    orderly_ ? -1 : config_.cached_span_max};
  if (!queue->has_room_or_waits(limits)) return;
  if (!lock_is_valid(*queue)) return pull_after(queue, config_.lock_retry_delay);
  const auto subscription = core_.subscription(queue->queue().topic);
  if (!subscription) return pull_after(queue, config_.pull_error_delay);
  const auto place = core_.instance().place_to_read(queue->queue().broker_name, queue->suggested_broker_id);
  if (!place) {
    core_.instance().fetch_route(queue->queue().topic, 0, nullptr);
    return pull_after(queue, config_.pull_error_delay);
  }
  PullRequest request;
  request.group = core_.group();
  request.queue = queue->queue();
  request.offset = queue->next_offset;
  request.count_max = config_.pull_batch;
  request.sys_flag = flags::kSuspend;
  if (core_.clustering() && !place->slave) {
    const auto done = core_.offsets().get(queue->queue());
    if (done && *done > 0) {
      request.sys_flag |= flags::kCommitOffset;
      request.commit_offset = *done;
    }
  }
  if (config_.subscription_in_pull) {
    request.sys_flag |= flags::kSubscription;
    request.subscription = subscription->sub_string;
  }
  request.suspend_ms = config_.pull_suspend.count();
  request.subscription_version = subscription->sub_version;
  request.expression_type = subscription->expression_type;
  core_.instance().call(place->address, make_pull_request(request), config_.pull_timeout.count(),
                        [this, queue, subscription, from = *place, started = steady_ms()](Result<Command> reply) {
                          on_pulled(queue, subscription, from, started, std::move(reply));
                        });
}

void PushConsumer::Impl::on_pulled(const ProcessQueuePtr& queue, const ConsumerCore::SubscriptionPtr& subscription,
                                   const BrokerPlace& from, int64_t started_ms, Result<Command> reply) {
  if (stopping_ || queue->dropped()) return;
  if (!reply) {
    if (reply.error().code == Errc::kClosed) return;
    core_.logger().warn("pull from {} ({}): {}", queue->queue().broker_name, from.address, reply.error().message);
    core_.instance().doubt(from.address);
    core_.instance().fetch_route(queue->queue().topic, 0, nullptr);
    queue->suggested_broker_id = 0;
    return pull_after(queue, config_.pull_error_delay);
  }
  auto outcome = read_pull_reply(*reply, queue->queue(), *subscription, config_.name_space);
  if (!outcome) {
    const Error& error = outcome.error();
    if (error.response_code == response_code::kFlowControl) return pull_after(queue, kBrokerBusyDelay);
    core_.logger().warn("pull from queue {} of {} on {}: {}", queue->queue().queue_id, queue->queue().topic,
                        queue->queue().broker_name, error.message);
    if (error.response_code == response_code::kSubscriptionNotExist ||
        error.response_code == response_code::kSubscriptionNotLatest) {
      core_.instance().heartbeat_now();
    }
    return pull_after(queue, config_.pull_error_delay);
  }
  queue->suggested_broker_id = outcome->suggested_broker_id;
  if (outcome->status == PullStatus::kOffsetIllegal) {
    core_.logger().warn("offset {} of queue {} of {} on {} is outside of what is stored; going on at {}",
                        queue->next_offset, queue->queue().queue_id, queue->queue().topic, queue->queue().broker_name,
                        outcome->next_offset);
    return drop_queue(queue, outcome->next_offset);
  }
  if (is_behind(*outcome, queue->next_offset)) return pull_after(queue, kSlaveBehindDelay);
  queue->next_offset = outcome->next_offset;
  if (outcome->messages.empty()) {
    queue->skip_to(outcome->next_offset, core_.offsets());
  } else {
    counters_.pulled(queue->queue().topic, static_cast<int64_t>(outcome->messages.size()), steady_ms() - started_ms);
    hand_out(queue, outcome->messages);
  }
  pull(queue);
}

void PushConsumer::Impl::hand_out(const ProcessQueuePtr& queue, const std::vector<ReceivedMessage>& messages) {
  const bool begin = queue->put(messages);
  if (orderly_) {
    if (begin) submit_orderly(queue);
    return;
  }
  const auto batch = static_cast<size_t>(config_.consume_batch_max);
  for (size_t i = 0; i < messages.size(); i += batch) {
    const auto first = messages.begin() + static_cast<std::ptrdiff_t>(i);
    const auto last = messages.begin() + static_cast<std::ptrdiff_t>(std::min(i + batch, messages.size()));
    submit_concurrent(queue, {first, last});
  }
}

void PushConsumer::Impl::sweep_overdue() {
  constexpr size_t kMessagesPerSweep = 16;
  constexpr int kDelayLevel = 3;
  if (stopping_) return;
  for (const auto& queue : queues()) {
    if (queue->dropped()) continue;
    for (const auto& message : queue->started_until(now_ms() - config_.consume_timeout.count(), kMessagesPerSweep)) {
      const auto address = core_.instance().request_address(message.queue().broker_name);
      if (!address) continue;
      core_.instance().call(
          *address, send_back_request(message, kDelayLevel), 0, [this, queue, message](Result<Command> reply) {
            if (!reply || reply->code != response_code::kSuccess) {
              core_.logger().warn("message {} is overdue and could not be sent back: {}", message.msg_id(),
                                  reply ? broker_error(*reply, "refused").message : reply.error().message);
              return;
            }
            core_.logger().warn("message {} took longer than consume_timeout and was sent back", message.msg_id());
            if (queue->remove({message}, core_.offsets())) pull(queue);
          });
    }
  }
}

PushConsumer::PushConsumer(PushConsumerConfig config) : impl_(std::make_unique<Impl>(std::move(config))) {}
PushConsumer::~PushConsumer() { impl_->shutdown().ignore("nothing is left to be told"); }
void PushConsumer::set_concurrent_listener(ConcurrentListener listener) {
  impl_->set_concurrent_listener(std::move(listener));
}
void PushConsumer::set_orderly_listener(OrderlyListener listener) { impl_->set_orderly_listener(std::move(listener)); }
Status PushConsumer::subscribe(const std::string& topic, const std::string& tags) {
  return impl_->subscribe(topic, MessageSelector::by_tags(tags));
}
Status PushConsumer::subscribe(const std::string& topic, const MessageSelector& selector) {
  return impl_->subscribe(topic, selector);
}
Status PushConsumer::unsubscribe(const std::string& topic) { return impl_->unsubscribe(topic); }
Status PushConsumer::start() { return impl_->start(); }
Status PushConsumer::shutdown() { return impl_->shutdown(); }
void PushConsumer::pause() { impl_->set_paused(true); }
void PushConsumer::resume() { impl_->set_paused(false); }
std::vector<MessageQueue> PushConsumer::assignment() const { return impl_->assignment(); }
std::string PushConsumer::client_id() const { return impl_->client_id(); }

}  // namespace apogee
