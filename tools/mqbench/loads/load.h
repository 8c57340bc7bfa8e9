#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "tools/mqbench/measure/recorder.h"

namespace mqbench {

/// What went wrong in a run, each thing once with how often. Thread: any.
class Problems {
 public:
  void add(const std::string& text);
  [[nodiscard]] std::vector<std::string> all() const;
  [[nodiscard]] bool none() const;

 private:
  mutable std::mutex mutex_;
  std::vector<std::pair<std::string, uint64_t>> list_;  // guarded by mutex_
};

/// What a load hands over at the end.
struct LoadResult {
  std::string name;
  Recorded recorded;
  double intended_rate = 0;                 ///< messages a second; 0: closed-loop
  bool with_latency = true;                 ///< one-way sends have none
  bool whole_run = false;                   ///< counted from the beginning, not in the window: no rate
  double seconds = 0;                       ///< of its own window; 0: the run's
  std::map<std::string, double> figures{};  ///< further ones; those of the same name are added up
};

/// One kind of traffic on one worker. The functions are called on the worker's thread, in this order; the flags may be
/// asked from any.
class Load {
 public:
  virtual ~Load() = default;
  virtual void open() = 0;
  virtual void start(const Window& window) = 0;
  /// Nothing new is begun; what is under way ends. end: where the window ends, earlier than planned perhaps.
  virtual void stop(int64_t end) = 0;
  /// After the worker has ended.
  [[nodiscard]] virtual std::vector<LoadResult> results() = 0;
  /// Messages so far, for the progress line. Thread: any.
  [[nodiscard]] virtual uint64_t done() const = 0;
  /// Requests without an answer. Thread: any.
  [[nodiscard]] virtual uint64_t unanswered() const { return 0; }

  [[nodiscard]] bool ready() const { return ready_.load(); }
  [[nodiscard]] bool finished() const { return finished_at_.load() != 0; }
  [[nodiscard]] int64_t finished_at() const { return finished_at_.load(); }

 protected:
  void set_ready() { ready_.store(true); }
  void set_finished() {
    if (!finished()) finished_at_.store(now_ns());
  }

 private:
  std::atomic<bool> ready_{false};
  std::atomic<int64_t> finished_at_{0};
};

/// Which of a producer's messages are meant. Grows as needed.
class SequenceSet {
 public:
  static constexpr uint64_t kMax = uint64_t{1} << 33;
  /// False when it was in already, or is beyond what can be.
  bool add(uint64_t sequence) {
    if (sequence >= kMax) return false;
    const size_t word = sequence / 64;
    if (word >= words_.size()) words_.resize(word + word / 2 + 64);
    const uint64_t bit = uint64_t{1} << (sequence % 64);
    if ((words_[word] & bit) != 0) return false;
    words_[word] |= bit;
    return true;
  }
  void merge(const SequenceSet& other);
  /// How many of these are not in the other.
  [[nodiscard]] uint64_t missing_in(const SequenceSet& other) const;
  [[nodiscard]] uint64_t count() const;
  /// One more than the largest; 0 when empty.
  [[nodiscard]] uint64_t end() const;

 private:
  std::vector<uint64_t> words_;
};

/// Whose messages: the run in the upper half, the producer in the lower.
using ProducerKey = uint64_t;
[[nodiscard]] inline ProducerKey producer_key(uint32_t run, uint32_t producer) {
  return (uint64_t{run} << 32) | producer;
}
using Ledger = std::map<ProducerKey, SequenceSet>;

}  // namespace mqbench
