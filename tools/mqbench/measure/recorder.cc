#include "tools/mqbench/measure/recorder.h"

#include <algorithm>
#include <chrono>

namespace mqbench {

namespace {
constexpr int64_t kSecond = 1'000'000'000;
}

int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

void Recorded::merge(const Recorded& other) {
  latency.merge(other.latency);
  if (seconds.size() < other.seconds.size()) seconds.resize(other.seconds.size());
  for (size_t i = 0; i < other.seconds.size(); ++i) {
    auto& here = seconds[i];
    here.messages += other.seconds[i].messages;
    here.latency.insert(here.latency.end(), other.seconds[i].latency.begin(), other.seconds[i].latency.end());
  }
  messages += other.messages;
  frames += other.frames;
  bytes += other.bytes;
  for (const auto& [code, count] : other.failed) failed[code] += count;
}

uint64_t Recorded::failed_messages() const {
  uint64_t sum = 0;
  for (const auto& [code, count] : failed) sum += count;
  return sum;
}

void Recorder::open(const Window& window) {
  window_ = window;
  second_end_ = window.begin + kSecond;
}

void Recorder::close_second() {
  all_.seconds.push_back({second_.sparse(), second_messages_});
  second_.clear();
  second_messages_ = 0;
}

void Recorder::next_second(int64_t now) {
  // What is answered after the end belongs to the last second.
  while (now >= second_end_ && second_end_ < window_.end) {
    close_second();
    second_end_ += kSecond;
  }
  if (second_end_ >= window_.end) second_end_ = INT64_MAX;
}

Recorded Recorder::take() {
  if (second_messages_ > 0) close_second();
  return std::move(all_);
}

}  // namespace mqbench
