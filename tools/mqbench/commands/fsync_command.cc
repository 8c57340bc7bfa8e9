#include <fmt/core.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <filesystem>
#include <memory>
#include <stdexcept>

#include "tools/mqbench/commands/commands.h"
#include "tools/mqbench/commands/disk_run.h"
#include "tools/mqbench/commands/options.h"
#include "tools/mqbench/store/prepared_file.h"

namespace mqbench {

namespace fs = std::filesystem;

namespace {

constexpr int64_t kFileBytes = 256LL << 20;

struct Call {
  CLI::App* command = nullptr;
  RunOptions run;
  std::string directory;
  std::vector<int64_t> sizes = {1'024, 65'536};
  int64_t file_bytes = kFileBytes;
};

int run(Call& call) {
  const fs::path directory = call.directory.empty() ? fs::temp_directory_path() : fs::path(call.directory);
  fs::create_directories(directory);
  return measure_alone(call.run, "fsync",
                       fmt::format("append and fdatasync, one after the other, in {}", directory.string()), call.sizes,
                       [&](int64_t bytes, const std::function<void()>& begin) {
                         // Blocks that were never written cost the file system a journal entry. The log has them
                         // written ahead.
                         const PreparedFile file(directory / fmt::format("mqbench-fsync-{}", ::getpid()),
                                                 std::max(call.file_bytes, bytes), Pages::kOnDisk);
                         const std::string piece(static_cast<size_t>(bytes), 'f');
                         int64_t at = 0;
                         begin();
                         return repeat_alone(name_of_size("fsync", bytes), bytes, 1, call.run, [&] {
                           if (at + bytes > file.bytes()) at = 0;
                           auto done = file.file().write_at(at, piece);
                           if (done) done = file.file().sync();
                           if (!done) throw std::runtime_error(done.error().message);
                           at += bytes;
                         });
                       });
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
