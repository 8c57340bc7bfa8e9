#include <fmt/core.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <csignal>
#include <filesystem>
#include <memory>
#include <stdexcept>

#include "tools/mqbench/commands/commands.h"
#include "tools/mqbench/commands/options.h"
#include "tools/mqbench/store/prepared_file.h"

namespace mqbench {

namespace fs = std::filesystem;

namespace {

constexpr int64_t kFileBytes = 1LL << 30;

struct Call {
  CLI::App* command = nullptr;
  RunOptions run;
  std::string directory;
  std::vector<int64_t> sizes = {1'024, 65'536};
  int64_t file_bytes = kFileBytes;
};

bool interrupted() {
  sigset_t pending;
  sigpending(&pending);
  return sigismember(&pending, SIGINT) == 1 || sigismember(&pending, SIGTERM) == 1;
}

std::string name_of(int64_t bytes) {
  return bytes % 1'024 == 0 ? fmt::format("fsync_{}k", bytes / 1'024) : fmt::format("fsync_{}", bytes);
}

/// Appends and waits for the disk, one after the other, for the window; round and round in the file.
LoadResult append_and_sync(const PreparedFile& file, int64_t bytes, const RunOptions& options, double& seconds) {
  const std::string piece(static_cast<size_t>(bytes), 'f');
  Window window;
  window.start = now_ns();
  window.begin = window.start + static_cast<int64_t>(options.warmup * 1e9);
  window.end = window.begin + static_cast<int64_t>(options.seconds * 1e9);
  Recorder recorder;
  recorder.open(window);
  int64_t now = now_ns();
  for (int64_t at = 0; now < window.end && !interrupted(); at += bytes) {
    if (at + bytes > file.bytes()) at = 0;
    const int64_t begun = now;
    auto done = file.file().write_at(at, piece);
    if (done) done = file.file().sync();
    if (!done) throw std::runtime_error(done.error().message);
    now = now_ns();
    recorder.record(begun, now, 1, static_cast<uint64_t>(bytes));
  }
  seconds = std::max(1e-9, static_cast<double>(std::min(now, window.end) - window.begin) / 1e9);
  LoadResult result;
  result.name = name_of(bytes);
  result.recorded = recorder.take();
  return result;
}

int run(Call& call) {
  pin_to_cpus(call.run.cpus);
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  const fs::path directory = call.directory.empty() ? fs::temp_directory_path() : fs::path(call.directory);
  fs::create_directories(directory);
  RunResult result;
  result.title = fmt::format("append and fdatasync, one after the other, in {}", directory.string());
  result.generator.pid = ::getpid();
  result.generator.name = "mqbench";
  for (const int64_t bytes : call.sizes) {
    // Blocks that were never written cost the file system a journal entry: a new file for each size, as a new log is.
    const PreparedFile file(directory / fmt::format("mqbench-fsync-{}", ::getpid()), std::max(call.file_bytes, bytes),
                            true);
    double seconds = 0;
    const auto before = read_process(::getpid());
    result.loads.push_back(append_and_sync(file, bytes, call.run, seconds));
    result.loads.back().seconds = seconds;
    result.seconds += seconds;
    const auto after = read_process(::getpid());
    if (!before || !after) continue;
    // Without the time that preparing the files takes.
    result.generator.after.user_seconds += after->user_seconds - before->user_seconds;
    result.generator.after.system_seconds += after->system_seconds - before->system_seconds;
    result.generator.after.resident_mib = after->resident_mib;
    result.generator.after.anonymous_mib = after->anonymous_mib;
  }
  result.interrupted = interrupted();
  result.started_at = utc_now();
  return finish_report(call.run, std::move(result), "fsync", "");
}

}  // namespace

Command add_fsync_command(CLI::App& app) {
  auto call = std::make_shared<Call>();
  auto* command = call->command =
      app.add_subcommand("fsync", "Appends with fdatasync: the ceiling for SYNC_FLUSH on this disk");
  call->run.seconds = 5;
  call->run.warmup = 0.5;
  command->add_option("--dir", call->directory,
                      "where the file is made and removed (default: the system's for temporary files)");
  command->add_option("--sizes", call->sizes, "bytes of an append; each is measured by itself")
      ->delimiter(',')
      ->transform(CLI::AsSizeValue(false))
      ->check(CLI::Range(int64_t{1}, int64_t{64} << 20))
      ->capture_default_str();
  command->add_option("--file-size", call->file_bytes, "bytes of the file, which is prepared as the broker's log")
      ->transform(CLI::AsSizeValue(false))
      ->check(CLI::Range(int64_t{4'096}, int64_t{64} << 30));
  add_run_options(*command, call->run);
  command->footer(
      "Examples\n"
      "  mqbench fsync --dir /data                   1 KiB and 64 KiB\n"
      "  mqbench fsync --sizes 1K,4K,256K --seconds 10 --json fsync.json");
  return [call] { return call->command->parsed() ? run(*call) : 0; };
}

}  // namespace mqbench
