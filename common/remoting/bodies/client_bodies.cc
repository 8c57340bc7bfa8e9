#include "common/remoting/bodies/client_bodies.h"

#include <algorithm>

#include "common/base/hash.h"
#include "common/base/text.h"
#include "common/remoting/bodies/body_reader.h"
#include "common/remoting/bodies/json_writer.h"
#include "common/remoting/bodies/stats_bodies.h"

namespace apogee::remoting {

namespace {

constexpr const char* kConsumeTypes[] = {"CONSUME_ACTIVELY", "CONSUME_PASSIVELY", "CONSUME_POP"};
constexpr const char* kMessageModels[] = {"BROADCASTING", "CLUSTERING"};
constexpr const char* kConsumeFromWheres[] = {
    "CONSUME_FROM_LAST_OFFSET",  "CONSUME_FROM_LAST_OFFSET_AND_FROM_MIN_WHEN_BOOT_FIRST",
    "CONSUME_FROM_MIN_OFFSET",   "CONSUME_FROM_MAX_OFFSET",
    "CONSUME_FROM_FIRST_OFFSET", "CONSUME_FROM_TIMESTAMP"};
constexpr const char* kDirectlyResults[] = {"CR_SUCCESS", "CR_LATER",           "CR_ROLLBACK",
                                            "CR_COMMIT",  "CR_THROW_EXCEPTION", "CR_RETURN_NULL"};

template <typename Enum, size_t kCount>
const char* name_of(Enum value, const char* const (&names)[kCount]) {
  auto index = static_cast<size_t>(value);
  return index < kCount ? names[index] : names[0];
}

void write(JsonWriter& out, const SubscriptionData& body) {
  out.begin_object().member("classFilterMode", body.class_filter_mode).key("codeSet").begin_array();
  for (int32_t code : body.code_set) out.value(code);
  out.end_array().member("expressionType", body.expression_type).member("subString", body.sub_string);
  out.member("subVersion", body.sub_version).member("tagsSet", body.tags_set).member("topic", body.topic);
  out.end_object();
}
void write(JsonWriter& out, const std::vector<SubscriptionData>& set) {
  out.begin_array();
  for (const auto& subscription : set) write(out, subscription);
  out.end_array();
}
void write(JsonWriter& out, const Connection& body) {
  out.begin_object().member("clientAddr", body.client_addr).member("clientId", body.client_id);
  out.member("language", body.language).member("version", body.version).end_object();
}
void write(JsonWriter& out, const std::vector<Connection>& set) {
  out.begin_array();
  for (const auto& connection : set) write(out, connection);
  out.end_array();
}
void write(JsonWriter& out, const std::vector<MessageQueue>& queues) {
  out.begin_array();
  for (const auto& queue : queues) out.value(queue);
  out.end_array();
}
void write(JsonWriter& out, const std::map<MessageQueue, int64_t>& table) {
  out.begin_object();
  for (const auto& [queue, offset] : table) out.key(queue).value(offset);
  out.end_object();
}
void write(JsonWriter& out, const ProcessQueueInfo& body) {
  out.begin_object().member("cachedMsgCount", body.cached_msg_count);
  out.member("cachedMsgMaxOffset", body.cached_msg_max_offset);
  out.member("cachedMsgMinOffset", body.cached_msg_min_offset);
  out.member("cachedMsgSizeInMiB", body.cached_msg_size_in_mib).member("commitOffset", body.commit_offset);
  out.member("droped", body.dropped).member("lastConsumeTimestamp", body.last_consume_timestamp);
  out.member("lastLockTimestamp", body.last_lock_timestamp).member("lastPullTimestamp", body.last_pull_timestamp);
  out.member("locked", body.locked).member("transactionMsgCount", body.transaction_msg_count);
  out.member("transactionMsgMaxOffset", body.transaction_msg_max_offset);
  out.member("transactionMsgMinOffset", body.transaction_msg_min_offset);
  out.member("tryUnlockTimes", body.try_unlock_times).end_object();
}
void write(JsonWriter& out, const ConsumeStatus& body) {
  out.begin_object().member("consumeFailedMsgs", body.consume_failed_msgs);
  out.member("consumeFailedTPS", body.consume_failed_tps).member("consumeOKTPS", body.consume_ok_tps);
  out.member("consumeRT", body.consume_rt).member("pullRT", body.pull_rt).member("pullTPS", body.pull_tps);
  out.end_object();
}

}  // namespace

const char* to_string(ConsumeType type) { return name_of(type, kConsumeTypes); }
const char* to_string(MessageModel model) { return name_of(model, kMessageModels); }
const char* to_string(ConsumeFromWhere where) { return name_of(where, kConsumeFromWheres); }
const char* to_string(ConsumeDirectlyResultCode code) { return name_of(code, kDirectlyResults); }

static void read_body(const BodyReader& in, SubscriptionData& to) {
  in.read("topic", to.topic);
  in.read("subString", to.sub_string);
  in.read("tagsSet", to.tags_set);
  in.read("codeSet", to.code_set);
  in.read("subVersion", to.sub_version);
  in.read("expressionType", to.expression_type);
  in.read("classFilterMode", to.class_filter_mode);
}
static void read_body(const BodyReader& in, MessageQueue& to) {
  in.read("topic", to.topic);
  in.read("brokerName", to.broker_name);
  in.read("queueId", to.queue_id);
}
// MessageQueue lies in another namespace, where the templates of BodyReader do not look.
static void read_queues(const BodyReader& in, const char* name, std::vector<MessageQueue>& to) {
  in.each(name, [&](const nlohmann::json& value) { read_body(BodyReader(value, in.problem()), to.emplace_back()); });
}
static void read_body(const BodyReader& in, ConsumerData& to) {
  in.read("groupName", to.group_name);
  in.read_enum("consumeType", kConsumeTypes, to.consume_type);
  in.read_enum("messageModel", kMessageModels, to.message_model);
  in.read_enum("consumeFromWhere", kConsumeFromWheres, to.consume_from_where);
  in.read_structs("subscriptionDataSet", to.subscription_data_set);
  in.read("unitMode", to.unit_mode);
}
static void read_body(const BodyReader& in, ProducerData& to) { in.read("groupName", to.group_name); }
static void read_body(const BodyReader& in, HeartbeatData& to) {
  in.read("clientID", to.client_id);
  in.read_structs("producerDataSet", to.producer_data_set);
  in.read_structs("consumerDataSet", to.consumer_data_set);
  in.read("heartbeatFingerprint", to.heartbeat_fingerprint);
  in.read("withoutSub", to.without_sub);
}
static void read_body(const BodyReader& in, Connection& to) {
  in.read("clientId", to.client_id);
  in.read("clientAddr", to.client_addr);
  in.read("language", to.language);
  in.read("version", to.version);
}
static void read_body(const BodyReader& in, ConsumerConnection& to) {
  in.read_structs("connectionSet", to.connection_set);
  in.read_structs("subscriptionTable", to.subscription_table);
  in.read_enum("consumeType", kConsumeTypes, to.consume_type);
  in.read_enum("messageModel", kMessageModels, to.message_model);
  in.read_enum("consumeFromWhere", kConsumeFromWheres, to.consume_from_where);
}
static void read_body(const BodyReader& in, ProducerConnection& to) {
  in.read_structs("connectionSet", to.connection_set);
}
static void read_body(const BodyReader& in, ProducerInfo& to) {
  in.read("clientId", to.client_id);
  in.read("remoteIP", to.remote_ip);
  in.read("language", to.language);
  in.read("version", to.version);
  in.read("lastUpdateTimestamp", to.last_update_timestamp);
}
static void read_body(const BodyReader& in, ProducerTableInfo& to) {
  in.each_member("data", [&](const std::string& group, const nlohmann::json& list) {
    const nlohmann::json wrapped{{"producers", list}};
    BodyReader(wrapped, in.problem()).read_structs("producers", to.data[group]);
  });
}
static void read_body(const BodyReader& in, GetConsumerList& to) { in.read("consumerIdList", to.consumer_id_list); }
static void read_body(const BodyReader& in, CheckClientRequest& to) {
  in.read("clientId", to.client_id);
  in.read("group", to.group);
  in.read_struct("subscriptionData", to.subscription_data);
}
static void read_body(const BodyReader& in, LockBatchRequest& to) {
  in.read("consumerGroup", to.consumer_group);
  in.read("clientId", to.client_id);
  in.read("onlyThisBroker", to.only_this_broker);
  read_queues(in, "mqSet", to.mq_set);
}
static void read_body(const BodyReader& in, LockBatchResponse& to) {
  read_queues(in, "lockOKMQSet", to.lock_ok_mq_set);
}
static void read_body(const BodyReader& in, ResetOffsetBody& to) {
  const auto* table = in.member("offsetTable");
  if (table == nullptr) return;
  if (!table->is_array()) return in.read_queue_offsets(*table, "offsetTable", to.offset_table);
  for (const auto& value : *table) {
    BodyReader item(value, in.problem());
    MessageQueue queue;
    int64_t offset = 0;
    read_body(item, queue);
    item.read("offset", offset);
    to.offset_table[std::move(queue)] = offset;
  }
}
static void read_body(const BodyReader& in, GetConsumerStatusBody& to) {
  in.read("messageQueueTable", to.message_queue_table);
  in.each_member("consumerTable", [&](const std::string& client, const nlohmann::json& table) {
    in.read_queue_offsets(table, "consumerTable", to.consumer_table[client]);
  });
}
static void read_body(const BodyReader& in, ProcessQueueInfo& to) {
  in.read("commitOffset", to.commit_offset);
  in.read("cachedMsgMinOffset", to.cached_msg_min_offset);
  in.read("cachedMsgMaxOffset", to.cached_msg_max_offset);
  in.read("cachedMsgCount", to.cached_msg_count);
  in.read("cachedMsgSizeInMiB", to.cached_msg_size_in_mib);
  in.read("transactionMsgMinOffset", to.transaction_msg_min_offset);
  in.read("transactionMsgMaxOffset", to.transaction_msg_max_offset);
  in.read("transactionMsgCount", to.transaction_msg_count);
  in.read("locked", to.locked);
  in.read("tryUnlockTimes", to.try_unlock_times);
  in.read("lastLockTimestamp", to.last_lock_timestamp);
  in.read("dropped", to.dropped);  // from the Go client
  in.read("droped", to.dropped);
  in.read("lastPullTimestamp", to.last_pull_timestamp);
  in.read("lastConsumeTimestamp", to.last_consume_timestamp);
}
static void read_body(const BodyReader& in, ConsumeStatus& to) {
  in.read("pullRT", to.pull_rt);
  in.read("pullTPS", to.pull_tps);
  in.read("consumeRT", to.consume_rt);
  in.read("consumeOKTPS", to.consume_ok_tps);
  in.read("consumeFailedTPS", to.consume_failed_tps);
  in.read("consumeFailedMsgs", to.consume_failed_msgs);
}
static void read_body(const BodyReader& in, ConsumerRunningInfo& to) {
  in.read("properties", to.properties);
  in.read_structs("subscriptionSet", to.subscription_set);
  in.read_structs("mqTable", to.mq_table);
  in.read_structs("statusTable", to.status_table);
  in.read("jstack", to.jstack);
}
static void read_body(const BodyReader& in, ConsumeMessageDirectlyResult& to) {
  in.read("order", to.order);
  in.read("autoCommit", to.auto_commit);
  in.read_enum("consumeResult", kDirectlyResults, to.consume_result);
  in.read("remark", to.remark);
  in.read("spentTimeMills", to.spent_time_mills);
}
static void read_body(const BodyReader& in, ConsumeQueueData& to) {
  in.read("physicOffset", to.physic_offset);
  in.read("physicSize", to.physic_size);
  in.read("tagsCode", to.tags_code);
  in.read("eval", to.eval);
  in.read("msg", to.msg);
}
static void read_body(const BodyReader& in, QueryConsumeQueueResponse& to) {
  if (in.member("subscriptionData") != nullptr) in.read_struct("subscriptionData", to.subscription_data.emplace());
  in.read("filterData", to.filter_data);
  in.read_structs("queueData", to.queue_data);
  in.read("maxQueueIndex", to.max_queue_index);
  in.read("minQueueIndex", to.min_queue_index);
}

std::string encode(const SubscriptionData& body) {
  JsonWriter out;
  write(out, body);
  return out.take();
}
Result<SubscriptionData> decode_subscription_data(std::string_view json) {
  return decode_body<SubscriptionData>(json, "SubscriptionData");
}

Result<SubscriptionData> build_tag_subscription(std::string_view topic, std::string_view expression,
                                                int64_t sub_version) {
  SubscriptionData data;
  data.topic = topic;
  data.sub_version = sub_version;
  auto text = trim(expression);
  if (text.empty() || text == "*") return data;
  data.sub_string = expression;
  for (std::string_view part : split(text, "||")) {
    auto tag = trim(part);
    if (tag.empty() || std::find(data.tags_set.begin(), data.tags_set.end(), tag) != data.tags_set.end()) continue;
    data.tags_set.emplace_back(tag);
    int32_t code = java_string_hash(tag);
    if (std::find(data.code_set.begin(), data.code_set.end(), code) == data.code_set.end())
      data.code_set.push_back(code);
  }
  if (data.tags_set.empty())
    return Error{Errc::kInvalidArgument, fmt::format("no tag in the subscription {}", expression)};
  return data;
}

std::string encode(const HeartbeatData& body) {
  JsonWriter out;
  out.begin_object().member("clientID", body.client_id).key("consumerDataSet").begin_array();
  for (const auto& data : body.consumer_data_set) {
    out.begin_object().member("consumeFromWhere", to_string(data.consume_from_where));
    out.member("consumeType", to_string(data.consume_type)).member("groupName", data.group_name);
    out.member("messageModel", to_string(data.message_model)).key("subscriptionDataSet");
    write(out, data.subscription_data_set);
    out.member("unitMode", data.unit_mode).end_object();
  }
  out.end_array();
  if (body.heartbeat_fingerprint != 0) out.member("heartbeatFingerprint", body.heartbeat_fingerprint);
  out.key("producerDataSet").begin_array();
  for (const auto& data : body.producer_data_set) out.begin_object().member("groupName", data.group_name).end_object();
  out.end_array();
  if (body.without_sub) out.member("withoutSub", true);
  return out.end_object().take();
}
Result<HeartbeatData> decode_heartbeat_data(std::string_view json) {
  return decode_body<HeartbeatData>(json, "HeartbeatData");
}

std::string encode(const ConsumerConnection& body) {
  JsonWriter out;
  out.begin_object().key("connectionSet");
  write(out, body.connection_set);
  out.member("consumeFromWhere", to_string(body.consume_from_where));
  out.member("consumeType", to_string(body.consume_type)).member("messageModel", to_string(body.message_model));
  out.key("subscriptionTable").begin_object();
  for (const auto& [topic, data] : body.subscription_table) {
    out.key(topic);
    write(out, data);
  }
  return out.end_object().end_object().take();
}
Result<ConsumerConnection> decode_consumer_connection(std::string_view json) {
  return decode_body<ConsumerConnection>(json, "ConsumerConnection");
}

std::string encode(const ProducerConnection& body) {
  JsonWriter out;
  out.begin_object().key("connectionSet");
  write(out, body.connection_set);
  return out.end_object().take();
}
Result<ProducerConnection> decode_producer_connection(std::string_view json) {
  return decode_body<ProducerConnection>(json, "ProducerConnection");
}

std::string encode(const ProducerTableInfo& body) {
  JsonWriter out;
  out.begin_object().key("data").begin_object();
  for (const auto& [group, list] : body.data) {
    out.key(group).begin_array();
    for (const auto& info : list) {
      out.begin_object().member("clientId", info.client_id).member("language", info.language);
      out.member("lastUpdateTimestamp", info.last_update_timestamp).member("remoteIP", info.remote_ip);
      out.member("version", info.version).end_object();
    }
    out.end_array();
  }
  return out.end_object().end_object().take();
}
Result<ProducerTableInfo> decode_producer_table_info(std::string_view json) {
  return decode_body<ProducerTableInfo>(json, "ProducerTableInfo");
}

std::string encode(const GetConsumerList& body) {
  return JsonWriter().begin_object().member("consumerIdList", body.consumer_id_list).end_object().take();
}
Result<GetConsumerList> decode_get_consumer_list(std::string_view json) {
  return decode_body<GetConsumerList>(json, "GetConsumerListByGroupResponseBody");
}

std::string encode(const CheckClientRequest& body) {
  JsonWriter out;
  out.begin_object().member("clientId", body.client_id).member("group", body.group).key("subscriptionData");
  write(out, body.subscription_data);
  return out.end_object().take();
}
Result<CheckClientRequest> decode_check_client_request(std::string_view json) {
  return decode_body<CheckClientRequest>(json, "CheckClientRequestBody");
}

std::string encode(const LockBatchRequest& body) {
  JsonWriter out;
  out.begin_object().member("clientId", body.client_id).member("consumerGroup", body.consumer_group).key("mqSet");
  write(out, body.mq_set);
  if (body.only_this_broker) out.member("onlyThisBroker", true);
  return out.end_object().take();
}
Result<LockBatchRequest> decode_lock_batch_request(std::string_view json) {
  return decode_body<LockBatchRequest>(json, "LockBatchRequestBody");
}

std::string encode(const LockBatchResponse& body) {
  JsonWriter out;
  out.begin_object().key("lockOKMQSet");
  write(out, body.lock_ok_mq_set);
  return out.end_object().take();
}
Result<LockBatchResponse> decode_lock_batch_response(std::string_view json) {
  return decode_body<LockBatchResponse>(json, "LockBatchResponseBody");
}

std::string encode(const ResetOffsetBody& body) {
  JsonWriter out;
  out.begin_object().key("offsetTable");
  write(out, body.offset_table);
  return out.end_object().take();
}
std::string encode_as_list(const ResetOffsetBody& body) {
  JsonWriter out;
  out.begin_object().key("offsetTable").begin_array();
  for (const auto& [queue, offset] : body.offset_table) {
    out.begin_object().member("brokerName", queue.broker_name).member("offset", offset);
    out.member("queueId", queue.queue_id).member("topic", queue.topic).end_object();
  }
  return out.end_array().end_object().take();
}
Result<ResetOffsetBody> decode_reset_offset_body(std::string_view json) {
  return decode_body<ResetOffsetBody>(json, "ResetOffsetBody");
}

std::string encode(const GetConsumerStatusBody& body) {
  JsonWriter out;
  out.begin_object().key("consumerTable").begin_object();
  for (const auto& [client, table] : body.consumer_table) {
    out.key(client);
    write(out, table);
  }
  out.end_object().key("messageQueueTable");
  write(out, body.message_queue_table);
  return out.end_object().take();
}
Result<GetConsumerStatusBody> decode_get_consumer_status_body(std::string_view json) {
  return decode_body<GetConsumerStatusBody>(json, "GetConsumerStatusBody");
}

std::string encode(const ConsumerRunningInfo& body) {
  JsonWriter out;
  out.begin_object().member_unless_empty("jstack", body.jstack).key("mqTable").begin_object();
  for (const auto& [queue, info] : body.mq_table) {
    out.key(queue);
    write(out, info);
  }
  out.end_object().member("properties", body.properties).key("statusTable").begin_object();
  for (const auto& [topic, status] : body.status_table) {
    out.key(topic);
    write(out, status);
  }
  out.end_object().key("subscriptionSet");
  write(out, body.subscription_set);
  return out.end_object().take();
}
Result<ConsumerRunningInfo> decode_consumer_running_info(std::string_view json) {
  return decode_body<ConsumerRunningInfo>(json, "ConsumerRunningInfo");
}

std::string encode(const ConsumeMessageDirectlyResult& body) {
  JsonWriter out;
  out.begin_object().member("autoCommit", body.auto_commit).member("consumeResult", to_string(body.consume_result));
  out.member("order", body.order).member_unless_empty("remark", body.remark);
  return out.member("spentTimeMills", body.spent_time_mills).end_object().take();
}
Result<ConsumeMessageDirectlyResult> decode_consume_message_directly_result(std::string_view json) {
  return decode_body<ConsumeMessageDirectlyResult>(json, "ConsumeMessageDirectlyResult");
}

std::string encode(const QueryConsumeQueueResponse& body) {
  JsonWriter out;
  out.begin_object().member("filterData", body.filter_data).member("maxQueueIndex", body.max_queue_index);
  out.member("minQueueIndex", body.min_queue_index).key("queueData").begin_array();
  for (const auto& data : body.queue_data) {
    out.begin_object().member("eval", data.eval).member_unless_empty("msg", data.msg);
    out.member("physicOffset", data.physic_offset).member("physicSize", data.physic_size);
    out.member("tagsCode", data.tags_code).end_object();
  }
  out.end_array();
  if (body.subscription_data) {
    out.key("subscriptionData");
    write(out, *body.subscription_data);
  }
  return out.end_object().take();
}
Result<QueryConsumeQueueResponse> decode_query_consume_queue_response(std::string_view json) {
  return decode_body<QueryConsumeQueueResponse>(json, "QueryConsumeQueueResponseBody");
}

}  // namespace apogee::remoting
