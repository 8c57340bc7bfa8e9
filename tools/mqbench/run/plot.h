#pragma once

#include <string>
#include <utility>
#include <vector>

namespace mqbench {

/// A plot of lines as inline SVG; nothing of it comes from elsewhere.
struct Plot {
  struct Line {
    std::string name;
    std::vector<std::pair<double, double>> points;
  };
  std::string title;
  std::string x_label, y_label;
  bool y_log = false;
  /// Marks of the x axis; empty: chosen.
  std::vector<std::pair<double, std::string>> x_marks;
  std::vector<Line> lines;
};

[[nodiscard]] std::string svg_of(const Plot& plot);
[[nodiscard]] std::string html_text(const std::string& text);

}  // namespace mqbench
