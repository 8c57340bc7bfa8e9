#include "common/remoting/bodies/route_bodies.h"

#include <charconv>

#include "common/base/bytes.h"
#include "common/base/text.h"
#include "common/message/compression.h"
#include "common/remoting/bodies/body_reader.h"
#include "common/remoting/bodies/json_writer.h"
#include "common/remoting/bodies/register_broker_body.h"
#include "common/remoting/json_scanner.h"

namespace apogee::remoting {

namespace {

enum class IntKeys : uint8_t { kBare, kQuoted };

void write_addrs(JsonWriter& out, const std::map<int64_t, std::string>& addrs, IntKeys keys) {
  out.begin_object();
  for (const auto& [id, addr] : addrs) {
    if (keys == IntKeys::kBare) {
      out.bare_key(id);
    } else {
      out.key(std::to_string(id));
    }
    out.value(addr);
  }
  out.end_object();
}

void write(JsonWriter& out, const BrokerData& body, IntKeys keys) {
  out.begin_object().key("brokerAddrs");
  write_addrs(out, body.broker_addrs, keys);
  out.member("brokerName", body.broker_name).member("cluster", body.cluster);
  if (body.enable_acting_master) out.member("enableActingMaster", true);
  out.end_object();
}

std::string encode_route(const TopicRouteData& body, IntKeys keys) {
  JsonWriter out;
  out.begin_object().key("brokerDatas").begin_array();
  for (const auto& data : body.broker_datas) write(out, data, keys);
  out.end_array().key("filterServerTable").begin_object();
  for (const auto& [addr, servers] : body.filter_server_table) out.member(addr, servers);
  out.end_object().member_unless_empty("orderTopicConf", body.order_topic_conf).key("queueDatas").begin_array();
  for (const auto& data : body.queue_datas) {
    out.begin_object().member("brokerName", data.broker_name).member("perm", data.perm);
    out.member("readQueueNums", data.read_queue_nums).member("topicSysFlag", data.topic_sys_flag);
    out.member("writeQueueNums", data.write_queue_nums).end_object();
  }
  return out.end_array().end_object().take();
}

// addrs: integer keys, text values.
void read_addrs(const BodyReader& in, const char* name, std::map<int64_t, std::string>& to) {
  std::map<std::string, std::string> table;
  in.read(name, table);
  for (auto& [text, addr] : table) {
    int64_t id = 0;
    auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), id);
    if (error != std::errc() || end != text.data() + text.size()) return in.complain(name);
    to[id] = std::move(addr);
  }
}

}  // namespace

static void read_body(const BodyReader& in, QueueData& to) {
  in.read("brokerName", to.broker_name);
  in.read("readQueueNums", to.read_queue_nums);
  in.read("writeQueueNums", to.write_queue_nums);
  in.read("perm", to.perm);
  // Named topicSynFlag by old servers.
  in.read("topicSynFlag", to.topic_sys_flag);
  in.read("topicSysFlag", to.topic_sys_flag);
}
static void read_body(const BodyReader& in, BrokerData& to) {
  in.read("cluster", to.cluster);
  in.read("brokerName", to.broker_name);
  read_addrs(in, "brokerAddrs", to.broker_addrs);
  in.read("enableActingMaster", to.enable_acting_master);
}
static void read_body(const BodyReader& in, TopicRouteData& to) {
  in.read("orderTopicConf", to.order_topic_conf);
  in.read_structs("queueDatas", to.queue_datas);
  in.read_structs("brokerDatas", to.broker_datas);
  in.each_member("filterServerTable", [&](const std::string& addr, const nlohmann::json& servers) {
    for (const auto& server : servers) {
      if (server.is_string()) to.filter_server_table[addr].push_back(server.get<std::string>());
    }
  });
}
static void read_body(const BodyReader& in, ClusterInfo& to) {
  in.read_structs("brokerAddrTable", to.broker_addr_table);
  in.each_member("clusterAddrTable", [&](const std::string& cluster, const nlohmann::json& names) {
    auto& list = to.cluster_addr_table[cluster];
    for (const auto& name : names) {
      if (name.is_string()) list.push_back(name.get<std::string>());
    }
  });
}
static void read_body(const BodyReader& in, BrokerMemberGroup& to) {
  in.read("cluster", to.cluster);
  in.read("brokerName", to.broker_name);
  read_addrs(in, "brokerAddrs", to.broker_addrs);
}
namespace {
struct MemberGroupAnswer {
  BrokerMemberGroup group;
};
void read_body(const BodyReader& in, MemberGroupAnswer& to) { in.read_struct("brokerMemberGroup", to.group); }
}  // namespace

