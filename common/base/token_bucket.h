#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>

namespace apogee {

/// Microseconds of a clock that does not go back.
[[nodiscard]] inline int64_t steady_us() {
  return std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

/// Lets through `per_second` a second, and up to `burst` at once after a pause. It keeps nothing but when all that was
/// taken is made up for, so rate and burst may be others at each call. Times are those of steady_us(); rates are above
/// 0. Thread: one at a time.
class TokenBucket {
 public:
  struct Rate {
    double per_second = 0;
    double burst = 1;
  };

  /// When so many may go, in the past or at `now_us` for now. More than fit into the bucket go when it is full.
  [[nodiscard]] double due_us(Rate rate, double count, int64_t now_us) const {
    return from(now_us) + (std::min(count, rate.burst) - rate.burst) * 1e6 / rate.per_second;
  }
  /// They go. What is more than there was, the next ones wait for.
  void take(Rate rate, double count, int64_t now_us) { empty_until_us_ = from(now_us) + count * 1e6 / rate.per_second; }
  [[nodiscard]] bool is_full(int64_t now_us) const { return empty_until_us_ <= static_cast<double>(now_us); }

 private:
  [[nodiscard]] double from(int64_t now_us) const { return std::max(empty_until_us_, static_cast<double>(now_us)); }
  double empty_until_us_ = 0;
};

}  // namespace apogee
