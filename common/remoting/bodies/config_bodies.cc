#include "common/remoting/bodies/body_reader.h"
#include "common/remoting/bodies/group_bodies.h"
#include "common/remoting/bodies/json_writer.h"
#include "common/remoting/bodies/kv_bodies.h"
#include "common/remoting/bodies/topic_bodies.h"

namespace apogee::remoting {

namespace {

constexpr const char* kTopicFilterTypes[] = {"SINGLE_TAG", "MULTI_TAG"};

void write(JsonWriter& out, const DataVersion& body) {
  out.begin_object().member("counter", body.counter);
  if (body.state_version != 0) out.member("stateVersion", body.state_version);
  out.member("timestamp", body.timestamp).end_object();
}

void write(JsonWriter& out, const TopicConfig& body) {
  out.begin_object();
  if (!body.attributes.empty()) out.member("attributes", body.attributes);
  out.member("order", body.order).member("perm", body.perm).member("readQueueNums", body.read_queue_nums);
  out.member("topicFilterType", to_string(body.topic_filter_type)).member("topicName", body.topic_name);
  out.member("topicSysFlag", body.topic_sys_flag).member("writeQueueNums", body.write_queue_nums);
  out.members(body.other_members).end_object();
}

void write(JsonWriter& out, const SubscriptionGroupConfig& body) {
  out.begin_object();
  if (!body.attributes.empty()) out.member("attributes", body.attributes);
  out.member("brokerId", body.broker_id).member("consumeBroadcastEnable", body.consume_broadcast_enable);
  out.member("consumeEnable", body.consume_enable).member("consumeFromMinEnable", body.consume_from_min_enable);
  if (body.consume_message_orderly) out.member("consumeMessageOrderly", true);
  if (body.consume_timeout_minute != 15) out.member("consumeTimeoutMinute", body.consume_timeout_minute);
  out.member("groupName", body.group_name);
  if (body.group_sys_flag != 0) out.member("groupSysFlag", body.group_sys_flag);
  out.member("notifyConsumerIdsChangedEnable", body.notify_consumer_ids_changed_enable);
  out.member("retryMaxTimes", body.retry_max_times).member("retryQueueNums", body.retry_queue_nums);
  out.member("whichBrokerWhenConsumeSlowly", body.which_broker_when_consume_slowly);
  out.members(body.other_members).end_object();
}

void write_numbers(JsonWriter& out, const std::map<int32_t, int64_t>& table) {
  out.begin_object();
  for (const auto& [key, number] : table) out.bare_key(key).value(number);
  out.end_object();
}

template <typename T>
std::string encode_value(const T& body) {
  JsonWriter out;
  write(out, body);
  return out.take();
}

}  // namespace

const char* to_string(TopicFilterType type) { return kTopicFilterTypes[type == TopicFilterType::kMultiTag ? 1 : 0]; }
TopicFilterType topic_filter_type_from_name(std::string_view name) {
  return name == kTopicFilterTypes[1] ? TopicFilterType::kMultiTag : TopicFilterType::kSingleTag;
}

static void read_body(const BodyReader& in, KvTable& to) { in.read("table", to.table); }
static void read_body(const BodyReader& in, TopicList& to) {
  in.read("topicList", to.topic_list);
  in.read("brokerAddr", to.broker_addr);
}
static void read_body(const BodyReader& in, GroupList& to) { in.read("groupList", to.group_list); }
static void read_body(const BodyReader& in, DataVersion& to) {
  in.read("timestamp", to.timestamp);
  in.read("counter", to.counter);
  in.read("stateVersion", to.state_version);
}
static void read_body(const BodyReader& in, TopicConfig& to) {
  in.read("topicName", to.topic_name);
  in.read("readQueueNums", to.read_queue_nums);
  in.read("writeQueueNums", to.write_queue_nums);
  in.read("perm", to.perm);
  in.read_enum("topicFilterType", kTopicFilterTypes, to.topic_filter_type);
  in.read("topicSysFlag", to.topic_sys_flag);
  in.read("order", to.order);
  in.read("attributes", to.attributes);
  in.read_rest(to.other_members);
}
static void read_body(const BodyReader& in, TopicConfigSerializeWrapper& to) {
  in.read_struct("dataVersion", to.data_version);
  in.read_structs("topicConfigTable", to.topic_config_table);
  in.read_rest(to.other_members);
}
static void read_body(const BodyReader& in, CreateTopicList& to) {
  in.read_structs("topicConfigList", to.topic_config_list);
}
static void read_body(const BodyReader& in, SubscriptionGroupConfig& to) {
  in.read("groupName", to.group_name);
  in.read("consumeEnable", to.consume_enable);
  in.read("consumeFromMinEnable", to.consume_from_min_enable);
  in.read("consumeBroadcastEnable", to.consume_broadcast_enable);
  in.read("retryQueueNums", to.retry_queue_nums);
  in.read("retryMaxTimes", to.retry_max_times);
  in.read("brokerId", to.broker_id);
  in.read("whichBrokerWhenConsumeSlowly", to.which_broker_when_consume_slowly);
  in.read("notifyConsumerIdsChangedEnable", to.notify_consumer_ids_changed_enable);
  in.read("consumeMessageOrderly", to.consume_message_orderly);
  in.read("consumeTimeoutMinute", to.consume_timeout_minute);
  in.read("groupSysFlag", to.group_sys_flag);
  in.read("attributes", to.attributes);
  in.read_rest(to.other_members);
}
static void read_body(const BodyReader& in, SubscriptionGroupWrapper& to) {
  in.read_structs("subscriptionGroupTable", to.subscription_group_table);
  in.read_struct("dataVersion", to.data_version);
  in.read_rest(to.other_members);
}
static void read_body(const BodyReader& in, SubscriptionGroupList& to) {
  in.read_structs("groupConfigList", to.group_config_list);
}
static void read_body(const BodyReader& in, ConsumerOffsetSerializeWrapper& to) {
  in.each_member("offsetTable", [&](const std::string& key, const nlohmann::json& table) {
    // One more level: wrapped, so that the same reader serves.
    const nlohmann::json wrapped{{"queues", table}};
    BodyReader(wrapped, in.problem()).read_numbers("queues", to.offset_table[key]);
  });
  in.read_rest(to.other_members);
}
static void read_body(const BodyReader& in, DelayOffsetTable& to) { in.read_numbers("offsetTable", to.offset_table); }
static void read_body(const BodyReader& in, QueryCorrectionOffset& to) {
  in.read_numbers("correctionOffsets", to.correction_offsets);
}

std::string encode(const KvTable& body) {
  return JsonWriter().begin_object().member("table", body.table).end_object().take();
}
Result<KvTable> decode_kv_table(std::string_view json) { return decode_body<KvTable>(json, "KVTable"); }

std::string encode(const TopicList& body) {
  JsonWriter out;
  out.begin_object().member_unless_empty("brokerAddr", body.broker_addr).member("topicList", body.topic_list);
  return out.end_object().take();
}
Result<TopicList> decode_topic_list(std::string_view json) { return decode_body<TopicList>(json, "TopicList"); }

std::string encode(const GroupList& body) {
  return JsonWriter().begin_object().member("groupList", body.group_list).end_object().take();
}
Result<GroupList> decode_group_list(std::string_view json) { return decode_body<GroupList>(json, "GroupList"); }

std::string encode(const DataVersion& body) { return encode_value(body); }
Result<DataVersion> decode_data_version(std::string_view json) { return decode_body<DataVersion>(json, "DataVersion"); }

std::string encode(const TopicConfig& body) { return encode_value(body); }
Result<TopicConfig> decode_topic_config(std::string_view json) { return decode_body<TopicConfig>(json, "TopicConfig"); }

std::string encode(const TopicConfigSerializeWrapper& body) {
  JsonWriter out;
  out.begin_object().key("dataVersion");
  write(out, body.data_version);
  out.key("topicConfigTable").begin_object();
  for (const auto& [name, config] : body.topic_config_table) {
    out.key(name);
    write(out, config);
  }
  return out.end_object().members(body.other_members).end_object().take();
}
Result<TopicConfigSerializeWrapper> decode_topic_config_serialize_wrapper(std::string_view json) {
  return decode_body<TopicConfigSerializeWrapper>(json, "TopicConfigSerializeWrapper");
}

std::string encode(const CreateTopicList& body) {
  JsonWriter out;
  out.begin_object().key("topicConfigList").begin_array();
  for (const auto& config : body.topic_config_list) write(out, config);
  return out.end_array().end_object().take();
}
Result<CreateTopicList> decode_create_topic_list(std::string_view json) {
  return decode_body<CreateTopicList>(json, "CreateTopicListRequestBody");
}

std::string encode(const SubscriptionGroupConfig& body) { return encode_value(body); }
Result<SubscriptionGroupConfig> decode_subscription_group_config(std::string_view json) {
  return decode_body<SubscriptionGroupConfig>(json, "SubscriptionGroupConfig");
}

std::string encode(const SubscriptionGroupWrapper& body) {
  JsonWriter out;
  out.begin_object().key("dataVersion");
  write(out, body.data_version);
  out.key("subscriptionGroupTable").begin_object();
  for (const auto& [name, config] : body.subscription_group_table) {
    out.key(name);
    write(out, config);
  }
  return out.end_object().members(body.other_members).end_object().take();
}
Result<SubscriptionGroupWrapper> decode_subscription_group_wrapper(std::string_view json) {
  return decode_body<SubscriptionGroupWrapper>(json, "SubscriptionGroupWrapper");
}

std::string encode(const SubscriptionGroupList& body) {
  JsonWriter out;
  out.begin_object().key("groupConfigList").begin_array();
  for (const auto& config : body.group_config_list) write(out, config);
  return out.end_array().end_object().take();
}
Result<SubscriptionGroupList> decode_subscription_group_list(std::string_view json) {
  return decode_body<SubscriptionGroupList>(json, "SubscriptionGroupList");
}

std::string encode(const ConsumerOffsetSerializeWrapper& body) {
  JsonWriter out;
  out.begin_object().key("offsetTable").begin_object();
  for (const auto& [name, table] : body.offset_table) {
    out.key(name);
    write_numbers(out, table);
  }
  return out.end_object().members(body.other_members).end_object().take();
}
Result<ConsumerOffsetSerializeWrapper> decode_consumer_offset_serialize_wrapper(std::string_view json) {
  return decode_body<ConsumerOffsetSerializeWrapper>(json, "ConsumerOffsetSerializeWrapper");
}

std::string encode(const DelayOffsetTable& body) {
  JsonWriter out;
  out.begin_object().key("offsetTable");
  write_numbers(out, body.offset_table);
  return out.end_object().take();
}
Result<DelayOffsetTable> decode_delay_offset_table(std::string_view json) {
  return decode_body<DelayOffsetTable>(json, "DelayOffsetSerializeWrapper");
}

std::string encode(const QueryCorrectionOffset& body) {
  JsonWriter out;
  out.begin_object().key("correctionOffsets");
  write_numbers(out, body.correction_offsets);
  return out.end_object().take();
}
Result<QueryCorrectionOffset> decode_query_correction_offset(std::string_view json) {
  return decode_body<QueryCorrectionOffset>(json, "QueryCorrectionOffsetBody");
}

}  // namespace apogee::remoting
