#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <vector>

#include "tools/mqbench/measure/histogram.h"

namespace mqbench {

/// Nanoseconds of the steady clock, the same in all processes of a machine.
[[nodiscard]] int64_t now_ns();

/// What is measured: operations that were meant to begin in [begin, end).
struct Window {
  int64_t start = 0;  ///< load begins; until `begin` it warms up
  int64_t begin = 0;
  int64_t end = 0;
};

/// What one load did, whole and second by second. Merged over the threads at the end.
struct Recorded {
  struct Second {
    Histogram::Sparse latency;
    uint64_t messages = 0;
  };
  Histogram latency;  ///< ns
  std::vector<Second> seconds;
  uint64_t messages = 0;
  uint64_t frames = 0;             ///< requests; a batch is one
  uint64_t bytes = 0;              ///< of bodies
  std::map<int, uint64_t> failed;  ///< messages by response code

  void merge(const Recorded& other);
  [[nodiscard]] uint64_t failed_messages() const;
};

/// Collects on a loop's thread; only progress() is for others.
class Recorder {
 public:
  void open(const Window& window);
  /// Ends the window early.
  void close_at(int64_t end) {
    if (end < window_.end) window_.end = end;
  }
  [[nodiscard]] bool covers(int64_t intended) const { return intended >= window_.begin && intended < window_.end; }
  /// An operation that was meant for `intended` and was done at `now`; outside the window nothing happens.
  void record(int64_t intended, int64_t now, uint64_t messages, uint64_t bytes) {
    done_.store(done_.load(std::memory_order_relaxed) + messages, std::memory_order_relaxed);
    if (!covers(intended)) return;
    if (now >= second_end_) next_second(now);
    all_.latency.record(now - intended, messages);
    second_.record(now - intended, messages);
    second_messages_ += messages;
    all_.messages += messages;
    all_.bytes += bytes;
    ++all_.frames;
  }
  void fail(int64_t intended, int code, uint64_t messages) {
    if (covers(intended)) all_.failed[code] += messages;
  }
  /// After the load has ended.
  [[nodiscard]] Recorded take();
  /// Messages done so far, warm-up too. Thread: any.
  [[nodiscard]] uint64_t done() const { return done_.load(std::memory_order_relaxed); }

 private:
  void next_second(int64_t now);
  void close_second();
  Window window_;
  int64_t second_end_ = 0;
  Histogram second_;
  uint64_t second_messages_ = 0;
  Recorded all_;
  std::atomic<uint64_t> done_{0};
};

}  // namespace mqbench
