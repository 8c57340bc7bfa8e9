#include <nlohmann/json.hpp>

#include "common/base/version.h"
#include "tools/mqbench/run/figures.h"

namespace mqbench {

namespace {

using Json = nlohmann::ordered_json;

Json json_of_load(const LoadResult& load, double seconds) {
  const auto& recorded = load.recorded;
  Json json;
  json["name"] = load.name;
  json["messages"] = recorded.messages;
  json["frames"] = recorded.frames;
  json["bytes"] = recorded.bytes;
  json["failed"] = Json::object();
  for (const auto& [code, count] : recorded.failed) json["failed"][std::to_string(code)] = count;
  json["seconds"] = load.whole_run ? 0 : seconds;
  json["rate"] = load.whole_run ? 0 : static_cast<double>(recorded.messages) / seconds;
  json["mibPerSecond"] = load.whole_run ? 0 : static_cast<double>(recorded.bytes) / 1'048'576 / seconds;
  json["openLoop"] = load.intended_rate > 0;
  json["intendedRate"] = load.intended_rate;
  if (load.with_latency) {
    auto& latency = json["latencyUs"];
    latency["count"] = recorded.latency.count();
    latency["min"] = microseconds(recorded.latency.min());
    latency["mean"] = recorded.latency.mean() / 1e3;
    for (const auto& percentile : kPercentiles)
      latency[percentile.member] = microseconds(recorded.latency.quantile(percentile.share));
    latency["max"] = microseconds(recorded.latency.max());
  }
  json["perSecond"] = Json::array();
  for (size_t i = 0; i < recorded.seconds.size(); ++i) {
    const auto& second = recorded.seconds[i];
    Json row;
    row["second"] = i + 1;
    row["messages"] = second.messages;
    if (load.with_latency) {
      Histogram histogram;
      histogram.merge(second.latency);
      row["p50"] = microseconds(histogram.quantile(0.5));
      row["p99"] = microseconds(histogram.quantile(0.99));
      row["p999"] = microseconds(histogram.quantile(0.999));
      row["max"] = microseconds(histogram.max());
    }
    json["perSecond"].push_back(std::move(row));
  }
  for (const auto& [name, value] : load.figures) json["counted"][name] = value;
  return json;
}

Json json_of_process(const WatchedProcess& process, const RunResult& result) {
  const auto cost = cost_of(process, result);
  Json json;
  json["pid"] = process.pid;
  json["name"] = process.name;
  json["cpuSeconds"] = cost.cpu_seconds;
  json["userSeconds"] = cost.user_seconds;
  json["systemSeconds"] = cost.system_seconds;
  json["cpuUsPerMessage"] = cost.cpu_us_per_message;
  json["cpuShare"] = cost.share;
  json["residentMiB"] = {{"first", process.first.resident_mib},
                         {"before", process.before.resident_mib},
                         {"after", process.after.resident_mib}};
  json["anonymousMiB"] = {{"first", process.first.anonymous_mib},
                          {"before", process.before.anonymous_mib},
                          {"after", process.after.anonymous_mib}};
  json["voluntarySwitches"] = cost.voluntary_switches;
  json["involuntarySwitches"] = cost.involuntary_switches;
  json["minorFaults"] = cost.minor_faults;
  json["majorFaults"] = cost.major_faults;
  return json;
}

}  // namespace

std::string json_of(const RunResult& result) {
  Json json;
  json["tool"] = "mqbench";
  json["version"] = apogee::kVersion;
  json["command"] = result.command;
  json["arguments"] = result.arguments;
  json["title"] = result.title;
  json["startedAt"] = result.started_at;
  json["seconds"] = result.seconds;
  json["interrupted"] = result.interrupted;
  json["ok"] = result.problems.empty();
  json["problems"] = result.problems;
  json["loads"] = Json::array();
  for (const auto& load : result.loads) json["loads"].push_back(json_of_load(load, seconds_of(load, result)));
  json["processes"] = Json::array();
  for (const auto& process : result.processes) json["processes"].push_back(json_of_process(process, result));
  json["generator"] = json_of_process(result.generator, result);
  for (const auto& [name, value] : figures_of(result)) json["figures"][name] = value;
  return json.dump(2, ' ', false, Json::error_handler_t::replace);
}

}  // namespace mqbench
