#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "apogee/result.h"
#include "common/remoting/bodies/topic_bodies.h"

namespace apogee::remoting {

struct SubscriptionGroupConfig {
  std::string group_name;
  bool consume_enable = true;
  bool consume_from_min_enable = true;
  bool consume_broadcast_enable = true;
  int32_t retry_queue_nums = 1;
  int32_t retry_max_times = 16;
  int64_t broker_id = 0;
  int64_t which_broker_when_consume_slowly = 1;
  bool notify_consumer_ids_changed_enable = true;
  // Of 5.x; each is written only when it is not as here.
  bool consume_message_orderly = false;
  int32_t consume_timeout_minute = 15;
  int32_t group_sys_flag = 0;
  std::map<std::string, std::string> attributes;
  /// Members that mean nothing here, such as groupRetryPolicy and subscriptionDataSet of 5.x: JSON text without
  /// braces, read and written as it is.
  std::string other_members;
};
std::string encode(const SubscriptionGroupConfig& body);
[[nodiscard]] Result<SubscriptionGroupConfig> decode_subscription_group_config(std::string_view json);

/// Answer to GET_ALL_SUBSCRIPTIONGROUP_CONFIG, and config/subscriptionGroup.json.
struct SubscriptionGroupWrapper {
  std::map<std::string, SubscriptionGroupConfig> subscription_group_table;
  DataVersion data_version;
  std::string other_members;  ///< as in SubscriptionGroupConfig; forbiddenTable of 5.x
};
std::string encode(const SubscriptionGroupWrapper& body);
[[nodiscard]] Result<SubscriptionGroupWrapper> decode_subscription_group_wrapper(std::string_view json);

/// Body of UPDATE_AND_CREATE_SUBSCRIPTIONGROUP_LIST.
struct SubscriptionGroupList {
  std::vector<SubscriptionGroupConfig> group_config_list;
};
std::string encode(const SubscriptionGroupList& body);
[[nodiscard]] Result<SubscriptionGroupList> decode_subscription_group_list(std::string_view json);

/// Answer to GET_ALL_CONSUMER_OFFSET, and config/consumerOffset.json.
struct ConsumerOffsetSerializeWrapper {
  std::map<std::string, std::map<int32_t, int64_t>> offset_table;  ///< "topic@group" to queue id to offset
  std::string other_members;  ///< as in SubscriptionGroupConfig; dataVersion of 5.x
};
std::string encode(const ConsumerOffsetSerializeWrapper& body);
[[nodiscard]] Result<ConsumerOffsetSerializeWrapper> decode_consumer_offset_serialize_wrapper(std::string_view json);

/// Answer to GET_ALL_DELAY_OFFSET, and config/delayOffset.json.
struct DelayOffsetTable {
  std::map<int32_t, int64_t> offset_table;  ///< delay level to queue offset
};
std::string encode(const DelayOffsetTable& body);
[[nodiscard]] Result<DelayOffsetTable> decode_delay_offset_table(std::string_view json);

/// Answer to QUERY_CORRECTION_OFFSET.
struct QueryCorrectionOffset {
  std::map<int32_t, int64_t> correction_offsets;  ///< by queue id
};
std::string encode(const QueryCorrectionOffset& body);
[[nodiscard]] Result<QueryCorrectionOffset> decode_query_correction_offset(std::string_view json);

}  // namespace apogee::remoting
