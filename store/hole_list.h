#pragma once

#include <atomic>
#include <map>
#include <mutex>
#include <vector>

#include "store/recovery.h"

namespace apogee::store {

/// The parts of a log that hold no message any more, as far as they are known and not mended yet. Thread: any.
class HoleList {
 public:
  void add(LogOffset begin, LogOffset end);
  /// What lies in this part is whole again, or gone.
  void remove(LogOffset begin, LogOffset end);
  /// The end of the hole that holds the offset; -1: it is in none. Takes no lock while there are no holes.
  [[nodiscard]] LogOffset end_at(LogOffset offset) const;
  [[nodiscard]] bool overlaps(LogOffset begin, LogOffset end) const;
  [[nodiscard]] std::vector<Hole> all() const;  ///< ascending, disjoint

 private:
  mutable std::mutex mutex_;
  std::map<LogOffset, LogOffset> ends_;  // guarded by mutex_: by begin
  std::atomic<bool> any_{false};
};

}  // namespace apogee::store
