#include <cstdio>
#include <exception>

#include "common/base/version.h"
#include "tools/command_line/command_line.h"
#include "tools/mqbench/commands/commands.h"
#include "tools/mqbench/store/store_command.h"

int main(int argc, char** argv) {
  tools::CommandLine line(
      "mqbench", apogee::kVersion,
      "mqbench measures brokers that speak the protocol of RocketMQ, and parts of ApogeeMQ by themselves: each "
      "command\n"
      "prints figures, and checks what came of what it sent. `mqbench COMMAND --help` has examples.");
  const mqbench::Command commands[] = {mqbench::add_produce_command(line),     mqbench::add_consume_command(line),
                                       mqbench::add_e2e_command(line),         mqbench::add_mixed_command(line),
                                       mqbench::add_connections_command(line), mqbench::add_route_command(line),
                                       mqbench::add_echo_command(line),        mqbench::add_fsync_command(line),
                                       mqbench::add_mapping_command(line),     mqbench::add_store_command(line)};
  if (const auto status = line.parse(argc, argv)) return *status;
  try {
    int status = 0;
    for (const auto& command : commands) status |= command();
    return status;
  } catch (const std::exception& failure) {
    std::fprintf(stderr, "mqbench: %s\n", failure.what());
    return 1;
  }
}
