#include "client/src/pending_requests.h"

#include <memory>
#include <utility>

#include "client/src/client_instance.h"
#include "client/src/message_access.h"
#include "client/src/received_message.h"
#include "common/base/text.h"
#include "common/message/compression.h"
#include "common/message/properties.h"
#include "common/message/property_names.h"
#include "common/message/sys_flag.h"

namespace apogee {

namespace property = message::property;

namespace {

constexpr size_t kReplyBytesMax = 64 * 1024 * 1024;

}  // namespace

void PendingRequests::add(const std::string& correlation_id, RequestCallback done) {
  std::lock_guard lock(mutex_);
  waiting_[correlation_id] = std::move(done);
}

bool PendingRequests::finish(const std::string& correlation_id, Result<ReceivedMessage> result) {
  RequestCallback done;
  {
    std::lock_guard lock(mutex_);
    auto found = waiting_.find(correlation_id);
    if (found == waiting_.end()) return false;
    done = std::move(found->second);
    waiting_.erase(found);
  }
  done(std::move(result));
  return true;
}

void PendingRequests::finish_all(const Error& error) {
  std::map<std::string, RequestCallback> all;
  {
    std::lock_guard lock(mutex_);
    all.swap(waiting_);
  }
  for (auto& [id, done] : all) done(error);
}

Result<ReceivedMessage> read_pushed_reply(const remoting::Command& request) {
  const auto& ext = request.ext;
  const auto topic = ext.get("topic");
  const auto properties = ext.get("properties");
  if (!topic || !properties) return Error{Errc::kCorrupt, "a pushed reply without topic or properties"};
  /// What the views of the message point into.
  struct Kept {
    SharedBytes body;
    std::string properties;
  };
  auto kept = std::make_shared<Kept>();
  kept->body = request.body;
  kept->properties = std::string(*properties);
  message::append_property(kept->properties, property::kArriveTime, std::to_string(now_ms()));

  auto data = std::make_shared<ReceivedMessage::Data>();
  data->topic = std::string(*topic);
  data->queue = {data->topic, "", ext.get_int<int32_t>("queueId").value_or(0)};
  data->stored_properties = kept->properties;
  data->body = kept->body.bytes;
  data->born_host = std::string(ext.get("bornHost").value_or(""));
  data->store_host = std::string(ext.get("storeHost").value_or(""));
  data->born_time_ms = ext.get_int<int64_t>("bornTimestamp").value_or(0);
  data->store_time_ms = ext.get_int<int64_t>("storeTimestamp").value_or(0);
  data->reconsume_times = ext.get_int<int32_t>("reconsumeTimes").value_or(0);
  data->flag = ext.get_int<int32_t>("flag").value_or(0);
  data->sys_flag = ext.get_int<int32_t>("sysFlag").value_or(0);
  if ((data->sys_flag & message::sys_flag::kCompressed) != 0) {
    APOGEE_TRY_ASSIGN(const auto type, message::compression_of(data->sys_flag));
    APOGEE_TRY_ASSIGN(auto plain, message::decompress(type, data->body, kReplyBytesMax));
    data->plain_body = std::make_shared<const std::string>(std::move(plain));
    data->body = *data->plain_body;
    data->sys_flag &= ~message::sys_flag::kCompressed;
  }
  const auto unique = message::find_property(data->stored_properties, property::kUniqueKey);
  if (unique) data->msg_id = std::string(*unique);
  data->owner = std::move(kept);
  return ReceivedMessage(std::move(data));
}

Result<Message> reply_to(const ReceivedMessage& request, std::string body) {
  const auto cluster = request.property(property::kCluster);
  if (!cluster) {
    return Error{Errc::kInvalidArgument, "message " + request.msg_id() + ": no CLUSTER: its broker serves no requests"};
  }
  Message reply(reply_topic_of(*cluster), std::move(body));
  for (auto name : {property::kCorrelationId, property::kReplyToClient, property::kTtl}) {
    const auto value = request.property(name);
    if (!value || value->empty()) {
      if (name == property::kTtl) continue;
      return Error{Errc::kInvalidArgument,
                   "message " + request.msg_id() + ": no " + std::string(name) + ": it wants no reply"};
    }
    MessageAccess::set_system_property(reply, std::string(name), std::string(*value));
  }
  MessageAccess::set_system_property(reply, std::string(property::kMessageType), std::string(property::kTypeReply));
  MessageAccess::set_preferred_broker(reply, request.queue().broker_name);
  return reply;
}

}  // namespace apogee
