#pragma once

#include <cstdint>
#include <optional>
#include <set>

namespace apogee::broker {

/// How far everything is done, where what is under way gets its offset only when it is stored: in the order of the
/// offsets, but told in any. An offset that is given to a put is above all that were told before the put began.
/// Not thread-safe.
class OffsetFloor {
 public:
  /// step: from the last offset that was told to the next one, where that is known. 0: the next one is anywhere
  /// behind, and the last one itself is the floor.
  explicit OffsetFloor(int64_t step = 1) : step_(step) {}
  /// Everything in front of `next` is told.
  void start_at(int64_t next) { next_ = next; }
  /// A put begins: nothing in front of what it returns is the put's, and the floor does not pass it until end_put().
  [[nodiscard]] int64_t begin_put() {
    held_.insert(next_);
    return next_;
  }
  /// It got this offset, which is held from now on; nullopt: it was not stored.
  void end_put(int64_t begun, std::optional<int64_t> offset) {
    release(begun);
    if (offset) hold(*offset);
  }
  void hold(int64_t offset) {
    held_.insert(offset);
    see(offset);
  }
  void release(int64_t offset) {
    if (auto at = held_.find(offset); at != held_.end()) held_.erase(at);
  }
  /// Something else got this offset.
  void see(int64_t offset) {
    if (offset >= next_) next_ = offset + step_;
  }
  /// The lowest that is held, else where the next one will be.
  [[nodiscard]] int64_t floor() const { return held_.empty() ? next_ : *held_.begin(); }
  [[nodiscard]] int64_t next() const { return next_; }

 private:
  std::multiset<int64_t> held_;
  const int64_t step_;
  int64_t next_ = 0;
};

}  // namespace apogee::broker
