#pragma once

#include <functional>

namespace tools {
class CommandLine;
}

// The commands. Each adds itself to the program; what is returned runs it when it was the one that was called and gives
// the exit status. They throw what is wrong.
namespace mqbench {

using Command = std::function<int()>;

Command add_produce_command(tools::CommandLine& line);
Command add_consume_command(tools::CommandLine& line);
Command add_e2e_command(tools::CommandLine& line);
Command add_mixed_command(tools::CommandLine& line);
Command add_connections_command(tools::CommandLine& line);
Command add_route_command(tools::CommandLine& line);
Command add_fsync_command(tools::CommandLine& line);
Command add_mapping_command(tools::CommandLine& line);
Command add_echo_command(tools::CommandLine& line);

}  // namespace mqbench
