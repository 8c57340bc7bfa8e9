#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "apogee/message_queue.h"
#include "apogee/result.h"

namespace apogee::remoting {

enum class ConsumeType : uint8_t { kActively = 0, kPassively = 1, kPop = 2 };
enum class MessageModel : uint8_t { kBroadcasting = 0, kClustering = 1 };
enum class ConsumeFromWhere : uint8_t {
  kLastOffset = 0,
  kLastOffsetAndFromMinWhenBootFirst = 1,  // deprecated, as the next two
  kMinOffset = 2,
  kMaxOffset = 3,
  kFirstOffset = 4,
  kTimestamp = 5,
};
const char* to_string(ConsumeType type);        ///< "CONSUME_ACTIVELY", "CONSUME_PASSIVELY", "CONSUME_POP"
const char* to_string(MessageModel model);      ///< "BROADCASTING", "CLUSTERING"
const char* to_string(ConsumeFromWhere where);  ///< "CONSUME_FROM_LAST_OFFSET", ...

struct SubscriptionData {
  std::string topic;
  std::string sub_string = "*";         ///< "*", "TagA || TagB", or an SQL92 expression
  std::vector<std::string> tags_set;    ///< empty = all
  std::vector<int32_t> code_set;        ///< Java hash codes of the tags
  int64_t sub_version = 0;              ///< ms since 1970 of the subscription
  std::string expression_type = "TAG";  ///< "TAG" or "SQL92"
  bool class_filter_mode = false;
  friend bool operator==(const SubscriptionData& a, const SubscriptionData& b) {
    return a.topic == b.topic && a.sub_string == b.sub_string && a.tags_set == b.tags_set && a.code_set == b.code_set &&
           a.sub_version == b.sub_version && a.expression_type == b.expression_type &&
           a.class_filter_mode == b.class_filter_mode;
  }
};
std::string encode(const SubscriptionData& body);
[[nodiscard]] Result<SubscriptionData> decode_subscription_data(std::string_view json);
/// Parses a tag expression: null, empty and "*" mean all; else tags split on "||" and trimmed, without
/// duplicates, with their hash codes. Error: kInvalidArgument when no tag is left ("||").
[[nodiscard]] Result<SubscriptionData> build_tag_subscription(std::string_view topic, std::string_view expression,
                                                              int64_t sub_version);

struct ConsumerData {
  std::string group_name;
  ConsumeType consume_type = ConsumeType::kPassively;
  MessageModel message_model = MessageModel::kClustering;
  ConsumeFromWhere consume_from_where = ConsumeFromWhere::kLastOffset;
  std::vector<SubscriptionData> subscription_data_set;
  bool unit_mode = false;
};
struct ProducerData {
  std::string group_name;
};
struct HeartbeatData {
  std::string client_id;
  std::vector<ProducerData> producer_data_set;
  std::vector<ConsumerData> consumer_data_set;
  int32_t heartbeat_fingerprint = 0;  ///< of 5.x; written only when it is not 0
  bool without_sub = false;           ///< of 5.x; written only when true
};
std::string encode(const HeartbeatData& body);
[[nodiscard]] Result<HeartbeatData> decode_heartbeat_data(std::string_view json);

struct Connection {
  std::string client_id;
  std::string client_addr;         ///< "ip:port"
  std::string language = "OTHER";  ///< name of a LanguageCode
  int32_t version = 0;
};
struct ConsumerConnection {
  std::vector<Connection> connection_set;
  std::map<std::string, SubscriptionData> subscription_table;
  ConsumeType consume_type = ConsumeType::kPassively;
  MessageModel message_model = MessageModel::kClustering;
  ConsumeFromWhere consume_from_where = ConsumeFromWhere::kLastOffset;
};
std::string encode(const ConsumerConnection& body);
[[nodiscard]] Result<ConsumerConnection> decode_consumer_connection(std::string_view json);

struct ProducerConnection {
  std::vector<Connection> connection_set;
};
std::string encode(const ProducerConnection& body);
[[nodiscard]] Result<ProducerConnection> decode_producer_connection(std::string_view json);

struct ProducerInfo {
  std::string client_id;
  std::string remote_ip;  ///< "/ip:port"
  std::string language = "OTHER";
  int32_t version = 0;
  int64_t last_update_timestamp = 0;  ///< ms since 1970
};
struct ProducerTableInfo {
  std::map<std::string, std::vector<ProducerInfo>> data;  ///< by producer group
};
std::string encode(const ProducerTableInfo& body);
[[nodiscard]] Result<ProducerTableInfo> decode_producer_table_info(std::string_view json);

/// Body of the answer to GET_CONSUMER_LIST_BY_GROUP.
struct GetConsumerList {
  std::vector<std::string> consumer_id_list;
};
std::string encode(const GetConsumerList& body);
[[nodiscard]] Result<GetConsumerList> decode_get_consumer_list(std::string_view json);

struct CheckClientRequest {
  std::string client_id;
  std::string group;
  SubscriptionData subscription_data;
};
std::string encode(const CheckClientRequest& body);
[[nodiscard]] Result<CheckClientRequest> decode_check_client_request(std::string_view json);

/// Body of LOCK_BATCH_MQ and of UNLOCK_BATCH_MQ.
struct LockBatchRequest {
  std::string consumer_group;
  std::string client_id;
  bool only_this_broker = false;  ///< of 5.x; written only when true
  std::vector<MessageQueue> mq_set;
};
std::string encode(const LockBatchRequest& body);
[[nodiscard]] Result<LockBatchRequest> decode_lock_batch_request(std::string_view json);

struct LockBatchResponse {
  std::vector<MessageQueue> lock_ok_mq_set;
};
std::string encode(const LockBatchResponse& body);
[[nodiscard]] Result<LockBatchResponse> decode_lock_batch_response(std::string_view json);

/// Body of RESET_CONSUMER_CLIENT_OFFSET and of the answer to INVOKE_BROKER_TO_RESET_OFFSET.
struct ResetOffsetBody {
  std::map<MessageQueue, int64_t> offset_table;
};
std::string encode(const ResetOffsetBody& body);
/// The only form that the C++ client of Apache RocketMQ reads.
std::string encode_as_list(const ResetOffsetBody& body);
/// Either form.
[[nodiscard]] Result<ResetOffsetBody> decode_reset_offset_body(std::string_view json);

/// Clients fill message_queue_table, brokers fill consumer_table (by client id).
struct GetConsumerStatusBody {
  std::map<MessageQueue, int64_t> message_queue_table;
  std::map<std::string, std::map<MessageQueue, int64_t>> consumer_table;
};
std::string encode(const GetConsumerStatusBody& body);
[[nodiscard]] Result<GetConsumerStatusBody> decode_get_consumer_status_body(std::string_view json);

struct ProcessQueueInfo {
  int64_t commit_offset = 0;
  int64_t cached_msg_min_offset = 0;
  int64_t cached_msg_max_offset = 0;
  int32_t cached_msg_count = 0;
  int32_t cached_msg_size_in_mib = 0;
  int64_t transaction_msg_min_offset = 0;
  int64_t transaction_msg_max_offset = 0;
  int32_t transaction_msg_count = 0;
  bool locked = false;
  int64_t try_unlock_times = 0;
  int64_t last_lock_timestamp = 0;  ///< ms since 1970, as the next two
  bool dropped = false;
  int64_t last_pull_timestamp = 0;
  int64_t last_consume_timestamp = 0;
};
struct ConsumeStatus {
  double pull_rt = 0;  ///< ms
  double pull_tps = 0;
  double consume_rt = 0;  ///< ms
  double consume_ok_tps = 0;
  double consume_failed_tps = 0;
  int64_t consume_failed_msgs = 0;
};
struct ConsumerRunningInfo {
  std::map<std::string, std::string> properties;
  std::vector<SubscriptionData> subscription_set;
  std::map<MessageQueue, ProcessQueueInfo> mq_table;
  std::map<std::string, ConsumeStatus> status_table;  ///< by topic
  std::string jstack;                                 ///< omitted when empty
};
std::string encode(const ConsumerRunningInfo& body);
[[nodiscard]] Result<ConsumerRunningInfo> decode_consumer_running_info(std::string_view json);

enum class ConsumeDirectlyResultCode : uint8_t {
  kSuccess = 0,
  kLater = 1,
  kRollback = 2,
  kCommit = 3,
  kThrowException = 4,
  kReturnNull = 5,
};
const char* to_string(ConsumeDirectlyResultCode code);  ///< "CR_SUCCESS", ...

struct ConsumeMessageDirectlyResult {
  bool order = false;
  bool auto_commit = true;
  ConsumeDirectlyResultCode consume_result = ConsumeDirectlyResultCode::kSuccess;
  std::string remark;  ///< omitted when empty
  int64_t spent_time_mills = 0;
};
std::string encode(const ConsumeMessageDirectlyResult& body);
[[nodiscard]] Result<ConsumeMessageDirectlyResult> decode_consume_message_directly_result(std::string_view json);

}  // namespace apogee::remoting
