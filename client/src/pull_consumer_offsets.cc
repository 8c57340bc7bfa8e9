// Offsets of a pull consumer: seeking, committing, and what the broker asks or tells about them.
#include "client/src/pull_consumer_impl.h"

namespace apogee {

using remoting::Command;
using remoting::RequestCode;
namespace response_code = remoting::response_code;

Result<int64_t> PullConsumer::Impl::wait_for_offset(const std::function<void(ConsumerCore::OffsetCallback)>& ask) {
  auto promise = std::make_shared<std::promise<Result<int64_t>>>();
  auto future = promise->get_future();
  ask([promise](Result<int64_t> offset) { promise->set_value(std::move(offset)); });
  if (future.wait_for(config_.request_timeout * 2 + std::chrono::seconds(1)) != std::future_status::ready) {
    return Error{Errc::kTimeout, "no answer in time"};
  }
  return future.get();
}

Status PullConsumer::Impl::ensure_route(const std::string& wire_topic) {
  if (core_.instance().route(wire_topic)) return {};
  auto promise = std::make_shared<std::promise<Status>>();
  auto future = promise->get_future();
  core_.instance().fetch_route(wire_topic, 0, [promise](Result<TopicRoutePtr> found) {
    promise->set_value(found ? Status() : Status(std::move(found).error()));
  });
  if (future.wait_for(config_.request_timeout * 2 + std::chrono::seconds(1)) != std::future_status::ready) {
    return Error{Errc::kTimeout, "no answer in time"};
  }
  return future.get();
}

Result<std::vector<MessageQueue>> PullConsumer::Impl::queues(const std::string& topic) {
  APOGEE_TRY(check_callable("queues"));
  APOGEE_TRY(check_topic_name(topic));
  const std::string wire = core_.wire_name(topic);
  APOGEE_TRY(ensure_route(wire));
  auto route = core_.instance().route(wire);
  if (!route) return Error{Errc::kNotFound, "no route for topic " + topic};
  std::vector<MessageQueue> named;
  for (const auto& queue : route->read_queues) named.push_back(core_.named_queue(queue));
  return named;
}

Status PullConsumer::Impl::seek(const MessageQueue& queue, SeekTo where, int64_t offset) {
  APOGEE_TRY(check_callable("seek"));
  const MessageQueue key = core_.wire_queue(queue);
  {
    std::lock_guard lock(mutex_);
    if (!find_locked(key)) return Error{Errc::kInvalidArgument, "queue: is not assigned to this consumer"};
  }
  APOGEE_TRY(ensure_route(key.topic));
  int64_t min = 0;
  int64_t max = 0;
  if (where != SeekTo::kEnd) {
    APOGEE_TRY_ASSIGN(min, wait_for_offset([&](ConsumerCore::OffsetCallback done) {
                        core_.query_offset(key, RequestCode::kGetMinOffset, 0, std::move(done));
                      }));
  }
  if (where != SeekTo::kBegin) {
    APOGEE_TRY_ASSIGN(max, wait_for_offset([&](ConsumerCore::OffsetCallback done) {
                        core_.query_offset(key, RequestCode::kGetMaxOffset, 0, std::move(done));
                      }));
  }
  if (where == SeekTo::kBegin) offset = min;
  if (where == SeekTo::kEnd) offset = max;
  if (where == SeekTo::kOffset && (offset < min || offset > max)) {
    return Error{Errc::kInvalidArgument, "offset: " + std::to_string(offset) + " is not in [" + std::to_string(min) +
                                             ", " + std::to_string(max) + "]"};
  }
  std::lock_guard lock(mutex_);
  auto found = find_locked(key);
  if (!found) return Error{Errc::kInvalidArgument, "queue: is not assigned to this consumer any more"};
  found->go_to(offset);
  core_.loop().post([this, found, generation = found->generation] { pull(found, generation); });
  return {};
}

int64_t PullConsumer::Impl::position(const MessageQueue& queue) const {
  std::lock_guard lock(mutex_);
  auto found = find_locked(core_.wire_queue(queue));
  return found ? found->position : -1;
}

void PullConsumer::Impl::auto_commit() {
  std::vector<MessageQueue> queues;
  {
    std::lock_guard lock(mutex_);
    for (const auto& [key, queue] : table_) {
      if (queue->done < 0) continue;
      core_.offsets().update(key, queue->done, false);
      queues.push_back(key);
    }
  }
  core_.persist(queues, nullptr);
}

Status PullConsumer::Impl::wait_for_commit(const std::vector<MessageQueue>& queues) {
  auto promise = std::make_shared<std::promise<Status>>();
  auto future = promise->get_future();
  core_.persist(queues, [promise](Status committed) { promise->set_value(std::move(committed)); });
  if (future.wait_for(config_.request_timeout + std::chrono::seconds(1)) != std::future_status::ready) {
    return Error{Errc::kTimeout, "commit: no answer in time"};
  }
  return future.get();
}

Status PullConsumer::Impl::commit() {
  APOGEE_TRY(check_callable("commit"));
  std::vector<MessageQueue> queues;
  {
    std::lock_guard lock(mutex_);
    for (const auto& [key, queue] : table_) {
      if (queue->position < 0) continue;
      queue->done = queue->position;
      core_.offsets().update(key, queue->position, false);
      queues.push_back(key);
    }
  }
  return wait_for_commit(queues);
}

Status PullConsumer::Impl::commit(const std::map<MessageQueue, int64_t>& offsets) {
  APOGEE_TRY(check_callable("commit"));
  std::vector<MessageQueue> queues;
  for (const auto& [queue, offset] : offsets) {
    if (offset < 0) return Error{Errc::kInvalidArgument, "offset: is negative"};
    queues.push_back(core_.wire_queue(queue));
    APOGEE_TRY(ensure_route(queues.back().topic));
    core_.offsets().update(queues.back(), offset, false);
  }
  return wait_for_commit(queues);
}

Result<int64_t> PullConsumer::Impl::committed(const MessageQueue& queue) {
  APOGEE_TRY(check_callable("committed"));
  const MessageQueue key = core_.wire_queue(queue);
  APOGEE_TRY(ensure_route(key.topic));
  return wait_for_offset([&](ConsumerCore::OffsetCallback done) { core_.fetch_committed(key, std::move(done)); });
}

Result<int64_t> PullConsumer::Impl::offset_for_time(const MessageQueue& queue, int64_t time_ms) {
  APOGEE_TRY(check_callable("offset_for_time"));
  const MessageQueue key = core_.wire_queue(queue);
  APOGEE_TRY(ensure_route(key.topic));
  return wait_for_offset([&](ConsumerCore::OffsetCallback done) {
    core_.query_offset(key, RequestCode::kSearchOffsetByTimestamp, time_ms, std::move(done));
  });
}

bool PullConsumer::Impl::on_request(Command& request, const remoting::Responder& respond) {
  switch (request.request_code()) {
    case RequestCode::kResetConsumerClientOffset: reset_offsets(request); return true;
    case RequestCode::kGetConsumerStatusFromClient:
    case RequestCode::kGetConsumerRunningInfo: break;
    default: return false;
  }
  const bool status = request.request_code() == RequestCode::kGetConsumerStatusFromClient;
  const char* field = status ? "group" : "consumerGroup";
  if (request.ext.get(field).value_or("") != core_.group()) {
    respond(Command::response_to(request, response_code::kSystemError,
                                 std::string(field) + ": this client is no member of that group"));
    return true;
  }
  Command reply = Command::response_to(request, response_code::kSuccess);
  if (status) {
    const auto topic = request.ext.get("topic");
    remoting::GetConsumerStatusBody body;
    for (const auto& [queue, offset] : core_.offsets().all()) {
      if (!topic || *topic == queue.topic) body.message_queue_table[queue] = offset;
    }
    reply.body = SharedBytes::from(remoting::encode(body));
  } else {
    remoting::ConsumerRunningInfo info;
    info.properties["PROP_CONSUMEORDERLY"] = "false";
    info.properties["PROP_CONSUME_TYPE"] = remoting::to_string(remoting::ConsumeType::kActively);
    info.properties["PROP_CLIENT_VERSION"] = "V5_3_3";
    info.properties["PROP_CONSUMER_START_TIMESTAMP"] = std::to_string(started_ms_);
    info.properties["PROP_NAMESERVER_ADDR"] = core_.instance().name_servers_text();
    info.properties["PROP_THREADPOOL_CORE_SIZE"] = "0";
    for (const auto& subscription : core_.subscriptions()) info.subscription_set.push_back(*subscription);
    std::lock_guard lock(mutex_);
    for (const auto& [key, queue] : table_) {
      auto& of_queue = info.mq_table[key];
      of_queue.commit_offset = core_.offsets().get(key).value_or(-1);
      of_queue.cached_msg_count = static_cast<int32_t>(queue->cached.size());
      of_queue.cached_msg_size_in_mib = static_cast<int32_t>(queue->bytes / (1024 * 1024));
      if (!queue->cached.empty()) {
        of_queue.cached_msg_min_offset = queue->cached.front().queue_offset();
        of_queue.cached_msg_max_offset = queue->cached.back().queue_offset();
      }
      of_queue.last_pull_timestamp = queue->last_pull_ms;
    }
    reply.body = SharedBytes::from(remoting::encode(info));
  }
  respond(std::move(reply));
  return true;
}

void PullConsumer::Impl::reset_offsets(const Command& request) {
  if (request.ext.get("group").value_or("") != core_.group()) return;
  auto body = remoting::decode_reset_offset_body(request.body.bytes);
  if (!body) {
    core_.logger().warn("reset of offsets: {}", body.error().message);
    return;
  }
  std::vector<MessageQueue> reset;
  {
    std::lock_guard lock(mutex_);
    for (const auto& [key, offset] : body->offset_table) {
      auto queue = find_locked(key);
      if (!queue) continue;
      queue->go_to(offset);
      core_.offsets().update(key, offset, false);
      reset.push_back(key);
      core_.loop().post([this, queue, generation = queue->generation] { pull(queue, generation); });
    }
  }
  core_.persist(reset, nullptr);
}

}  // namespace apogee
