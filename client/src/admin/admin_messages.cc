#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <random>
#include <set>

#include "client/src/admin/admin_impl.h"
#include "client/src/received_message.h"
#include "common/base/text.h"
#include "common/message/message_record.h"
#include "common/message/properties.h"
#include "common/message/property_names.h"
#include "common/message/sys_flag.h"
#include "common/remoting/bodies/topic_bodies.h"

// Sending, reading and finding messages.
namespace apogee {

using remoting::Command;
using remoting::RequestCode;
namespace rc = remoting::response_code;

namespace {

constexpr const char* kProducerGroup = "CLIENT_INNER_PRODUCER";
constexpr const char* kTemplateTopic = "TBW102";
constexpr int32_t kTemplateQueues = 4;

int64_t now_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch())
      .count();
}

Result<std::string> properties_of(const Message& message, const std::string& unique_id) {
  namespace property = message::property;
  std::string text;
  for (const auto& [name, value] : message.properties()) {
    APOGEE_TRY(message::check_property(name, value));
    message::append_property(text, name, value);
  }
  if (!message.keys().empty()) {
    APOGEE_TRY(message::check_property(property::kKeys, message.keys()));
    message::append_property(text, property::kKeys, message.keys());
  }
  if (!message.tags().empty()) {
    APOGEE_TRY(message::check_property(property::kTags, message.tags()));
    message::append_property(text, property::kTags, message.tags());
  }
  message::append_property(text, property::kUniqueKey, unique_id);
  message::append_property(text, property::kWait, message.wait_store_ok() ? "true" : "false");
  return text;
}

}  // namespace

namespace admin {

std::vector<MessageQueue> writable_queues(const remoting::TopicRouteData& route, const std::string& topic,
                                          int32_t queues_max) {
  std::vector<MessageQueue> queues;
  for (const auto& queue : route.queue_datas) {
    if ((queue.perm & remoting::perm::kWrite) == 0) continue;
    bool has_master = std::any_of(route.broker_datas.begin(), route.broker_datas.end(), [&queue](const auto& broker) {
      return broker.broker_name == queue.broker_name && broker.broker_addrs.count(0) != 0;
    });
    if (!has_master) continue;
    for (int32_t id = 0; id < std::min(queue.write_queue_nums, queues_max); ++id) {
      queues.push_back({topic, queue.broker_name, id});
    }
  }
  std::sort(queues.begin(), queues.end());
  return queues;
}

std::optional<SendStatus> stored_status(int32_t response_code) {
  switch (response_code) {
    case rc::kSuccess: return SendStatus::kOk;
    case rc::kFlushDiskTimeout: return SendStatus::kFlushDiskTimeout;
    case rc::kFlushSlaveTimeout: return SendStatus::kFlushSlaveTimeout;
    case rc::kSlaveNotAvailable: return SendStatus::kSlaveNotAvailable;
    default: return std::nullopt;
  }
}

const char* to_string(PullStatus status) {
  switch (status) {
    case PullStatus::kFound: return "FOUND";
    case PullStatus::kNoNewMessage: return "NO_NEW_MSG";
    case PullStatus::kNoMatchedMessage: return "NO_MATCHED_MSG";
    case PullStatus::kOffsetIllegal: return "OFFSET_ILLEGAL";
  }
  return "UNKNOWN";
}

}  // namespace admin

