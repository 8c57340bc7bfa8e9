#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "apogee/result.h"

// Bodies are plain data. encode() writes the compact JSON that Java's fastjson writes; decode_...() reads
// everything that fastjson reads (see common/remoting/json_reader.h), ignores unknown members and leaves the
// defaults where members are missing. Errors of every decode: kInvalidArgument, naming the member.
namespace apogee::remoting {

/// Names with values: KV configuration, order configuration, a broker's runtime figures.
struct KvTable {
  std::map<std::string, std::string> table;
};
std::string encode(const KvTable& body);
[[nodiscard]] Result<KvTable> decode_kv_table(std::string_view json);

struct TopicList {
  std::vector<std::string> topic_list;
  std::string broker_addr;  ///< omitted when empty
};
std::string encode(const TopicList& body);
[[nodiscard]] Result<TopicList> decode_topic_list(std::string_view json);

struct GroupList {
  std::vector<std::string> group_list;
};
std::string encode(const GroupList& body);
[[nodiscard]] Result<GroupList> decode_group_list(std::string_view json);

}  // namespace apogee::remoting
