#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <vector>

namespace apogee {

/// Which brokers a producer should avoid for a while, because they answered slowly or not at all. Times are those
/// of RocketMQ 5. Thread: any.
class LatencyFaults {
 public:
  /// How long a broker with such a latency is avoided, both ms.
  [[nodiscard]] static int64_t avoid_ms_of(int64_t latency_ms);

  /// The outcome of a send. failed: it counts as a latency of 10 s.
  void update(const std::string& broker_name, int64_t latency_ms, bool failed, int64_t now_ms);
  [[nodiscard]] bool is_available(const std::string& broker_name, int64_t now_ms) const;
  /// The one to take when all are to be avoided: available again soonest, then of the lowest latency. "" when none of
  /// the brokers was ever updated.
  [[nodiscard]] std::string least_bad(const std::vector<std::string>& broker_names) const;

 private:
  struct Entry {
    int64_t latency_ms = 0;
    int64_t avoid_until_ms = 0;
  };
  mutable std::mutex mutex_;
  std::map<std::string, Entry> entries_;  // guarded by mutex_
};

}  // namespace apogee
