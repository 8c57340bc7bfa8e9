#include <fmt/format.h>

#include "tools/mqadmin/commands/commands.h"

// What is on the disks of brokers.
namespace mqadmin {

namespace {

using Clean = Status (apogee::AdminClient::*)(const std::string& broker_address);

/// The brokers that -b or -c names; without either, those of all clusters.
Result<std::vector<std::string>> chosen_addresses(Invocation& in) {
  if (in.has('b')) return std::vector<std::string>{in.get('b')};
  APOGEE_TRY_ASSIGN(auto cluster, in.client().cluster());
  const std::string wanted = in.get('c');
  std::vector<std::string> addresses;
  for (const auto& [name, brokers] : cluster.clusters) {
    if (!wanted.empty() && name != wanted) continue;
    for (const auto& broker : brokers)
      for (const auto& [id, address] : cluster.brokers[broker].addresses) addresses.push_back(address);
  }
  if (addresses.empty() && !wanted.empty())
    return Error{Errc::kNotFound, fmt::format("there is no cluster {}", wanted)};
  return addresses;
}

Status clean(Invocation& in, Clean clean_one) {
  APOGEE_TRY_ASSIGN(auto addresses, chosen_addresses(in));
  Progress progress("brokers", static_cast<int64_t>(addresses.size()));
  JsonWriter json;
  json.begin_object().key("brokers").begin_array();
  for (const auto& address : addresses) {
    APOGEE_TRY((in.client().*clean_one)(address));
    json.value(address);
    progress.advance();
  }
  progress.hide();
  in.out.line("success");
  in.out.write(json.end_array().end_object());
  return {};
}

void write_subscription(JsonWriter& json, const apogee::admin::Subscription& subscription) {
  json.begin_object()
      .member("expressionType", subscription.expression_type)
      .member("subString", subscription.expression)
      .member("subVersion", subscription.version_ms)
      .member("topic", subscription.topic)
      .end_object();
}

}  // namespace

Status run_clean_expired_cq(Invocation& in) { return clean(in, &apogee::AdminClient::clean_expired_queues); }
Status run_clean_unused_topic(Invocation& in) { return clean(in, &apogee::AdminClient::clean_unused_topics); }
Status run_delete_expired_commit_log(Invocation& in) {
  return clean(in, &apogee::AdminClient::delete_expired_log_files);
}

Status run_query_cq(Invocation& in) {
  apogee::admin::QueueEntriesRequest request;
  request.topic = in.get('t');
  request.group = in.get('g');
  APOGEE_TRY_ASSIGN(auto queue_id, in.number('q', 0, 0, INT32_MAX));
  APOGEE_TRY_ASSIGN(request.offset, in.number('i', 0, 0, INT64_MAX));
  APOGEE_TRY_ASSIGN(auto count, in.number('c', 10, 1, INT32_MAX));
  request.queue_id = static_cast<int32_t>(queue_id);
  request.count = static_cast<int32_t>(count);
  std::string address = in.get('b');
  if (address.empty()) {
    APOGEE_TRY_ASSIGN(auto route, in.client().topic_route(request.topic));
    if (route.brokers.empty() || route.brokers[0].addresses.empty())
      return Error{Errc::kNotFound, fmt::format("no broker has the topic {}", request.topic)};
    address = route.brokers[0].addresses.begin()->second;
  }
  APOGEE_TRY_ASSIGN(auto found, in.client().queue_entries(address, request));

  constexpr const char* kLine = "======================================";
  JsonWriter json;
  json.begin_object();
  if (found.subscription) {
    JsonWriter pretty(4);
    write_subscription(pretty, *found.subscription);
    in.out.line(fmt::format("Subscription data: \n{}\n{}", pretty.text(), kLine));
    json.key("subscriptionData");
    write_subscription(json, *found.subscription);
  }
  if (!found.filter.empty()) {
    in.out.line(fmt::format("Filter data: \n{}\n{}", found.filter, kLine));
    json.member("filterData", found.filter);
  }
  in.out.line(fmt::format("Queue data: \nmax: {}, min: {}\n{}", found.max_offset, found.min_offset, kLine));
  json.member("maxQueueIndex", found.max_offset).member("minQueueIndex", found.min_offset);
  json.key("queueData").begin_array();
  int64_t offset = request.offset;
  for (const auto& entry : found.entries) {
    in.out.line(
        fmt::format("idx: {}\nConsumeQueueData{{physicOffset={}, physicSize={}, tagsCode={}, extendDataJson='null', "
                    "bitMap='null', eval={}, msg='{}'}}\n{}",
                    offset, entry.physical_offset, entry.bytes, entry.tags_code, entry.matches,
                    entry.remark.empty() ? "null" : entry.remark, kLine));
    json.begin_object()
        .member("idx", offset)
        .member("physicOffset", entry.physical_offset)
        .member("physicSize", entry.bytes)
        .member("tagsCode", entry.tags_code)
        .member("eval", entry.matches);
    if (!entry.remark.empty()) json.member("msg", entry.remark);
    json.end_object();
    ++offset;
  }
  in.out.write(json.end_array().end_object());
  return {};
}

}  // namespace mqadmin
