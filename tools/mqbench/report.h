#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace mqbench {

/// One measured number.
struct Figure {
  std::string name;  ///< stable, such as "append.rate"; the name of the member in JSON
  double value = 0;
  std::string unit;                ///< "MB/s", "1/s", "ms", "MiB", "ratio", ...
  std::string about;               ///< what it is, for people
  std::optional<double> aim = {};  ///< what is wanted
  bool aim_is_most = false;        ///< the aim is an upper limit
};

/// Collects figures and prints them: each as soon as it is known for people, all of them at the end as JSON.
class Report {
 public:
  /// progress: whether standard error is a terminal on which steps may be shown.
  Report(bool json, bool progress) : json_(json), progress_(progress) {}

  void title(std::string_view text);
  void add(Figure figure);
  /// What is being done now, for a person who waits; 0 to 1 done, negative: unknown.
  void step(std::string_view text, double done = -1);
  /// Prints the JSON, when that was asked for. Call once.
  void finish();

 private:
  void clear_step();
  const bool json_, progress_;
  bool step_shown_ = false;
  std::vector<Figure> figures_;
};

}  // namespace mqbench
