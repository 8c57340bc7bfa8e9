#pragma once

#include <functional>

namespace CLI {
class App;
}

// The commands. Each adds itself to the program; what is returned runs it when it was the one that was called and gives
// the exit status. They throw what is wrong.
namespace mqbench {

using Command = std::function<int()>;

Command add_produce_command(CLI::App& app);
Command add_consume_command(CLI::App& app);
Command add_e2e_command(CLI::App& app);
Command add_mixed_command(CLI::App& app);
Command add_connections_command(CLI::App& app);
Command add_route_command(CLI::App& app);
Command add_fsync_command(CLI::App& app);
Command add_mapping_command(CLI::App& app);
Command add_echo_command(CLI::App& app);

}  // namespace mqbench
