#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>

#include "common/remoting/bodies/client_bodies.h"

namespace apogee {

/// Rates of a consumer by topic, over the last minute; for GET_CONSUMER_RUNNING_INFO. Thread: any.
class ConsumeCounters {
 public:
  void pulled(const std::string& topic, int64_t messages, int64_t took_ms);
  void consumed(const std::string& topic, int64_t messages, int64_t failed, int64_t took_ms);
  [[nodiscard]] std::map<std::string, remoting::ConsumeStatus> status() const;

 private:
  static constexpr size_t kSlots = 60;
  struct Slot {
    int64_t second = -1;
    int64_t pulls = 0, pulled = 0, pull_ms = 0;
    int64_t calls = 0, consumed = 0, failed = 0, consume_ms = 0;
  };
  Slot& slot_of(const std::string& topic);
  mutable std::mutex mutex_;
  std::map<std::string, std::array<Slot, kSlots>> topics_;  // guarded by mutex_
};

}  // namespace apogee