std::string encode(const TopicRouteData& body) { return encode_route(body, IntKeys::kQuoted); }
std::string encode_for_old_clients(const TopicRouteData& body) { return encode_route(body, IntKeys::kBare); }
Result<TopicRouteData> decode_topic_route_data(std::string_view json) {
  return decode_body<TopicRouteData>(json, "TopicRouteData");
}

std::string encode(const ClusterInfo& body) {
  JsonWriter out;
  out.begin_object().key("brokerAddrTable").begin_object();
  for (const auto& [name, data] : body.broker_addr_table) {
    out.key(name);
    write(out, data, IntKeys::kBare);
  }
  out.end_object().key("clusterAddrTable").begin_object();
  for (const auto& [cluster, names] : body.cluster_addr_table) out.member(cluster, names);
  return out.end_object().end_object().take();
}
Result<ClusterInfo> decode_cluster_info(std::string_view json) { return decode_body<ClusterInfo>(json, "ClusterInfo"); }

std::string encode(const BrokerMemberGroup& body) {
  JsonWriter out;
  out.begin_object().key("brokerMemberGroup").begin_object().key("brokerAddrs");
  write_addrs(out, body.broker_addrs, IntKeys::kBare);
  out.member("brokerName", body.broker_name).member("cluster", body.cluster);
  return out.end_object().end_object().take();
}
Result<BrokerMemberGroup> decode_broker_member_group(std::string_view json) {
  APOGEE_TRY_ASSIGN(auto answer, decode_body<MemberGroupAnswer>(json, "GetBrokerMemberGroupResponseBody"));
  return std::move(answer.group);
}

std::string encode(const RegisterBrokerBody& body) {
  JsonWriter out;
  out.begin_object().member("filterServerList", body.filter_server_list);
  out.key("topicConfigSerializeWrapper").raw(encode(body.topic_config_wrapper));
  return out.end_object().take();
}

namespace {

/// Reads a registration as brokers write it, without a tree in between: it may name thousands of topics. Whatever is
/// written otherwise makes it give up (false).
class RegistrationReader {
 public:
  explicit RegistrationReader(std::string_view json) : scanner_(json) {}

  bool read(RegisterBrokerBody& to) {
    return each_member([&](const std::string& name) {
             if (name == "topicConfigSerializeWrapper") return read_wrapper(to.topic_config_wrapper);
             if (name == "filterServerList") return read_texts(to.filter_server_list);
             return scanner_.skip_value(kSkipDepthMax);
           }) &&
           scanner_.at_end();
  }

 private:
  static constexpr int kSkipDepthMax = 32;
  using Kind = JsonScanner::Kind;

  template <typename Function>
  bool each_member(Function function) {
    if (!scanner_.take('{')) return false;
    std::string name;
    for (scanner_.skip_commas(); !scanner_.take('}'); scanner_.skip_commas())
      if (scanner_.peek() != Kind::kText || !scanner_.read_text(name) || !scanner_.take(':') || !function(name))
        return false;
    return true;
  }

  bool read_texts(std::vector<std::string>& to) {
    if (!scanner_.take('[')) return false;
    for (scanner_.skip_commas(); !scanner_.take(']'); scanner_.skip_commas())
      if (scanner_.peek() != Kind::kText || !scanner_.read_text(to.emplace_back())) return false;
    return true;
  }

