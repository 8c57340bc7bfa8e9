#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "apogee/message_queue.h"
#include "apogee/result.h"
#include "common/remoting/bodies/client_bodies.h"

namespace apogee::remoting {

struct TopicOffset {
  int64_t min_offset = 0;
  int64_t max_offset = 0;
  int64_t last_update_timestamp = 0;  ///< ms since 1970; 0 = no message
};
struct TopicStatsTable {
  std::map<MessageQueue, TopicOffset> offset_table;
};
std::string encode(const TopicStatsTable& body);
[[nodiscard]] Result<TopicStatsTable> decode_topic_stats_table(std::string_view json);

struct OffsetWrapper {
  int64_t broker_offset = 0;
  int64_t consumer_offset = 0;
  std::optional<int64_t> pull_offset;  ///< of 5.x
  int64_t last_timestamp = 0;          ///< ms since 1970; store time of the last consumed message
};
struct ConsumeStats {
  std::map<MessageQueue, OffsetWrapper> offset_table;
  double consume_tps = 0;
};
std::string encode(const ConsumeStats& body);
[[nodiscard]] Result<ConsumeStats> decode_consume_stats(std::string_view json);

struct ConsumeStatsList {
  /// Each map holds one group with its statistics.
  std::vector<std::map<std::string, std::vector<ConsumeStats>>> consume_stats_list;
  std::string broker_addr;
  int64_t total_diff = 0;
};
std::string encode(const ConsumeStatsList& body);
[[nodiscard]] Result<ConsumeStatsList> decode_consume_stats_list(std::string_view json);

struct QueueTimeSpan {
  MessageQueue message_queue;
  int64_t min_time_stamp = 0;  ///< ms since 1970, as the next two
  int64_t max_time_stamp = 0;
  int64_t consume_time_stamp = 0;
  int64_t delay_time = 0;  ///< ms
};
struct QueryConsumeTimeSpanBody {
  std::vector<QueueTimeSpan> consume_time_span_set;
};
std::string encode(const QueryConsumeTimeSpanBody& body);
[[nodiscard]] Result<QueryConsumeTimeSpanBody> decode_query_consume_time_span_body(std::string_view json);

struct BrokerStatsItem {
  int64_t sum = 0;
  double tps = 0;
  double avgpt = 0;
};
struct BrokerStatsData {
  BrokerStatsItem stats_minute;
  BrokerStatsItem stats_hour;
  BrokerStatsItem stats_day;
};
std::string encode(const BrokerStatsData& body);
[[nodiscard]] Result<BrokerStatsData> decode_broker_stats_data(std::string_view json);

struct ConsumeQueueData {
  int64_t physic_offset = 0;
  int32_t physic_size = 0;
  int64_t tags_code = 0;
  bool eval = false;
  std::string msg;  ///< omitted when empty
};
struct QueryConsumeQueueResponse {
  std::optional<SubscriptionData> subscription_data;
  std::string filter_data = "null";
  std::vector<ConsumeQueueData> queue_data;
  int64_t max_queue_index = 0;
  int64_t min_queue_index = 0;
};
std::string encode(const QueryConsumeQueueResponse& body);
[[nodiscard]] Result<QueryConsumeQueueResponse> decode_query_consume_queue_response(std::string_view json);

}  // namespace apogee::remoting
