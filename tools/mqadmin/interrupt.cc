#include "tools/mqadmin/interrupt.h"

#include <ctime>

namespace mqadmin {

Interrupt::Interrupt() {
  sigemptyset(&signals_);
  sigaddset(&signals_, SIGINT);
  sigaddset(&signals_, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals_, &before_);
}

Interrupt::~Interrupt() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

bool Interrupt::came(std::chrono::milliseconds wait) {
  if (came_) return true;
  auto ms = wait.count();
  timespec limit{};
  limit.tv_sec = static_cast<time_t>(ms / 1000);
  limit.tv_nsec = static_cast<long>(ms % 1000 * 1'000'000);
  came_ = sigtimedwait(&signals_, nullptr, &limit) > 0;
  return came_;
}

}  // namespace mqadmin
