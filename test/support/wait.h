#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>

namespace apogee::test {

/// Asks again and again until the condition holds; false after the limit.
template <typename Condition>
bool eventually(Condition condition, std::chrono::milliseconds limit = std::chrono::seconds(20)) {
  auto deadline = std::chrono::steady_clock::now() + limit;
  std::mutex mutex;
  std::condition_variable nobody;
  while (!condition()) {
    if (std::chrono::steady_clock::now() >= deadline) return false;
    std::unique_lock lock(mutex);
    nobody.wait_for(lock, std::chrono::milliseconds(10));
  }
  return true;
}

}  // namespace apogee::test
