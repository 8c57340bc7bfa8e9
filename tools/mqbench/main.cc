#include <CLI/CLI.hpp>
#include <exception>

#include "common/base/version.h"
#include "tools/mqbench/commands/commands.h"
#include "tools/mqbench/store/store_command.h"

int main(int argc, char** argv) {
  CLI::App app(
      "mqbench measures brokers that speak the protocol of RocketMQ, and parts of ApogeeMQ by themselves: each "
      "command\n"
      "prints figures, and checks what came of what it sent. `mqbench COMMAND --help` has examples.",
      "mqbench");
  app.set_version_flag("--version", std::string("mqbench ") + apogee::kVersion);
  app.require_subcommand(1);
  const mqbench::Command commands[] = {mqbench::add_produce_command(app),     mqbench::add_consume_command(app),
                                       mqbench::add_e2e_command(app),         mqbench::add_mixed_command(app),
                                       mqbench::add_connections_command(app), mqbench::add_route_command(app),
                                       mqbench::add_echo_command(app),        mqbench::add_fsync_command(app),
                                       mqbench::add_mapping_command(app),     mqbench::add_store_command(app)};
  CLI11_PARSE(app, argc, argv);
  try {
    int status = 0;
    for (const auto& command : commands) status |= command();
    return status;
  } catch (const std::exception& failure) {
    std::fprintf(stderr, "mqbench: %s\n", failure.what());
    return 1;
  }
}
