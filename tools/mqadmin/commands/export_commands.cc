#include <fmt/format.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>

#include "common/base/text.h"
#include "tools/mqadmin/commands/commands.h"

// What a cluster is made of, written into files.
namespace mqadmin {

namespace {

namespace admin = apogee::admin;
using Properties = apogee::AdminClient::Properties;

constexpr const char* kDefaultDirectory = "/tmp/rocketmq/export";

/// Writes the file whole or not at all, and tells where it is.
Status write_file(Invocation& in, const std::string& name, const JsonWriter& json) {
  namespace fs = std::filesystem;
  const fs::path directory = in.get('f', kDefaultDirectory);
  std::error_code failure;
  fs::create_directories(directory, failure);
  if (failure) return Error{Errc::kIo, fmt::format("{} cannot be made: {}", directory.string(), failure.message())};
  const fs::path path = directory / name;
  const fs::path half = path.string() + ".tmp";
  {
    std::ofstream file(half, std::ios::binary | std::ios::trunc);
    file << json.text() << '\n';
    file.close();
    if (!file) return Error{Errc::kIo, fmt::format("{} cannot be written", half.string())};
  }
  fs::rename(half, path, failure);
  if (failure) return Error{Errc::kIo, fmt::format("{} cannot be written: {}", path.string(), failure.message())};
  in.out.line(fmt::format("export {} success", path.string()));
  in.out.write(JsonWriter().begin_object().member("path", path.string()).end_object());
  return {};
}

bool is_system_group(const std::string& group) {
  static const std::set<std::string, std::less<>> builtin{
      "DEFAULT_CONSUMER",      "DEFAULT_PRODUCER",      "TOOLS_CONSUMER",    "SCHEDULE_CONSUMER", "FILTERSRV_CONSUMER",
      "__MONITOR_CONSUMER",    "CLIENT_INNER_PRODUCER", "SELF_TEST_P_GROUP", "SELF_TEST_C_GROUP", "CID_ONS-HTTP-PROXY",
      "CID_ONSAPI_PERMISSION", "CID_ONSAPI_OWNER",      "CID_ONSAPI_PULL"};
  return group.rfind("CID_RMQ_SYS_", 0) == 0 || builtin.count(group) != 0;
}

struct Metadata {
  std::map<std::string, admin::TopicConfig> topics;
  std::map<std::string, admin::GroupConfig> groups;
};

/// Topics and groups that applications made on one broker.
Result<Metadata> metadata_of(Invocation& in, const std::string& address, bool with_special) {
  Metadata metadata;
  APOGEE_TRY_ASSIGN(metadata.topics, in.client().topic_configs(address));
  APOGEE_TRY_ASSIGN(auto system, in.client().system_topics(address));
  for (const auto& topic : system) metadata.topics.erase(topic);
  for (auto topic = metadata.topics.begin(); topic != metadata.topics.end();) {
    const bool special = apogee::is_retry_topic(topic->first) || apogee::is_dlq_topic(topic->first);
    topic = special && !with_special ? metadata.topics.erase(topic) : std::next(topic);
  }
  APOGEE_TRY_ASSIGN(metadata.groups, in.client().groups(address));
  for (auto group = metadata.groups.begin(); group != metadata.groups.end();)
    group = is_system_group(group->first) ? metadata.groups.erase(group) : std::next(group);
  return metadata;
}

void write_topics(JsonWriter& json, const Metadata& metadata) {
  json.key("topicConfigTable").begin_object();
  for (const auto& [name, config] : metadata.topics) {
    json.key(name)
        .begin_object()
        .member("order", config.order)
        .member("perm", config.perm)
        .member("readQueueNums", config.read_queues)
        .member("topicFilterType", "SINGLE_TAG")
        .member("topicName", config.topic)
        .member("topicSysFlag", config.sys_flag)
        .member("writeQueueNums", config.write_queues)
        .end_object();
  }
  json.end_object();
}

void write_groups(JsonWriter& json, const Metadata& metadata) {
  json.key("subscriptionGroupTable").begin_object();
  for (const auto& [name, config] : metadata.groups) {
    json.key(name);
    write_group_config(json, config);
  }
  json.end_object();
}

std::string text_of(const Properties& properties, const char* key) {
  auto found = properties.find(key);
  return found == properties.end() ? "" : found->second;
}

int64_t number_of(const Properties& properties, const char* key) {
  return std::strtoll(text_of(properties, key).c_str(), nullptr, 10);
}

/// The first of several rates.
double rate_of(const Properties& properties, const char* key) {
  return std::strtod(text_of(properties, key).c_str(), nullptr);
}

struct Totals {
  double in_tps = 0, out_tps = 0, transaction_tps = 0, schedule_tps = 0;
  int64_t in_day = 0, out_day = 0, transaction_day = 0, schedule_day = 0;
};

void write_totals(JsonWriter& json, const Totals& totals, const char* tps, const char* day, const char* prefix,
                  bool capital) {
  auto write = [&](const char* key, const char* infix, const char* unit, auto in, auto out, auto schedule, auto trans) {
    auto name = [&](const char* small, const char* big, const char* way) {
      return std::string(prefix) + (capital ? big : small) + infix + way + unit;
    };
    json.key(key)
        .begin_object()
        .member(name("normal", "Normal", "In"), in)
        .member(name("normal", "Normal", "Out"), out)
        .member(name("schedule", "Schedule", "In"), schedule)
        .member(name("trans", "Trans", "In"), trans)
        .end_object();
  };
  write(tps, "", "Tps", totals.in_tps, totals.out_tps, totals.schedule_tps, totals.transaction_tps);
  write(day, "OneDay", "Num", totals.in_day, totals.out_day, totals.schedule_day, totals.transaction_day);
}

/// Languages and versions of the clients of these groups.
std::set<std::string> clients_of(Invocation& in, const std::map<std::string, admin::GroupConfig>& groups) {
  std::set<std::string> kinds;
  for (const auto& entry : groups) {
    auto clients = in.client().group_clients(entry.first);
    if (!clients) continue;  // nobody is connected
    for (const auto& client : clients->clients)
      kinds.insert(client.language + "%" + admin::version_name(client.version));
  }
  return kinds;
}

/// What exportMetrics tells of one broker; adds it to the cluster's totals.
Status write_broker_metrics(Invocation& in, const std::string& address, JsonWriter& json, Totals& all) {
  APOGEE_TRY_ASSIGN(auto info, in.client().broker_runtime_info(address));
  APOGEE_TRY_ASSIGN(auto config, in.client().broker_config(address));
  APOGEE_TRY_ASSIGN(auto metadata, metadata_of(in, address, false));
  APOGEE_TRY_ASSIGN(auto halves, in.client().broker_counter(address, "TOPIC_PUT_NUMS", "RMQ_SYS_TRANS_HALF_TOPIC"));
  APOGEE_TRY_ASSIGN(auto delayed, in.client().broker_counter(address, "TOPIC_PUT_NUMS", "SCHEDULE_TOPIC_XXXX"));
  Totals own;
  own.in_tps = rate_of(info, "putTps");
  own.out_tps = rate_of(info, info.count("getTransferredTps") != 0 ? "getTransferredTps" : "getTransferedTps");
  own.in_day = number_of(info, "msgPutTotalTodayMorning") - number_of(info, "msgPutTotalYesterdayMorning");
  own.out_day = number_of(info, "msgGetTotalTodayMorning") - number_of(info, "msgGetTotalYesterdayMorning");
  if (halves) own.transaction_tps = halves->minute.per_second, own.transaction_day = halves->last_24_hours();
  if (delayed) own.schedule_tps = delayed->minute.per_second, own.schedule_day = delayed->last_24_hours();
  all.in_tps += own.in_tps, all.out_tps += own.out_tps;
  all.transaction_tps += own.transaction_tps, all.schedule_tps += own.schedule_tps;
  all.in_day += own.in_day, all.out_day += own.out_day;
  all.transaction_day += own.transaction_day, all.schedule_day += own.schedule_day;

  json.begin_object().key("runtimeEnv").begin_object();
  if (config.count("clientCallbackExecutorThreads") != 0)
    json.member("cpuNum", text_of(config, "clientCallbackExecutorThreads"));
  if (info.count("totalMemKBytes") != 0) json.member("totalMemKBytes", text_of(info, "totalMemKBytes"));
  json.end_object().key("runtimeQuota").begin_object().key("diskRatio").begin_object();
  json.member("commitLogDiskRatio", text_of(info, "commitLogDiskRatio"))
      .member("consumeQueueDiskRatio", text_of(info, "consumeQueueDiskRatio"))
      .end_object()
      .member("groupSize", metadata.groups.size())
      .member("messageAverageSize", text_of(info, "putMessageAverageSize"))
      .member("topicSize", metadata.topics.size());
  write_totals(json, own, "tps", "oneDayNum", "", false);
  json.end_object().key("runtimeVersion").begin_object().member("rocketmqVersion", text_of(info, "brokerVersionDesc"));
  json.key("clientInfo").begin_array();
  for (const auto& kind : clients_of(in, metadata.groups)) json.value(kind);
  json.end_array().end_object().end_object();
  return {};
}

}  // namespace

Status run_export_metadata(Invocation& in) {
  if (in.has('t') && in.has('g')) return Error{Errc::kInvalidArgument, "only one of -t and -g can be given"};
  std::vector<std::string> addresses{in.get('b')};
  if (in.has('c')) {
    APOGEE_TRY_ASSIGN(addresses, in.client().master_addresses(in.get('c')));
  }
  Metadata all;
  Progress progress("brokers", static_cast<int64_t>(addresses.size()));
  for (const auto& address : addresses) {
    APOGEE_TRY_ASSIGN(auto own, metadata_of(in, address, in.has('s')));
    progress.advance();
    // The queues of all brokers together are the cluster's.
    for (auto& [name, config] : own.topics) {
      auto [entry, added] = all.topics.try_emplace(name, config);
      if (added) continue;
      entry->second.read_queues += config.read_queues;
      entry->second.write_queues += config.write_queues;
    }
    for (auto& [name, config] : own.groups) {
      auto [entry, added] = all.groups.try_emplace(name, config);
      if (!added) entry->second.retry_queues += config.retry_queues;
    }
  }
  progress.hide();
  JsonWriter json(2);
  json.begin_object().member("exportTime", now_ms());
  if (!in.has('g')) write_topics(json, all);
  if (!in.has('t')) write_groups(json, all);
  json.end_object();
  return write_file(in, in.has('t') ? "topic.json" : in.has('g') ? "subscriptionGroup.json" : "metadata.json", json);
}

Status run_export_configs(Invocation& in) {
  static constexpr const char* kKeys[] = {"brokerClusterName",
                                          "brokerId",
                                          "brokerName",
                                          "brokerRole",
                                          "fileReservedTime",
                                          "filterServerNums",
                                          "flushDiskType",
                                          "maxMessageSize",
                                          "messageDelayLevel",
                                          "msgTraceTopicName",
                                          "slaveReadEnable",
                                          "traceOn",
                                          "traceTopicEnable",
                                          "useTLS",
                                          "autoCreateTopicEnable",
                                          "autoCreateSubscriptionGroup"};
  const std::string wanted = in.get('c');
  APOGEE_TRY(in.client().master_addresses(wanted));
  APOGEE_TRY_ASSIGN(auto cluster, in.client().cluster());
  JsonWriter json(2);
  json.begin_object().key("brokerConfigs").begin_object();
  int64_t masters = 0, slaves = 0;
  for (const auto& name : cluster.clusters[wanted]) {
    const auto& addresses = cluster.brokers[name].addresses;
    auto master = addresses.find(0);
    slaves += static_cast<int64_t>(addresses.size()) - (master == addresses.end() ? 0 : 1);
    if (master == addresses.end()) continue;
    ++masters;
    APOGEE_TRY_ASSIGN(auto config, in.client().broker_config(master->second));
    json.key(name).begin_object();
    for (const char* key : kKeys)
      if (config.count(key) != 0) json.member(key, config[key]);
    json.end_object();
  }
  json.end_object()
      .key("clusterScale")
      .begin_object()
      .member("masterBrokerSize", masters)
      .member("namesrvSize", in.client().namesrv_addresses().size())
      .member("slaveBrokerSize", slaves)
      .end_object()
      .end_object();
  return write_file(in, "configs.json", json);
}

Status run_export_metrics(Invocation& in) {
  const std::string wanted = in.get('c');
  APOGEE_TRY(in.client().master_addresses(wanted));
  APOGEE_TRY_ASSIGN(auto cluster, in.client().cluster());
  JsonWriter json(2);
  json.begin_object().key("evaluateReport").begin_object();
  Totals all;
  for (const auto& name : cluster.clusters[wanted]) {
    const auto& addresses = cluster.brokers[name].addresses;
    auto master = addresses.find(0);
    if (master == addresses.end()) continue;
    json.key(name);
    APOGEE_TRY(write_broker_metrics(in, master->second, json, all));
  }
  json.end_object().key("totalData").begin_object();
  write_totals(json, all, "totalTps", "totalOneDayNum", "total", true);
  json.end_object().end_object();
  return write_file(in, "metrics.json", json);
}

}  // namespace mqadmin
