#include "client/src/pull_consumer_impl.h"

namespace apogee {

using remoting::Command;
namespace response_code = remoting::response_code;
namespace flags = message::pull_sys_flag;

namespace {

Error in_callback(const char* what) {
  return {Errc::kInvalidArgument, std::string(what) + "() cannot be called in a callback of the consumer"};
}

}  // namespace

Status PullConsumer::Impl::check_callable(const char* what) {
  if (core_.instance().on_loop()) return in_callback(what);
  if (!running_) return Error{Errc::kClosed, "the consumer is not started, or is shut down"};
  return {};
}

Status PullConsumer::Impl::start() {
  std::lock_guard lock(state_mutex_);
  if (started_ || shut_down_) return Error{Errc::kAlreadyExists, "the consumer was started before"};
  if (config_.poll_batch_max < 1) return Error{Errc::kInvalidArgument, "poll_batch_max: must be positive"};
  ConsumerCore::Hooks hooks;
  hooks.consume_type = remoting::ConsumeType::kActively;
  hooks.assigned = [this](const std::string& topic, const std::vector<MessageQueue>& queues) {
    on_assigned(topic, queues);
  };
  hooks.request = [this](Command& request, const remoting::Responder& respond) { return on_request(request, respond); };
  started_ms_ = now_ms();
  if (config_.enable_trace) {
    trace_ = std::make_unique<TraceWriter>(config_, config_.group, config_.trace_topic);
    APOGEE_TRY(trace_->start());
  }
  APOGEE_TRY(core_.start(std::move(hooks)));
  started_ = true;
  running_ = true;
  core_.loop().post([this] {
    if (config_.auto_commit) core_.loop().run_every(config_.auto_commit_interval, [this] { auto_commit(); });
    bool assigned = false;
    std::vector<MessageQueue> queues;
    {
      std::lock_guard guard(mutex_);
      assigned = mode_ == Mode::kAssign;
      queues = assigned_;
    }
    if (assigned) replace_queues(nullptr, queues);
  });
  return {};
}

Status PullConsumer::Impl::shutdown() {
  if (core_.instance().on_loop()) return in_callback("shutdown");
  std::lock_guard lock(state_mutex_);
  if (std::exchange(shut_down_, true)) return {};
  running_ = false;
  stopping_ = true;
  core_.stop_rebalancing();
  arrived_.notify_all();
  Status committed;
  if (started_) {
    std::vector<MessageQueue> queues;
    for (const auto& [queue, offset] : core_.offsets().unpersisted()) queues.push_back(queue);
    if (config_.auto_commit) {
      std::lock_guard guard(mutex_);
      for (const auto& [key, queue] : table_) {
        if (queue->dropped || queue->position < 0) continue;
        core_.offsets().update(key, queue->position, false);
        queues.push_back(key);
      }
    }
    committed = wait_for_commit(queues);
  }
  core_.shutdown();
  { std::lock_guard guard(mutex_); }
  arrived_.notify_all();
  return committed;
}

Status PullConsumer::Impl::subscribe(const std::string& topic, const MessageSelector& selector) {
  {
    std::lock_guard lock(mutex_);
    if (mode_ == Mode::kAssign) return Error{Errc::kInvalidArgument, "subscribe() cannot follow assign()"};
    mode_ = Mode::kSubscribe;
  }
  return core_.subscribe(core_.wire_name(topic), selector);
}

Status PullConsumer::Impl::unsubscribe(const std::string& topic) {
  core_.unsubscribe(core_.wire_name(topic));
  return {};
}

Status PullConsumer::Impl::assign(const std::vector<MessageQueue>& queues) {
  std::vector<MessageQueue> wire;
  for (const auto& queue : queues) {
    APOGEE_TRY(check_topic_name(queue.topic));
    if (queue.queue_id < 0) return Error{Errc::kInvalidArgument, "queue_id: is negative"};
    wire.push_back(core_.wire_queue(queue));
    core_.instance().watch_topic(wire.back().topic, 0);
  }
  std::sort(wire.begin(), wire.end());
  {
    std::lock_guard lock(mutex_);
    if (mode_ == Mode::kSubscribe) return Error{Errc::kInvalidArgument, "assign() cannot follow subscribe()"};
    mode_ = Mode::kAssign;
    assigned_ = wire;
  }
  if (running_) core_.loop().post([this, wire] { replace_queues(nullptr, wire); });
  return {};
}

void PullConsumer::Impl::on_assigned(const std::string& topic, const std::vector<MessageQueue>& queues) {
  replace_queues(&topic, queues);
}

void PullConsumer::Impl::replace_queues(const std::string* topic, const std::vector<MessageQueue>& queues) {
  if (stopping_) return;
  std::vector<FetchQueuePtr> fresh;
  std::vector<MessageQueue> lost;
  {
    std::lock_guard lock(mutex_);
    for (auto entry = table_.begin(); entry != table_.end();) {
      const bool keep = (topic != nullptr && entry->first.topic != *topic) ||
                        std::binary_search(queues.begin(), queues.end(), entry->first);
      if (keep) {
        ++entry;
        continue;
      }
      entry->second->dropped = true;
      if (config_.auto_commit && entry->second->done >= 0) {
        core_.offsets().update(entry->first, entry->second->done, false);
      }
      lost.push_back(entry->first);
      entry = table_.erase(entry);
    }
    for (const auto& key : queues) {
      auto& entry = table_[key];
      if (entry) continue;
      entry = std::make_shared<FetchQueue>(key);
      fresh.push_back(entry);
    }
  }
  if (!lost.empty()) {
    core_.persist(lost, [this, lost](const Status&) {
      std::lock_guard lock(mutex_);
      for (const auto& queue : lost) {
        if (core_.clustering() && table_.count(queue) == 0) core_.offsets().remove(queue);
      }
    });
  }
  for (const auto& queue : fresh) begin(queue);
  if (listener_ && topic != nullptr && (!fresh.empty() || !lost.empty())) {
    std::vector<MessageQueue> named;
    named.reserve(queues.size());
    for (const auto& queue : queues) named.push_back(core_.named_queue(queue));
    listener_(without_namespace(config_.name_space, *topic), named);
  }
}

void PullConsumer::Impl::begin_after(const FetchQueuePtr& queue, std::chrono::milliseconds delay) {
  core_.loop().run_after(delay, [this, queue] { begin(queue); });
}

void PullConsumer::Impl::begin(const FetchQueuePtr& queue) {
  uint64_t generation = 0;
  {
    std::lock_guard lock(mutex_);
    if (stopping_ || queue->dropped || queue->next_offset >= 0) return;  // a seek was faster
    generation = queue->generation;
  }
  constexpr std::chrono::milliseconds kSoon{1'000};
  const auto delay = std::min(config_.pull_error_delay, kSoon);
  if (!core_.instance().route(queue->queue.topic)) {
    core_.instance().fetch_route(queue->queue.topic, 0, [this, queue, delay](const Result<TopicRoutePtr>& found) {
      if (found) return begin(queue);
      begin_after(queue, delay);
    });
    return;
  }
  core_.find_start_offset(queue->queue, [this, queue, generation, delay](Result<int64_t> offset) {
    if (stopping_) return;
    if (!offset) {
      core_.logger().warn("start offset: {}", offset.error().message);
      return begin_after(queue, delay);
    }
    {
      std::lock_guard lock(mutex_);
      if (queue->dropped || queue->generation != generation) return;
      queue->next_offset = queue->position = queue->done = *offset;
    }
    pull(queue, generation);
  });
}

ConsumerCore::SubscriptionPtr PullConsumer::Impl::subscription_of(const std::string& topic) const {
  auto subscription = core_.subscription(topic);
  if (subscription) return subscription;
  auto all = std::make_shared<remoting::SubscriptionData>();
  all->topic = topic;
  return all;
}

void PullConsumer::Impl::pull_after(const FetchQueuePtr& queue, uint64_t generation, std::chrono::milliseconds delay) {
  core_.loop().run_after(delay, [this, queue, generation] { pull(queue, generation); });
}

bool PullConsumer::Impl::may_pull_locked(const FetchQueue& queue) const {
  const auto& cached = queue.cached;
  const int64_t span = cached.empty() ? 0 : cached.back().queue_offset() - cached.front().queue_offset();
  return !queue.paused && cached.size() < static_cast<size_t>(config_.cached_messages_max) &&
         queue.bytes < config_.cached_bytes_max && span <= config_.cached_span_max;
}

void PullConsumer::Impl::pull_if_waiting_locked(const FetchQueuePtr& queue) {
  if (!queue->waits || !may_pull_locked(*queue)) return;
  queue->waits = false;
  core_.loop().post([this, queue, generation = queue->generation] { pull(queue, generation); });
}

void PullConsumer::Impl::pull(const FetchQueuePtr& queue, uint64_t generation) {
  if (stopping_) return;
  PullRequest request;
  int64_t broker_id = 0;
  {
    std::lock_guard lock(mutex_);
    if (queue->dropped || queue->generation != generation) return;
    queue->last_pull_ms = now_ms();
    queue->waits = !may_pull_locked(*queue);
    if (queue->waits) return;
    request.offset = queue->next_offset;
    broker_id = queue->suggested_broker_id;
  }
  const auto place = core_.instance().place_to_read(queue->queue.broker_name, broker_id);
  if (!place) {
    core_.instance().fetch_route(queue->queue.topic, 0, nullptr);
    return pull_after(queue, generation, config_.pull_error_delay);
  }
  const auto subscription = subscription_of(queue->queue.topic);
  request.group = core_.group();
  request.queue = queue->queue;
  request.count_max = config_.pull_batch;
  request.sys_flag = flags::kSuspend | flags::kSubscription | flags::kLitePull;
  request.suspend_ms = config_.pull_suspend.count();
  request.subscription = subscription->sub_string;
  request.subscription_version = subscription->sub_version;
  request.expression_type = subscription->expression_type;
  core_.instance().call(place->address, make_pull_request(request), config_.pull_timeout.count(),
                        [this, queue, generation, subscription, from = *place](Result<Command> reply) {
                          on_pulled(queue, generation, *subscription, from, std::move(reply));
                        });
}

void PullConsumer::Impl::on_pulled(const FetchQueuePtr& queue, uint64_t generation,
                                   const remoting::SubscriptionData& subscription, const BrokerPlace& from,
                                   Result<Command> reply) {
  if (stopping_) return;
  if (!reply) {
    if (reply.error().code == Errc::kClosed) return;
    core_.logger().warn("pull from {} ({}): {}", queue->queue.broker_name, from.address, reply.error().message);
    core_.instance().doubt(from.address);
    core_.instance().fetch_route(queue->queue.topic, 0, nullptr);
    {
      std::lock_guard lock(mutex_);
      queue->suggested_broker_id = 0;
    }
    return pull_after(queue, generation, config_.pull_error_delay);
  }
  auto outcome = read_pull_reply(*reply, queue->queue, subscription, config_.name_space);
  if (!outcome) {
    if (outcome.error().response_code == response_code::kFlowControl)
      return pull_after(queue, generation, kBrokerBusyDelay);
    core_.logger().warn("pull from queue {} of {} on {}: {}", queue->queue.queue_id, queue->queue.topic,
                        queue->queue.broker_name, outcome.error().message);
    return pull_after(queue, generation, config_.pull_error_delay);
  }
  bool behind = false;
  {
    std::lock_guard lock(mutex_);
    if (queue->dropped || queue->generation != generation) return;
    queue->suggested_broker_id = outcome->suggested_broker_id;
    behind = is_behind(*outcome, queue->next_offset);
    if (behind) outcome->next_offset = queue->next_offset;
    if (outcome->status == PullStatus::kOffsetIllegal) {
      core_.logger().warn("offset {} of queue {} of {} on {} is outside of what is stored; going on at {}",
                          queue->next_offset, queue->queue.queue_id, queue->queue.topic, queue->queue.broker_name,
                          outcome->next_offset);
    }
    queue->next_offset = outcome->next_offset;
    for (auto& message : outcome->messages) {
      queue->bytes += static_cast<int64_t>(message.body().size());
      queue->cached.push_back(std::move(message));
    }
    if (queue->cached.empty()) queue->position = queue->next_offset;
  }
  if (behind) return pull_after(queue, generation, kSlaveBehindDelay);
  if (!outcome->messages.empty()) arrived_.notify_all();
  pull(queue, generation);
}

Result<std::vector<ReceivedMessage>> PullConsumer::Impl::poll(std::chrono::milliseconds timeout) {
  APOGEE_TRY(check_callable("poll"));
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  std::vector<ReceivedMessage> messages;
  std::unique_lock lock(mutex_);
  for (const auto& [key, queue] : table_) queue->done = queue->position;
  auto has_any = [this] {
    return std::any_of(table_.begin(), table_.end(),
                       [](const auto& entry) { return !entry.second->paused && !entry.second->cached.empty(); });
  };
  arrived_.wait_until(lock, deadline, [&] { return !running_ || has_any(); });
  if (!running_) return Error{Errc::kClosed, "the consumer is shut down"};
  const auto limit = static_cast<size_t>(config_.poll_batch_max);
  auto entry = table_.upper_bound(polled_last_);
  for (size_t i = 0; i < table_.size() && messages.size() < limit; ++i, ++entry) {
    if (entry == table_.end()) entry = table_.begin();
    auto& queue = *entry->second;
    if (queue.paused) continue;
    while (!queue.cached.empty() && messages.size() < limit) {
      auto& message = queue.cached.front();
      queue.bytes -= static_cast<int64_t>(message.body().size());
      queue.position = message.queue_offset() + 1;
      messages.push_back(std::move(message));
      queue.cached.pop_front();
      polled_last_ = entry->first;
    }
    // What the broker skipped behind the last message is done with it.
    if (queue.cached.empty() && queue.next_offset > queue.position) queue.position = queue.next_offset;
    pull_if_waiting_locked(entry->second);
  }
  lock.unlock();
  ConsumeTrace(trace_.get(), core_.group(), messages).end(true, 0);
  return messages;
}

FetchQueuePtr PullConsumer::Impl::find_locked(const MessageQueue& wire_queue) const {
  auto found = table_.find(wire_queue);
  return found == table_.end() ? nullptr : found->second;
}

std::vector<FetchQueuePtr> PullConsumer::Impl::all_queues() const {
  std::vector<FetchQueuePtr> all;
  std::lock_guard lock(mutex_);
  for (const auto& [key, queue] : table_) all.push_back(queue);
  return all;
}

std::vector<MessageQueue> PullConsumer::Impl::assignment() const {
  std::vector<MessageQueue> mine;
  for (const auto& queue : all_queues()) mine.push_back(core_.named_queue(queue->queue));
  return mine;
}

void PullConsumer::Impl::set_paused(const std::vector<MessageQueue>& queues, bool paused) {
  {
    std::lock_guard lock(mutex_);
    for (const auto& queue : queues) {
      auto found = find_locked(core_.wire_queue(queue));
      if (!found) continue;
      found->paused = paused;
      pull_if_waiting_locked(found);
    }
  }
  arrived_.notify_all();
}

PullConsumer::PullConsumer(PullConsumerConfig config) : impl_(std::make_unique<Impl>(std::move(config))) {}
PullConsumer::~PullConsumer() { impl_->shutdown().ignore("nothing is left to be told"); }
Status PullConsumer::start() { return impl_->start(); }
Status PullConsumer::shutdown() { return impl_->shutdown(); }
Status PullConsumer::subscribe(const std::string& topic, const std::string& tags) {
  return impl_->subscribe(topic, MessageSelector::by_tags(tags));
}
Status PullConsumer::subscribe(const std::string& topic, const MessageSelector& selector) {
  return impl_->subscribe(topic, selector);
}
Status PullConsumer::unsubscribe(const std::string& topic) { return impl_->unsubscribe(topic); }
Status PullConsumer::assign(const std::vector<MessageQueue>& queues) { return impl_->assign(queues); }
void PullConsumer::set_assignment_listener(AssignmentListener listener) {
  impl_->set_assignment_listener(std::move(listener));
}
Result<std::vector<MessageQueue>> PullConsumer::queues(const std::string& topic) { return impl_->queues(topic); }
std::vector<MessageQueue> PullConsumer::assignment() const { return impl_->assignment(); }
Result<std::vector<ReceivedMessage>> PullConsumer::poll(std::chrono::milliseconds timeout) {
  return impl_->poll(timeout);
}
Status PullConsumer::seek(const MessageQueue& queue, int64_t offset) {
  return impl_->seek(queue, Impl::SeekTo::kOffset, offset);
}
Status PullConsumer::seek_to_begin(const MessageQueue& queue) { return impl_->seek(queue, Impl::SeekTo::kBegin, 0); }
Status PullConsumer::seek_to_end(const MessageQueue& queue) { return impl_->seek(queue, Impl::SeekTo::kEnd, 0); }
int64_t PullConsumer::position(const MessageQueue& queue) const { return impl_->position(queue); }
Status PullConsumer::commit() { return impl_->commit(); }
Status PullConsumer::commit(const std::map<MessageQueue, int64_t>& offsets) { return impl_->commit(offsets); }
Result<int64_t> PullConsumer::committed(const MessageQueue& queue) { return impl_->committed(queue); }
Result<int64_t> PullConsumer::offset_for_time(const MessageQueue& queue, int64_t time_ms) {
  return impl_->offset_for_time(queue, time_ms);
}
void PullConsumer::pause(const std::vector<MessageQueue>& queues) { impl_->set_paused(queues, true); }
void PullConsumer::resume(const std::vector<MessageQueue>& queues) { impl_->set_paused(queues, false); }
std::string PullConsumer::client_id() const { return impl_->client_id(); }

}  // namespace apogee
