#pragma once

#include <csignal>

#include "common/base/log_file.h"
#include "common/base/logger.h"

namespace apogee {

/// The signals that end a server. Made before any thread is: threads that start later inherit the mask, so that the
/// signals come to wait() only.
class StopSignals {
 public:
  StopSignals();  ///< blocks SIGTERM, SIGINT and SIGHUP; ignores SIGPIPE
  /// Returns at SIGTERM or SIGINT. SIGHUP opens the log file again.
  void wait(LogFile& log, const Logger& logger) const;

 private:
  sigset_t set_{};
};

}  // namespace apogee
