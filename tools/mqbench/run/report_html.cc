#include <fmt/core.h>

#include <cmath>

#include "common/base/version.h"
#include "tools/mqbench/run/figures.h"
#include "tools/mqbench/run/plot.h"

namespace mqbench {

namespace {

constexpr const char* kHead = R"(<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>mqbench</title>
<style>
body{font:15px/1.5 system-ui,sans-serif;color:#1c2733;background:#fff;max-width:900px;margin:2em auto;padding:0 1em}
h1{font-size:1.4em;margin-bottom:.2em} h2{font-size:1.1em;margin:1.6em 0 .4em}
p.sub{color:#5f6b76;margin-top:0} p.wrong{color:#a32020;font-weight:600}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{padding:.3em .6em;border-bottom:1px solid #e3e7eb;text-align:right} th:first-child,td:first-child{text-align:left}
th{color:#5f6b76;font-weight:600}
figure{margin:1.2em 0} figcaption{font-weight:600;margin-bottom:.3em} svg{width:100%;height:auto}
svg text{font-size:12px;fill:#5f6b76} svg .grid{stroke:#e3e7eb;stroke-width:1}
.legend{font-size:.85em;color:#3a4652} .legend span{margin-right:1.2em} .legend i{display:inline-block;width:1em;height:.25em;
margin-right:.4em;vertical-align:middle}
code{font-size:.9em;overflow-wrap:anywhere}
</style></head><body>
)";

std::string row(const std::vector<std::string>& cells, const char* tag) {
  std::string out = "<tr>";
  for (const auto& cell : cells) out += fmt::format("<{0}>{1}</{0}>", tag, html_text(cell));
  return out + "</tr>\n";
}

std::string time_cell(int64_t nanoseconds) {
  const double us = microseconds(nanoseconds);
  return us < 1'000 ? fmt::format("{:.1f} µs", us)
         : us < 1e6 ? fmt::format("{:.2f} ms", us / 1e3)
                    : fmt::format("{:.2f} s", us / 1e6);
}

std::string loads_table(const RunResult& result) {
  std::vector<std::string> head{"load", "messages", "per second", "failed"};
  for (const auto& percentile : kPercentiles) head.emplace_back(percentile.label);
  head.emplace_back("max");
  std::string out = "<table>" + row(head, "th");
  for (const auto& load : result.loads) {
    const auto& recorded = load.recorded;
    std::vector<std::string> cells{
        load.name, std::to_string(recorded.messages),
        load.whole_run ? "" : fmt::format("{:.0f}", static_cast<double>(recorded.messages) / seconds_of(load, result)),
        std::to_string(recorded.failed_messages())};
    const bool latency = load.with_latency && recorded.latency.count() > 0;
    for (const auto& percentile : kPercentiles)
      cells.push_back(latency ? time_cell(recorded.latency.quantile(percentile.share)) : "");
    cells.push_back(latency ? time_cell(recorded.latency.max()) : "");
    out += row(cells, "td");
  }
  return out + "</table>\n";
}

std::string processes_table(const RunResult& result) {
  std::string out = "<table>" + row({"process", "µs CPU a message", "user s", "system s", "of a CPU", "resident MiB",
                                     "anonymous MiB", "minor faults", "major faults", "switches"},
                                    "th");
  auto all = result.processes;
  all.push_back(result.generator);
  for (const auto& process : all) {
    const auto cost = cost_of(process, result);
    const bool self = &process == &all.back();
    out += row({self ? "mqbench itself" : fmt::format("{} ({})", process.name, process.pid),
                fmt::format("{:.2f}", cost.cpu_us_per_message), fmt::format("{:.2f}", cost.user_seconds),
                fmt::format("{:.2f}", cost.system_seconds), fmt::format("{:.0f} %", cost.share * 100),
                fmt::format("{:.1f}", process.after.resident_mib), fmt::format("{:.1f}", process.after.anonymous_mib),
                std::to_string(cost.minor_faults), std::to_string(cost.major_faults),
                std::to_string(cost.voluntary_switches + cost.involuntary_switches)},
               "td");
  }
  return out + "</table>\n";
}

std::string over_time(const LoadResult& load) {
  Plot latency;
  latency.title = load.name + ": latency over time";
  latency.x_label = "second";
  latency.y_label = "µs";
  latency.y_log = true;
  latency.lines = {{"p50", {}}, {"p99", {}}, {"p99.9", {}}, {"max", {}}};
  for (size_t i = 0; i < load.recorded.seconds.size(); ++i) {
    Histogram second;
    second.merge(load.recorded.seconds[i].latency);
    if (second.count() == 0) continue;
    const auto x = static_cast<double>(i + 1);
    const int64_t values[] = {second.quantile(0.5), second.quantile(0.99), second.quantile(0.999), second.max()};
    for (size_t line = 0; line < 4; ++line) latency.lines[line].points.emplace_back(x, microseconds(values[line]));
  }
  return latency.lines[0].points.empty() ? std::string() : svg_of(latency);
}

/// x: how many nines.
std::string percentiles(const RunResult& result) {
  Plot plot;
  plot.title = "Latency by percentile";
  plot.x_label = "percentile (logarithmic in what is left)";
  plot.y_label = "µs";
  plot.y_log = true;
  plot.x_marks = {{0, "0"}, {1, "90"}, {2, "99"}, {3, "99.9"}, {4, "99.99"}, {5, "99.999"}, {6, "99.9999"}};
  for (const auto& load : result.loads) {
    const auto& latency = load.recorded.latency;
    if (!load.with_latency || latency.count() < 2) continue;
    Plot::Line line{load.name, {}};
    const double last = std::min(6.0, std::log10(static_cast<double>(latency.count())));
    for (double nines = 0; nines <= last + 1e-9; nines += 0.05)
      line.points.emplace_back(nines, microseconds(latency.quantile(1 - std::pow(10, -nines))));
    plot.lines.push_back(std::move(line));
  }
  return plot.lines.empty() ? std::string() : svg_of(plot);
}

std::string throughput(const RunResult& result) {
  Plot plot;
  plot.title = "Throughput over time";
  plot.x_label = "second";
  plot.y_label = "messages a second";
  for (const auto& load : result.loads) {
    Plot::Line line{load.name, {}};
    // The last second is mostly not a whole one.
    const size_t whole = std::min(load.recorded.seconds.size(), static_cast<size_t>(seconds_of(load, result) + 0.001));
    for (size_t i = 0; i < whole; ++i)
      line.points.emplace_back(static_cast<double>(i + 1), static_cast<double>(load.recorded.seconds[i].messages));
    if (!line.points.empty()) plot.lines.push_back(std::move(line));
  }
  return plot.lines.empty() ? std::string() : svg_of(plot);
}

}  // namespace

std::string html_of(const RunResult& result) {
  std::string out = kHead;
  out += fmt::format("<h1>mqbench {}</h1><p class=\"sub\">{}<br>{} · {:.1f} s measured{} · mqbench {}</p>\n",
                     html_text(result.command), html_text(result.title), result.started_at, result.seconds,
                     result.interrupted ? ", interrupted" : "", apogee::kVersion);
  for (const auto& problem : result.problems) out += "<p class=\"wrong\">WRONG: " + html_text(problem) + "</p>\n";
  out += loads_table(result) + percentiles(result);
  for (const auto& load : result.loads)
    if (load.with_latency) out += over_time(load);
  out += throughput(result) + "<h2>Processes</h2>" + processes_table(result);
  std::string command = "mqbench";
  for (const auto& argument : result.arguments) command += " " + argument;
  return out + "<h2>Command</h2><p><code>" + html_text(command) + "</code></p></body></html>\n";
}

}  // namespace mqbench
