#pragma once

#include <functional>

namespace tools {
class CommandLine;
}

namespace mqbench {

/// Adds `mqbench store`. What is returned runs it after parsing and returns the exit code: 0, or 1 when a scenario
/// could not be measured. It does nothing when the command was not given.
std::function<int()> add_store_command(tools::CommandLine& line);

}  // namespace mqbench
