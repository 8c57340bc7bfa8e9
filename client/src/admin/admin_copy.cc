#include <algorithm>
#include <iterator>
#include <utility>

#include "client/src/admin/admin_impl.h"
#include "client/src/received_message.h"
#include "client/src/send_request.h"
#include "common/message/compression.h"
#include "common/message/properties.h"
#include "common/message/property_names.h"

// Sending a stored message once more.
namespace apogee {

namespace property = message::property;

namespace {

constexpr const char* kProducerGroup = "CLIENT_INNER_PRODUCER";

/// Reserved properties that belong to the message itself, not to the way it took.
constexpr std::string_view kOwn[] = {property::kKeys,      property::kTags, property::kWait,
                                     property::kUniqueKey, "BUYER_ID",      property::kShardingKey,
                                     property::kInstanceId};

bool goes_along(std::string_view name) {
  return !is_reserved_property(name) || std::find(std::begin(kOwn), std::end(kOwn), name) != std::end(kOwn);
}

}  // namespace

Result<std::vector<MessageQueue>> AdminClient::writable_queues(const std::string& topic) {
  APOGEE_TRY_ASSIGN(auto route, impl_->route(topic));
  auto queues = admin::writable_queues(route, topic, INT32_MAX);
  if (queues.empty()) return Error{Errc::kNotFound, "the topic " + topic + " has no writable queue"};
  return queues;
}

Result<SendReceipt> AdminClient::send_copy(const ReceivedMessage& message, const MessageQueue& to,
                                           const Properties& more) {
  const auto& data = message.data();
  PreparedSend send;
  send.topic = to.topic;
  send.unique_id = data.msg_id;
  send.flag = data.flag;
  if (data.plain_body != nullptr) {
    APOGEE_TRY_ASSIGN(const auto type, message::compression_of(data.sys_flag));
    APOGEE_TRY_ASSIGN(auto packed, message::compress(type, data.body));
    send.body = SharedBytes::from(std::move(packed));
    send.sys_flag = message::sys_flag_of(type);
  } else {
    send.body = {data.owner, data.body};
  }
  for (const auto& [name, value] : message::parse_properties(data.stored_properties))
    if (goes_along(name)) message::append_property(send.properties, name, value);
  for (const auto& [name, value] : more) {
    APOGEE_TRY(message::check_property(name, value));
    message::set_property(send.properties, name, value);
  }
  APOGEE_TRY(message::check_properties(send.properties));
  auto request = make_send_request(send, kProducerGroup, to, 4);
  request.ext.set("g", data.born_time_ms);
  APOGEE_TRY_ASSIGN(auto address, impl_->address_of(to.broker_name));
  APOGEE_TRY_ASSIGN(auto answer, impl_->call_any(address, std::move(request)));
  const auto status = admin::stored_status(answer.code);
  if (!status) return Impl::refusal(address, answer);
  SendReceipt receipt;
  receipt.status = *status;
  receipt.msg_id = data.msg_id;
  receipt.offset_msg_id = answer.ext.get("msgId").value_or("");
  receipt.queue = to;
  receipt.queue.queue_id = answer.ext.get_int<int32_t>("queueId").value_or(to.queue_id);
  receipt.queue_offset = answer.ext.get_int<int64_t>("queueOffset").value_or(-1);
  return receipt;
}

}  // namespace apogee
