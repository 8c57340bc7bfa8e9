#include "common/remoting/bodies/stats_bodies.h"

#include "common/remoting/bodies/body_reader.h"
#include "common/remoting/bodies/json_writer.h"

namespace apogee::remoting {

namespace {

void write(JsonWriter& out, const ConsumeStats& body) {
  out.begin_object().member("consumeTps", body.consume_tps).key("offsetTable").begin_object();
  for (const auto& [queue, offset] : body.offset_table) {
    out.key(queue).begin_object().member("brokerOffset", offset.broker_offset);
    out.member("consumerOffset", offset.consumer_offset).member("lastTimestamp", offset.last_timestamp);
    if (offset.pull_offset) out.member("pullOffset", *offset.pull_offset);
    out.end_object();
  }
  out.end_object().end_object();
}

void write(JsonWriter& out, const BrokerStatsItem& body) {
  out.begin_object().member("avgpt", body.avgpt).member("sum", body.sum).member("tps", body.tps).end_object();
}

}  // namespace

static void read_body(const BodyReader& in, TopicOffset& to) {
  in.read("minOffset", to.min_offset);
  in.read("maxOffset", to.max_offset);
  in.read("lastUpdateTimestamp", to.last_update_timestamp);
}
static void read_body(const BodyReader& in, TopicStatsTable& to) { in.read_structs("offsetTable", to.offset_table); }
static void read_body(const BodyReader& in, OffsetWrapper& to) {
  in.read("brokerOffset", to.broker_offset);
  in.read("consumerOffset", to.consumer_offset);
  in.read("lastTimestamp", to.last_timestamp);
  if (in.member("pullOffset") != nullptr) in.read("pullOffset", to.pull_offset.emplace());
}
static void read_body(const BodyReader& in, ConsumeStats& to) {
  in.read_structs("offsetTable", to.offset_table);
  in.read("consumeTps", to.consume_tps);
}
static void read_body(const BodyReader& in, ConsumeStatsList& to) {
  in.read("brokerAddr", to.broker_addr);
  in.read("totalDiff", to.total_diff);
  in.each("consumeStatsList", [&](const nlohmann::json& groups) {
    auto& map = to.consume_stats_list.emplace_back();
    const nlohmann::json wrapped{{"groups", groups}};
    BodyReader(wrapped, in.problem()).each_member("groups", [&](const std::string& group, const nlohmann::json& list) {
      const nlohmann::json inner{{"stats", list}};
      BodyReader(inner, in.problem()).read_structs("stats", map[group]);
    });
  });
}
static void read_body(const BodyReader& in, QueueTimeSpan& to) {
  in.read("messageQueue", to.message_queue);
  in.read("minTimeStamp", to.min_time_stamp);
  in.read("maxTimeStamp", to.max_time_stamp);
  in.read("consumeTimeStamp", to.consume_time_stamp);
  in.read("delayTime", to.delay_time);
}
static void read_body(const BodyReader& in, QueryConsumeTimeSpanBody& to) {
  in.read_structs("consumeTimeSpanSet", to.consume_time_span_set);
}
static void read_body(const BodyReader& in, BrokerStatsItem& to) {
  in.read("sum", to.sum);
  in.read("tps", to.tps);
  in.read("avgpt", to.avgpt);
}
static void read_body(const BodyReader& in, BrokerStatsData& to) {
  in.read_struct("statsMinute", to.stats_minute);
  in.read_struct("statsHour", to.stats_hour);
  in.read_struct("statsDay", to.stats_day);
}

std::string encode(const TopicStatsTable& body) {
  JsonWriter out;
  out.begin_object().key("offsetTable").begin_object();
  for (const auto& [queue, offset] : body.offset_table) {
    out.key(queue).begin_object().member("lastUpdateTimestamp", offset.last_update_timestamp);
    out.member("maxOffset", offset.max_offset).member("minOffset", offset.min_offset).end_object();
  }
  return out.end_object().end_object().take();
}
Result<TopicStatsTable> decode_topic_stats_table(std::string_view json) {
  return decode_body<TopicStatsTable>(json, "TopicStatsTable");
}

std::string encode(const ConsumeStats& body) {
  JsonWriter out;
  write(out, body);
  return out.take();
}
Result<ConsumeStats> decode_consume_stats(std::string_view json) {
  return decode_body<ConsumeStats>(json, "ConsumeStats");
}

std::string encode(const ConsumeStatsList& body) {
  JsonWriter out;
  out.begin_object().member("brokerAddr", body.broker_addr).key("consumeStatsList").begin_array();
  for (const auto& groups : body.consume_stats_list) {
    out.begin_object();
    for (const auto& [group, list] : groups) {
      out.key(group).begin_array();
      for (const auto& stats : list) write(out, stats);
      out.end_array();
    }
    out.end_object();
  }
  return out.end_array().member("totalDiff", body.total_diff).end_object().take();
}
Result<ConsumeStatsList> decode_consume_stats_list(std::string_view json) {
  return decode_body<ConsumeStatsList>(json, "ConsumeStatsList");
}

std::string encode(const QueryConsumeTimeSpanBody& body) {
  JsonWriter out;
  out.begin_object().key("consumeTimeSpanSet").begin_array();
  for (const auto& span : body.consume_time_span_set) {
    out.begin_object().member("consumeTimeStamp", span.consume_time_stamp).member("delayTime", span.delay_time);
    out.member("maxTimeStamp", span.max_time_stamp).member("messageQueue", span.message_queue);
    out.member("minTimeStamp", span.min_time_stamp).end_object();
  }
  return out.end_array().end_object().take();
}
Result<QueryConsumeTimeSpanBody> decode_query_consume_time_span_body(std::string_view json) {
  return decode_body<QueryConsumeTimeSpanBody>(json, "QueryConsumeTimeSpanBody");
}

std::string encode(const BrokerStatsData& body) {
  JsonWriter out;
  out.begin_object().key("statsDay");
  write(out, body.stats_day);
  out.key("statsHour");
  write(out, body.stats_hour);
  out.key("statsMinute");
  write(out, body.stats_minute);
  return out.end_object().take();
}
Result<BrokerStatsData> decode_broker_stats_data(std::string_view json) {
  return decode_body<BrokerStatsData>(json, "BrokerStatsData");
}

}  // namespace apogee::remoting
