#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace apogee {

/// Threads that run listeners, in the order of submission. Thread: any.
class ListenerPool {
 public:
  using Task = std::function<void()>;

  ListenerPool() = default;
  ~ListenerPool();  ///< drops what waits, joins
  ListenerPool(const ListenerPool&) = delete;
  ListenerPool& operator=(const ListenerPool&) = delete;

  void start(int threads);
  /// false after stop(): the task is dropped.
  bool submit(Task task);
  /// Tasks wait while paused; those that run go on.
  void set_paused(bool paused);
  /// Drops the tasks that wait, and waits for those that run. False when they have not ended in time.
  bool stop(std::chrono::milliseconds timeout);
  [[nodiscard]] bool on_pool_thread() const;
  [[nodiscard]] size_t waiting() const;

 private:
  void run();
  mutable std::mutex mutex_;
  std::condition_variable work_;
  std::condition_variable idle_;
  std::deque<Task> tasks_;            // guarded by mutex_, as all below
  std::vector<std::thread> threads_;  // written by start() only
  size_t running_ = 0;
  bool paused_ = false;
  bool stopped_ = false;
};

}  // namespace apogee
