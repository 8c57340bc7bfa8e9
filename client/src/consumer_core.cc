#include "client/src/consumer_core.h"

#include <algorithm>
#include <exception>
#include <future>
#include <utility>

#include "common/base/text.h"

namespace apogee {

using remoting::Command;
using remoting::RequestCode;
namespace response_code = remoting::response_code;

namespace {

constexpr int64_t kLookAgainMs = 1'000;
constexpr int64_t kHalfHourMs = 30 * 60'000;

/// Calls `done` once, after so many parts, with the first error among them.
std::function<void(Status)> join_parts(size_t parts, std::function<void(Status)> done) {
  struct State {
    size_t left;
    Status result;
  };
  auto state = std::make_shared<State>(State{parts, {}});
  return [state, done = std::move(done)](Status part) {
    if (!part && state->result) state->result = std::move(part);
    if (--state->left == 0 && done) done(std::move(state->result));
  };
}

Result<remoting::SubscriptionData> subscription_data(const std::string& topic, const MessageSelector& selector) {
  if (selector.type() == MessageSelector::Type::kTags)
    return remoting::build_tag_subscription(topic, selector.expression(), now_ms());
  if (trim(selector.expression()).empty()) return Error{Errc::kInvalidArgument, "the SQL expression is empty"};
  remoting::SubscriptionData data;
  data.topic = topic;
  data.sub_string = selector.expression();
  data.expression_type = "SQL92";
  data.sub_version = now_ms();
  return data;
}

}  // namespace

ConsumerCore::ConsumerCore(const ConsumerConfig& config, const char* thread_name)
    : config_(config), instance_(config, thread_name) {
  group_ = wire_name(config_.group);
}

Status ConsumerCore::start(Hooks hooks) {
  if (config_.group.empty()) return Error{Errc::kInvalidArgument, "group: is not set"};
  APOGEE_TRY(check_group_name(config_.group));
  if (config_.pull_batch < 1 || config_.pull_batch > 1024) {
    return Error{Errc::kInvalidArgument, "pull_batch: must be 1 to 1024"};
  }
  if (config_.cached_messages_max < 1) return Error{Errc::kInvalidArgument, "cached_messages_max: must be positive"};
  if (config_.pull_timeout <= config_.pull_suspend) {
    return Error{Errc::kInvalidArgument, "pull_timeout: must be more than pull_suspend"};
  }
  if (!config_.allocation.allocate) return Error{Errc::kInvalidArgument, "allocation: is not set"};
  hooks_ = std::move(hooks);
  started_ms_ = now_ms();
  ClientInstance::Hooks instance_hooks;
  instance_hooks.heartbeat_to_slaves = true;
  instance_hooks.heartbeat = [this] { return heartbeat(); };
  instance_hooks.route_changed = [this](const std::string& topic) {
    if (subscription(topic)) rebalance_now();
  };
  instance_hooks.request = [this](Command& request, const remoting::Responder& respond) {
    if (request.request_code() == RequestCode::kNotifyConsumerIdsChanged) {
      rebalance_now();
      return true;
    }
    return hooks_.request && hooks_.request(request, respond);
  };
  for (const auto& subscription : subscriptions()) instance_.watch_topic(subscription->topic, 0);
  APOGEE_TRY(instance_.start(std::move(instance_hooks)));
  for (const auto& subscription : subscriptions()) {
    if (Status checked = check_at_broker(*subscription); !checked) {
      instance_.shutdown("", "");
      return checked;
    }
  }
  if (!clustering()) {
    file_ = std::make_unique<OffsetFile>(config_.local_offset_dir, instance_.client_id(), group_);
    auto loaded = file_->load();
    if (!loaded) {
      instance_.shutdown("", "");
      return std::move(loaded).error();
    }
    for (const auto& [queue, offset] : *loaded) offsets_.set_persisted(queue, offset);
  }
  loop().post([this] {
    ready_ = true;
    loop().run_every(config_.rebalance_interval, [this] { rebalance(); });
    loop().run_every(config_.offset_persist_interval, [this] { persist_all(nullptr); });
    rebalance();
  });
  return {};
}

Status ConsumerCore::check_at_broker(const remoting::SubscriptionData& subscription) {
  if (subscription.expression_type == "TAG" || instance_.on_loop()) return {};
  auto answered = std::make_shared<std::promise<Status>>();
  auto answer = answered->get_future();
  instance_.fetch_route(subscription.topic, 0, [this, subscription, answered](const Result<TopicRoutePtr>& route) {
    const auto address = route ? instance_.any_broker_of(subscription.topic) : std::nullopt;
    if (!address) return answered->set_value({});
    Command request = Command::request(RequestCode::kCheckClientConfig);
    request.body = SharedBytes::from(encode(remoting::CheckClientRequest{instance_.client_id(), group_, subscription}));
    instance_.call(*address, std::move(request), 0, [answered](Result<Command> reply) {
      if (!reply || reply->code == response_code::kSuccess) return answered->set_value({});
      answered->set_value(broker_error(*reply, "SQL subscription"));
    });
  });
  if (answer.wait_for(config_.request_timeout) != std::future_status::ready) return {};
  return answer.get();
}

void ConsumerCore::shutdown() {
  stopping_ = true;
  instance_.shutdown("", group_);
}

Status ConsumerCore::subscribe(const std::string& wire_topic, const MessageSelector& selector) {
  if (!is_retry_topic(wire_topic)) APOGEE_TRY(check_topic_name(wire_topic));
  APOGEE_TRY_ASSIGN(auto data, subscription_data(wire_topic, selector));
  if (started_ms_ != 0) APOGEE_TRY(check_at_broker(data));
  {
    std::lock_guard lock(mutex_);
    subscriptions_[wire_topic] = std::make_shared<const remoting::SubscriptionData>(std::move(data));
  }
  instance_.watch_topic(wire_topic, 0);
  if (started_ms_ != 0) {
    instance_.heartbeat_now([this] { rebalance_now(); });
  }
  return {};
}

void ConsumerCore::unsubscribe(const std::string& wire_topic) {
  {
    std::lock_guard lock(mutex_);
    if (subscriptions_.erase(wire_topic) == 0) return;
  }
  instance_.forget_topic(wire_topic);
  if (started_ms_ == 0) return;
  loop().post([this, wire_topic] {
    if (!stopping_) hooks_.assigned(wire_topic, {});
  });
  instance_.heartbeat_now();
}

ConsumerCore::SubscriptionPtr ConsumerCore::subscription(const std::string& wire_topic) const {
  std::lock_guard lock(mutex_);
  auto found = subscriptions_.find(wire_topic);
  return found == subscriptions_.end() ? nullptr : found->second;
}

std::vector<ConsumerCore::SubscriptionPtr> ConsumerCore::subscriptions() const {
  std::vector<SubscriptionPtr> all;
  std::lock_guard lock(mutex_);
  for (const auto& [topic, subscription] : subscriptions_) all.push_back(subscription);
  return all;
}

remoting::HeartbeatData ConsumerCore::heartbeat() const {
  remoting::ConsumerData consumer;
  consumer.group_name = group_;
  consumer.consume_type = hooks_.consume_type;
  consumer.message_model = clustering() ? remoting::MessageModel::kClustering : remoting::MessageModel::kBroadcasting;
  switch (config_.consume_from) {
    case ConsumeFrom::kLast: consumer.consume_from_where = remoting::ConsumeFromWhere::kLastOffset; break;
    case ConsumeFrom::kFirst: consumer.consume_from_where = remoting::ConsumeFromWhere::kFirstOffset; break;
    case ConsumeFrom::kTimestamp: consumer.consume_from_where = remoting::ConsumeFromWhere::kTimestamp; break;
  }
  for (const auto& subscription : subscriptions()) consumer.subscription_data_set.push_back(*subscription);
  remoting::HeartbeatData data;
  data.consumer_data_set.push_back(std::move(consumer));
  return data;
}

void ConsumerCore::rebalance_now() {
  loop().post([this] { rebalance(); });
}

void ConsumerCore::rebalance_after(int64_t delay_ms) {
  loop().post([this, delay_ms] {
    if (stopping_ || rebalance_planned_) return;
    rebalance_planned_ = true;
    const auto delay = std::min<int64_t>(delay_ms, config_.rebalance_interval.count());
    loop().run_after(loop::Milliseconds(delay), [this] {
      rebalance_planned_ = false;
      rebalance();
    });
  });
}

void ConsumerCore::rebalance() {
  if (stopping_ || !ready_) return;
  if (rebalancing_) {
    rebalance_again_ = true;
    return;
  }
  const auto all = subscriptions();
  if (all.empty()) return;
  rebalancing_ = true;
  const int failures_before = failures_;
  auto left = std::make_shared<size_t>(all.size());
  for (const auto& subscription : all) {
    rebalance_topic(subscription->topic, [this, left, failures_before] {
      if (--*left != 0) return;
      rebalancing_ = false;
      if (failures_ == failures_before) {
        failures_ = 0;
      } else {
        rebalance_after(kLookAgainMs * std::min(failures_, 5));
      }
      if (std::exchange(rebalance_again_, false)) rebalance();
    });
  }
}

void ConsumerCore::rebalance_topic(const std::string& topic, std::function<void()> done) {
  auto route = instance_.route(topic);
  if (!route) {
    // route_changed brings us back here when there is one.
    instance_.fetch_route(topic, 0, [this, done = std::move(done)](const Result<TopicRoutePtr>& found) {
      if (!found) ++failures_;
      done();
    });
    return;
  }
  if (!clustering()) {
    if (!stopping_ && subscription(topic)) hooks_.assigned(topic, route->read_queues);
    return done();
  }
  const auto address = instance_.any_broker_of(topic);
  if (!address) {
    ++failures_;
    return done();
  }
  Command request = Command::request(RequestCode::kGetConsumerListByGroup);
  request.ext.set("consumerGroup", group_);
  instance_.call(*address, std::move(request), 0, [this, topic, done = std::move(done)](Result<Command> reply) {
    if (stopping_ || !subscription(topic)) return done();
    if (!reply || reply->code != response_code::kSuccess) {
      const std::string why = reply ? broker_error(*reply, "refused").message : reply.error().message;
      logger().warn("members of group {}: {}", group_, why);
      ++failures_;
      return done();
    }
    auto list = remoting::decode_get_consumer_list(reply->body.bytes);
    if (!list) {
      logger().warn("members of group {}: {}", group_, list.error().message);
      ++failures_;
      return done();
    }
    auto members = std::move(list->consumer_id_list);
    std::sort(members.begin(), members.end());
    if (std::find(members.begin(), members.end(), instance_.client_id()) == members.end()) ++failures_;
    assign(topic, members);
    done();
  });
}

void ConsumerCore::assign(const std::string& topic, const std::vector<std::string>& members) {
  auto route = instance_.route(topic);
  if (!route) return;
  std::vector<MessageQueue> share;
  try {
    share = config_.allocation.allocate(group_, instance_.client_id(), route->read_queues, members);
  } catch (const std::exception& error) {
    logger().error("allocation strategy {} threw: {}", config_.allocation.name, error.what());
    return;
  }
  std::sort(share.begin(), share.end());
  hooks_.assigned(topic, share);
}

void ConsumerCore::query_offset(const MessageQueue& queue, RequestCode code, int64_t time_ms, OffsetCallback done) {
  const auto address = instance_.request_address(queue.broker_name);
  if (!address) {
    instance_.fetch_route(queue.topic, 0, nullptr);
    return done(Error{Errc::kNotFound, "broker " + queue.broker_name + ": no master is known"});
  }
  Command request = Command::request(code);
  request.ext.set("topic", queue.topic);
  request.ext.set("queueId", queue.queue_id);
  if (code == RequestCode::kSearchOffsetByTimestamp) request.ext.set("timestamp", time_ms);
  request.ext.set("bname", queue.broker_name);
  instance_.call(*address, std::move(request), 0, [code, done = std::move(done)](Result<Command> reply) {
    if (!reply) return done(std::move(reply).error());
    if (reply->code != response_code::kSuccess) return done(broker_error(*reply, remoting::to_string(code)));
    const auto offset = reply->ext.get_int<int64_t>("offset");
    if (!offset) return done(Error{Errc::kCorrupt, "the broker's answer has no offset"});
    done(std::max<int64_t>(0, *offset));
  });
}

void ConsumerCore::fetch_committed(const MessageQueue& queue, OffsetCallback done) {
  if (!clustering()) {
    auto known = offsets_.get(queue);
    if (known) return done(*known);
    return done(Error{Errc::kNotFound, "no offset is stored for the queue"});
  }
  const auto place = place_of_offsets(queue.broker_name);
  if (!place) {
    instance_.fetch_route(queue.topic, 0, nullptr);
    return done(Error{Errc::kNetwork, "broker " + queue.broker_name + ": none is known"});
  }
  Command request = Command::request(RequestCode::kQueryConsumerOffset);
  request.ext.set("consumerGroup", group_);
  request.ext.set("topic", queue.topic);
  request.ext.set("queueId", queue.queue_id);
  request.ext.set("bname", queue.broker_name);
  // Else a broker of 5.x answers 0 for a queue of which everything is still there, and the time would not count.
  if (config_.consume_from == ConsumeFrom::kTimestamp && !is_retry_topic(queue.topic)) {
    request.ext.set("setZeroIfNotFound", false);
  }
  instance_.call(place->address, std::move(request), 0, [done = std::move(done)](Result<Command> reply) {
    if (!reply) return done(std::move(reply).error());
    if (reply->code == response_code::kQueryNotFound) {
      return done(Error{Errc::kNotFound, "no offset is stored for the queue", reply->code});
    }
    if (reply->code != response_code::kSuccess) return done(broker_error(*reply, "stored offset"));
    const auto offset = reply->ext.get_int<int64_t>("offset");
    if (!offset) return done(Error{Errc::kCorrupt, "the broker's answer has no offset"});
    if (*offset < 0) return done(Error{Errc::kNotFound, "no offset is stored for the queue"});
    done(*offset);
  });
}

void ConsumerCore::find_start_offset(const MessageQueue& queue, OffsetCallback done) {
  fetch_committed(queue, [this, queue, done = std::move(done)](Result<int64_t> stored) {
    if (stored || stored.error().code != Errc::kNotFound) return done(std::move(stored));
    const bool retry = is_retry_topic(queue.topic);
    switch (config_.consume_from) {
      case ConsumeFrom::kFirst: return query_offset(queue, RequestCode::kGetMinOffset, 0, done);
      case ConsumeFrom::kLast:
        if (retry) return done(int64_t{0});
        return query_offset(queue, RequestCode::kGetMaxOffset, 0, done);
      case ConsumeFrom::kTimestamp: break;
    }
    if (retry) return query_offset(queue, RequestCode::kGetMaxOffset, 0, done);
    const int64_t time = config_.consume_timestamp_ms != 0 ? config_.consume_timestamp_ms : started_ms_ - kHalfHourMs;
    query_offset(queue, RequestCode::kSearchOffsetByTimestamp, time, done);
  });
}

std::optional<BrokerPlace> ConsumerCore::place_of_offsets(const std::string& broker_name) const {
  auto place = instance_.place_to_read(broker_name);
  if (place && !place->slave) place->address = instance_.request_address(broker_name).value_or(place->address);
  return place;
}

void ConsumerCore::commit_one(const MessageQueue& queue, int64_t offset, std::function<void(Status)> done) {
  const auto place = place_of_offsets(queue.broker_name);
  if (!place) return done(Error{Errc::kNetwork, "broker " + queue.broker_name + ": none is known"});
  Command request = Command::request(RequestCode::kUpdateConsumerOffset);
  request.ext.set("consumerGroup", group_);
  request.ext.set("topic", queue.topic);
  request.ext.set("queueId", queue.queue_id);
  request.ext.set("commitOffset", offset);
  request.ext.set("bname", queue.broker_name);
  auto answered = [this, queue, offset, slave = place->slave, done = std::move(done)](const Result<Command>& reply) {
    if (!reply) return done(reply.error());
    if (reply->code != response_code::kSuccess) return done(broker_error(*reply, "commit"));
    // What a slave has is committed again, until the master has it.
    if (!slave) offsets_.mark_persisted(queue, offset);
    done({});
  };
  instance_.call(place->address, std::move(request), 0, std::move(answered));
}

Status ConsumerCore::save_file() {
  const auto all = offsets_.all();
  if (offsets_.unpersisted().empty()) return {};
  APOGEE_TRY(file_->save(all));
  for (const auto& [queue, offset] : all) offsets_.mark_persisted(queue, offset);
  return {};
}

void ConsumerCore::persist(const std::vector<MessageQueue>& queues, std::function<void(Status)> done) {
  loop().post([this, queues, done = std::move(done)] {
    if (!clustering()) {
      if (!file_) return;
      Status saved = save_file();
      if (!saved) logger().error("offsets: {}", saved.error().message);
      if (done) done(std::move(saved));
      return;
    }
    const auto changed = offsets_.unpersisted();
    std::vector<std::pair<MessageQueue, int64_t>> wanted;
    for (const auto& queue : queues) {
      auto found = changed.find(queue);
      if (found != changed.end() && (!hooks_.may_commit || hooks_.may_commit(queue))) wanted.push_back(*found);
    }
    if (wanted.empty()) {
      if (done) done({});
      return;
    }
    auto part = join_parts(wanted.size(), done);
    for (const auto& [queue, offset] : wanted) {
      commit_one(queue, offset, [this, part](Status committed) {
        if (!committed) logger().warn("offset is not persisted yet: {}", committed.error().message);
        part(std::move(committed));
      });
    }
  });
}

void ConsumerCore::persist_all(std::function<void(Status)> done) {
  std::vector<MessageQueue> queues;
  for (const auto& [queue, offset] : offsets_.unpersisted()) queues.push_back(queue);
  persist(queues, std::move(done));
}

}  // namespace apogee
