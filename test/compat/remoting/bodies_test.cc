#include <algorithm>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "common/remoting/bodies/client_bodies.h"
#include "common/remoting/bodies/group_bodies.h"
#include "common/remoting/bodies/kv_bodies.h"
#include "common/remoting/bodies/register_broker_body.h"
#include "common/remoting/bodies/route_bodies.h"
#include "common/remoting/bodies/stats_bodies.h"
#include "common/remoting/bodies/topic_bodies.h"
#include "common/remoting/command_codec.h"
#include "common/remoting/json_reader.h"
#include "test/compat/remoting/fixture.h"
#include "test/support/catch.h"

using namespace apogee;
using namespace apogee::remoting;
using nlohmann::json;

namespace {

using RoundTrip = std::function<Result<std::string>(std::string_view)>;

template <typename T>
RoundTrip through(Result<T> (*decode)(std::string_view)) {
  return [decode](std::string_view text) -> Result<std::string> {
    APOGEE_TRY_ASSIGN(auto body, decode(text));
    return encode(body);
  };
}

struct Side {
  int code;
  std::string kind;
  bool operator<(const Side& other) const { return std::tie(code, kind) < std::tie(other.code, other.kind); }
};

const std::map<Side, RoundTrip>& round_trips() {
  static const std::map<Side, RoundTrip> table{
      {{21, "response"}, through(decode_topic_config_serialize_wrapper)},
      {{28, "response"}, through(decode_kv_table)},
      {{34, "request"}, through(decode_heartbeat_data)},
      {{38, "response"}, through(decode_get_consumer_list)},
      {{41, "request"}, through(decode_lock_batch_request)},
      {{41, "response"}, through(decode_lock_batch_response)},
      {{42, "request"}, through(decode_lock_batch_request)},
      {{43, "response"}, through(decode_consumer_offset_serialize_wrapper)},
      {{45, "response"}, through(decode_delay_offset_table)},
      {{46, "request"}, through(decode_check_client_request)},
      {{103, "request"}, through(decode_register_broker_body)},
      {{103, "response"}, through(decode_kv_table)},
      {{105, "response"}, through(decode_topic_route_data)},
      {{106, "response"}, through(decode_cluster_info)},
      {{200, "request"}, through(decode_subscription_group_config)},
      {{201, "response"}, through(decode_subscription_group_wrapper)},
      {{202, "response"}, through(decode_topic_stats_table)},
      {{203, "response"}, through(decode_consumer_connection)},
      {{204, "response"}, through(decode_producer_connection)},
      {{206, "response"}, through(decode_topic_list)},
      {{208, "response"}, through(decode_consume_stats)},
      {{219, "response"}, through(decode_kv_table)},
      {{220, "request"}, through(decode_reset_offset_body)},
      {{221, "response"}, through(decode_get_consumer_status_body)},
      {{222, "response"}, through(decode_reset_offset_body)},
      {{223, "response"}, through(decode_get_consumer_status_body)},
      {{224, "response"}, through(decode_topic_list)},
      {{300, "response"}, through(decode_group_list)},
      {{303, "response"}, through(decode_query_consume_time_span_body)},
      {{304, "response"}, through(decode_topic_list)},
      {{305, "response"}, through(decode_topic_list)},
      {{307, "response"}, through(decode_consumer_running_info)},
      {{308, "response"}, through(decode_query_correction_offset)},
      {{309, "response"}, through(decode_consume_message_directly_result)},
      {{311, "response"}, through(decode_topic_list)},
      {{312, "response"}, through(decode_topic_list)},
      {{313, "response"}, through(decode_topic_list)},
      {{315, "response"}, through(decode_broker_stats_data)},
      {{317, "response"}, through(decode_consume_stats_list)},
      {{321, "response"}, through(decode_query_consume_queue_response)},
      {{322, "request"}, through(decode_data_version)},
      {{322, "response"}, through(decode_data_version)},
      {{328, "response"}, through(decode_producer_table_info)},
  };
  return table;
}

json tolerant(std::string_view text) {
  auto tree = read_json(text);
  if (!tree) FAIL(tree.error().message);
  return *tree;
}

/// Members that are derived from others and may be left out.
void drop_derived(json& tree) {
  if (!tree.contains("consumeTimeSpanSet")) return;
  for (auto& span : tree["consumeTimeSpanSet"]) {
    for (const char* name : {"minTimeStampStr", "maxTimeStampStr", "consumeTimeStampStr"}) span.erase(name);
  }
}

}  // namespace

