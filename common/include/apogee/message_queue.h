#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <tuple>

namespace apogee {

/// One queue of a topic on one broker. Ordered by topic, broker name, queue id, as Java clients order
/// the queues that they divide among the members of a group.
struct MessageQueue {
  std::string topic;
  std::string broker_name;
  int32_t queue_id = 0;

  friend bool operator==(const MessageQueue& a, const MessageQueue& b) {
    return a.queue_id == b.queue_id && a.topic == b.topic && a.broker_name == b.broker_name;
  }
  friend bool operator!=(const MessageQueue& a, const MessageQueue& b) { return !(a == b); }
  friend bool operator<(const MessageQueue& a, const MessageQueue& b) {
    return std::tie(a.topic, a.broker_name, a.queue_id) < std::tie(b.topic, b.broker_name, b.queue_id);
  }
};

}  // namespace apogee

template <>
struct std::hash<apogee::MessageQueue> {
  std::size_t operator()(const apogee::MessageQueue& queue) const noexcept {
    std::size_t value = std::hash<std::string>()(queue.topic);
    value = value * 31 + std::hash<std::string>()(queue.broker_name);
    return value * 31 + static_cast<std::size_t>(queue.queue_id);
  }
};
