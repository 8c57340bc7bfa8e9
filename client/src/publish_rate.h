#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>

#include "apogee/result.h"
#include "common/base/token_bucket.h"
#include "common/loop/event_loop.h"

namespace apogee {

/// A token bucket: so many messages a second, and so many at once after a pause. What has to wait is run on the loop in
/// the order of its coming. Thread: any.
class PublishRate {
 public:
  struct Options {
    double per_second = 0;  ///< 0: no limit
    int64_t burst = 1;
    size_t waiting_max = 0;
  };
  PublishRate(Options options, loop::EventLoop& loop) : options_(options), loop_(loop) {}

  [[nodiscard]] bool limited() const { return options_.per_second > 0; }
  /// True: go on now. False: `later` will be run when it is its turn. Error: kBusy, when that would be after the
  /// deadline (steady us) or too many wait; nothing is taken then.
  [[nodiscard]] Result<bool> admit(int64_t messages, int64_t now_us, int64_t deadline_us, std::function<void()> later);

 private:
  struct Waiting {
    int64_t due_us;
    std::function<void()> task;
  };
  void wait_for_first(int64_t due_us);
  void run_due();

  const Options options_;
  loop::EventLoop& loop_;
  std::mutex mutex_;
  TokenBucket bucket_;           // guarded by mutex_
  std::deque<Waiting> waiting_;  // guarded by mutex_
};

}  // namespace apogee
