#include "tools/mqbench/run/plot.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>

namespace mqbench {

namespace {

constexpr double kWidth = 860, kHeight = 320, kLeft = 78, kRight = 20, kTop = 14, kBottom = 46;
constexpr const char* kColours[] = {"#1f6fb2", "#d9822b", "#c23b3b", "#4b9b5f", "#7a5bb5", "#5f6b76"};

/// 1, 2 or 5 times a power of ten, so that some five marks fit.
double mark_step(double range) {
  const double raw = std::max(range, 1e-12) / 5;
  const double power = std::pow(10, std::floor(std::log10(raw)));
  for (double factor : {1.0, 2.0, 5.0})
    if (raw <= factor * power) return factor * power;
  return 10 * power;
}

std::string number(double value) {
  if (value >= 1e6) return fmt::format("{:g}M", value / 1e6);
  if (value >= 1e4) return fmt::format("{:g}k", value / 1e3);
  return fmt::format("{:g}", value);
}

struct Axis {
  double low = 0, high = 1, from = 0, to = 1;
  bool log = false;
  [[nodiscard]] double at(double value) const {
    const double share =
        log ? (std::log10(std::max(value, low)) - std::log10(low)) / (std::log10(high) - std::log10(low))
            : (value - low) / (high - low);
    return from + share * (to - from);
  }
};

std::vector<std::pair<double, std::string>> marks_of(const Axis& axis) {
  std::vector<std::pair<double, std::string>> marks;
  if (axis.log) {
    for (double mark = axis.low; mark <= axis.high * 1.001; mark *= 10) marks.emplace_back(mark, number(mark));
    return marks;
  }
  const double step = mark_step(axis.high - axis.low);
  for (double mark = std::ceil(axis.low / step) * step; mark <= axis.high + step / 1e6; mark += step)
    marks.emplace_back(mark, number(std::abs(mark) < step / 1e6 ? 0 : mark));
  return marks;
}

void settle_axes(const Plot& plot, Axis& x, Axis& y) {
  double x_low = INFINITY, x_high = -INFINITY, y_low = INFINITY, y_high = 0;
  for (const auto& line : plot.lines)
    for (const auto& [px, py] : line.points) {
      x_low = std::min(x_low, px);
      x_high = std::max(x_high, px);
      if (py > 0) y_low = std::min(y_low, py);
      y_high = std::max(y_high, py);
    }
  if (!plot.x_marks.empty()) x_low = std::min(x_low, plot.x_marks.front().first);
  x = {x_low, x_high > x_low ? x_high : x_low + 1, kLeft, kWidth - kRight, false};
  y = {0, y_high > 0 ? y_high * 1.05 : 1, kHeight - kBottom, kTop, plot.y_log};
  if (plot.y_log) {
    y.low = std::pow(10, std::floor(std::log10(std::isfinite(y_low) ? y_low : 1)));
    y.high = std::max(y.low * 10, std::pow(10, std::ceil(std::log10(std::max(y_high, 1e-9)))));
  }
}

}  // namespace

std::string html_text(const std::string& text) {
  std::string out;
  for (char c : text) {
    if (c == '<')
      out += "&lt;";
    else if (c == '>')
      out += "&gt;";
    else if (c == '&')
      out += "&amp;";
    else if (c == '"')
      out += "&quot;";
    else
      out += c;
  }
  return out;
}

std::string svg_of(const Plot& plot) {
  Axis x, y;
  settle_axes(plot, x, y);
  std::string out =
      fmt::format("<figure><figcaption>{}</figcaption><svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">\n",
                  html_text(plot.title), kWidth, kHeight, html_text(plot.title));
  for (const auto& [mark, label] : marks_of(y))
    out += fmt::format(
        "<line class=\"grid\" x1=\"{0}\" x2=\"{1}\" y1=\"{2:.1f}\" y2=\"{2:.1f}\"/>"
        "<text x=\"{3}\" y=\"{4:.1f}\" text-anchor=\"end\">{5}</text>\n",
        kLeft, kWidth - kRight, y.at(mark), kLeft - 8, y.at(mark) + 4, label);
  for (const auto& [mark, label] : plot.x_marks.empty() ? marks_of(x) : plot.x_marks) {
    if (mark > x.high + 1e-9) continue;
    out += fmt::format(
        "<line class=\"grid\" x1=\"{0:.1f}\" x2=\"{0:.1f}\" y1=\"{1}\" y2=\"{2}\"/>"
        "<text x=\"{0:.1f}\" y=\"{3}\" text-anchor=\"middle\">{4}</text>\n",
        x.at(mark), kTop, kHeight - kBottom, kHeight - kBottom + 17, label);
  }
  out += fmt::format("<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n", (kLeft + kWidth - kRight) / 2,
                     kHeight - 8, html_text(plot.x_label));
  out += fmt::format("<text transform=\"translate(14 {}) rotate(-90)\" text-anchor=\"middle\">{}</text>\n",
                     (kTop + kHeight - kBottom) / 2, html_text(plot.y_label));
  std::string legend;
  size_t number_of_line = 0;
  for (const auto& line : plot.lines) {
    const char* colour = kColours[number_of_line++ % std::size(kColours)];
    std::string points;
    for (const auto& [px, py] : line.points) points += fmt::format("{:.1f},{:.1f} ", x.at(px), y.at(py));
    out += fmt::format("<polyline fill=\"none\" stroke=\"{}\" stroke-width=\"1.8\" points=\"{}\"/>\n", colour, points);
    if (line.points.size() <= 200)
      for (const auto& [px, py] : line.points)
        out += fmt::format(
            "<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"2.4\" fill=\"{}\"><title>{}: {:.6g}</title></circle>\n", x.at(px),
            y.at(py), colour, html_text(line.name), py);
    legend += fmt::format("<span><i style=\"background:{}\"></i>{}</span>", colour, html_text(line.name));
  }
  return out + "</svg><div class=\"legend\">" + legend + "</div></figure>\n";
}

}  // namespace mqbench
