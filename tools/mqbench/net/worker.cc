#include "tools/mqbench/net/worker.h"

#include <pthread.h>
#include <sys/timerfd.h>
#include <unistd.h>
#include <uv.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <mutex>
#include <stdexcept>
#include <vector>

#include "tools/mqbench/net/link.h"
#include "tools/mqbench/wire/frame_builder.h"

namespace mqbench {

struct Worker::Impl {
  uv_loop_t loop{};
  uv_async_t wake{};
  uv_prepare_t before_wait{};
  std::mutex mutex;
  std::vector<std::function<void()>> posted;  // guarded by mutex
  std::atomic<bool> stopped{false};
  std::vector<Link*> dirty, flushing;
  std::unique_ptr<char[]> buffer{new char[kReadBytes]};
  int64_t wall_until = 0;
  char wall[13] = {};

  void flush() {
    flushing.swap(dirty);
    // A link may forget itself while others are flushed: it is null then.
    for (auto& link : flushing)
      if (link != nullptr) link->flush_now();
    flushing.clear();
  }
  void run_posted() {
    std::vector<std::function<void()>> tasks;
    {
      std::lock_guard lock(mutex);
      tasks.swap(posted);
    }
    for (auto& task : tasks) task();
    if (stopped.load()) uv_stop(&loop);
  }
};

Worker::Worker() : impl_(std::make_unique<Impl>()) {
  if (uv_loop_init(&impl_->loop) != 0) throw std::runtime_error("no event loop");
  impl_->wake.data = impl_->before_wait.data = impl_.get();
  uv_async_init(&impl_->loop, &impl_->wake, [](uv_async_t* handle) { static_cast<Impl*>(handle->data)->run_posted(); });
  uv_prepare_init(&impl_->loop, &impl_->before_wait);
  uv_prepare_start(&impl_->before_wait, [](uv_prepare_t* handle) { static_cast<Impl*>(handle->data)->flush(); });
}

Worker::~Worker() {
  stop_and_join();
  uv_close(reinterpret_cast<uv_handle_t*>(&impl_->wake), nullptr);
  uv_close(reinterpret_cast<uv_handle_t*>(&impl_->before_wait), nullptr);
  uv_run(&impl_->loop, UV_RUN_DEFAULT);
  uv_loop_close(&impl_->loop);
}

void Worker::start(const char* thread_name) {
  thread_ = std::thread([this, name = std::string(thread_name)] {
    pthread_setname_np(pthread_self(), name.c_str());
    run();
  });
}

void Worker::run() { uv_run(&impl_->loop, UV_RUN_DEFAULT); }

void Worker::stop() {
  impl_->stopped.store(true);
  uv_async_send(&impl_->wake);
}

void Worker::stop_and_join() {
  if (!thread_.joinable()) return;
  stop();
  thread_.join();
}

void Worker::post(std::function<void()> task) {
  {
    std::lock_guard lock(impl_->mutex);
    impl_->posted.push_back(std::move(task));
  }
  uv_async_send(&impl_->wake);
}

uv_loop_s* Worker::raw() { return &impl_->loop; }
void Worker::flush_later(Link& link) { impl_->dirty.push_back(&link); }
char* Worker::read_buffer() { return impl_->buffer.get(); }

void Worker::forget(Link& link) {
  std::replace(impl_->dirty.begin(), impl_->dirty.end(), &link, static_cast<Link*>(nullptr));
  std::replace(impl_->flushing.begin(), impl_->flushing.end(), &link, static_cast<Link*>(nullptr));
}

const char* Worker::wall_digits(int64_t now) {
  if (now >= impl_->wall_until) {
    const auto wall =
        std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch())
            .count();
    write_digits(impl_->wall, static_cast<uint64_t>(wall), 13);
    impl_->wall_until = now + 1'000'000;
  }
  return impl_->wall;
}

struct Worker::Alarm::State {
  uv_poll_t poll{};
  int descriptor = -1;
  std::function<void()> task;
};

Worker::Alarm::Alarm(Worker& worker, std::function<void()> task) : state_(new State) {
  state_->task = std::move(task);
  state_->descriptor = ::timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
  if (state_->descriptor < 0) throw std::runtime_error("no timer: timerfd_create failed");
  uv_poll_init(worker.raw(), &state_->poll, state_->descriptor);
  state_->poll.data = state_;
  uv_poll_start(&state_->poll, UV_READABLE, [](uv_poll_t* handle, int, int) {
    auto* state = static_cast<State*>(handle->data);
    uint64_t times = 0;
    if (::read(state->descriptor, &times, sizeof times) == sizeof times) state->task();
  });
}

Worker::Alarm::~Alarm() {
  uv_close(reinterpret_cast<uv_handle_t*>(&state_->poll), [](uv_handle_t* handle) {
    auto* state = static_cast<State*>(handle->data);
    ::close(state->descriptor);
    delete state;
  });
}

void Worker::Alarm::set(int64_t at_ns) {
  itimerspec when{};
  at_ns = std::max<int64_t>(at_ns, 1);
  when.it_value.tv_sec = at_ns / 1'000'000'000;
  when.it_value.tv_nsec = at_ns % 1'000'000'000;
  ::timerfd_settime(state_->descriptor, TFD_TIMER_ABSTIME, &when, nullptr);
}

void Worker::Alarm::cancel() {
  const itimerspec none{};
  ::timerfd_settime(state_->descriptor, 0, &none, nullptr);
}

}  // namespace mqbench
