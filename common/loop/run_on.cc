#include "common/loop/run_on.h"

#include <future>

namespace apogee::loop {

void run_on(EventLoop& loop, const std::function<void()>& task) {
  if (loop.on_loop_thread()) return task();
  std::promise<void> ran;
  auto done = ran.get_future();
  if (loop.post([&] {
        task();
        ran.set_value();
      })) {
    done.wait();
  } else {
    task();
  }
}

}  // namespace apogee::loop
