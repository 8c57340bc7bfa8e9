#include <fmt/format.h>

#include <chrono>
#include <cstdlib>
#include <thread>

#include "common/base/text.h"
#include "tools/mqadmin/commands/commands.h"

// Clusters, brokers and NameServers.
namespace mqadmin {

namespace {

using Properties = apogee::AdminClient::Properties;

struct NamedBroker {
  std::string cluster, name, address;
  int64_t id = 0;
};

/// Every broker of one cluster, or of all when the name is empty.
Result<std::vector<NamedBroker>> brokers_of(Invocation& in, const std::string& cluster_name) {
  APOGEE_TRY_ASSIGN(auto cluster, in.client().cluster());
  std::vector<NamedBroker> brokers;
  for (const auto& [cluster_of, names] : cluster.clusters) {
    if (!cluster_name.empty() && cluster_of != cluster_name) continue;
    for (const auto& name : names) {
      for (const auto& [id, address] : cluster.brokers[name].addresses) {
        brokers.push_back({cluster_of, name, address, id});
      }
    }
  }
  if (brokers.empty() && !cluster_name.empty()) {
    return Error{Errc::kNotFound, fmt::format("there is no cluster {}", cluster_name)};
  }
  return brokers;
}

/// The brokers that -b or -c names.
Result<std::vector<NamedBroker>> chosen_brokers(Invocation& in) {
  if (in.has('b')) return std::vector<NamedBroker>{{"", "", in.get('b'), 0}};
  return brokers_of(in, in.get('c'));
}

std::string value_of(const Properties& properties, const std::string& key, const std::string& fallback) {
  auto found = properties.find(key);
  return found == properties.end() ? fallback : found->second;
}

int64_t number_of(const Properties& properties, const std::string& key) {
  return std::strtoll(value_of(properties, key, "0").c_str(), nullptr, 10);
}

/// The first of the three rates in values such as "1.5 1.2 0.9".
double first_rate(const Properties& properties, const std::string& key) {
  return std::strtod(value_of(properties, key, "0").c_str(), nullptr);
}

Cell rate_cell(double rate, const Properties& info, const std::string& pool) {
  return {fmt::format("{:9.2f}({},{}ms)", rate, value_of(info, pool + "ThreadPoolQueueSize", "0"),
                      value_of(info, pool + "ThreadPoolQueueHeadWaitTimeMills", "0")),
          fmt::format("{}", rate)};
}

Status list_load(Invocation& in) {
  APOGEE_TRY_ASSIGN(auto brokers, brokers_of(in, ""));
  Table table({{"#Cluster Name", "cluster", 16},
               {"#Broker Name", "brokerName", 22},
               {"#BID", "brokerId", 4},
               {"#Addr", "address", 22},
               {"#Version", "version", 16},
               {"#InTPS(LOAD)", "inTps", 19, true},
               {"#OutTPS(LOAD)", "outTps", 19, true},
               {"#PCWait(ms)", "pageCacheWaitMs", 10, true},
               {"#Hour", "oldestMessageHours", 5, true},
               {"#SPACE", "diskRatio", 6, true}});
  Progress progress("brokers", static_cast<int64_t>(brokers.size()));
  for (const auto& broker : brokers) {
    auto info = in.client().broker_runtime_info(broker.address);
    progress.advance();
    if (!info) {
      // The NameServer lists a broker that died for up to two minutes; the others are still worth a line.
      table.row({broker.cluster,
                 broker.name,
                 broker.id,
                 broker.address,
                 "no answer",
                 {"-", "null"},
                 {"-", "null"},
                 {"-", "null"},
                 {"-", "null"},
                 {"-", "null"}});
      continue;
    }
    double out_tps =
        first_rate(*info, info->count("getTransferredTps") != 0 ? "getTransferredTps" : "getTransferedTps");
    int64_t oldest_ms = number_of(*info, "earliestMessageTimeStamp");
    double hours = oldest_ms > 0 ? static_cast<double>(now_ms() - oldest_ms) / 3'600'000.0 : 0.0;
    double space = first_rate(*info, "commitLogDiskRatio");
    table.row({broker.cluster,
               broker.name,
               broker.id,
               broker.address,
               value_of(*info, "brokerVersionDesc", "unknown"),
               rate_cell(first_rate(*info, "putTps"), *info, "send"),
               rate_cell(out_tps, *info, "pull"),
               number_of(*info, "pageCacheLockTimeMills"),
               {fmt::format("{:2.2f}", hours), fmt::format("{:.2f}", hours)},
               {fmt::format("{:.4f}", space), fmt::format("{:.4f}", space)}});
  }
  progress.hide();
  in.out.table(table);
  return {};
}

Status list_totals(Invocation& in) {
  APOGEE_TRY_ASSIGN(auto brokers, brokers_of(in, ""));
  Table table({{"#Cluster Name", "cluster", 16},
               {"#Broker Name", "brokerName", 32},
               {"#InTotalYest", "inYesterday", 14, true},
               {"#OutTotalYest", "outYesterday", 14, true},
               {"#InTotalToday", "inToday", 14, true},
               {"#OutTotalToday", "outToday", 14, true}});
  Progress progress("brokers", static_cast<int64_t>(brokers.size()));
  for (const auto& broker : brokers) {
    progress.advance();
    if (broker.id != 0) continue;
    APOGEE_TRY_ASSIGN(auto info, in.client().broker_runtime_info(broker.address));
    int64_t put_morning = number_of(info, "msgPutTotalTodayMorning");
    int64_t get_morning = number_of(info, "msgGetTotalTodayMorning");
    table.row({broker.cluster, broker.name, put_morning - number_of(info, "msgPutTotalYesterdayMorning"),
               get_morning - number_of(info, "msgGetTotalYesterdayMorning"),
               number_of(info, "msgPutTotalTodayNow") - put_morning,
               number_of(info, "msgGetTotalTodayNow") - get_morning});
  }
  progress.hide();
  in.out.table(table);
  return {};
}

/// One object of names and values for each server.
void write_properties(JsonWriter& json, const std::string& server, const Properties& properties) {
  json.key(server).begin_object();
  for (const auto& [key, value] : properties) json.member(key, value);
  json.end_object();
}

Status change_write_perm(Invocation& in, bool add) {
  std::string broker = in.get('b');
  const auto& servers = in.client().namesrv_addresses();
  if (servers.empty()) return Error{Errc::kInvalidArgument, "no NameServer address is given"};
  // The NameServers agree to anything; a name that nobody has is most likely a slip.
  APOGEE_TRY(in.client().broker_address(broker));
  JsonWriter json;
  json.begin_array();
  Progress progress("NameServers", static_cast<int64_t>(servers.size()));
  for (const auto& server : servers) {
    APOGEE_TRY_ASSIGN(auto topics,
                      add ? in.client().add_write_perm(server, broker) : in.client().wipe_write_perm(server, broker));
    progress.advance();
    progress.hide();
    in.out.line(fmt::format("{} write perm of broker[{}] in name server[{}] OK, {}", add ? "add" : "wipe", broker,
                            server, topics));
    json.begin_object().member("namesrv", server).member("brokerName", broker).member("topics", topics).end_object();
  }
  in.out.write(json.end_array());
  return {};
}

}  // namespace

Status run_cluster_list(Invocation& in) {
  APOGEE_TRY_ASSIGN(auto interval, in.number('i', 0, 1, 86'400));
  while (true) {
    APOGEE_TRY(in.has('m') ? list_totals(in) : list_load(in));
    if (interval == 0 || !in.out.flush()) return {};
    std::this_thread::sleep_for(std::chrono::seconds(interval));
    in.out.line("");
  }
}

Status run_broker_status(Invocation& in) {
  APOGEE_TRY_ASSIGN(auto brokers, chosen_brokers(in));
  JsonWriter json;
  json.begin_object();
  for (const auto& broker : brokers) {
    APOGEE_TRY_ASSIGN(auto info, in.client().broker_runtime_info(broker.address));
    for (const auto& [key, value] : info) {
      in.out.line(in.has('c') ? fmt::format("{:<24} {:<32}: {}", broker.address, key, value)
                              : fmt::format("{:<32}: {}", key, value));
    }
    write_properties(json, broker.address, info);
  }
  in.out.write(json.end_object());
  return {};
}

Status run_get_broker_config(Invocation& in) {
  APOGEE_TRY_ASSIGN(auto brokers, chosen_brokers(in));
  JsonWriter json;
  json.begin_object();
  for (const auto& broker : brokers) {
    APOGEE_TRY_ASSIGN(auto config, in.client().broker_config(broker.address));
    const char* role = in.has('b') ? "" : broker.id == 0 ? "Master: " : "Slave: ";
    in.out.line(fmt::format("============{}{}============", role, broker.address));
    for (const auto& [key, value] : config) in.out.line(fmt::format("{:<50}=  {}", key, value));
    in.out.line("");
    write_properties(json, broker.address, config);
  }
  in.out.write(json.end_object());
  return {};
}

Status run_update_broker_config(Invocation& in) {
  std::vector<std::string> addresses{in.get('b')};
  if (in.has('c')) {
    APOGEE_TRY_ASSIGN(addresses, in.client().master_addresses(in.get('c')));
  }
  JsonWriter json;
  json.begin_array();
  Progress progress("brokers", static_cast<int64_t>(addresses.size()));
  for (const auto& address : addresses) {
    APOGEE_TRY(in.client().update_broker_config(address, in.get('k'), in.get('v')));
    progress.advance();
    progress.hide();
    in.out.line(fmt::format("update broker config success, {}", address));
    json.begin_object().member("address", address).member("key", in.get('k')).member("value", in.get('v')).end_object();
  }
  in.out.write(json.end_array());
  return {};
}

Status run_wipe_write_perm(Invocation& in) { return change_write_perm(in, false); }
Status run_add_write_perm(Invocation& in) { return change_write_perm(in, true); }

Status run_get_namesrv_config(Invocation& in) {
  const auto& servers = in.client().namesrv_addresses();
  if (servers.empty()) return Error{Errc::kInvalidArgument, "no NameServer address is given"};
  JsonWriter json;
  json.begin_object();
  for (const auto& server : servers) {
    APOGEE_TRY_ASSIGN(auto config, in.client().namesrv_config(server));
    in.out.line(fmt::format("============{}============", server));
    for (const auto& [key, value] : config) in.out.line(fmt::format("{:<50}=  {}", key, value));
    write_properties(json, server, config);
  }
  in.out.write(json.end_object());
  return {};
}

Status run_update_namesrv_config(Invocation& in) {
  APOGEE_TRY(in.client().update_namesrv_config(in.get('k'), in.get('v')));
  JsonWriter json;
  json.begin_array();
  for (const auto& server : in.client().namesrv_addresses()) {
    in.out.line(fmt::format("update name server config success! {}  {} : {}", server, in.get('k'), in.get('v')));
    json.begin_object().member("namesrv", server).member("key", in.get('k')).member("value", in.get('v')).end_object();
  }
  in.out.write(json.end_array());
  return {};
}

Status run_update_kv_config(Invocation& in) {
  APOGEE_TRY(in.client().put_kv(in.get('s'), in.get('k'), in.get('v')));
  in.out.line("create or update kv config to namespace success.");
  in.out.write(JsonWriter()
                   .begin_object()
                   .member("namespace", in.get('s'))
                   .member("key", in.get('k'))
                   .member("value", in.get('v'))
                   .end_object());
  return {};
}

Status run_delete_kv_config(Invocation& in) {
  APOGEE_TRY(in.client().delete_kv(in.get('s'), in.get('k')));
  in.out.line("delete kv config from namespace success.");
  in.out.write(JsonWriter().begin_object().member("namespace", in.get('s')).member("key", in.get('k')).end_object());
  return {};
}

}  // namespace mqadmin
