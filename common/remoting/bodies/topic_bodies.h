#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "apogee/result.h"

namespace apogee::remoting {

/// Version of a table, so that peers can tell whether it changed. Equal when all fields are.
struct DataVersion {
  int64_t timestamp = 0;  ///< ms since 1970 of the last change
  int64_t counter = 0;
  int64_t state_version = 0;  ///< of 5.x; written only when it is not 0
  friend bool operator==(const DataVersion& a, const DataVersion& b) {
    return a.timestamp == b.timestamp && a.counter == b.counter && a.state_version == b.state_version;
  }
  friend bool operator!=(const DataVersion& a, const DataVersion& b) { return !(a == b); }
};
std::string encode(const DataVersion& body);
[[nodiscard]] Result<DataVersion> decode_data_version(std::string_view json);

/// Permission bits of a topic, a queue or a broker.
namespace perm {
inline constexpr int32_t kPriority = 8;
inline constexpr int32_t kRead = 4;
inline constexpr int32_t kWrite = 2;
inline constexpr int32_t kInherit = 1;
}  // namespace perm

enum class TopicFilterType : uint8_t { kSingleTag = 0, kMultiTag = 1 };
const char* to_string(TopicFilterType type);  ///< "SINGLE_TAG", "MULTI_TAG"
/// kSingleTag for a name that is not known.
TopicFilterType topic_filter_type_from_name(std::string_view name);

struct TopicConfig {
  std::string topic_name;
  int32_t read_queue_nums = 16;
  int32_t write_queue_nums = 16;
  int32_t perm = perm::kRead | perm::kWrite;
  TopicFilterType topic_filter_type = TopicFilterType::kSingleTag;
  int32_t topic_sys_flag = 0;
  bool order = false;
  std::map<std::string, std::string> attributes;  ///< of 5.x; written only when not empty
  std::string other_members;  ///< that mean nothing here: JSON text without braces, read and written as it is
  friend bool operator==(const TopicConfig& a, const TopicConfig& b) {
    return a.topic_name == b.topic_name && a.read_queue_nums == b.read_queue_nums &&
           a.write_queue_nums == b.write_queue_nums && a.perm == b.perm && a.topic_filter_type == b.topic_filter_type &&
           a.topic_sys_flag == b.topic_sys_flag && a.order == b.order && a.attributes == b.attributes &&
           a.other_members == b.other_members;
  }
  friend bool operator!=(const TopicConfig& a, const TopicConfig& b) { return !(a == b); }
};
std::string encode(const TopicConfig& body);
[[nodiscard]] Result<TopicConfig> decode_topic_config(std::string_view json);

/// A broker's topics: in registrations, in GET_ALL_TOPIC_CONFIG, and in config/topics.json.
struct TopicConfigSerializeWrapper {
  DataVersion data_version;
  std::map<std::string, TopicConfig> topic_config_table;
  std::string other_members;  ///< as in TopicConfig
};
std::string encode(const TopicConfigSerializeWrapper& body);
[[nodiscard]] Result<TopicConfigSerializeWrapper> decode_topic_config_serialize_wrapper(std::string_view json);

/// Body of UPDATE_AND_CREATE_TOPIC_LIST.
struct CreateTopicList {
  std::vector<TopicConfig> topic_config_list;
};
std::string encode(const CreateTopicList& body);
[[nodiscard]] Result<CreateTopicList> decode_create_topic_list(std::string_view json);

}  // namespace apogee::remoting
