#pragma once

#include <functional>

#include "common/loop/event_loop.h"

namespace apogee::loop {

/// Runs the task on the loop and waits for it; at once when this is the loop's thread, or when the loop has ended.
void run_on(EventLoop& loop, const std::function<void()>& task);

}  // namespace apogee::loop
