#pragma once

#include <cstdint>
#include <string>

#include "common/base/logger.h"

namespace apogee {

/// Every connection and every file of the store costs a descriptor: takes as many as the system allows
/// (RLIMIT_NOFILE), and logs a warning when that is fewer than `enough`.
void raise_descriptor_limit(uint64_t enough, const Logger& logger);

/// Large buffers of a server (tables of the index, what a compaction reads, long messages) go back to the system when
/// they are freed. glibc's own rule keeps them, for each thread that has had some, once one of that size was freed. To
/// be called before threads are started.
void return_large_buffers();

/// Where all programs keep their logs unless logDir says otherwise: $HOME/logs/apogeemq; without HOME, below the
/// current directory.
[[nodiscard]] std::string default_log_dir();

/// What LogFile takes: the file of that name in `log_dir`; an empty directory means no file.
[[nodiscard]] std::string log_path(const std::string& log_dir, const std::string& name);

}  // namespace apogee
