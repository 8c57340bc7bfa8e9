#pragma once

#include <cstdint>
#include <limits>

namespace mqbench {

/// When sends are meant to begin. Open-loop: at a fixed rate, whatever the answers do; a send that is late counts from
/// the moment it was meant for. Closed-loop (rate 0): at once, whenever there is room. Nanoseconds. Thread: one.
class Schedule {
 public:
  Schedule() = default;
  /// share, shares: this is number `share` of so many schedules that make the rate up together, evenly shifted.
  Schedule(double rate_per_second, int64_t start, uint32_t share = 0, uint32_t shares = 1)
      : gap_(rate_per_second > 0 ? 1e9 * shares / rate_per_second : 0),
        first_(static_cast<double>(start) + (rate_per_second > 0 ? 1e9 * share / rate_per_second : 0)) {}

  [[nodiscard]] bool open_loop() const { return gap_ > 0; }
  /// The moment that the next send is meant for; open-loop only.
  [[nodiscard]] int64_t next() const { return static_cast<int64_t>(first_ + gap_ * static_cast<double>(taken_)); }
  /// Whether a send is due; if so it is taken and `intended` says for when it was meant.
  bool take(int64_t now, int64_t& intended) {
    if (!open_loop()) {
      intended = now;
      return true;
    }
    const int64_t due = next();
    if (due > now) return false;
    intended = due;
    ++taken_;
    return true;
  }

 private:
  double gap_ = 0;
  double first_ = 0;
  uint64_t taken_ = 0;
};

}  // namespace mqbench
