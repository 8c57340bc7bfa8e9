#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "common/base/text.h"
#include "tools/mqadmin/commands/commands.h"

// Changes of single properties of topics.
namespace mqadmin {

namespace {

/// Reads "broker:queues;broker:queues". Error: kInvalidArgument.
Result<std::map<std::string, int32_t>> parse_order_config(const std::string& text) {
  std::map<std::string, int32_t> queues;
  for (auto part : apogee::split(text, ";")) {
    part = apogee::trim(part);
    if (part.empty()) continue;
    const auto colon = part.rfind(':');
    const auto number = colon == std::string_view::npos ? std::string_view() : part.substr(colon + 1);
    int32_t count = 0;
    const auto parsed = std::from_chars(number.data(), number.data() + number.size(), count);
    const bool whole = parsed.ec == std::errc() && parsed.ptr == number.data() + number.size();
    if (colon == 0 || !whole || number.empty() || count < 1 || count > 65'535)
      return Error{Errc::kInvalidArgument,
                   fmt::format("-v must be like broker-a:8;broker-b:8, and \"{}\" is not", part)};
    queues[std::string(part.substr(0, colon))] = count;
  }
  if (queues.empty()) return Error{Errc::kInvalidArgument, "-v names no broker"};
  return queues;
}

Status write_order_config(Invocation& in, const std::string& what, const std::string& config) {
  const std::string topic = in.get('t');
  in.out.line(what == "delete" ? fmt::format("delete orderConf success. topic=[{}]", topic)
                               : fmt::format("{} orderConf success. topic=[{}], orderConf=[{}]",
                                             what == "put" ? "update" : what, topic, config));
  in.out.write(JsonWriter().begin_object().member("topic", topic).member("orderConf", config).end_object());
  return {};
}

}  // namespace

Status run_update_order_conf(Invocation& in) {
  const std::string topic = in.get('t');
  const std::string method = in.get('m');
  if (method == "get") {
    auto config = in.client().order_config(topic);
    if (!config && config.error().code == Errc::kNotFound)
      return Error{Errc::kNotFound, fmt::format("the topic {} has no order configuration", topic)};
    if (!config) return std::move(config).error();
    return write_order_config(in, method, *config);
  }
  if (method == "put") {
    if (!in.has('v')) return Error{Errc::kInvalidArgument, "-m put needs -v (orderConf)"};
    APOGEE_TRY_ASSIGN(auto queues, parse_order_config(in.get('v')));
    APOGEE_TRY(in.client().update_order_config(topic, queues, true));
    APOGEE_TRY_ASSIGN(auto config, in.client().order_config(topic));
    return write_order_config(in, method, config);
  }
  if (method != "delete")
    return Error{Errc::kInvalidArgument, fmt::format("-m must be put, get or delete, not \"{}\"", method)};
  APOGEE_TRY(in.client().delete_order_config(topic));
  return write_order_config(in, method, "");
}

Status run_update_topic_perm(Invocation& in) {
  const std::string topic = in.get('t');
  APOGEE_TRY_ASSIGN(auto perm, in.number('p', 6, 2, 6));
  if (perm != 2 && perm != 4 && perm != 6)
    return Error{Errc::kInvalidArgument, fmt::format("-p must be 2 (write), 4 (read) or 6 (both), not {}", perm)};
  std::vector<std::string> addresses{in.get('b')};
  if (in.has('c')) {
    APOGEE_TRY_ASSIGN(addresses, in.client().master_addresses(in.get('c')));
  }
  JsonWriter json;
  json.begin_object().member("topic", topic).member("perm", perm).key("brokers").begin_array();
  size_t brokers_with_topic = 0;
  for (const auto& address : addresses) {
    // As the broker has it, so that nothing else changes.
    APOGEE_TRY_ASSIGN(auto configs, in.client().topic_configs(address));
    auto found = configs.find(topic);
    if (found == configs.end()) continue;
    ++brokers_with_topic;
    auto& config = found->second;
    const int32_t before = config.perm;
    if (before == perm) {
      in.out.line(fmt::format("new perm equals to the old one in {}.", address));
    } else {
      config.perm = static_cast<int32_t>(perm);
      APOGEE_TRY(in.client().create_topic(address, config));
      in.out.line(fmt::format("update topic perm from {} to {} in {} success.", before, perm, address));
    }
    json.begin_object().member("address", address).member("before", before).end_object();
  }
  if (brokers_with_topic == 0)
    return Error{Errc::kNotFound, fmt::format("the topic {} is not on {}", topic,
                                              in.has('b') ? in.get('b') : "any master of " + in.get('c'))};
  in.out.write(json.end_array().end_object());
  return {};
}

}  // namespace mqadmin
