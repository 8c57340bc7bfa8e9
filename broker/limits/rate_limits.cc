#include "broker/limits/rate_limits.h"

#include <algorithm>
#include <chrono>
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

}  // namespace

int64_t RateLimits::steady_clock_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

RateLimits::RateLimits(const BrokerConfig& config, Clock clock) : config_(config), clock_(std::move(clock)) {}

int64_t RateLimits::rate_of(Kind kind) const {
  switch (kind) {
    case kTopic: return config_.publish_rate_per_topic;
    case kClient: return config_.publish_rate_per_client;
    case kConsumer: return config_.consume_rate;
    default: return config_.consume_rate_per_group;
  }
}

// With the lock held. A bucket that is new is full.
RateLimits::Bucket& RateLimits::fill(Kind kind, const std::string& key, int64_t rate, int64_t now) {
  const auto most = static_cast<double>(rate);
  auto [at, added] = buckets_[kind].try_emplace(key, Bucket{most, now});
  Bucket& bucket = at->second;
  bucket.tokens = std::min(most, bucket.tokens + static_cast<double>(now - bucket.filled_ms) * most / 1'000);
  bucket.filled_ms = now;
  return bucket;
}

std::optional<std::string> RateLimits::refuse_publishing(const std::string& topic, remoting::ConnectionId connection,
                                                         const std::function<int64_t()>& count) {
  const int64_t topic_rate = rate_of(kTopic), client_rate = rate_of(kClient);
  if (topic_rate == 0 && client_rate == 0) return std::nullopt;
  if (is_retry_topic(topic) || topic == config_.trace_topic_name) return std::nullopt;
  const auto messages = static_cast<double>(count());
  const int64_t now = clock_();
  std::lock_guard lock(mutex_);
  Bucket* of_topic = topic_rate == 0 ? nullptr : &fill(kTopic, topic, topic_rate, now);
  if (of_topic != nullptr && of_topic->tokens < 1) return remark("publishRatePerTopic", topic_rate, "topic " + topic);
  if (client_rate != 0) {
    Bucket& of_client = fill(kClient, std::to_string(connection), client_rate, now);
    if (of_client.tokens < 1) return remark("publishRatePerClient", client_rate, "client, topic " + topic);
    of_client.tokens -= messages;
  }
  if (of_topic != nullptr) of_topic->tokens -= messages;
  return std::nullopt;
}

std::optional<std::string> RateLimits::refuse_consumption(const std::string& group, remoting::ConnectionId connection) {
  const int64_t consumer_rate = rate_of(kConsumer), group_rate = rate_of(kGroup);
  if (consumer_rate == 0 && group_rate == 0) return std::nullopt;
  const int64_t now = clock_();
  std::lock_guard lock(mutex_);
  if (consumer_rate != 0 && fill(kConsumer, consumer_key(group, connection), consumer_rate, now).tokens < 1)
    return remark("maxConsumeRate", consumer_rate, "consumer of group " + group);
  if (group_rate != 0 && fill(kGroup, group, group_rate, now).tokens < 1)
    return remark("maxConsumeRatePerGroup", group_rate, "group " + group);
  return std::nullopt;
}

void RateLimits::consumed(const std::string& group, remoting::ConnectionId connection, int64_t messages) {
  const int64_t consumer_rate = rate_of(kConsumer), group_rate = rate_of(kGroup);
  if (consumer_rate == 0 && group_rate == 0) return;
  const int64_t now = clock_();
  std::lock_guard lock(mutex_);
  if (consumer_rate != 0)
    fill(kConsumer, consumer_key(group, connection), consumer_rate, now).tokens -= static_cast<double>(messages);
  if (group_rate != 0) fill(kGroup, group, group_rate, now).tokens -= static_cast<double>(messages);
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
    const auto rate = static_cast<double>(rate_of(static_cast<Kind>(kind)));
    auto& buckets = buckets_[kind];
    for (auto at = buckets.begin(); at != buckets.end();) {
      const double waited = static_cast<double>(now - at->second.filled_ms) / 1'000;
      at = rate == 0 || at->second.tokens + waited * rate >= rate ? buckets.erase(at) : std::next(at);
    }
  }
}

size_t RateLimits::size() const {
  std::lock_guard lock(mutex_);
  size_t all = 0;
  for (const auto& buckets : buckets_) all += buckets.size();
  return all;
}

}  // namespace apogee::broker
