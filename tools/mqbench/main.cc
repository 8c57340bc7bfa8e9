#include <CLI/CLI.hpp>
#include <exception>

#include "common/base/version.h"
#include "tools/mqbench/store/store_command.h"

int main(int argc, char** argv) {
  CLI::App app("mqbench measures ApogeeMQ: each command prints figures, and beside them what the machine could do.",
               "mqbench");
  app.set_version_flag("--version", std::string("mqbench ") + apogee::kVersion);
  app.require_subcommand(1);
  auto run_store = mqbench::add_store_command(app);
  CLI11_PARSE(app, argc, argv);
  try {
    return run_store();
  } catch (const std::exception& failure) {
    std::fprintf(stderr, "mqbench: %s\n", failure.what());
    return 1;
  }
}
