#pragma once

#include <chrono>
#include <map>
#include <string>

namespace apogee::store {

/// Keeps what a peer can cause again and again from filling the log. Thread: one at a time.
class RepeatedLines {
 public:
  explicit RepeatedLines(std::chrono::milliseconds interval = std::chrono::minutes(1)) : interval_(interval) {}

  /// Whether a line may be written now: the first one of its key within an interval.
  bool admit(const std::string& key) {
    auto now = std::chrono::steady_clock::now();
    auto found = next_.find(key);
    if (found != next_.end() && now < found->second) return false;
    if (next_.size() >= kKeysMax) next_.clear();
    next_[key] = now + interval_;
    return true;
  }
  void forget() { next_.clear(); }

 private:
  static constexpr size_t kKeysMax = 1'000;
  const std::chrono::milliseconds interval_;
  std::map<std::string, std::chrono::steady_clock::time_point> next_;
};

}  // namespace apogee::store
