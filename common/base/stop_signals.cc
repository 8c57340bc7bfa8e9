#include "common/base/stop_signals.h"

#include <pthread.h>

namespace apogee {

StopSignals::StopSignals() {
  sigemptyset(&set_);
  for (int number : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&set_, number);
  pthread_sigmask(SIG_BLOCK, &set_, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
}

void StopSignals::wait(LogFile& log, const Logger& logger) const {
  for (int number = 0; sigwait(&set_, &number) == 0;) {
    if (number != SIGHUP) {
      logger.info("stopping: signal {}", number);
      return;
    }
    if (auto status = log.reopen(); !status) logger.error("{}", status.error().message);
  }
}

}  // namespace apogee
