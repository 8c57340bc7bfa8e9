#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <limits>
#include <thread>

#include "tools/mqadmin/commands/commands.h"

// How masters and slaves follow each other.
namespace mqadmin {

namespace {

struct Chosen {
  std::string name, address;
  int64_t id = 0;
};

/// The brokers of a cluster or, where that is empty, of a broker name.
Result<std::vector<Chosen>> brokers_of(Invocation& in, const std::string& cluster_name,
                                       const std::string& broker_name) {
  APOGEE_TRY_ASSIGN(auto cluster, in.client().cluster());
  std::vector<Chosen> chosen;
  for (const auto& [name, broker] : cluster.brokers)
    if (cluster_name.empty() ? name == broker_name : broker.cluster == cluster_name)
      for (const auto& [id, address] : broker.addresses) chosen.push_back({name, address, id});
  if (!chosen.empty()) return chosen;
  return Error{Errc::kNotFound, cluster_name.empty() ? fmt::format("there is no broker {}", broker_name)
                                                     : fmt::format("there is no cluster {}", cluster_name)};
}

/// Seconds, or what stands for those that are not known.
Cell seconds_cell(int64_t ms) {
  if (ms < 0) return {"-", "null"};
  return {fmt::format("{:.3f}", static_cast<double>(ms) / 1'000.0), fmt::format("{}", ms)};
}

Status show_status(Invocation& in) {
  std::vector<Chosen> brokers;
  if (in.has('b')) {
    brokers.push_back({"", in.get('b'), 0});
  } else {
    APOGEE_TRY_ASSIGN(brokers, brokers_of(in, in.get('c'), ""));
  }
  Table table({{"#Broker Addr", "address", 22},
               {"#Role", "role", 6},
               {"#Peer", "peer", 22},
               {"#BID", "brokerId", 4, true},
               {"#LogEnd", "logEnd", 14, true},
               {"#AckOffset", "ackOffset", 14, true},
               {"#LagBytes", "lagBytes", 12, true},
               {"#LagSeconds", "lagMs", 11, true},
               {"#InSync", "inSync", 7},
               {"#BytesPerSecond", "bytesPerSecond", 15, true},
               {"#State", "state", 12}});
  for (const auto& broker : brokers) {
    auto state = in.client().replication_state(broker.address);
    if (!state) {
      if (in.has('b')) return std::move(state).error();
      table.row({broker.address,
                 "-",
                 "-",
                 {"-", "null"},
                 {"-", "null"},
                 {"-", "null"},
                 {"-", "null"},
                 {"-", "null"},
                 {"-", "null"},
                 {"-", "null"},
                 "no answer"});
      continue;
    }
    if (!state->master) {
      table.row({broker.address,
                 "SLAVE",
                 state->master_address,
                 int64_t{0},
                 state->log_end,
                 state->log_end,
                 std::max<int64_t>(0, state->master_end - state->log_end),
                 seconds_cell(state->lag_ms),
                 {"-", "null"},
                 state->bytes_per_second,
                 state->why.empty() || state->state == "TRANSFER" ? state->state : state->state + ": " + state->why});
      continue;
    }
    if (state->slaves.empty())
      table.row({broker.address,
                 "MASTER",
                 "-",
                 {"-", "null"},
                 state->log_end,
                 {"-", "null"},
                 {"-", "null"},
                 {"-", "null"},
                 {"-", "null"},
                 {"-", "null"},
                 "no slave"});
    for (const auto& slave : state->slaves)
      table.row({broker.address, "MASTER", slave.address,
                 slave.broker_id < 0 ? Cell{"-", "null"} : Cell{slave.broker_id}, state->log_end, slave.acknowledged,
                 slave.lag_bytes, seconds_cell(slave.lag_ms),
                 Cell{slave.in_sync ? "true" : "false", slave.in_sync ? "true" : "false"}, slave.bytes_per_second,
                 "connected"});
  }
  in.out.table(table);
  return {};
}

Status show_epochs(Invocation& in) {
  APOGEE_TRY_ASSIGN(const auto brokers, brokers_of(in, in.get('c'), in.get('b')));
  Table table({{"#Broker Name", "brokerName", 22},
               {"#BID", "brokerId", 4, true},
               {"#Broker Addr", "address", 22},
               {"#Epoch", "epoch", 8, true},
               {"#StartOffset", "startOffset", 16, true},
               {"#EndOffset", "endOffset", 16, true}});
  for (const auto& broker : brokers) {
    APOGEE_TRY_ASSIGN(const auto epochs, in.client().log_epochs(broker.address));
    for (const auto& epoch : epochs.epochs)
      table.row({broker.name, broker.id, broker.address, static_cast<int64_t>(epoch.number), epoch.begin,
                 epoch.end == std::numeric_limits<int64_t>::max() ? epochs.log_end : epoch.end});
  }
  in.out.table(table);
  return {};
}

template <typename Show>
Status again_and_again(Invocation& in, Show show) {
  APOGEE_TRY_ASSIGN(auto interval, in.number('i', 0, 1, 86'400));
  for (;;) {
    APOGEE_TRY(show(in));
    if (interval == 0 || !in.out.flush()) return {};
    std::this_thread::sleep_for(std::chrono::seconds(interval));
  }
}

}  // namespace

Status run_ha_status(Invocation& in) { return again_and_again(in, show_status); }
Status run_get_broker_epoch(Invocation& in) { return again_and_again(in, show_epochs); }

}  // namespace mqadmin
