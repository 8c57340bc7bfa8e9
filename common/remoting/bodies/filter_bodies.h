#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "apogee/result.h"

namespace apogee::remoting {

/// Bits that a group has in the filter of its topic; kept for RocketMQ, which looks at them.
struct BloomFilterData {
  int32_t bit_num = 0;
  std::vector<int32_t> bit_pos;
};

/// One filter of consumerFilter.json.
struct ConsumerFilterData {
  std::string topic;
  std::string consumer_group;
  std::string expression;
  std::string expression_type;
  int64_t born_time_ms = 0;
  int64_t dead_time_ms = 0;  ///< 0: the group has members
  int64_t client_version = 0;
  BloomFilterData bloom;  ///< written only when it has bits
};

/// Content of consumerFilter.json: by topic, then by group.
struct ConsumerFilterTable {
  std::map<std::string, std::map<std::string, ConsumerFilterData>> by_topic;
};
std::string encode(const ConsumerFilterTable& body);
[[nodiscard]] Result<ConsumerFilterTable> decode_consumer_filter_table(std::string_view json);

}  // namespace apogee::remoting