Result<SendReceipt> AdminClient::send(const Message& message, const admin::SendTarget& target) {
  APOGEE_TRY(check_topic_name(message.topic()));
  if (message.body().empty()) return Error{Errc::kInvalidArgument, "the body is empty"};
  if (target.queue_id && target.broker_name.empty()) {
    return Error{Errc::kInvalidArgument, "a queue id needs the name of its broker"};
  }
  int32_t queues_max = INT32_MAX;
  auto route = impl_->route(message.topic());
  if (!route && route.error().response_code == rc::kTopicNotExist) {
    // A broker that creates topics by itself announces the template topic.
    auto missing = route.error();
    route = impl_->route(kTemplateTopic);
    if (!route) return missing;
    queues_max = kTemplateQueues;
  }
  if (!route) return std::move(route).error();

  auto queues = admin::writable_queues(*route, message.topic(), queues_max);
  auto unwanted = [&target](const MessageQueue& queue) {
    return (!target.broker_name.empty() && queue.broker_name != target.broker_name) ||
           (target.queue_id && queue.queue_id != *target.queue_id);
  };
  queues.erase(std::remove_if(queues.begin(), queues.end(), unwanted), queues.end());
  if (queues.empty()) {
    std::string which = target.broker_name.empty() ? "" : " on " + target.broker_name;
    if (target.queue_id) which += fmt::format(" with id {}", *target.queue_id);
    return Error{Errc::kNotFound, fmt::format("the topic {} has no writable queue{}", message.topic(), which)};
  }
  const auto& queue = queues[std::random_device()() % queues.size()];

  std::string unique_id = impl_->ids.next(now_ms());
  APOGEE_TRY_ASSIGN(auto properties, properties_of(message, unique_id));
  auto request = Command::request(RequestCode::kSendMessageV2);
  request.ext.set("a", kProducerGroup);
  request.ext.set("b", message.topic());
  request.ext.set("c", kTemplateTopic);
  request.ext.set("d", kTemplateQueues);
  request.ext.set("e", queue.queue_id);
  request.ext.set("f", 0);
  request.ext.set("g", now_ms());
  request.ext.set("h", message.flag());
  request.ext.set("i", properties);
  request.ext.set("j", 0);
  request.ext.set("k", false);
  request.ext.set("m", false);
  request.ext.set("n", queue.broker_name);
  request.body = SharedBytes::from(message.body());
  APOGEE_TRY_ASSIGN(auto address, impl_->address_of(queue.broker_name));
  APOGEE_TRY_ASSIGN(auto answer, impl_->call_any(address, std::move(request)));

  const auto status = admin::stored_status(answer.code);
  if (!status) return Impl::refusal(address, answer);
  SendReceipt receipt;
  receipt.status = *status;
  receipt.msg_id = unique_id;
  receipt.offset_msg_id = answer.ext.get("msgId").value_or("");
  receipt.queue = queue;
  receipt.queue.queue_id = answer.ext.get_int<int32_t>("queueId").value_or(queue.queue_id);
  receipt.queue_offset = answer.ext.get_int<int64_t>("queueOffset").value_or(-1);
  return receipt;
}

Result<admin::Pulled> AdminClient::pull(const admin::PullRequest& pull) {
  APOGEE_TRY_ASSIGN(auto subscription, remoting::build_tag_subscription(pull.queue.topic, pull.tags, 0));
  auto request = Command::request(RequestCode::kPullMessage);
  request.ext.set("consumerGroup", pull.group);
  request.ext.set("queueOffset", pull.offset);
  request.ext.set("maxMsgNums", pull.messages_max);
  request.ext.set("sysFlag", message::pull_sys_flag::kSubscription);
  request.ext.set("commitOffset", 0);
  request.ext.set("suspendTimeoutMillis", 0);
  request.ext.set("subscription", subscription.sub_string);
  request.ext.set("subVersion", subscription.sub_version);
  request.ext.set("expressionType", "TAG");
  request.ext.set("topic", pull.queue.topic);
  request.ext.set("queueId", pull.queue.queue_id);
  APOGEE_TRY_ASSIGN(auto address, impl_->address_of(pull.queue.broker_name));
  APOGEE_TRY_ASSIGN(auto answer, impl_->call_any(address, std::move(request)));

  admin::Pulled pulled;
  switch (answer.code) {
    case rc::kSuccess: pulled.status = admin::PullStatus::kFound; break;
    case rc::kPullNotFound: pulled.status = admin::PullStatus::kNoNewMessage; break;
    case rc::kPullRetryImmediately: pulled.status = admin::PullStatus::kNoMatchedMessage; break;
    case rc::kPullOffsetMoved: pulled.status = admin::PullStatus::kOffsetIllegal; break;
    default: return Impl::refusal(address, answer);
  }
  auto next = answer.ext.get_int<int64_t>("nextBeginOffset");
  if (!next) return Error{Errc::kCorrupt, address + " answered a pull without nextBeginOffset"};
  pulled.next_offset = *next;
  pulled.min_offset = answer.ext.get_int<int64_t>("minOffset").value_or(0);
  pulled.max_offset = answer.ext.get_int<int64_t>("maxOffset").value_or(0);
  if (pulled.status != admin::PullStatus::kFound) return pulled;

  APOGEE_TRY_ASSIGN(auto messages, decode_received_messages(answer.body, pull.queue.broker_name));
  const std::set<std::string, std::less<>> tags(subscription.tags_set.begin(), subscription.tags_set.end());
  for (auto& message : messages) {
    // The broker compares hashes only.
    if (tags.empty() || tags.count(message.tags()) != 0) pulled.messages.push_back(std::move(message));
  }
  return pulled;
}

