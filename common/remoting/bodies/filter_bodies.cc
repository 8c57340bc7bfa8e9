#include "common/remoting/bodies/filter_bodies.h"

#include "common/remoting/bodies/body_reader.h"
#include "common/remoting/bodies/json_writer.h"

namespace apogee::remoting {

/// The filters of one topic as the file has them.
struct TopicFilters {
  std::map<std::string, ConsumerFilterData> groups;
};

static void read_body(const BodyReader& in, BloomFilterData& to) {
  in.read("bitNum", to.bit_num);
  in.read("bitPos", to.bit_pos);
}

static void read_body(const BodyReader& in, ConsumerFilterData& to) {
  in.read("topic", to.topic);
  in.read("consumerGroup", to.consumer_group);
  in.read("expression", to.expression);
  in.read("expressionType", to.expression_type);
  in.read("bornTime", to.born_time_ms);
  in.read("deadTime", to.dead_time_ms);
  in.read("clientVersion", to.client_version);
  in.read_struct("bloomFilterData", to.bloom);
}

static void read_body(const BodyReader& in, TopicFilters& to) { in.read_structs("groupFilterData", to.groups); }

static void read_body(const BodyReader& in, ConsumerFilterTable& to) {
  std::map<std::string, TopicFilters> topics;
  in.read_structs("filterDataByTopic", topics);
  for (auto& [topic, filters] : topics) to.by_topic[topic] = std::move(filters.groups);
}

static void write(JsonWriter& out, const ConsumerFilterData& filter) {
  out.begin_object();
  if (!filter.bloom.bit_pos.empty()) {
    out.key("bloomFilterData").begin_object().member("bitNum", filter.bloom.bit_num).key("bitPos").begin_array();
    for (const int32_t position : filter.bloom.bit_pos) out.value(position);
    out.end_array().end_object();
  }
  out.member("bornTime", filter.born_time_ms)
      .member("clientVersion", filter.client_version)
      .member("consumerGroup", filter.consumer_group)
      .member("deadTime", filter.dead_time_ms)
      .member("expression", filter.expression)
      .member("expressionType", filter.expression_type)
      .member("topic", filter.topic)
      .end_object();
}

std::string encode(const ConsumerFilterTable& body) {
  JsonWriter out;
  out.begin_object().key("filterDataByTopic").begin_object();
  for (const auto& [topic, groups] : body.by_topic) {
    out.key(topic).begin_object().key("groupFilterData").begin_object();
    for (const auto& [group, filter] : groups) {
      out.key(group);
      write(out, filter);
    }
    out.end_object().member("topic", topic).end_object();
  }
  out.end_object().end_object();
  return out.take();
}

Result<ConsumerFilterTable> decode_consumer_filter_table(std::string_view json) {
  return decode_body<ConsumerFilterTable>(json, "ConsumerFilterManager");
}

}  // namespace apogee::remoting
