#include "common/loop/event_loop.h"

#include <pthread.h>
#include <signal.h>
#include <uv.h>

#include <atomic>
#include <mutex>
#include <unordered_map>
#include <utility>
#include <vector>

#include "common/base/check.h"

namespace apogee::loop {

namespace {

/// A uv timer that lives until its close callback.
struct Timer {
  uv_timer_t handle{};
  EventLoop::TimerId id = 0;
  bool repeats = false;
  Task task;
  std::unordered_map<EventLoop::TimerId, Timer*>* timers = nullptr;
};

void close_timer(Timer* timer) {
  uv_close(reinterpret_cast<uv_handle_t*>(&timer->handle),
           [](uv_handle_t* handle) { delete static_cast<Timer*>(handle->data); });
}

void on_timer(uv_timer_t* handle) {
  auto* timer = static_cast<Timer*>(handle->data);
  if (timer->repeats) {
    // The task may cancel its own timer: then the object goes with the close callback, after this call.
    Task task = timer->task;
    task();
    return;
  }
  Task task = std::move(timer->task);
  timer->timers->erase(timer->id);
  close_timer(timer);
  task();
}

}  // namespace

struct EventLoop::Impl {
  uv_loop_t loop{};
  uv_async_t wake{};
  std::atomic<std::thread::id> thread{};
  std::mutex mutex;
  std::vector<Task> queue;  // guarded by mutex
  bool ended = false;       // guarded by mutex
  bool stop_asked = false;  // guarded by mutex
  std::unordered_map<TimerId, Timer*> timers;
  TimerId next_timer = 1;

  /// Runs what was posted so far; true when the loop is to stop.
  bool run_posted() {
    std::vector<Task> tasks;
    bool stop = false;
    {
      std::lock_guard lock(mutex);
      tasks.swap(queue);
      stop = stop_asked;
    }
    for (auto& task : tasks) {
      task();
      task = nullptr;  // what it owned goes here, in order
    }
    return stop;
  }
};

EventLoop::EventLoop() : impl_(std::make_unique<Impl>()) {
  APOGEE_CHECK(uv_loop_init(&impl_->loop) == 0);
  impl_->wake.data = impl_.get();
  APOGEE_CHECK(uv_async_init(&impl_->loop, &impl_->wake, [](uv_async_t* handle) {
                 auto* impl = static_cast<Impl*>(handle->data);
                 if (impl->run_posted()) uv_stop(&impl->loop);
               }) == 0);
}

EventLoop::~EventLoop() {
  // A loop that never ran may hold tasks and handles.
  {
    std::lock_guard lock(impl_->mutex);
    impl_->ended = true;
    impl_->queue.clear();
  }
  for (auto& [id, timer] : impl_->timers) close_timer(timer);
  impl_->timers.clear();
  if (!uv_is_closing(reinterpret_cast<uv_handle_t*>(&impl_->wake))) {
    uv_close(reinterpret_cast<uv_handle_t*>(&impl_->wake), nullptr);
  }
  uv_run(&impl_->loop, UV_RUN_DEFAULT);
  APOGEE_CHECK(uv_loop_close(&impl_->loop) == 0);
}

void EventLoop::run() {
  impl_->thread.store(std::this_thread::get_id());
  uv_run(&impl_->loop, UV_RUN_DEFAULT);
  // Tasks that arrived between the stop and here still run; then nobody may post any more.
  for (bool more = true; more;) {
    impl_->run_posted();
    std::lock_guard lock(impl_->mutex);
    more = !impl_->queue.empty();
    if (!more) impl_->ended = true;
  }
  // Close callbacks of handles closed by those tasks run here; whatever else is open is closed by its owner
  // or, timers, by the destructor.
  uv_run(&impl_->loop, UV_RUN_NOWAIT);
  uv_run(&impl_->loop, UV_RUN_NOWAIT);
  impl_->thread.store(std::thread::id{});
}

void EventLoop::stop() {
  std::lock_guard lock(impl_->mutex);
  if (impl_->ended) return;
  impl_->stop_asked = true;
  uv_async_send(&impl_->wake);
}

bool EventLoop::post(Task task) {
  std::lock_guard lock(impl_->mutex);
  if (impl_->ended) return false;
  impl_->queue.push_back(std::move(task));
  // uv_async_send coalesces: the one wake-up takes the whole queue.
  if (impl_->queue.size() == 1) uv_async_send(&impl_->wake);
  return true;
}

bool EventLoop::on_loop_thread() const { return impl_->thread.load() == std::this_thread::get_id(); }

void EventLoop::check_on_loop() const { APOGEE_CHECK(on_loop_thread() || impl_->thread.load() == std::thread::id{}); }

EventLoop::TimerId EventLoop::run_after(Milliseconds delay, Task task) {
  check_on_loop();
  auto* timer = new Timer;
  timer->id = impl_->next_timer++;
  timer->task = std::move(task);
  timer->timers = &impl_->timers;
  timer->handle.data = timer;
  uv_timer_init(&impl_->loop, &timer->handle);
  uv_update_time(&impl_->loop);
  uv_timer_start(&timer->handle, on_timer, static_cast<uint64_t>(delay.count() < 0 ? 0 : delay.count()), 0);
  impl_->timers.emplace(timer->id, timer);
  return timer->id;
}

EventLoop::TimerId EventLoop::run_every(Milliseconds interval, Task task) {
  TimerId id = run_after(interval, std::move(task));
  Timer* timer = impl_->timers.at(id);
  timer->repeats = true;
  uv_timer_set_repeat(&timer->handle, static_cast<uint64_t>(interval.count() < 1 ? 1 : interval.count()));
  return id;
}

void EventLoop::cancel(TimerId timer) {
  check_on_loop();
  auto found = impl_->timers.find(timer);
  if (found == impl_->timers.end()) return;
  close_timer(found->second);
  impl_->timers.erase(found);
}

uv_loop_s* EventLoop::raw() { return &impl_->loop; }

LoopThread::LoopThread(const char* name)
    : thread_([this, thread_name = std::string(name).substr(0, 15)] {
        pthread_setname_np(pthread_self(), thread_name.c_str());
        // libuv writes without MSG_NOSIGNAL, and a peer that resets must not end an application of the SDK.
        sigset_t broken_pipe;
        sigemptyset(&broken_pipe);
        sigaddset(&broken_pipe, SIGPIPE);
        pthread_sigmask(SIG_BLOCK, &broken_pipe, nullptr);
        loop_.run();
      }) {}

LoopThread::~LoopThread() { stop_and_join(); }

void LoopThread::stop_and_join() {
  loop_.stop();
  if (thread_.joinable()) thread_.join();
}

}  // namespace apogee::loop