Result<ReceivedMessage> AdminClient::message_by_id(const std::string& offset_msg_id) {
  APOGEE_TRY_ASSIGN(auto id, message::decode_offset_message_id(offset_msg_id));
  std::string address = message::to_string(message::HostView{id.ip_bytes, id.port});
  // A producer's unique id has the same form, and would name an address where nothing of ours is.
  APOGEE_TRY_ASSIGN(auto info, impl_->cluster_info());
  std::string broker_name;
  bool known = false;
  for (const auto& [name, broker] : info.broker_addr_table) {
    for (const auto& entry : broker.broker_addrs) {
      if (entry.second == address) broker_name = name, known = true;
    }
  }
  if (!known) {
    return Error{Errc::kNotFound,
                 fmt::format("{} is no offset message id of this cluster: it would be on {}, where "
                             "no broker is (an id given by a producer is found within its topic only: find_message)",
                             offset_msg_id, address)};
  }
  auto request = Command::request(RequestCode::kViewMessageById);
  request.ext.set("offset", id.physical_offset);
  APOGEE_TRY_ASSIGN(auto answer, impl_->call(address, std::move(request)));
  return decode_received_message(answer.body, broker_name);
}

Result<ReceivedMessage> AdminClient::message_by_offset(const MessageQueue& queue, int64_t offset) {
  admin::PullRequest request;
  request.queue = queue;
  request.offset = offset;
  request.messages_max = 1;
  APOGEE_TRY_ASSIGN(auto pulled, pull(request));
  // One record may hold several messages.
  auto found = std::find_if(pulled.messages.begin(), pulled.messages.end(),
                            [offset](const ReceivedMessage& message) { return message.queue_offset() == offset; });
  if (found != pulled.messages.end()) return std::move(*found);
  const bool empty = pulled.max_offset <= pulled.min_offset;
  return Error{Errc::kNotFound,
               fmt::format("there is no message at offset {} of queue {} of {} on {}: it {}", offset, queue.queue_id,
                           queue.topic, queue.broker_name,
                           empty ? "is empty" : fmt::format("has {} to {}", pulled.min_offset, pulled.max_offset - 1))};
}

Result<admin::ConsumedDirectly> AdminClient::consume_directly(const std::string& group, const std::string& client_id,
                                                              const std::string& offset_msg_id) {
  APOGEE_TRY_ASSIGN(auto id, message::decode_offset_message_id(offset_msg_id));
  std::string address = message::to_string(message::HostView{id.ip_bytes, id.port});
  auto request = Command::request(RequestCode::kConsumeMessageDirectly);
  request.ext.set("consumerGroup", group);
  request.ext.set("clientId", client_id);
  request.ext.set("msgId", offset_msg_id);
  APOGEE_TRY_ASSIGN(auto answer, impl_->call(address, std::move(request)));
  APOGEE_TRY_ASSIGN(auto body, admin::decode_body(client_id, answer, remoting::decode_consume_message_directly_result));
  return admin::ConsumedDirectly{remoting::to_string(body.consume_result), body.remark, body.order,
                                 body.spent_time_mills};
}

}  // namespace apogee
