#include <fmt/core.h>

#include <cmath>
#include <cstdio>
#include <fstream>
#include <stdexcept>

#include "tools/mqbench/run/figures.h"

namespace mqbench {

namespace {

/// 1234567.8 -> "1,234,568"
std::string grouped(double value) {
  auto digits = fmt::format("{:.0f}", value);
  for (auto at = static_cast<int64_t>(digits.size()) - 3; at > (value < 0 ? 1 : 0); at -= 3)
    digits.insert(static_cast<size_t>(at), ",");
  return digits;
}

std::string time_text(int64_t nanoseconds) {
  const auto ns = static_cast<double>(nanoseconds);
  if (ns < 1e6) return fmt::format("{:.1f} us", ns / 1e3);
  if (ns < 1e9) return fmt::format("{:.2f} ms", ns / 1e6);
  return fmt::format("{:.2f} s", ns / 1e9);
}

std::string load_text(const LoadResult& load, double seconds) {
  const auto& recorded = load.recorded;
  std::string out =
      fmt::format("{}\n  {:<11}{}", load.name, "messages", grouped(static_cast<double>(recorded.messages)));
  if (!load.whole_run)
    out += fmt::format(" in {:.1f} s: {}/s, {:.1f} MiB/s of bodies", seconds,
                       grouped(static_cast<double>(recorded.messages) / seconds),
                       static_cast<double>(recorded.bytes) / 1'048'576 / seconds);
  if (load.intended_rate > 0) out += fmt::format(" (open-loop, {}/s wanted)", grouped(load.intended_rate));
  out += '\n';
  if (load.with_latency && recorded.latency.count() > 0) {
    out += fmt::format("  {:<11}", "latency");
    for (const auto& percentile : kPercentiles)
      out += fmt::format("{} {}  ", percentile.label, time_text(recorded.latency.quantile(percentile.share)));
    out += fmt::format("max {}\n", time_text(recorded.latency.max()));
  }
  if (recorded.failed_messages() > 0) {
    out += fmt::format("  {:<11}", "failed");
    for (const auto& [code, count] : recorded.failed)
      out += fmt::format("{} {}  ", code == -1 ? std::string("connection lost") : fmt::format("code {}", code),
                         grouped(static_cast<double>(count)));
    out += '\n';
  }
  if (!load.figures.empty()) {
    out += fmt::format("  {:<11}", "counted");
    size_t column = 0;
    for (const auto& [name, value] : load.figures) {
      if (column++ != 0) out += ", ";
      out += fmt::format("{} {}", name, value == std::floor(value) ? grouped(value) : fmt::format("{:.3g}", value));
    }
    out += '\n';
  }
  return out;
}

std::string process_text(const WatchedProcess& process, const RunResult& result) {
  const auto cost = cost_of(process, result);
  return fmt::format(
      "{} (pid {})\n"
      "  {:<11}{:.2f} us a message; user {:.2f} s, system {:.2f} s, {:.0f} % of a processor\n"
      "  {:<11}resident {:.1f} MiB (was {:.1f}), anonymous {:.1f} MiB (was {:.1f}; {:.1f} before connections)\n"
      "  {:<11}faults: minor {}, major {}; context switches: voluntary {}, involuntary {}\n",
      process.name, process.pid, "cpu", cost.cpu_us_per_message, cost.user_seconds, cost.system_seconds,
      cost.share * 100, "memory", process.after.resident_mib, process.before.resident_mib, process.after.anonymous_mib,
      process.before.anonymous_mib, process.first.anonymous_mib, "kernel",
      grouped(static_cast<double>(cost.minor_faults)), grouped(static_cast<double>(cost.major_faults)),
      grouped(static_cast<double>(cost.voluntary_switches)), grouped(static_cast<double>(cost.involuntary_switches)));
}

void write_file(const std::string& path, const std::string& text) {
  std::ofstream out(path, std::ios::trunc);
  out << text;
  out.close();
  if (!out) throw std::runtime_error("cannot write " + path);
}

}  // namespace

std::string text_of(const RunResult& result) {
  std::string out = result.title + "\n\n";
  if (result.interrupted) out += fmt::format("Interrupted: what follows is of the first {:.1f} s.\n\n", result.seconds);
  for (const auto& load : result.loads) out += load_text(load, seconds_of(load, result));
  for (const auto& process : result.processes) out += process_text(process, result);
  const auto generator = cost_of(result.generator, result);
  out += fmt::format("generator\n  {:<11}{:.2f} us a message, {:.0f} % of a processor\n", "cpu",
                     generator.cpu_us_per_message, generator.share * 100);
  for (const auto& problem : result.problems) out += "WRONG: " + problem + "\n";
  return out;
}

int report(const RunOptions& options, const RunResult& result) {
  if (options.json != "-") fmt::print("{}", text_of(result));
  if (options.json == "-") {
    fmt::print("{}\n", json_of(result));
    for (const auto& problem : result.problems) fmt::print(stderr, "mqbench: {}\n", problem);
  } else if (!options.json.empty()) {
    write_file(options.json, json_of(result) + "\n");
  }
  if (!options.html.empty()) write_file(options.html, html_of(result));
  std::fflush(stdout);
  return result.problems.empty() ? 0 : 1;
}

}  // namespace mqbench
