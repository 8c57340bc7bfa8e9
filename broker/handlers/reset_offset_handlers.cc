#include "broker/handlers/reset_offset_handlers.h"

#include <algorithm>
#include <memory>
#include <mutex>
#include <vector>

#include "broker/handlers/request_fields.h"
#include "common/remoting/bodies/client_bodies.h"

namespace apogee::broker {

namespace code = remoting::response_code;

namespace {

constexpr int64_t kStatusTimeoutMs = 5'000;

}  // namespace

void ResetOffsetHandlers::reset_offset(const remoting::Caller& caller, remoting::Command request,
                                       remoting::Responder respond) {
  RequestFields fields(request);
  const std::string topic = fields.text("topic");
  const std::string group = fields.text("group");
  const int64_t timestamp = fields.i64("timestamp");
  const bool force = fields.boolean("isForce");
  const int32_t only_queue = fields.i32_or("queueId", -1);
  const int64_t fixed_offset = fields.i64_or("offset", -1);
  if (!fields.ok()) return refuse(request, respond, fields);

  auto config = parts_.topics.find(topic);
  if (config == nullptr)
    return refuse(request, respond, code::kTopicNotExist,
                  "reset offset failed, no topic in this broker. topic=" + topic);
  if (only_queue >= config->read_queue_nums)
    return refuse(request, respond, code::kInvalidParameter,
                  "the header field queueId is " + std::to_string(only_queue) + ", but topic " + topic + " has " +
                      std::to_string(config->read_queue_nums) + " read queues");
  auto online = parts_.consumers.find(group);
  if (online == nullptr && parts_.groups.find(group) == nullptr)
    return refuse(request, respond, code::kSubscriptionGroupNotExist, "The consumer group <" + group + "> not exist");

  const int32_t first = std::max(only_queue, 0);
  const int32_t end = only_queue < 0 ? config->read_queue_nums : only_queue + 1;
  OffsetTable table;
  for (int32_t queue = first; queue < end; ++queue) {
    const int64_t min_offset = std::max<int64_t>(parts_.store.min_offset(topic, queue), 0);
    const int64_t max_offset = std::max<int64_t>(parts_.store.max_offset(topic, queue), 0);
    int64_t offset = max_offset;
    if (only_queue >= 0 && fixed_offset >= 0) {
      if (fixed_offset < min_offset || fixed_offset > max_offset)
        return refuse(request, respond, code::kInvalidParameter,
                      "the header field offset is " + std::to_string(fixed_offset) + ", not within " +
                          std::to_string(min_offset) + " to " + std::to_string(max_offset));
      offset = fixed_offset;
    } else if (timestamp >= 0) {
      offset = std::max<int64_t>(parts_.store.offset_by_time(topic, queue, timestamp, store::TimeBoundary::kLower), 0);
    }
    // Without force a group is only sent back, never forward.
    if (auto committed = parts_.offsets.query(group, topic, queue); !force && committed && *committed <= offset)
      offset = *committed;
    table[MessageQueue{topic, parts_.identity.broker_name, queue}] = offset;
  }

  if (online != nullptr) {
    tell_members(*online, topic, timestamp, force, table);
  } else {
    for (const auto& [queue, offset] : table) parts_.offsets.reset(group, topic, queue.queue_id, offset);
    if (Status status = parts_.offsets.flush(true); !status) return refuse(request, respond, status.error());
  }
  parts_.logger.info("offsets of group {} in topic {} reset to time {} by {}; {} consumers online", group, topic,
                     timestamp, caller.address, online == nullptr ? 0 : online->members.size());
  accept(request, respond, encode(remoting::ResetOffsetBody{std::move(table)}));
}

void ResetOffsetHandlers::tell_members(const ConsumerGroup& group, const std::string& topic, int64_t timestamp,
                                       bool force, const OffsetTable& table) const {
  const remoting::ResetOffsetBody body{table};
  for (const auto& member : group.members) {
    remoting::Command request = request_for(member, remoting::RequestCode::kResetConsumerClientOffset);
    request.ext.set("topic", topic);
    request.ext.set("group", group.name);
    request.ext.set("timestamp", timestamp);
    request.ext.set("isForce", force);
    request.body =
        SharedBytes::from(member.language == remoting::LanguageCode::kCpp ? encode_as_list(body) : encode(body));
    parts_.calls.send_oneway(member.connection, std::move(request));
  }
}

namespace {

// Answers once every member has, or has failed to.
struct StatusGathering {
  std::mutex mutex;
  remoting::GetConsumerStatusBody body;  // guarded by mutex
  size_t missing = 0;                    // guarded by mutex
};

}  // namespace

void ResetOffsetHandlers::consumer_status(const remoting::Caller& /*caller*/, remoting::Command request,
                                          remoting::Responder respond) {
  RequestFields fields(request);
  const std::string topic = fields.text("topic");
  const std::string name = fields.text("group");
  const std::string only_client = fields.text_or("clientAddr", "");
  if (!fields.ok()) return refuse(request, respond, fields);
  auto group = parts_.consumers.find(name);
  std::vector<ClientInfo> members;
  if (group != nullptr)
    for (const auto& member : group->members)
      if (only_client.empty() || member.client_id == only_client) members.push_back(member);
  if (members.empty())
    return refuse(request, respond, code::kSystemError, "No Any Consumer online in the consumer group: [" + name + "]");

  auto gathering = std::make_shared<StatusGathering>();
  gathering->missing = members.size();
  const Logger* logger = &parts_.logger;
  for (const auto& member : members) {
    remoting::Command ask = request_for(member, remoting::RequestCode::kGetConsumerStatusFromClient);
    ask.ext.set("topic", topic);
    ask.ext.set("group", name);
    parts_.calls.call(
        member.connection, std::move(ask), kStatusTimeoutMs,
        [gathering, request, respond, logger, client_id = member.client_id](Result<remoting::Command> reply) {
          std::lock_guard<std::mutex> lock(gathering->mutex);
          if (reply && reply->code == code::kSuccess) {
            auto status = remoting::decode_get_consumer_status_body(reply->body.bytes);
            if (status) {
              gathering->body.consumer_table[client_id] = std::move(status->message_queue_table);
            } else {
              logger->warn("status of consumer {}: {}", client_id, status.error().message);
            }
          } else {
            logger->warn("status of consumer {}: {}", client_id,
                         reply ? reply->remark.value_or("refused") : reply.error().message);
          }
          if (--gathering->missing == 0) accept(request, respond, encode(gathering->body));
        });
  }
}

}  // namespace apogee::broker