  bool read_wrapper(TopicConfigSerializeWrapper& to) {
    return each_member([&](const std::string& name) {
      if (name == "topicConfigTable") return read_table(to.topic_config_table);
      if (name != "dataVersion") return false;  // what is kept for its writer
      const size_t from = scanner_.position();
      if (!scanner_.skip_value(kSkipDepthMax)) return false;
      auto version = decode_data_version(scanner_.slice(from));
      if (version) to.data_version = *version;
      return version.has_value();
    });
  }

  bool read_table(std::map<std::string, TopicConfig>& to) {
    return each_member([&](const std::string& name) {
      TopicConfig config;
      if (!read_topic(config)) return false;
      to.insert_or_assign(to.end(), name, std::move(config));
      return true;
    });
  }

  bool read_topic(TopicConfig& to) {
    return each_member([&](const std::string& name) {
      if (name == "topicName") return scanner_.peek() == Kind::kText && scanner_.read_text(to.topic_name);
      if (name == "readQueueNums") return read_number(to.read_queue_nums);
      if (name == "writeQueueNums") return read_number(to.write_queue_nums);
      if (name == "perm") return read_number(to.perm);
      if (name == "topicSysFlag") return read_number(to.topic_sys_flag);
      if (name == "order") {
        to.order = scanner_.peek() == Kind::kTrue;
        return (to.order || scanner_.peek() == Kind::kFalse) && scanner_.take_word();
      }
      if (name == "topicFilterType") {
        if (scanner_.peek() != Kind::kText || !scanner_.read_text(text_)) return false;
        to.topic_filter_type = topic_filter_type_from_name(text_);
        return text_ == to_string(to.topic_filter_type);
      }
      if (name != "attributes") return false;
      return each_member([&](const std::string& key) {
        return scanner_.peek() == Kind::kText && scanner_.read_text(to.attributes[key]);
      });
    });
  }

  bool read_number(int32_t& to) {
    std::string_view text;
    if (scanner_.peek() != Kind::kNumber || !scanner_.read_number(text)) return false;
    auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), to);
    return error == std::errc() && end == text.data() + text.size();
  }

  JsonScanner scanner_;
  std::string text_;
};

}  // namespace

Result<RegisterBrokerBody> decode_register_broker_body(std::string_view json) {
  if (RegisterBrokerBody plain;
      json.size() <= JsonLimits().bytes_max && is_utf8(json) && RegistrationReader(json).read(plain))
    return plain;
  APOGEE_TRY_ASSIGN(auto tree, read_json(json));
  std::string problem;
  BodyReader in(tree, &problem);
  RegisterBrokerBody body;
  in.read("filterServerList", body.filter_server_list);
  if (!problem.empty())
    return Error{Errc::kInvalidArgument, fmt::format("body RegisterBrokerBody: {} is not what it must be", problem)};
  if (const auto* wrapper = in.member("topicConfigSerializeWrapper")) {
    // Through text, since the wrapper has its own decoder; registrations are rare.
    auto text = wrapper->dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
    APOGEE_TRY_ASSIGN(body.topic_config_wrapper, decode_topic_config_serialize_wrapper(text));
  }
  return body;
}

std::string encode_compressed(const RegisterBrokerBody& body, int32_t header_version) {
  std::string flat;
  auto add = [&flat](std::string_view part) {
    append_be<int32_t>(flat, static_cast<int32_t>(part.size()));
    flat += part;
  };
  const auto& wrapper = body.topic_config_wrapper;
  add(encode(wrapper.data_version));
  append_be<int32_t>(flat, static_cast<int32_t>(wrapper.topic_config_table.size()));
  bool of_version_5 = header_version >= kCompressedRegistrationMappingVersion;
  for (const auto& [name, config] : wrapper.topic_config_table) {
    auto line = fmt::format("{} {} {} {} {}", name, config.read_queue_nums, config.write_queue_nums, config.perm,
                            to_string(config.topic_filter_type));
    if (of_version_5) {
      JsonWriter attributes;
      attributes.value(config.attributes);
      line += ' ';
      line += attributes.take();
    }
    add(line);
  }
  JsonWriter filters;
  filters.value(body.filter_server_list);
  add(filters.take());
  if (of_version_5) append_be<int32_t>(flat, 0);
  // Compressing into memory fails only when memory is at its end.
  return message::compress(message::Compression::kZlib, flat, 9).value_or(std::string());
}

