#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <thread>

struct uv_loop_s;

namespace apogee::loop {

class LoopBuffers;

using Task = std::function<void()>;
using Milliseconds = std::chrono::milliseconds;

/// What is done once at the end of a turn of a loop, when all that had arrived has been looked at: a wake-up of another
/// thread, for instance, that many requests of the turn ask for.
class TurnWork {
 public:
  virtual ~TurnWork() = default;
  virtual void turn_ends() = 0;
};

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
  /// Runs the task on the loop, in the order of posting; what the loop itself posts at the end of its turn, in front
  /// of the writes. After the loop has ended the task is dropped (false). Thread: any.
  bool post(Task task);

  [[nodiscard]] bool on_loop_thread() const;
  void check_on_loop() const;

  /// The loop that this thread runs; nullptr: none.
  [[nodiscard]] static EventLoop* current();
  /// Has the work done once before the loop waits again, in front of what TcpConnection writes then; asking for it
  /// again in the same turn changes nothing. Thread: the loop's.
  void at_turn_end(const std::shared_ptr<TurnWork>& work);
  /// The way in for those who may outlive the loop.
  class Mailbox {
   public:
    virtual ~Mailbox() = default;
    /// As EventLoop::post().
    virtual bool post(Task task) = 0;
  };
  [[nodiscard]] const std::shared_ptr<Mailbox>& mailbox() const;

  /// Timers. Thread: the loop's. Cancelling an unknown or finished timer does nothing.
  using TimerId = uint64_t;
  TimerId run_after(Milliseconds delay, Task task);
  TimerId run_every(Milliseconds interval, Task task);
  void cancel(TimerId timer);

  /// Thread: the loop's.
  [[nodiscard]] LoopBuffers& buffers();
  /// ms of a clock that only goes forward, as of the beginning of this turn. Thread: the loop's.
  [[nodiscard]] int64_t turn_time_ms() const;

  /// For the files of common/loop only.
  [[nodiscard]] uv_loop_s* raw();
  /// As at_turn_end(), behind it, for what belongs to the loop: owner of `work` forgets it before it goes.
  void write_at_turn_end(TurnWork* work);
  void forget_write(TurnWork* work);

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
