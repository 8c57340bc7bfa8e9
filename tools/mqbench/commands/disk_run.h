#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "tools/mqbench/run/run.h"

// What is measured in this process alone, against a disk: no network, no server.
namespace mqbench {

/// Whether SIGINT or SIGTERM has come; measure_alone() holds them back.
[[nodiscard]] bool interrupted();

/// A window that begins now: the warm-up, then the time that is measured.
[[nodiscard]] Window window_from_now(const RunOptions& options);

/// Records what ends within the window, one after the other, each of so many bytes, until the window is over or the
/// run is interrupted; `once` does it once and throws what is wrong. Looks at the clock once for `at_once` of them.
[[nodiscard]] LoadResult repeat_alone(const std::string& name, int64_t bytes, int at_once, const RunOptions& options,
                                      const std::function<void()>& once);

/// Measures each size by itself and reports as every command does. `measure` gives the load; processor time counts from
/// the call of `begin` that it makes when all is prepared.
[[nodiscard]] int measure_alone(
    const RunOptions& options, const std::string& command, const std::string& title, const std::vector<int64_t>& sizes,
    const std::function<LoadResult(int64_t bytes, const std::function<void()>& begin)>& measure);

/// "fsync_1k", "fsync_100".
[[nodiscard]] std::string name_of_size(const std::string& what, int64_t bytes);

}  // namespace mqbench