TEST_CASE("every recorded JSON body decodes into its struct and encodes to the same again") {
  std::set<int> types, same_bytes;
  for (const auto& entry : fixture::index()) {
    if (!entry["body"].is_object() || !entry["body"].contains("text")) continue;
    std::string text = entry["body"]["text"];
    if (text.empty() || text[0] != '{') continue;
    INFO(entry["file"].get<std::string>());
    auto found = round_trips().find({entry["requestCode"], entry["kind"]});
    if (found == round_trips().end()) FAIL("no struct for this body: " << text.substr(0, 200));
    auto again = found->second(text);
    if (!again) FAIL(again.error().message);
    types.insert(entry["requestCode"].get<int>());
    if (*again == text) same_bytes.insert(entry["requestCode"].get<int>());
    auto expected = tolerant(text);
    drop_derived(expected);
    if (expected.contains("offsetTable") && expected["offsetTable"].is_array()) {
      auto form = encode_as_list(decode_reset_offset_body(text).value());
      auto by_queue = [](json list) {
        std::sort(list.begin(), list.end());
        return list;
      };
      CHECK(by_queue(json::parse(form)["offsetTable"]) == by_queue(expected["offsetTable"]));
      continue;
    }
    CHECK(tolerant(*again) == expected);
  }
  CHECK(types.size() >= 40);
  // Where the order of a Java hash map is not in the way, the bytes are the same too.
  CHECK(same_bytes.size() >= 25);
}

TEST_CASE("a route for an old client has bare integer keys, as recorded") {
  int bare = 0;
  for (const auto& entry : fixture::index()) {
    if (entry["requestCode"] != 105 || !entry["body"].is_object() || !entry["body"].contains("text")) continue;
    if (entry["kind"] != "response" || entry["body"]["standardJson"] == true) continue;
    std::string text = entry["body"]["text"];
    auto route = decode_topic_route_data(text);
    REQUIRE(route);
    CHECK(encode_for_old_clients(*route) == text);
    CHECK(json::accept(encode(*route)));
    CHECK(decode_topic_route_data(encode(*route)).value() == *route);
    ++bare;
  }
  CHECK(bare > 0);
}

TEST_CASE("a recorded compressed registration decodes to its topics") {
  int count = 0;
  for (const auto& entry : fixture::index()) {
    if (!entry.contains("inflated")) continue;
    ++count;
    auto frame = fixture::read_file(fixture::frames_dir() + entry["file"].get<std::string>());
    auto command = decode_frame(SharedBytes::from(frame.substr(kFrameLengthBytes)));
    REQUIRE(command);
    auto body = decode_compressed_register_broker_body(command->body.bytes, command->version);
    if (!body) FAIL(body.error().message);
    const auto& inflated = entry["inflated"];
    CHECK(encode(body->topic_config_wrapper.data_version) == inflated["dataVersion"]);
    CHECK(body->filter_server_list.empty());
    const auto& table = body->topic_config_wrapper.topic_config_table;
    REQUIRE(table.size() == inflated["topics"].size());
    for (const std::string line : inflated["topics"]) {
      const auto& config = table.at(line.substr(0, line.find(' ')));
      CHECK(line == config.topic_name + " " + std::to_string(config.read_queue_nums) + " " +
                        std::to_string(config.write_queue_nums) + " " + std::to_string(config.perm) + " " +
                        to_string(config.topic_filter_type));
    }
    for (int32_t version : {409, 479}) {
      auto again = decode_compressed_register_broker_body(encode_compressed(*body, version), version);
      REQUIRE(again);
      CHECK(encode(*again) == encode(*body));
    }
  }
  CHECK(count == 2);
}
