#include <algorithm>
#include <cstring>
#include <memory>
#include <optional>

#include "tools/mqbench/commands/commands.h"
#include "tools/mqbench/commands/disk_run.h"
#include "tools/mqbench/store/prepared_file.h"

namespace mqbench {

namespace {

constexpr int kCopiesAtOnce = 64;  // between two looks at the clock

struct Call {
  DiskOptions disk;
  bool warm = false;
};

int run(const Call& call) {
  return measure_alone(call.disk, "mapping",
                       std::string("memcpy into the mapping of a file, ") +
                           (call.warm ? "pages that are there already" : "pages never touched before"),
                       [&](int64_t bytes, const std::filesystem::path& path, const std::function<void()>& begin) {
                         const std::string piece(static_cast<size_t>(bytes), 'm');
                         const int64_t file_bytes = std::max(call.disk.file_bytes, bytes);
                         std::optional<PreparedFile> file;
                         file.emplace(path, file_bytes, call.warm ? Pages::kPresent : Pages::kUntouched);
                         int64_t at = 0;
                         begin();
                         return repeat_alone("mapping", bytes, kCopiesAtOnce, call.disk.run, [&] {
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

Command add_mapping_command(tools::CommandLine& line) {
  auto call = std::make_shared<Call>();
  call->disk.run.seconds = 5;
  call->disk.run.warmup = 0.5;
  call->disk.sizes = {1'024};
  call->disk.file_bytes = 1LL << 30;
  const auto command = line.add_command("mapping", "Copies into a mapped file: the ceiling for appends of one thread");
  command.add_flag("--warm", call->warm, "into pages that were made before, round and round");
  add_disk_options(command, call->disk, "bytes of a copy",
                   "bytes of the file; then comes another, or with --warm the same");
  command.footer(
      "Examples\n"
      "  mqbench mapping --dir /data                 1 KiB, into pages never touched before\n"
      "  mqbench mapping --warm --file-size 64M");
  return [call, command] { return command.called() ? run(*call) : 0; };
}

}  // namespace mqbench
