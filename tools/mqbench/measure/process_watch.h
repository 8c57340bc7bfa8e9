#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>

#include "apogee/result.h"

namespace mqbench {

/// What /proc tells of a process at one moment; threads that have ended are in it.
struct ProcessState {
  double user_seconds = 0;
  double system_seconds = 0;
  double resident_mib = 0;
  double anonymous_mib = 0;
  int64_t voluntary_switches = 0;    ///< of all threads that live
  int64_t involuntary_switches = 0;  ///< of all threads that live
  int64_t minor_faults = 0;
  int64_t major_faults = 0;
};

/// Reads /proc/PID. Processor time comes in ticks of 10 ms. Error: kNotFound, when there is no such process or it may
/// not be read.
[[nodiscard]] apogee::Result<ProcessState> read_process(pid_t pid);
[[nodiscard]] std::string process_name(pid_t pid);

/// A process before the connections were opened, and before and after the window.
struct WatchedProcess {
  pid_t pid = 0;
  std::string name;
  ProcessState first, before, after;
};

}  // namespace mqbench
