#include "client/src/send_request.h"

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "client/src/client_instance.h"
#include "client/src/message_access.h"
#include "common/base/hash.h"
#include "common/base/text.h"
#include "common/message/batch.h"
#include "common/message/compression.h"
#include "common/message/properties.h"
#include "common/message/property_names.h"
#include "common/message/sys_flag.h"

namespace apogee {

using remoting::Command;
namespace property = message::property;
namespace response_code = remoting::response_code;

namespace {

constexpr std::string_view kReserved[] = {"KEYS",
                                          "TAGS",
                                          "WAIT",
                                          "DELAY",
                                          "RETRY_TOPIC",
                                          "REAL_TOPIC",
                                          "REAL_QID",
                                          "TRAN_MSG",
                                          "PGROUP",
                                          "MIN_OFFSET",
                                          "MAX_OFFSET",
                                          "BUYER_ID",
                                          "ORIGIN_MESSAGE_ID",
                                          "TRANSFER_FLAG",
                                          "CORRECTION_FLAG",
                                          "MQ2_FLAG",
                                          "RECONSUME_TIME",
                                          "MSG_REGION",
                                          "TRACE_ON",
                                          "UNIQ_KEY",
                                          "EXTEND_UNIQ_INFO",
                                          "MAX_RECONSUME_TIMES",
                                          "CONSUME_START_TIME",
                                          "POP_CK",
                                          "POP_CK_OFFSET",
                                          "1ST_POP_TIME",
                                          "TRAN_PREPARED_QUEUE_OFFSET",
                                          "DUP_INFO",
                                          "CHECK_IMMUNITY_TIME_IN_SECONDS",
                                          "INSTANCE_ID",
                                          "CORRELATION_ID",
                                          "REPLY_TO_CLIENT",
                                          "TTL",
                                          "ARRIVE_TIME",
                                          "PUSH_REPLY_TIME",
                                          "CLUSTER",
                                          "MSG_TYPE",
                                          "INNER_NUM",
                                          "INNER_BASE",
                                          "INNER_MULTI_DISPATCH",
                                          "INNER_MULTI_QUEUE_OFFSET",
                                          "__transactionId__",
                                          "TRANSACTION_CHECK_TIMES",
                                          "__SHARDINGKEY",
                                          "TIMER_DELAY_LEVEL",
                                          "TIMER_DELAY_SEC",
                                          "TIMER_DELAY_MS",
                                          "TIMER_DELIVER_MS",
                                          "TIMER_OUT_MS",
                                          "TIMER_ENQUEUE_MS",
                                          "TIMER_DEQUEUE_MS",
                                          "TIMER_ROLL_TIMES",
                                          "TIMER_ROLL_FROM",
                                          "TIMER_DEL_UNIQKEY",
                                          "DLQ_ORIGIN_TOPIC",
                                          "DLQ_ORIGIN_MESSAGE_ID",
                                          "__CRC32#",
                                          "__BORNHOST",
                                          "BORN_TIMESTAMP",
                                          "PROPERTY_FORWARD_QUEUE_ID",
                                          "REDIRECT"};

// Beyond any horizon rather than over the end of the number.
int64_t instant_of(const Message& message) {
  if (message.deliver_at_ms()) return *message.deliver_at_ms();
  const int64_t now = now_ms(), delay = message.deliver_after()->count();
  return delay > INT64_MAX - now ? INT64_MAX : now + delay;
}

Status check_message(const ProducerConfig& config, const Message& message) {
  APOGEE_TRY(check_topic_name(message.topic()));
  if (message.body().empty()) return Error{Errc::kInvalidArgument, "body: is empty"};
  if (message.body().size() > config.message_bytes_max) {
    return Error{Errc::kTooLarge, "body: " + std::to_string(message.body().size()) + " bytes, at most " +
                                      std::to_string(config.message_bytes_max) + " are allowed"};
  }
  for (const auto& [name, value] : message.properties()) {
    APOGEE_TRY(message::check_property(name, value));
    if (is_reserved_property(name)) {
      return Error{Errc::kInvalidArgument, "property " + name + ": the name is reserved"};
    }
  }
  if (message.delay_level() < 0) {
    return Error{Errc::kInvalidArgument, "delay level: " + std::to_string(message.delay_level()) + " is below 0"};
  }
  if (message.deliver_at_ms() && *message.deliver_at_ms() < 0) {
    return Error{Errc::kInvalidArgument, "deliver at: " + std::to_string(*message.deliver_at_ms()) + " is below 0"};
  }
  if (message.deliver_after() && message.deliver_after()->count() < 0) {
    return Error{Errc::kInvalidArgument,
                 "deliver after: " + std::to_string(message.deliver_after()->count()) + " ms is below 0"};
  }
  if (message.delay_level() > 0 && has_instant(message)) {
    return Error{Errc::kInvalidArgument, "delay level: a message has a level or an instant, not both"};
  }
  if (!message.tags().empty()) APOGEE_TRY(message::check_property(property::kTags, message.tags()));
  if (!message.keys().empty()) APOGEE_TRY(message::check_property(property::kKeys, message.keys()));
  return {};
}

Result<std::string> properties_of(const Message& message, const std::string& unique_id,
                                  const std::string& sharding_key) {
  std::string text;
  for (const auto& [name, value] : message.properties()) message::append_property(text, name, value);
  for (const auto& [name, value] : MessageAccess::system_properties(message)) {
    APOGEE_TRY(message::check_property(name, value));
    message::append_property(text, name, value);
  }
  message::append_property(text, property::kKeys, message.keys());
  message::append_property(text, property::kUniqueKey, unique_id);
  message::append_property(text, property::kTags, message.tags());
  if (!sharding_key.empty()) {
    APOGEE_TRY(message::check_property(property::kShardingKey, sharding_key));
    message::append_property(text, property::kShardingKey, sharding_key);
  }
  if (!message.wait_store_ok()) message::append_property(text, property::kWait, "false");
  if (message.delay_level() > 0) {
    message::append_property(text, property::kDelayLevel, std::to_string(message.delay_level()));
  }
  if (text.size() > message::kPropertiesBytesMax) {
    return Error{Errc::kTooLarge, "properties: " + std::to_string(text.size()) + " bytes, at most " +
                                      std::to_string(message::kPropertiesBytesMax) + " are allowed"};
  }
  return text;
}

bool is_reply(const Message& message) {
  const auto& properties = MessageAccess::system_properties(message);
  const auto type = properties.find(std::string(property::kMessageType));
  return type != properties.end() && type->second == property::kTypeReply;
}

bool is_half_message(const Message& message) {
  return MessageAccess::system_properties(message).count(std::string(property::kTransactionPrepared)) != 0;
}

remoting::RequestCode code_of(const PreparedSend& send) {
  if (send.reply) return remoting::RequestCode::kSendReplyMessageV2;
  return send.batch ? remoting::RequestCode::kSendBatchMessage : remoting::RequestCode::kSendMessageV2;
}

void note_trace(const ProducerConfig& config, PreparedSend& send, const Message& message, const std::string& unique_id,
                std::string_view properties) {
  if (!config.enable_trace || message.topic() == config.trace_topic) return;
  TraceRecord record;
  record.topic = send.topic;
  record.msg_id = unique_id;
  record.keys = message.keys();
  record.tags = message.tags();
  record.body_bytes = static_cast<int64_t>(message.body().size());
  if (message::find_property(properties, property::kTransactionPrepared)) {
    record.type = TraceMessageType::kHalf;
  } else if (is_delayed(properties)) {
    record.type = TraceMessageType::kDelay;
  }
  send.traces.push_back(std::move(record));
}

}  // namespace

bool is_delayed(std::string_view properties) {
  for (auto name :
       {property::kDelayLevel, property::kTimerDelaySec, property::kTimerDelayMs, property::kTimerDeliverMs}) {
    if (message::find_property(properties, name)) return true;
  }
  return false;
}

bool is_reserved_property(std::string_view name) {
  return std::find(std::begin(kReserved), std::end(kReserved), name) != std::end(kReserved);
}

Result<PreparedSend> prepare_send(const ProducerConfig& config, message::UniqueIdGenerator& ids, const Message& message,
                                  const std::string& sharding_key) {
  APOGEE_TRY(check_message(config, message));
  PreparedSend send;
  send.reply = is_reply(message);
  send.topic = send.reply ? message.topic() : with_namespace(config.name_space, message.topic());
  send.unique_id = ids.next(now_ms());
  send.flag = message.flag();
  if (is_half_message(message)) send.sys_flag |= message::sys_flag::kTransactionPrepared;
  APOGEE_TRY_ASSIGN(send.properties, properties_of(message, send.unique_id, sharding_key));
  if (has_instant(message)) {
    send.deliver_at_ms = instant_of(message);
    message::append_property(send.properties, property::kTimerDeliverMs, std::to_string(send.deliver_at_ms));
  }
  note_trace(config, send, message, send.unique_id, send.properties);
  if (!config.name_space.empty()) message::append_property(send.properties, property::kInstanceId, config.name_space);
  if (config.compress_body_bytes_min > 0 && message.body().size() >= config.compress_body_bytes_min) {
    APOGEE_TRY_ASSIGN(auto packed,
                      message::compress(message::Compression::kZlib, message.body(), config.compress_level));
    send.body = SharedBytes::from(std::move(packed));
    send.sys_flag |= message::sys_flag_of(message::Compression::kZlib);
  } else {
    send.body = SharedBytes::from(message.body());
  }
  return send;
}

Result<std::vector<PreparedSend>> prepare_batches(const ProducerConfig& config, message::UniqueIdGenerator& ids,
                                                  const std::vector<Message>& messages,
                                                  const std::string& sharding_key) {
  if (messages.empty()) return Error{Errc::kInvalidArgument, "messages: the batch is empty"};
  if (is_retry_topic(messages.front().topic())) {
    return Error{Errc::kInvalidArgument, "topic: a batch cannot be sent to a retry topic"};
  }
  std::vector<PreparedSend> parts;
  std::string body;
  auto end_part = [&parts, &body] { parts.back().body = SharedBytes::from(std::exchange(body, std::string())); };
  for (const auto& message : messages) {
    APOGEE_TRY(check_message(config, message));
    if (is_reply(message)) return Error{Errc::kInvalidArgument, "messages: a reply cannot be sent in a batch"};
    if (message.topic() != messages.front().topic()) {
      return Error{Errc::kInvalidArgument, "topic: the messages of a batch must have one topic"};
    }
    if (has_instant(message)) {
      return Error{Errc::kInvalidArgument, "deliver at: the messages of a batch cannot be delayed"};
    }
    if (message.delay_level() != 0) {
      return Error{Errc::kInvalidArgument, "delay level: the messages of a batch cannot be delayed"};
    }
    if (message.wait_store_ok() != messages.front().wait_store_ok()) {
      return Error{Errc::kInvalidArgument, "wait_store_ok: must be the same for all messages of a batch"};
    }
    const std::string id = ids.next(now_ms());
    APOGEE_TRY_ASSIGN(const auto properties, properties_of(message, id, sharding_key));
    const message::BatchMessage part{message.flag(), message.body(), properties};
    const size_t bytes = message::batch_message_bytes(part);
    if (bytes > config.message_bytes_max) {
      return Error{Errc::kTooLarge, "messages: one of them takes " + std::to_string(bytes) +
                                        " bytes in a batch, at most " + std::to_string(config.message_bytes_max) +
                                        " are allowed"};
    }
    if (parts.empty() || body.size() + bytes > config.message_bytes_max) {
      if (!parts.empty()) end_part();
      parts.emplace_back();
      parts.back().batch = true;
      parts.back().messages = 0;
      parts.back().topic = with_namespace(config.name_space, message.topic());
      if (!message.wait_store_ok()) message::append_property(parts.back().properties, property::kWait, "false");
    }
    message::append_batch_message(body, part);
    ++parts.back().messages;
    note_trace(config, parts.back(), message, id, properties);
    if (!parts.back().unique_id.empty()) parts.back().unique_id += ',';
    parts.back().unique_id += id;
  }
  end_part();
  return parts;
}

Command make_send_request(const PreparedSend& send, const std::string& producer_group, const MessageQueue& queue,
                          int default_topic_queues) {
  Command request = Command::request(code_of(send));
  auto& ext = request.ext;
  ext.set("a", producer_group);
  ext.set("b", send.topic);
  ext.set("c", "TBW102");
  ext.set("d", default_topic_queues);
  ext.set("e", queue.queue_id);
  ext.set("f", send.sys_flag);
  ext.set("g", now_ms());
  ext.set("h", send.flag);
  ext.set("i", send.properties);
  ext.set("j", send.reconsume_times);
  ext.set("k", false);
  if (send.max_reconsume_times >= 0) ext.set("l", send.max_reconsume_times);
  ext.set("m", send.batch);
  ext.set("n", queue.broker_name);
  request.body = send.body;
  return request;
}

Result<SendReceipt> read_send_reply(const Command& reply, const PreparedSend& send, const MessageQueue& queue) {
  SendReceipt receipt;
  switch (reply.code) {
    case response_code::kSuccess: receipt.status = SendStatus::kOk; break;
    case response_code::kFlushDiskTimeout: receipt.status = SendStatus::kFlushDiskTimeout; break;
    case response_code::kFlushSlaveTimeout: receipt.status = SendStatus::kFlushSlaveTimeout; break;
    case response_code::kSlaveNotAvailable: receipt.status = SendStatus::kSlaveNotAvailable; break;
    default: return broker_error(reply, "send");
  }
  const auto id = reply.ext.get("msgId");
  const auto queue_id = reply.ext.get_int<int32_t>("queueId");
  const auto offset = reply.ext.get_int<int64_t>("queueOffset");
  if (!id || !queue_id || !offset) {
    return Error{Errc::kCorrupt, "send: the broker's answer has no msgId, queueId or queueOffset"};
  }
  receipt.msg_id = send.unique_id;
  receipt.offset_msg_id = std::string(*id);
  receipt.queue = {queue.topic, queue.broker_name, *queue_id};
  receipt.queue_offset = *offset;
  receipt.deliver_at_ms = send.deliver_at_ms;
  receipt.transaction_id = std::string(reply.ext.get("transactionId").value_or(""));
  receipt.region_id = std::string(reply.ext.get("MSG_REGION").value_or("DefaultRegion"));
  receipt.recall_handle = std::string(reply.ext.get("recallHandle").value_or(""));
  receipt.trace_on = reply.ext.get("TRACE_ON").value_or("true") != "false";
  return receipt;
}

bool is_retryable(int32_t code) {
  switch (code) {
    case response_code::kSystemError:
    case response_code::kSystemBusy:
    case response_code::kServiceNotAvailable:
    case response_code::kNoPermission:
    case response_code::kTopicNotExist:
    case response_code::kNoBuyerId:
    case response_code::kNotInCurrentUnit:
    case response_code::kGoAway: return true;
    default: return false;
  }
}

size_t queue_index_of_key(std::string_view key, size_t queues) {
  if (queues == 0) return 0;
  const int64_t remainder = java_string_hash(key) % static_cast<int64_t>(queues);
  return static_cast<size_t>(std::llabs(remainder));
}

}  // namespace apogee
