#include "tools/mqbench/report.h"

#include <fmt/core.h>

#include <cstdio>
#include <nlohmann/json.hpp>

namespace mqbench {

namespace {
std::string number(double value) {
  if (value == 0) return "0";
  const double size = value < 0 ? -value : value;
  return size >= 100 ? fmt::format("{:.0f}", value)
         : size >= 1 ? fmt::format("{:.2f}", value)
                     : fmt::format("{:.3g}", value);
}
}  // namespace

void Report::clear_step() {
  if (!step_shown_) return;
  fmt::print(stderr, "\r\033[K");
  std::fflush(stderr);
  step_shown_ = false;
}

void Report::title(std::string_view text) {
  clear_step();
  if (json_) return;
  fmt::print("\n{}\n", text);
  std::fflush(stdout);
}

void Report::add(Figure figure) {
  clear_step();
  if (!json_) {
    std::string aim;
    if (figure.aim) {
      const bool met = figure.aim_is_most ? figure.value <= *figure.aim : figure.value >= *figure.aim;
      aim = fmt::format("  (aim {} {}: {})", figure.aim_is_most ? "<=" : ">=", number(*figure.aim),
                        met ? "met" : "missed");
    }
    fmt::print("  {:<36} {:>12} {:<6} {}{}\n", figure.name, number(figure.value), figure.unit, figure.about, aim);
    std::fflush(stdout);
  }
  figures_.push_back(std::move(figure));
}

void Report::step(std::string_view text, double done) {
  if (!progress_) return;
  fmt::print(stderr, "\r\033[K{}{}", text, done < 0 ? " ..." : fmt::format(" {:.0f} %", done * 100));
  std::fflush(stderr);
  step_shown_ = true;
}

void Report::finish() {
  clear_step();
  if (!json_) return;
  nlohmann::ordered_json all;
  for (const auto& figure : figures_) {
    auto& entry = all[figure.name];
    entry["value"] = figure.value;
    entry["unit"] = figure.unit;
    entry["about"] = figure.about;
    if (figure.aim) entry[figure.aim_is_most ? "aimAtMost" : "aimAtLeast"] = *figure.aim;
  }
  fmt::print("{}\n", all.dump(2));
}

}  // namespace mqbench
