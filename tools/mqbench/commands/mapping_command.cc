#include <fmt/core.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstring>
#include <filesystem>
#include <memory>
#include <optional>

#include "tools/mqbench/commands/commands.h"
#include "tools/mqbench/commands/disk_run.h"
#include "tools/mqbench/commands/options.h"
#include "tools/mqbench/store/prepared_file.h"

namespace mqbench {

namespace fs = std::filesystem;

namespace {

constexpr int kCopiesAtOnce = 64;  // between two looks at the clock

struct Call {
  CLI::App* command = nullptr;
  RunOptions run;
  std::string directory;
  std::vector<int64_t> sizes = {1'024};
  int64_t file_bytes = 1LL << 30;
  bool warm = false;
};

int run(Call& call) {
  const fs::path directory = call.directory.empty() ? fs::temp_directory_path() : fs::path(call.directory);
  fs::create_directories(directory);
  const char* pages = call.warm ? "pages that are there already" : "pages never touched before";
  return measure_alone(call.run, "mapping",
                       fmt::format("memcpy into the mapping of a file, {}, in {}", pages, directory.string()),
                       call.sizes, [&](int64_t bytes, const std::function<void()>& begin) {
                         const std::string piece(static_cast<size_t>(bytes), 'm');
                         const int64_t file_bytes = std::max(call.file_bytes, bytes);
                         const fs::path path = directory / fmt::format("mqbench-mapping-{}", ::getpid());
                         std::optional<PreparedFile> file;
                         file.emplace(path, file_bytes, call.warm ? Pages::kPresent : Pages::kUntouched);
                         int64_t at = 0;
                         begin();
                         return repeat_alone(name_of_size("mapping", bytes), bytes, kCopiesAtOnce, call.run, [&] {
                           if (at + bytes > file->bytes()) {
                             at = 0;
                             // A new file, as the log takes one; what is removed is not written to the disk.
                             if (!call.warm) {
                               file.reset();
                               file.emplace(path, file_bytes, Pages::kUntouched);
                             }
                           }
                           std::memcpy(file->data() + at, piece.data(), piece.size());
                           at += bytes;
                         });
                       });
}

}  // namespace

Command add_mapping_command(CLI::App& app) {
  auto call = std::make_shared<Call>();
  auto* command = call->command =
      app.add_subcommand("mapping", "Copies into a mapped file: the ceiling for appends of one thread");
  call->run.seconds = 5;
  call->run.warmup = 0.5;
  command->add_option("--dir", call->directory,
                      "where the file is made and removed (default: the system's for temporary files)");
  command->add_option("--sizes", call->sizes, "bytes of a copy; each is measured by itself")
      ->delimiter(',')
      ->transform(CLI::AsSizeValue(false))
      ->check(CLI::Range(int64_t{1}, int64_t{64} << 20))
      ->capture_default_str();
  command->add_option("--file-size", call->file_bytes, "bytes of the file; then comes another, or with --warm the same")
      ->transform(CLI::AsSizeValue(false))
      ->check(CLI::Range(int64_t{4'096}, int64_t{64} << 30));
  command->add_flag("--warm", call->warm, "into pages that were made before, round and round");
  add_run_options(*command, call->run);
  command->footer(
      "Examples\n"
      "  mqbench mapping --dir /data                 1 KiB, into pages never touched before\n"
      "  mqbench mapping --warm --file-size 64M");
  return [call] { return call->command->parsed() ? run(*call) : 0; };
}

}  // namespace mqbench
