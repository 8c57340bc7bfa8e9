#include "apogee/message.h"

#include <algorithm>
#include <charconv>
#include <iterator>
#include <utility>

#include "client/src/received_message.h"
#include "common/message/batch.h"
#include "common/message/compression.h"
#include "common/message/message_id.h"
#include "common/message/message_record.h"
#include "common/message/properties.h"
#include "common/message/property_names.h"

namespace apogee {
namespace {

constexpr size_t kPlainBodyBytesMax = 64 * 1024 * 1024;

const std::shared_ptr<const ReceivedMessage::Data>& empty_data() {
  static const auto data = std::make_shared<const ReceivedMessage::Data>();
  return data;
}

}  // namespace

Message& Message::set_key_list(const std::vector<std::string>& keys) {
  keys_.clear();
  for (const auto& key : keys) {
    if (!keys_.empty()) keys_ += ' ';
    keys_ += key;
  }
  return *this;
}

ReceivedMessage::ReceivedMessage() : data_(empty_data()) {}
ReceivedMessage::ReceivedMessage(std::shared_ptr<const Data> data) : data_(std::move(data)) {
  if (!data_) data_ = empty_data();
}

const std::string& ReceivedMessage::topic() const { return data_->topic; }
std::string_view ReceivedMessage::body() const { return data_->body; }
std::string_view ReceivedMessage::tags() const { return property(message::property::kTags).value_or(""); }
std::string_view ReceivedMessage::keys() const { return property(message::property::kKeys).value_or(""); }
std::optional<std::string_view> ReceivedMessage::property(std::string_view name) const {
  return message::find_property(data_->stored_properties, name);
}
std::map<std::string, std::string> ReceivedMessage::properties() const {
  std::map<std::string, std::string> all;
  for (const auto& [name, value] : message::parse_properties(data_->stored_properties)) {
    all[std::string(name)] = std::string(value);
  }
  return all;
}
const std::string& ReceivedMessage::msg_id() const { return data_->msg_id; }
const std::string& ReceivedMessage::offset_msg_id() const { return data_->offset_msg_id; }
const MessageQueue& ReceivedMessage::queue() const { return data_->queue; }
int64_t ReceivedMessage::queue_offset() const { return data_->queue_offset; }
int64_t ReceivedMessage::physical_offset() const { return data_->physical_offset; }
int64_t ReceivedMessage::born_time_ms() const { return data_->born_time_ms; }
int64_t ReceivedMessage::store_time_ms() const { return data_->store_time_ms; }
const std::string& ReceivedMessage::born_host() const { return data_->born_host; }
const std::string& ReceivedMessage::store_host() const { return data_->store_host; }
int32_t ReceivedMessage::reconsume_times() const { return data_->reconsume_times; }
int32_t ReceivedMessage::flag() const { return data_->flag; }
int32_t ReceivedMessage::sys_flag() const { return data_->sys_flag; }
int32_t ReceivedMessage::store_size() const { return data_->store_size; }
int32_t ReceivedMessage::body_crc() const { return data_->body_crc; }

Result<ReceivedMessage> decode_received_message(const SharedBytes& record, std::string_view broker_name) {
  APOGEE_TRY_ASSIGN(const auto view, message::decode_record(record.bytes));
  auto data = std::make_shared<ReceivedMessage::Data>();
  data->owner = record.owner;
  data->topic = std::string(view.topic);
  data->queue = {data->topic, std::string(broker_name), view.queue_id};
  data->stored_properties = view.properties;
  data->queue_offset = view.queue_offset;
  data->physical_offset = view.physical_offset;
  data->born_time_ms = view.born_timestamp_ms;
  data->store_time_ms = view.store_timestamp_ms;
  data->born_host = message::to_string(view.born_host);
  data->store_host = message::to_string(view.store_host);
  data->prepared_transaction_offset = view.prepared_transaction_offset;
  data->reconsume_times = view.reconsume_times;
  data->flag = view.flag;
  data->sys_flag = view.sys_flag;
  data->store_size = static_cast<int32_t>(view.bytes.size());
  data->body_crc = view.body_crc;
  data->body = view.body;
  if ((view.sys_flag & message::sys_flag::kCompressed) != 0) {
    APOGEE_TRY_ASSIGN(const auto type, message::compression_of(view.sys_flag));
    APOGEE_TRY_ASSIGN(auto plain, message::decompress(type, view.body, kPlainBodyBytesMax));
    data->plain_body = std::make_shared<const std::string>(std::move(plain));
    data->body = *data->plain_body;
    data->sys_flag &= ~message::sys_flag::kCompressed;
  }
  data->offset_msg_id = message::encode_offset_message_id(view.store_host, view.physical_offset);
  auto unique = message::find_property(view.properties, message::property::kUniqueKey);
  data->msg_id = unique ? std::string(*unique) : data->offset_msg_id;
  return ReceivedMessage(std::move(data));
}

bool is_inner_batch(const ReceivedMessage& message) {
  constexpr int32_t kBoth = message::sys_flag::kInnerBatch | message::sys_flag::kNeedUnwrap;
  return (message.sys_flag() & kBoth) == kBoth;
}

namespace {

Result<std::vector<ReceivedMessage>> unwrap_inner_batch(const ReceivedMessage& batch) {
  auto parts = message::decode_batch(batch.body());
  if (!parts) return Error{Errc::kCorrupt, "inner batch " + batch.offset_msg_id() + ": " + parts.error().message};
  int64_t offset = batch.queue_offset();
  if (const auto base = batch.property(message::property::kInnerBase)) {
    const auto [end, error] = std::from_chars(base->data(), base->data() + base->size(), offset);
    if (error != std::errc() || end != base->data() + base->size())
      return Error{Errc::kCorrupt, "inner batch " + batch.offset_msg_id() + ": its INNER_BASE is no number"};
  }
  std::vector<ReceivedMessage> messages;
  messages.reserve(parts->size());
  for (const auto& part : *parts) {
    auto data = std::make_shared<ReceivedMessage::Data>(batch.data());
    data->body = part.body;
    data->stored_properties = part.properties;
    data->flag = part.flag;
    data->queue_offset = offset++;
    const auto unique = message::find_property(part.properties, message::property::kUniqueKey);
    data->msg_id = unique ? std::string(*unique) : data->offset_msg_id;
    messages.push_back(ReceivedMessage(std::move(data)));
  }
  return messages;
}

}  // namespace

Result<std::vector<ReceivedMessage>> decode_received_messages(const SharedBytes& body, std::string_view broker_name) {
  APOGEE_TRY_ASSIGN(const auto records, message::split_records(body.bytes));
  std::vector<ReceivedMessage> messages;
  messages.reserve(records.size());
  for (auto record : records) {
    APOGEE_TRY_ASSIGN(auto message, decode_received_message({body.owner, record}, broker_name));
    if (!is_inner_batch(message)) {
      messages.push_back(std::move(message));
      continue;
    }
    APOGEE_TRY_ASSIGN(auto parts, unwrap_inner_batch(message));
    std::move(parts.begin(), parts.end(), std::back_inserter(messages));
  }
  return messages;
}

ReceivedMessage with_topic(const ReceivedMessage& message, std::string topic) {
  auto data = std::make_shared<ReceivedMessage::Data>(message.data());
  data->topic = std::move(topic);
  return ReceivedMessage(std::move(data));
}

ReceivedMessage with_reconsume_times(const ReceivedMessage& message, int32_t times) {
  auto data = std::make_shared<ReceivedMessage::Data>(message.data());
  data->reconsume_times = times;
  return ReceivedMessage(std::move(data));
}

}  // namespace apogee
