#include "client/src/listener_pool.h"

#include <pthread.h>

#include <utility>

namespace apogee {

ListenerPool::~ListenerPool() {
  {
    std::lock_guard lock(mutex_);
    stopped_ = true;
    tasks_.clear();
  }
  work_.notify_all();
  for (auto& thread : threads_) thread.join();
}

void ListenerPool::start(int threads) {
  std::lock_guard lock(mutex_);
  for (int i = 0; i < threads; ++i) {
    threads_.emplace_back([this] { run(); });
    pthread_setname_np(threads_.back().native_handle(), "apogee-listen");
  }
}

bool ListenerPool::submit(Task task) {
  {
    std::lock_guard lock(mutex_);
    if (stopped_) return false;
    tasks_.push_back(std::move(task));
  }
  work_.notify_one();
  return true;
}

void ListenerPool::set_paused(bool paused) {
  {
    std::lock_guard lock(mutex_);
    paused_ = paused;
  }
  work_.notify_all();
}

bool ListenerPool::stop(std::chrono::milliseconds timeout) {
  std::deque<Task> dropped;  // destroyed without the lock
  std::unique_lock lock(mutex_);
  stopped_ = true;
  dropped.swap(tasks_);
  work_.notify_all();
  return idle_.wait_for(lock, timeout, [this] { return running_ == 0; });
}

bool ListenerPool::on_pool_thread() const {
  std::lock_guard lock(mutex_);
  for (const auto& thread : threads_) {
    if (thread.get_id() == std::this_thread::get_id()) return true;
  }
  return false;
}

size_t ListenerPool::waiting() const {
  std::lock_guard lock(mutex_);
  return tasks_.size();
}

void ListenerPool::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    work_.wait(lock, [this] { return stopped_ || (!paused_ && !tasks_.empty()); });
    if (stopped_) return;
    Task task = std::move(tasks_.front());
    tasks_.pop_front();
    ++running_;
    lock.unlock();
    task();
    task = nullptr;
    lock.lock();
    if (--running_ == 0) idle_.notify_all();
  }
}

}  // namespace apogee
