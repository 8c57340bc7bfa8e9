#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "broker/broker_config.h"
#include "common/base/token_bucket.h"
#include "common/remoting/remoting_server.h"

namespace apogee::broker {

/// Token buckets: how many messages per second may be published to a topic or by a client (a connection), and pulled by
/// a consumer (a connection in a group) or a group. A bucket holds what one second gives. A request is let pass while
/// there is a token, and may then take more than there is: what it took too much, the next ones wait for.
/// Retry topics, to which consumers give back what they could not handle, and the topic of traces have no limit.
/// Rates are read from the configuration at each request. Thread: any.
class RateLimits {
 public:
  /// Microseconds of a clock that does not go back.
  using Clock = std::function<int64_t()>;
  explicit RateLimits(const BrokerConfig& config, Clock clock = steady_us);

  /// nullopt: the messages may be stored, and are counted. Else the remark for the flow-control code, naming the limit.
  /// `count` is asked only where there is a limit.
  [[nodiscard]] std::optional<std::string> refuse_publishing(const std::string& topic,
                                                             remoting::ConnectionId connection,
                                                             const std::function<int64_t()>& count);
  /// Whether refuse_publishing() could refuse anything.
  [[nodiscard]] bool limits_publishing() const { return rate_of(kTopic) != 0 || rate_of(kClient) != 0; }
  /// nullopt: the consumer may pull now. Counts nothing.
  [[nodiscard]] std::optional<std::string> refuse_consumption(const std::string& group,
                                                              remoting::ConnectionId connection);
  /// So many messages were pulled.
  void consumed(const std::string& group, remoting::ConnectionId connection, int64_t messages);

  void connection_closed(remoting::ConnectionId connection);
  /// Forgets buckets that are full again; call now and then.
  void expire();
  [[nodiscard]] size_t size() const;

 private:
  using Buckets = std::map<std::string, TokenBucket, std::less<>>;
  enum Kind : uint8_t { kTopic, kClient, kConsumer, kGroup, kKinds };

  [[nodiscard]] int64_t rate_of(Kind kind) const;

  const BrokerConfig& config_;
  const Clock clock_;
  mutable std::mutex mutex_;
  std::array<Buckets, kKinds> buckets_;  // guarded by mutex_
};

}  // namespace apogee::broker
