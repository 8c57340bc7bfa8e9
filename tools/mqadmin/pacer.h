#pragma once

#include <algorithm>
#include <chrono>
#include <mutex>

namespace mqadmin {

/// Lets through so many a second, evenly. Thread: any.
class Pacer {
 public:
  using Clock = std::chrono::steady_clock;

  /// rate: a second; 0 = no limit.
  explicit Pacer(double rate)
      : step_(rate > 0 ? std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(1.0 / rate))
                       : Clock::duration::zero()) {}

  /// When the next one may go. Time that nobody used is not made up for.
  [[nodiscard]] Clock::time_point next(Clock::time_point now = Clock::now()) {
    std::lock_guard lock(mutex_);
    auto at = std::max(now, next_);
    next_ = at + step_;
    return at;
  }

 private:
  Clock::duration step_;
  std::mutex mutex_;
  Clock::time_point next_{};
};

}  // namespace mqadmin
