#pragma once

#include <cstdint>
#include <string>

#include "common/base/logger.h"

namespace apogee {

/// Every connection and every file of the store costs a descriptor: takes as many as the system allows
/// (RLIMIT_NOFILE), and logs a warning when that is fewer than `enough`.
void raise_descriptor_limit(uint64_t enough, const Logger& logger);

/// Where all programs keep their logs unless logDir says otherwise: $HOME/logs/apogeemq; without HOME, below the
/// current directory.
[[nodiscard]] std::string default_log_dir();

/// What LogFile takes: the file of that name in `log_dir`; an empty directory means no file.
[[nodiscard]] std::string log_path(const std::string& log_dir, const std::string& name);

}  // namespace apogee
