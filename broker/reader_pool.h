#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace apogee::broker {

/// A few threads for what may wait for the disk. Thread: any.
class ReaderPool {
 public:
  ReaderPool(int threads, size_t tasks_max);
  ~ReaderPool();  ///< stops
  /// False when too many tasks wait already, or after stop().
  [[nodiscard]] bool post(std::function<void()> task);
  /// Runs what was posted, then ends the threads.
  void stop();

 private:
  void run();
  const size_t tasks_max_;
  std::mutex mutex_;
  std::condition_variable filled_;
  std::deque<std::function<void()>> tasks_;  // guarded by mutex_
  bool stopping_ = false;                    // guarded by mutex_
  std::vector<std::thread> threads_;
};

}  // namespace apogee::broker
