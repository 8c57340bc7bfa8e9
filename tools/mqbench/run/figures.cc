#include "tools/mqbench/run/figures.h"

namespace mqbench {

double microseconds(int64_t nanoseconds) { return static_cast<double>(nanoseconds) / 1e3; }

double seconds_of(const LoadResult& load, const RunResult& result) {
  return load.seconds > 0 ? load.seconds : result.seconds;
}

uint64_t counted_messages(const RunResult& result) {
  for (const auto& load : result.loads)
    if (result.counted.empty() || load.name == result.counted) return load.recorded.messages;
  return 0;
}

ProcessCost cost_of(const WatchedProcess& process, const RunResult& result) {
  ProcessCost cost{};
  const auto& before = process.before;
  const auto& after = process.after;
  cost.user_seconds = after.user_seconds - before.user_seconds;
  cost.system_seconds = after.system_seconds - before.system_seconds;
  cost.cpu_seconds = cost.user_seconds + cost.system_seconds;
  if (const auto messages = counted_messages(result); messages > 0)
    cost.cpu_us_per_message = cost.cpu_seconds * 1e6 / static_cast<double>(messages);
  cost.share = result.seconds > 0 ? cost.cpu_seconds / result.seconds : 0;
  cost.voluntary_switches = after.voluntary_switches - before.voluntary_switches;
  cost.involuntary_switches = after.involuntary_switches - before.involuntary_switches;
  cost.minor_faults = after.minor_faults - before.minor_faults;
  cost.major_faults = after.major_faults - before.major_faults;
  return cost;
}

std::vector<std::pair<std::string, double>> figures_of(const RunResult& result) {
  std::vector<std::pair<std::string, double>> all;
  for (const auto& load : result.loads) {
    const auto& recorded = load.recorded;
    const auto add = [&](const std::string& name, double value) { all.emplace_back(load.name + "." + name, value); };
    const double seconds = seconds_of(load, result);
    if (!load.whole_run) {
      add("rate", static_cast<double>(recorded.messages) / seconds);
      add("mib_per_second", static_cast<double>(recorded.bytes) / 1'048'576 / seconds);
    }
    add("messages", static_cast<double>(recorded.messages));
    add("failed", static_cast<double>(recorded.failed_messages()));
    if (load.with_latency) {
      for (const auto& percentile : kPercentiles)
        add(percentile.member, microseconds(recorded.latency.quantile(percentile.share)));
      add("max", microseconds(recorded.latency.max()));
      add("mean", recorded.latency.mean() / 1e3);
    }
    for (const auto& [name, value] : load.figures) add(name, value);
  }
  const auto add_process = [&](const std::string& name, const WatchedProcess& process) {
    const auto cost = cost_of(process, result);
    all.emplace_back(name + ".cpu", cost.cpu_us_per_message);
    all.emplace_back(name + ".cpu_share", cost.share);
    all.emplace_back(name + ".resident", process.after.resident_mib);
    all.emplace_back(name + ".anonymous", process.after.anonymous_mib);
    all.emplace_back(name + ".anonymous_before", process.before.anonymous_mib);
    all.emplace_back(name + ".anonymous_first", process.first.anonymous_mib);
    all.emplace_back(name + ".minor_faults", static_cast<double>(cost.minor_faults));
    all.emplace_back(name + ".major_faults", static_cast<double>(cost.major_faults));
    all.emplace_back(name + ".switches", static_cast<double>(cost.voluntary_switches + cost.involuntary_switches));
  };
  for (size_t i = 0; i < result.processes.size(); ++i)
    add_process(i == 0 ? "server" : "server" + std::to_string(i + 1), result.processes[i]);
  add_process("generator", result.generator);
  return all;
}

}  // namespace mqbench
