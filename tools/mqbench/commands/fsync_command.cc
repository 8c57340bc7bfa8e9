#include <algorithm>
#include <memory>
#include <stdexcept>

#include "tools/mqbench/commands/commands.h"
#include "tools/mqbench/commands/disk_run.h"
#include "tools/mqbench/store/prepared_file.h"

namespace mqbench {

namespace {

int run(const DiskOptions& options) {
  return measure_alone(options, "fsync", "append and fdatasync, one after the other",
                       [&](int64_t bytes, const std::filesystem::path& path, const std::function<void()>& begin) {
                         // Blocks that were never written cost the file system a journal entry. The log has them
                         // written ahead.
                         const PreparedFile file(path, std::max(options.file_bytes, bytes), Pages::kOnDisk);
                         const std::string piece(static_cast<size_t>(bytes), 'f');
                         int64_t at = 0;
                         begin();
                         return repeat_alone("fsync", bytes, 1, options.run, [&] {
                           if (at + bytes > file.bytes()) at = 0;
                           auto done = file.file().write_at(at, piece);
                           if (done) done = file.file().sync();
                           if (!done) throw std::runtime_error(done.error().message);
                           at += bytes;
                         });
                       });
}

}  // namespace

Command add_fsync_command(tools::CommandLine& line) {
  auto options = std::make_shared<DiskOptions>();
  options->run.seconds = 5;
  options->run.warmup = 0.5;
  options->sizes = {1'024, 65'536};
  options->file_bytes = 256LL << 20;
  const auto command = line.add_command("fsync", "Appends with fdatasync: the ceiling for SYNC_FLUSH on this disk");
  add_disk_options(command, *options, "bytes of an append", "bytes of the file, which is prepared as the broker's log");
  command.footer(
      "Examples\n"
      "  mqbench fsync --dir /data                   1 KiB and 64 KiB\n"
      "  mqbench fsync --sizes 1K,4K,256K --seconds 10 --json fsync.json");
  return [options, command] { return command.called() ? run(*options) : 0; };
}

}  // namespace mqbench
