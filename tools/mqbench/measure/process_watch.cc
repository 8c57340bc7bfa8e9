#include "tools/mqbench/measure/process_watch.h"

#include <fmt/core.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>

namespace mqbench {

namespace fs = std::filesystem;

namespace {

std::string read_all(const std::string& path) {
  std::ifstream in(path);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

/// "Name:   123 kB" -> 123; 0 when there is no such line.
int64_t field(const std::string& text, const std::string& name) {
  size_t at = text.rfind(name + ":", 0) == 0 ? 0 : text.find("\n" + name + ":");
  if (at == std::string::npos) return 0;
  at = text.find(':', at) + 1;
  return std::strtoll(text.c_str() + at, nullptr, 10);
}

}  // namespace

std::string process_name(pid_t pid) {
  auto name = read_all(fmt::format("/proc/{}/comm", pid));
  while (!name.empty() && name.back() == '\n') name.pop_back();
  return name;
}

apogee::Result<ProcessState> read_process(pid_t pid) {
  const auto root = fmt::format("/proc/{}/", pid);
  const auto stat = read_all(root + "stat");
  const auto name_end = stat.rfind(')');
  if (name_end == std::string::npos)
    return apogee::Error{apogee::Errc::kNotFound, fmt::format("there is no process {} to be read", pid)};
  ProcessState state;
  // Behind the name: state ppid pgrp session tty tpgid flags minflt cminflt majflt cmajflt utime stime ...
  std::istringstream fields(stat.substr(name_end + 2));
  std::string skipped;
  for (int i = 0; i < 7; ++i) fields >> skipped;
  int64_t user_ticks = 0, system_ticks = 0;
  fields >> state.minor_faults >> skipped >> state.major_faults >> skipped >> user_ticks >> system_ticks;
  const auto ticks = static_cast<double>(::sysconf(_SC_CLK_TCK));
  state.user_seconds = static_cast<double>(user_ticks) / ticks;
  state.system_seconds = static_cast<double>(system_ticks) / ticks;

  const auto status = read_all(root + "status");
  state.resident_mib = static_cast<double>(field(status, "VmRSS")) / 1'024;
  state.anonymous_mib = static_cast<double>(field(status, "RssAnon")) / 1'024;
  if (state.anonymous_mib == 0)
    state.anonymous_mib = static_cast<double>(field(read_all(root + "smaps_rollup"), "Anonymous")) / 1'024;

  std::error_code failed;
  for (const auto& thread : fs::directory_iterator(root + "task", failed)) {
    const auto text = read_all(thread.path().string() + "/status");
    state.voluntary_switches += field(text, "voluntary_ctxt_switches");
    state.involuntary_switches += field(text, "nonvoluntary_ctxt_switches");
  }
  return state;
}

}  // namespace mqbench
