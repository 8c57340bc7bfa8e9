#include "tools/mqbench/commands/disk_run.h"

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <utility>

#include "tools/mqbench/commands/options.h"

namespace mqbench {

bool interrupted() {
  sigset_t pending;
  sigpending(&pending);
  return sigismember(&pending, SIGINT) == 1 || sigismember(&pending, SIGTERM) == 1;
}

Window window_from_now(const RunOptions& options) {
  Window window;
  window.start = now_ns();
  window.begin = window.start + static_cast<int64_t>(options.warmup * 1e9);
  window.end = window.begin + static_cast<int64_t>(options.seconds * 1e9);
  return window;
}

LoadResult repeat_alone(const std::string& name, int64_t bytes, int at_once, const RunOptions& options,
                        const std::function<void()>& once) {
  const Window window = window_from_now(options);
  Recorder recorder;
  recorder.open(window);
  int64_t now = now_ns();
  while (now < window.end && !interrupted()) {
    const int64_t begun = now;
    for (int i = 0; i < at_once; ++i) once();
    now = now_ns();
    recorder.record(begun, now, static_cast<uint64_t>(at_once), static_cast<uint64_t>(bytes * at_once));
  }
  LoadResult result;
  result.name = name;
  result.recorded = recorder.take();
  result.seconds = std::max(1e-9, static_cast<double>(std::min(now, window.end) - window.begin) / 1e9);
  return result;
}

int measure_alone(const RunOptions& options, const std::string& command, const std::string& title,
                  const std::vector<int64_t>& sizes,
                  const std::function<LoadResult(int64_t bytes, const std::function<void()>& begin)>& measure) {
  pin_to_cpus(options.cpus);
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  RunResult result;
  result.title = title;
  result.generator.pid = ::getpid();
  result.generator.name = "mqbench";
  for (const int64_t bytes : sizes) {
    auto before = read_process(::getpid());
    result.loads.push_back(measure(bytes, [&before] { before = read_process(::getpid()); }));
    result.seconds += result.loads.back().seconds;
    const auto after = read_process(::getpid());
    if (!before || !after) continue;
    result.generator.after.user_seconds += after->user_seconds - before->user_seconds;
    result.generator.after.system_seconds += after->system_seconds - before->system_seconds;
    result.generator.after.resident_mib = after->resident_mib;
    result.generator.after.anonymous_mib = after->anonymous_mib;
  }
  result.interrupted = interrupted();
  result.started_at = utc_now();
  return finish_report(options, std::move(result), command, "");
}

std::string name_of_size(const std::string& what, int64_t bytes) {
  return bytes % 1'024 == 0 ? fmt::format("{}_{}k", what, bytes / 1'024) : fmt::format("{}_{}", what, bytes);
}

}  // namespace mqbench