namespace {

Error wrong(const char* what) { return Error{Errc::kCorrupt, fmt::format("body RegisterBrokerBody: {}", what)}; }

std::string_view take_part(ByteReader& in) {
  auto size = in.read<int32_t>();
  return size < 0 ? in.take(in.remaining() + 1) : in.take(static_cast<size_t>(size));
}

bool take_word(std::string_view& line, std::string_view& word) {
  auto end = line.find(' ');
  word = line.substr(0, end);
  line = end == std::string_view::npos ? std::string_view() : line.substr(end + 1);
  return !word.empty();
}

bool take_number(std::string_view& line, int32_t& number) {
  std::string_view word;
  if (!take_word(line, word)) return false;
  auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), number);
  return error == std::errc() && end == word.data() + word.size();
}

Status parse_topic_line(std::string_view line, TopicConfig& config) {
  std::string_view name, type;
  if (!take_word(line, name) || !take_number(line, config.read_queue_nums) ||
      !take_number(line, config.write_queue_nums) || !take_number(line, config.perm) || !take_word(line, type))
    return wrong("a topic line is not complete");
  config.topic_name = name;
  config.topic_filter_type = topic_filter_type_from_name(type);
  if (line.empty()) return {};
  APOGEE_TRY_ASSIGN(auto tree, read_json(line));
  if (!tree.is_object()) return wrong("topic attributes are no JSON object");
  const nlohmann::json wrapped{{"attributes", std::move(tree)}};
  std::string problem;
  BodyReader(wrapped, &problem).read("attributes", config.attributes);
  return {};
}

}  // namespace

Result<RegisterBrokerBody> decode_compressed_register_broker_body(std::string_view bytes, int32_t header_version) {
  APOGEE_TRY_ASSIGN(const auto flat,
                    message::decompress(message::Compression::kZlib, bytes, kRegisterBrokerBodyBytesMax));
  ByteReader in(flat);
  RegisterBrokerBody body;
  auto version = take_part(in);
  if (!in.ok()) return wrong("the data version is cut off");
  APOGEE_TRY_ASSIGN(body.topic_config_wrapper.data_version, decode_data_version(version));
  auto count = in.read<int32_t>();
  if (!in.ok() || count < 0 || static_cast<size_t>(count) > in.remaining() / sizeof(int32_t))
    return wrong("the number of topics cannot be");
  for (int32_t i = 0; i < count; ++i) {
    auto line = take_part(in);
    if (!in.ok()) return wrong("a topic line is cut off");
    TopicConfig config;
    APOGEE_TRY(parse_topic_line(line, config));
    body.topic_config_wrapper.topic_config_table[config.topic_name] = std::move(config);
  }
  auto filters = take_part(in);
  if (!in.ok()) return wrong("the filter server list is cut off");
  APOGEE_TRY_ASSIGN(auto tree, read_json(filters));
  for (const auto& server : tree) {
    if (server.is_string()) body.filter_server_list.push_back(server.get<std::string>());
  }
  if (header_version >= kCompressedRegistrationMappingVersion && in.remaining() > 0) {
    auto mappings = in.read<int32_t>();
    for (int32_t i = 0; in.ok() && i < mappings; ++i) take_part(in);
    if (!in.ok()) return wrong("the queue mapping is cut off");
  }
  return body;
}

}  // namespace apogee::remoting
