#include "broker/limits/rate_limits.h"

#include <algorithm>
#include <utility>

#include "common/base/text.h"

namespace apogee::broker {

namespace {

std::string consumer_key(const std::string& group, remoting::ConnectionId connection) {
  return std::to_string(connection) + "@" + group;
}

std::string remark(const char* key, int64_t rate, const std::string& whose) {
  return "[FLOW_CONTROL]" + whose + ": " + key + " allows " + std::to_string(rate) +
         " messages per second, try again later";
}

/// A bucket holds what one second gives.
TokenBucket::Rate of_a_second(int64_t rate) { return {static_cast<double>(rate), static_cast<double>(rate)}; }

bool is_empty(const TokenBucket& bucket, int64_t rate, int64_t now_us) {
  return bucket.due_us(of_a_second(rate), 1, now_us) > static_cast<double>(now_us);
}

}  // namespace

RateLimits::RateLimits(const BrokerConfig& config, Clock clock) : config_(config), clock_(std::move(clock)) {}

int64_t RateLimits::rate_of(Kind kind) const {
  switch (kind) {
    case kTopic: return config_.publish_rate_per_topic;
    case kClient: return config_.publish_rate_per_client;
    case kConsumer: return config_.consume_rate;
    default: return config_.consume_rate_per_group;
  }
}

std::optional<std::string> RateLimits::refuse_publishing(const std::string& topic, remoting::ConnectionId connection,
                                                         const std::function<int64_t()>& count) {
  const int64_t topic_rate = rate_of(kTopic), client_rate = rate_of(kClient);
  if (topic_rate == 0 && client_rate == 0) return std::nullopt;
  if (is_retry_topic(topic) || topic == config_.trace_topic_name) return std::nullopt;
  const auto messages = static_cast<double>(count());
  const int64_t now = clock_();
  std::lock_guard lock(mutex_);
  TokenBucket* of_topic = topic_rate == 0 ? nullptr : &buckets_[kTopic][topic];
  if (of_topic != nullptr && is_empty(*of_topic, topic_rate, now))
    return remark("publishRatePerTopic", topic_rate, "topic " + topic);
  if (client_rate != 0) {
    TokenBucket& of_client = buckets_[kClient][std::to_string(connection)];
    if (is_empty(of_client, client_rate, now))
      return remark("publishRatePerClient", client_rate, "client, topic " + topic);
    of_client.take(of_a_second(client_rate), messages, now);
  }
  if (of_topic != nullptr) of_topic->take(of_a_second(topic_rate), messages, now);
  return std::nullopt;
}

std::optional<std::string> RateLimits::refuse_consumption(const std::string& group, remoting::ConnectionId connection) {
  const int64_t consumer_rate = rate_of(kConsumer), group_rate = rate_of(kGroup);
  if (consumer_rate == 0 && group_rate == 0) return std::nullopt;
  const int64_t now = clock_();
  std::lock_guard lock(mutex_);
  if (consumer_rate != 0 && is_empty(buckets_[kConsumer][consumer_key(group, connection)], consumer_rate, now))
    return remark("maxConsumeRate", consumer_rate, "consumer of group " + group);
  if (group_rate != 0 && is_empty(buckets_[kGroup][group], group_rate, now))
    return remark("maxConsumeRatePerGroup", group_rate, "group " + group);
  return std::nullopt;
}

void RateLimits::consumed(const std::string& group, remoting::ConnectionId connection, int64_t messages) {
  const int64_t consumer_rate = rate_of(kConsumer), group_rate = rate_of(kGroup);
  if (consumer_rate == 0 && group_rate == 0) return;
  const int64_t now = clock_();
  const auto count = static_cast<double>(messages);
  std::lock_guard lock(mutex_);
  if (consumer_rate != 0)
    buckets_[kConsumer][consumer_key(group, connection)].take(of_a_second(consumer_rate), count, now);
  if (group_rate != 0) buckets_[kGroup][group].take(of_a_second(group_rate), count, now);
}

void RateLimits::connection_closed(remoting::ConnectionId connection) {
  const std::string key = std::to_string(connection), prefix = key + "@";
  std::lock_guard lock(mutex_);
  buckets_[kClient].erase(key);
  auto& consumers = buckets_[kConsumer];
  for (auto at = consumers.lower_bound(prefix);
       at != consumers.end() && std::string_view(at->first).substr(0, prefix.size()) == prefix;)
    at = consumers.erase(at);
}

void RateLimits::expire() {
  const int64_t now = clock_();
  std::lock_guard lock(mutex_);
  for (uint8_t kind = 0; kind < kKinds; ++kind) {
    const bool limited = rate_of(static_cast<Kind>(kind)) != 0;
    auto& buckets = buckets_[kind];
    for (auto at = buckets.begin(); at != buckets.end();)
      at = !limited || at->second.is_full(now) ? buckets.erase(at) : std::next(at);
  }
}

size_t RateLimits::size() const {
  std::lock_guard lock(mutex_);
  size_t all = 0;
  for (const auto& buckets : buckets_) all += buckets.size();
  return all;
}

}  // namespace apogee::broker
