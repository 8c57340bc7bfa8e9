#include "client/src/publish_rate.h"

#include <algorithm>
#include <string>
#include <utility>

namespace apogee {

Result<bool> PublishRate::admit(int64_t messages, int64_t now_us, int64_t deadline_us, std::function<void()> later) {
  if (!limited()) return true;
  const TokenBucket::Rate rate{options_.per_second, static_cast<double>(options_.burst)};
  const auto count = static_cast<double>(messages);
  std::lock_guard lock(mutex_);
  const auto due = static_cast<int64_t>(bucket_.due_us(rate, count, now_us));
  const bool now = waiting_.empty() && due <= now_us;
  if (!now && due > deadline_us) {
    return Error{Errc::kBusy, "publish_rate_max: the message's turn would come " +
                                  std::to_string((due - deadline_us) / 1000 + 1) + " ms after its time-out"};
  }
  if (!now && waiting_.size() >= options_.waiting_max) {
    return Error{Errc::kBusy, "publish_rate_max: " + std::to_string(waiting_.size()) + " sends wait already"};
  }
  bucket_.take(rate, count, now_us);
  if (now) return true;
  waiting_.push_back({due, std::move(later)});
  if (waiting_.size() == 1) wait_for_first(due);
  return false;
}

void PublishRate::wait_for_first(int64_t due_us) {
  loop_.post([this, due_us] {
    const int64_t wait_ms = std::max<int64_t>(0, (due_us - steady_us() + 999) / 1000);
    loop_.run_after(loop::Milliseconds(wait_ms), [this] { run_due(); });
  });
}

void PublishRate::run_due() {
  for (;;) {
    std::function<void()> task;
    {
      std::lock_guard lock(mutex_);
      if (waiting_.empty()) return;
      if (waiting_.front().due_us > steady_us()) return wait_for_first(waiting_.front().due_us);
      task = std::move(waiting_.front().task);
    }
    task();
    std::lock_guard lock(mutex_);
    waiting_.pop_front();  // only now, so that what comes meanwhile waits behind it
  }
}

}  // namespace apogee
