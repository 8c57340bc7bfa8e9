#pragma once

#include <string>
#include <utility>
#include <vector>

#include "tools/mqbench/run/run.h"

namespace mqbench {

/// Shares of the percentiles that are reported, and their names.
struct Percentile {
  const char* member;  ///< in JSON
  const char* label;
  double share;
};
inline constexpr Percentile kPercentiles[] = {{"p50", "p50", 0.5},         {"p90", "p90", 0.9},
                                              {"p99", "p99", 0.99},        {"p999", "p99.9", 0.999},
                                              {"p9999", "p99.99", 0.9999}, {"p99999", "p99.999", 0.99999}};

/// What a process cost in the window.
struct ProcessCost {
  double user_seconds, system_seconds, cpu_seconds;
  double cpu_us_per_message;  ///< 0 without messages
  double share;               ///< of one processor
  int64_t voluntary_switches, involuntary_switches, minor_faults, major_faults;
};
[[nodiscard]] ProcessCost cost_of(const WatchedProcess& process, const RunResult& result);
/// Messages that processor time is divided by.
[[nodiscard]] uint64_t counted_messages(const RunResult& result);
/// The flat list "produce.rate", "produce.p99", "server.cpu", ...
[[nodiscard]] std::vector<std::pair<std::string, double>> figures_of(const RunResult& result);
/// Seconds that a load's rate is about.
[[nodiscard]] double seconds_of(const LoadResult& load, const RunResult& result);
[[nodiscard]] double microseconds(int64_t nanoseconds);

[[nodiscard]] std::string text_of(const RunResult& result);
[[nodiscard]] std::string json_of(const RunResult& result);
[[nodiscard]] std::string html_of(const RunResult& result);

}  // namespace mqbench
