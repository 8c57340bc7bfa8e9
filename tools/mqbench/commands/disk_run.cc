#include "tools/mqbench/commands/disk_run.h"

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <utility>

namespace mqbench {

namespace {

/// Whether SIGINT or SIGTERM has come, which measure_alone() holds back.
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

}  // namespace

void add_disk_options(const tools::CommandOptions& command, DiskOptions& options, const std::string& what_a_size_is,
                      const std::string& what_the_file_is) {
  command.add_option("--dir", options.directory,
                     "where the file is made and removed (default: the system's for temporary files)");
  command.add_option("--sizes", options.sizes, what_a_size_is + "; each is measured by itself")
      .comma_separated()
      .bytes()
      .range(int64_t{1}, int64_t{64} << 20)
      .show_default();
  command.add_option("--file-size", options.file_bytes, what_the_file_is)
      .bytes()
      .range(int64_t{4'096}, int64_t{64} << 30)
      .show_default();
  add_run_options(command, options.run);
}

LoadResult repeat_alone(const std::string& command, int64_t bytes, int at_once, const RunOptions& options,
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
  result.name =
      bytes % 1'024 == 0 ? fmt::format("{}_{}k", command, bytes / 1'024) : fmt::format("{}_{}", command, bytes);
  result.recorded = recorder.take();
  result.seconds = std::max(1e-9, static_cast<double>(std::min(now, window.end) - window.begin) / 1e9);
  return result;
}

int measure_alone(const DiskOptions& options, const std::string& command, const std::string& title,
                  const std::function<LoadResult(int64_t bytes, const std::filesystem::path& file,
                                                 const std::function<void()>& begin)>& measure) {
  namespace fs = std::filesystem;
  const fs::path directory = options.directory.empty() ? fs::temp_directory_path() : fs::path(options.directory);
  fs::create_directories(directory);
  const fs::path file = directory / fmt::format("mqbench-{}-{}", command, ::getpid());
  pin_to_cpus(options.run.cpus);
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  RunResult result;
  result.title = fmt::format("{}, in {}", title, directory.string());
  result.generator.pid = ::getpid();
  result.generator.name = "mqbench";
  for (const int64_t bytes : options.sizes) {
    auto before = read_process(::getpid());
    result.loads.push_back(measure(bytes, file, [&before] { before = read_process(::getpid()); }));
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
  return finish_report(options.run, std::move(result), command, "");
}

}  // namespace mqbench
