#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <thread>

struct uv_loop_s;

namespace apogee::loop {

using Task = std::function<void()>;
using Milliseconds = std::chrono::milliseconds;

/// A libuv loop, run by one thread. post() is the one way in from other threads; everything else is
/// called on the loop's own thread and checks that, in release builds too.
class EventLoop {
 public:
  EventLoop();
  ~EventLoop();  ///< not while it runs
  EventLoop(const EventLoop&) = delete;
  EventLoop& operator=(const EventLoop&) = delete;

  /// Runs until stop(). Tasks posted before the stop are run first; handles still open are closed.
  void run();
  /// Thread: any.
  void stop();
  /// Runs the task on the loop, in the order of posting. After the loop has ended the task is dropped
  /// (false). Thread: any.
  bool post(Task task);

  [[nodiscard]] bool on_loop_thread() const;
  void check_on_loop() const;

  /// Timers. Thread: the loop's. Cancelling an unknown or finished timer does nothing.
  using TimerId = uint64_t;
  TimerId run_after(Milliseconds delay, Task task);
  TimerId run_every(Milliseconds interval, Task task);
  void cancel(TimerId timer);

  /// For the files of common/loop only.
  [[nodiscard]] uv_loop_s* raw();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// An EventLoop with the thread that runs it; stops and joins in its destructor. The thread blocks SIGPIPE.
class LoopThread {
 public:
  /// name: at most 15 characters, shown by top -H.
  explicit LoopThread(const char* name);
  ~LoopThread();
  [[nodiscard]] EventLoop& loop() { return loop_; }
  void stop_and_join();

 private:
  EventLoop loop_;
  std::thread thread_;
};

}  // namespace apogee::loop
