#include "tools/mqadmin/commands/read_queues.h"

#include <fmt/format.h>

#include <algorithm>

namespace mqadmin {

using apogee::MessageQueue;
namespace admin = apogee::admin;

Result<QueuePart> range_of(Invocation& in, const MessageQueue& queue, std::optional<int64_t> from_ms,
                           std::optional<int64_t> to_ms) {
  QueuePart range;
  range.queue = queue;
  APOGEE_TRY_ASSIGN(range.min_offset, in.client().min_offset(queue));
  APOGEE_TRY_ASSIGN(range.max_offset, in.client().max_offset(queue));
  range.min_offset = std::max<int64_t>(range.min_offset, 0);
  range.begin = range.min_offset;
  range.end = range.max_offset;
  if (from_ms) {
    APOGEE_TRY_ASSIGN(range.begin, in.client().offset_by_time(queue, *from_ms));
  }
  if (to_ms) {
    // The end itself is meant too, so what follows it is where reading stops.
    APOGEE_TRY_ASSIGN(range.end, in.client().offset_by_time(queue, *to_ms + 1));
  }
  return range;
}

Result<int64_t> read_range(Invocation& in, const QueuePart& range, const std::string& tags, const std::string& group,
                           int64_t count_max, const OnMessage& on_message,
                           const std::function<void(int64_t)>& advanced) {
  int64_t count = 0;
  admin::PullRequest request;
  request.queue = range.queue;
  request.offset = range.begin;
  request.tags = tags;
  request.group = group;
  while (request.offset < range.end && count < count_max) {
    APOGEE_TRY_ASSIGN(auto pulled, in.client().pull(request));
    for (const auto& message : pulled.messages) {
      if (message.queue_offset() >= range.end || count == count_max) return count;
      APOGEE_TRY(on_message(message));
      ++count;
    }
    if (pulled.status == admin::PullStatus::kNoNewMessage) break;
    if (pulled.next_offset <= request.offset) {
      return Error{Errc::kCorrupt,
                   fmt::format("the broker {} does not come further than offset {} of queue {} of {}",
                               range.queue.broker_name, request.offset, range.queue.queue_id, range.queue.topic)};
    }
    advanced(pulled.next_offset - request.offset);
    request.offset = pulled.next_offset;
  }
  return count;
}

}  // namespace mqadmin
