#include "common/base/process.h"

#include <malloc.h>
#include <sys/resource.h>

#include <cstdlib>

namespace apogee {

void raise_descriptor_limit(uint64_t enough, const Logger& logger) {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  if (limit.rlim_cur < limit.rlim_max) {
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0) logger.warn("cannot raise the limit of open files");
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  }
  if (limit.rlim_cur < enough)
    logger.warn("only {} files and connections may be open (RLIMIT_NOFILE); raise it to {} for a busy server",
                limit.rlim_cur, enough);
}

void return_large_buffers() {
  // Set at all, neither grows any more with what is freed.
  ::mallopt(M_MMAP_THRESHOLD, 1 << 20);
  ::mallopt(M_TRIM_THRESHOLD, 2 << 20);
}

std::string default_log_dir() {
  const char* home = std::getenv("HOME");
  return (home != nullptr && *home != '\0' ? std::string(home) : std::string(".")) + "/logs/apogeemq";
}

std::string log_path(const std::string& log_dir, const std::string& name) {
  return log_dir.empty() ? std::string() : log_dir + "/" + name;
}

}  // namespace apogee
