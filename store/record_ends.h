#pragma once

#include <algorithm>
#include <deque>
#include <mutex>

#include "store/message_store.h"

namespace apogee::store {

/// Where records of the log end, one in each piece of it: from the nearest one it is a short walk to any place behind.
/// Thread: any; one lock, a leaf.
class RecordEnds {
 public:
  /// Of a later record than all before.
  void add(LogOffset end) {
    std::lock_guard lock(mutex_);
    ends_.push_back(end);
    if (ends_.size() > kMost) ends_.pop_front();
  }
  /// The greatest that is neither behind `to` nor in front of `from`, which is one too. Those in front of `from` are
  /// forgotten.
  [[nodiscard]] LogOffset nearest(LogOffset from, LogOffset to) {
    std::lock_guard lock(mutex_);
    ends_.erase(ends_.begin(), std::lower_bound(ends_.begin(), ends_.end(), from));
    const auto behind = std::upper_bound(ends_.begin(), ends_.end(), to);
    return behind == ends_.begin() ? from : *std::prev(behind);
  }

 private:
  static constexpr size_t kMost = 262'144;  // 2 MiB, of 16 GiB of the log
  std::mutex mutex_;
  std::deque<LogOffset> ends_;  // guarded by mutex_, ascending
};

}  // namespace apogee::store
