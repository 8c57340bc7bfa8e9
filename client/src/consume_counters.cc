#include "client/src/consume_counters.h"

#include "client/src/client_instance.h"

namespace apogee {

ConsumeCounters::Slot& ConsumeCounters::slot_of(const std::string& topic) {
  const int64_t second = steady_ms() / 1000;
  Slot& slot = topics_[topic][static_cast<size_t>(second) % kSlots];
  if (slot.second != second) slot = Slot{second};
  return slot;
}

void ConsumeCounters::pulled(const std::string& topic, int64_t messages, int64_t took_ms) {
  std::lock_guard lock(mutex_);
  Slot& slot = slot_of(topic);
  ++slot.pulls;
  slot.pulled += messages;
  slot.pull_ms += took_ms;
}

void ConsumeCounters::consumed(const std::string& topic, int64_t messages, int64_t failed, int64_t took_ms) {
  std::lock_guard lock(mutex_);
  Slot& slot = slot_of(topic);
  ++slot.calls;
  slot.consumed += messages - failed;
  slot.failed += failed;
  slot.consume_ms += took_ms;
}

std::map<std::string, remoting::ConsumeStatus> ConsumeCounters::status() const {
  std::map<std::string, remoting::ConsumeStatus> result;
  const int64_t now = steady_ms() / 1000;
  std::lock_guard lock(mutex_);
  for (const auto& [topic, slots] : topics_) {
    Slot sum;
    for (const auto& slot : slots) {
      if (slot.second < 0 || now - slot.second >= static_cast<int64_t>(kSlots)) continue;
      sum.pulls += slot.pulls;
      sum.pulled += slot.pulled;
      sum.pull_ms += slot.pull_ms;
      sum.calls += slot.calls;
      sum.consumed += slot.consumed;
      sum.failed += slot.failed;
      sum.consume_ms += slot.consume_ms;
    }
    auto& status = result[topic];
    const auto seconds = static_cast<double>(kSlots);
    if (sum.pulls > 0) status.pull_rt = static_cast<double>(sum.pull_ms) / static_cast<double>(sum.pulls);
    if (sum.calls > 0) status.consume_rt = static_cast<double>(sum.consume_ms) / static_cast<double>(sum.calls);
    status.pull_tps = static_cast<double>(sum.pulled) / seconds;
    status.consume_ok_tps = static_cast<double>(sum.consumed) / seconds;
    status.consume_failed_tps = static_cast<double>(sum.failed) / seconds;
    status.consume_failed_msgs = sum.failed;
  }
  return result;
}

}  // namespace apogee
