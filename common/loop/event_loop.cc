#include "common/loop/event_loop.h"

#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <uv.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <unordered_map>
#include <utility>
#include <vector>

#include "common/base/check.h"
#include "common/loop/loop_buffers.h"

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

thread_local EventLoop* this_threads_loop = nullptr;

/// What is posted to the loop. Wakes it by an eventfd of its own: on one processor the thread that uv_async_send()
/// wakes spins for the one that it has just taken the processor from.
struct Inbox final : EventLoop::Mailbox {
  const int wakes = ::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  std::mutex mutex;
  std::vector<Task> queue;  // guarded by mutex
  bool woken = false;       // guarded by mutex: the loop looks into the queue without waiting before
  bool ended = false;       // guarded by mutex
  bool stop_asked = false;  // guarded by mutex
  // The loop's thread's:
  bool turn_ends = true;  // the end of this turn is to come, and looks into the queue
  bool for_turn = false;  // this turn has posted something

  Inbox() { APOGEE_CHECK(wakes >= 0); }
  ~Inbox() override { ::close(wakes); }
  Inbox(const Inbox&) = delete;
  Inbox& operator=(const Inbox&) = delete;

  bool post(Task task) override;
  /// Without the mutex, which the loop takes as soon as it is awake. Thread: any.
  void wake() const { (void)::eventfd_write(wakes, 1); }
  void woken_up() const {
    eventfd_t times = 0;
    (void)::eventfd_read(wakes, &times);
  }
};

/// That of the loop that this thread runs; nullptr: none.
thread_local Inbox* this_threads_inbox = nullptr;

bool Inbox::post(Task task) {
  {
    std::lock_guard lock(mutex);
    if (ended) return false;
    queue.push_back(std::move(task));
    if (this == this_threads_inbox && turn_ends) {
      for_turn = true;
      return true;
    }
    if (std::exchange(woken, true)) return true;  // one wake-up takes the whole queue
  }
  wake();
  return true;
}

}  // namespace

struct EventLoop::Impl {
  uv_loop_t loop{};
  uv_prepare_t turn_end{};
  uv_poll_t wakes{};
  std::shared_ptr<Inbox> inbox = std::make_shared<Inbox>();
  std::shared_ptr<Mailbox> mailbox = inbox;
  std::atomic<std::thread::id> thread{};
  std::vector<Task> running;  // the tasks of run_posted(); kept for its room
  std::vector<std::shared_ptr<TurnWork>> turn_works, done_works;
  std::vector<TurnWork*> writes;
  LoopBuffers buffers;
  std::unordered_map<TimerId, Timer*> timers;
  TimerId next_timer = 1;

  /// Runs what was posted so far; true when the loop is to stop.
  bool run_posted() {
    auto tasks = std::move(running);
    bool stop = false;
    {
      std::lock_guard lock(inbox->mutex);
      tasks.swap(inbox->queue);
      inbox->woken = false;
      stop = inbox->stop_asked;
    }
    for (auto& task : tasks) {
      task();
      task = nullptr;  // what it owned goes here, in order
    }
    tasks.clear();
    running = std::move(tasks);
    return stop;
  }

  /// Also does what the work itself asks for. What the turn has posted runs here, without a wake-up; what that posts
  /// waits for the next turn, so that the sockets have theirs in between.
  void end_turn() {
    const auto work_off = [this] {
      done_works.swap(turn_works);
      for (auto& work : done_works) work->turn_ends();
      done_works.clear();
    };
    work_off();
    inbox->turn_ends = false;
    if (std::exchange(inbox->for_turn, false)) (void)run_posted();  // who stops the loop wakes it too
    while (!turn_works.empty() || !writes.empty()) {
      work_off();
      for (size_t i = 0; i < writes.size(); ++i)  // a write may close its connection, or have others written
        if (auto* write = std::exchange(writes[i], nullptr)) write->turn_ends();
      writes.clear();
    }
    inbox->turn_ends = true;
  }
};

