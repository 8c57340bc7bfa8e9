#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>

struct uv_loop_s;

namespace mqbench {

class Link;

/// A libuv loop with what the links on it share. Everything but stop(), post() and the thread's start is for the
/// loop's own thread.
class Worker {
 public:
  Worker();
  ~Worker();  ///< stops and joins
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  void start(const char* thread_name);  ///< runs in a thread of its own
  void run();                           ///< runs here, until stop()
  void stop();                          ///< thread: any
  void stop_and_join();
  void post(std::function<void()> task);  ///< thread: any

  /// Calls the task once at that moment of the steady clock (ns), to some microseconds. A worker has one alarm for each
  /// slot; a new moment replaces the old one.
  class Alarm {
   public:
    Alarm(Worker& worker, std::function<void()> task);
    ~Alarm();
    Alarm(const Alarm&) = delete;
    Alarm& operator=(const Alarm&) = delete;
    void set(int64_t at_ns);
    void cancel();

   private:
    struct State;
    State* state_;
  };

  // For links.
  [[nodiscard]] uv_loop_s* raw();
  void flush_later(Link& link);  ///< written before the loop waits again
  void forget(Link& link);
  static constexpr size_t kReadBytes = 256 * 1024;
  [[nodiscard]] char* read_buffer();
  /// Wall-clock milliseconds as 13 digits, as of this turn.
  [[nodiscard]] const char* wall_digits(int64_t now);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
  std::thread thread_;
};

}  // namespace mqbench
