#include "client/src/latency_faults.h"

#include <tuple>

namespace apogee {
namespace {

struct Step {
  int64_t latency_ms, avoid_ms;
};
constexpr Step kSteps[] = {{50, 0},        {100, 0},        {550, 2'000},    {1'800, 5'000},
                           {3'000, 6'000}, {5'000, 10'000}, {15'000, 30'000}};
constexpr int64_t kFailedLatencyMs = 10'000;

}  // namespace

int64_t LatencyFaults::avoid_ms_of(int64_t latency_ms) {
  int64_t avoid = 0;
  for (const auto& step : kSteps) {
    if (latency_ms >= step.latency_ms) avoid = step.avoid_ms;
  }
  return avoid;
}

void LatencyFaults::update(const std::string& broker_name, int64_t latency_ms, bool failed, int64_t now_ms) {
  const int64_t latency = failed ? kFailedLatencyMs : latency_ms;
  std::lock_guard lock(mutex_);
  entries_[broker_name] = {latency, now_ms + avoid_ms_of(latency)};
}

bool LatencyFaults::is_available(const std::string& broker_name, int64_t now_ms) const {
  std::lock_guard lock(mutex_);
  auto found = entries_.find(broker_name);
  return found == entries_.end() || found->second.avoid_until_ms <= now_ms;
}

std::string LatencyFaults::least_bad(const std::vector<std::string>& broker_names) const {
  std::lock_guard lock(mutex_);
  const std::string* best = nullptr;
  Entry best_entry;
  for (const auto& name : broker_names) {
    auto found = entries_.find(name);
    if (found == entries_.end()) continue;
    const Entry& entry = found->second;
    if (best == nullptr ||
        std::tie(entry.avoid_until_ms, entry.latency_ms) < std::tie(best_entry.avoid_until_ms, best_entry.latency_ms)) {
      best = &name;
      best_entry = entry;
    }
  }
  return best == nullptr ? "" : *best;
}

}  // namespace apogee