EventLoop::EventLoop() : impl_(std::make_unique<Impl>()) {
  APOGEE_CHECK(uv_loop_init(&impl_->loop) == 0);
  impl_->wakes.data = impl_.get();
  APOGEE_CHECK(uv_poll_init(&impl_->loop, &impl_->wakes, impl_->inbox->wakes) == 0);
  APOGEE_CHECK(uv_poll_start(&impl_->wakes, UV_READABLE, [](uv_poll_t* handle, int /*status*/, int /*events*/) {
                 auto* impl = static_cast<Impl*>(handle->data);
                 impl->inbox->woken_up();
                 if (impl->run_posted()) uv_stop(&impl->loop);
               }) == 0);
  // The loop waits behind its prepare handles.
  impl_->turn_end.data = impl_.get();
  APOGEE_CHECK(uv_prepare_init(&impl_->loop, &impl_->turn_end) == 0);
  uv_prepare_start(&impl_->turn_end, [](uv_prepare_t* handle) { static_cast<Impl*>(handle->data)->end_turn(); });
  uv_unref(reinterpret_cast<uv_handle_t*>(&impl_->turn_end));
}

EventLoop::~EventLoop() {
  // A loop that never ran may hold tasks and handles.
  {
    std::lock_guard lock(impl_->inbox->mutex);
    impl_->inbox->ended = true;
    impl_->inbox->queue.clear();
  }
  for (auto& [id, timer] : impl_->timers) close_timer(timer);
  impl_->timers.clear();
  uv_close(reinterpret_cast<uv_handle_t*>(&impl_->wakes), nullptr);
  uv_close(reinterpret_cast<uv_handle_t*>(&impl_->turn_end), nullptr);
  uv_run(&impl_->loop, UV_RUN_DEFAULT);
  APOGEE_CHECK(uv_loop_close(&impl_->loop) == 0);
}

void EventLoop::run() {
  impl_->thread.store(std::this_thread::get_id());
  this_threads_loop = this;
  this_threads_inbox = impl_->inbox.get();
  uv_run(&impl_->loop, UV_RUN_DEFAULT);
  // Tasks that arrived between the stop and here still run; then nobody may post any more.
  for (bool more = true; more;) {
    impl_->run_posted();
    impl_->end_turn();
    std::lock_guard lock(impl_->inbox->mutex);
    more = !impl_->inbox->queue.empty();
    if (!more) impl_->inbox->ended = true;
  }
  // Close callbacks of handles closed by those tasks run here; whatever else is open is closed by its owner
  // or, timers, by the destructor.
  uv_run(&impl_->loop, UV_RUN_NOWAIT);
  uv_run(&impl_->loop, UV_RUN_NOWAIT);
  impl_->end_turn();
  this_threads_loop = nullptr;
  this_threads_inbox = nullptr;
  impl_->thread.store(std::thread::id{});
}

void EventLoop::stop() {
  const auto inbox = impl_->inbox;  // the loop may be gone when it is awake
  {
    std::lock_guard lock(inbox->mutex);
    if (inbox->ended) return;
    inbox->stop_asked = true;
  }
  inbox->wake();
}

bool EventLoop::post(Task task) {
  const auto inbox = impl_->inbox;  // as in stop()
  return inbox->post(std::move(task));
}

const std::shared_ptr<EventLoop::Mailbox>& EventLoop::mailbox() const { return impl_->mailbox; }

EventLoop* EventLoop::current() { return this_threads_loop; }

void EventLoop::at_turn_end(const std::shared_ptr<TurnWork>& work) {
  auto& works = impl_->turn_works;
  if (std::find(works.begin(), works.end(), work) == works.end()) works.push_back(work);
}

void EventLoop::write_at_turn_end(TurnWork* work) { impl_->writes.push_back(work); }

void EventLoop::forget_write(TurnWork* work) {
  auto& writes = impl_->writes;
  std::replace(writes.begin(), writes.end(), work, static_cast<TurnWork*>(nullptr));
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

LoopBuffers& EventLoop::buffers() { return impl_->buffers; }

int64_t EventLoop::turn_time_ms() const { return static_cast<int64_t>(uv_now(&impl_->loop)); }

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
