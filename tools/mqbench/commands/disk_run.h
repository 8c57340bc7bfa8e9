#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "tools/mqbench/commands/options.h"
#include "tools/mqbench/run/run.h"

// What is measured in this process alone, against a disk: no network, no server.
namespace mqbench {

struct DiskOptions {
  RunOptions run;
  std::string directory;  ///< empty: the system's for temporary files
  std::vector<int64_t> sizes;
  int64_t file_bytes = 0;
};

/// The run's options too. What `options` holds is what --help calls the default.
void add_disk_options(const tools::CommandOptions& command, DiskOptions& options, const std::string& what_a_size_is,
                      const std::string& what_the_file_is);

/// Records what ends within the window, one after the other, each of so many bytes, until the window is over or the
/// run is interrupted; `once` does it once and throws what is wrong. Looks at the clock once for `at_once` of them.
/// The load is named for the command and the size: "fsync_1k", "fsync_100".
[[nodiscard]] LoadResult repeat_alone(const std::string& command, int64_t bytes, int at_once, const RunOptions& options,
                                      const std::function<void()>& once);

/// Measures each size by itself and reports as every command does. `measure` gets a path for a file of its own and
/// gives the load; processor time counts from the call of `begin` that it makes when all is prepared.
[[nodiscard]] int measure_alone(const DiskOptions& options, const std::string& command, const std::string& title,
                                const std::function<LoadResult(int64_t bytes, const std::filesystem::path& file,
                                                               const std::function<void()>& begin)>& measure);

}  // namespace mqbench
