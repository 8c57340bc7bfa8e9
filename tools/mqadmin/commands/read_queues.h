#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "tools/mqadmin/command.h"

// Reading queues from one place to another.
namespace mqadmin {

/// A part of a queue: offsets [begin, end), and what the whole of it has.
struct QueuePart {
  apogee::MessageQueue queue;
  int64_t min_offset = 0;
  int64_t max_offset = 0;
  int64_t begin = 0;
  int64_t end = 0;
};

/// Between two times (ms since 1970, both meant too), or all of it.
Result<QueuePart> range_of(Invocation& in, const apogee::MessageQueue& queue, std::optional<int64_t> from_ms,
                           std::optional<int64_t> to_ms);

using OnMessage = std::function<Status(const apogee::ReceivedMessage&)>;

/// Reads a part of a queue; `advanced` is told how far it came. Answers with the number of messages handed on.
Result<int64_t> read_range(Invocation& in, const QueuePart& part, const std::string& tags, const std::string& group,
                           int64_t count_max, const OnMessage& on_message,
                           const std::function<void(int64_t)>& advanced);

}  // namespace mqadmin
