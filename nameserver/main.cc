#include <fmt/core.h>

#include <cstdio>
#include <iostream>
#include <memory>

#include "common/base/log_file.h"
#include "common/base/process.h"
#include "common/base/stop_signals.h"
#include "common/base/version.h"
#include "common/config/command_line.h"
#include "nameserver/config.h"
#include "nameserver/nameserver.h"

namespace apogee::nameserver {
namespace {

constexpr uint64_t kDescriptorsEnough = 16'384;

config::Program program() {
  config::Program program;
  program.name = "mqnamesrv";
  program.version = kVersion;
  program.summary =
      "The name server of ApogeeMQ: brokers register with it, and clients ask it which brokers have a topic.\n"
      "It keeps routes in memory only; run two or three of them, independent of each other.";
  program.examples =
      "  mqnamesrv                                  listen on 0.0.0.0:9876, files below $HOME\n"
      "  mqnamesrv -c conf/namesrv.conf             settings from a file\n"
      "  mqnamesrv --listenPort 0 --logDir \"\"       any free port, printed at the start; no log file\n"
      "  mqshutdown namesrv                         stop it\n";
  program.environment = {{"ROCKETMQ_HOME", "rocketmqHome"}};
  return program;
}

int fail(const Error& error) {
  fmt::print(stderr, "mqnamesrv: {}\n", error.message);
  return 1;
}

int run(int argc, char** argv) {
  auto config = NameServerConfig::from_environment();
  config::ConfigTable table;
  add_rows(config, table);
  const std::string default_store_path = config.config_store_path;
  auto line = config::parse_command_line(argc, argv, program(), table, std::cout, std::cerr);
  if (line.exit_code) return *line.exit_code;
  if (!line.config_file.empty() && config.config_store_path == default_store_path)
    config.config_store_path = line.config_file;

  return_large_buffers();
  const StopSignals signals;
  LogFile::Options log_options;
  log_options.path = log_path(config.log_dir, "namesrv.log");
  log_options.file_bytes_max = static_cast<size_t>(config.log_file_bytes_max);
  log_options.files_max = static_cast<size_t>(config.log_files_max);
  log_options.to_stderr = config.log_to_stderr;
  auto log = LogFile::open(log_options);
  if (!log) return fail(log.error());
  Logger logger((*log)->sink(), config.log_level);
  for (const auto& notice : table.take_notices()) logger.warn("{}", notice);
  raise_descriptor_limit(kDescriptorsEnough, logger);

  NameServer server(config, table, logger);
  server.set_change_listener(
      [&logger, &config](const std::vector<config::ConfigTable::Change>&) { logger.set_level(config.log_level); });
  if (auto status = server.start(); !status) {
    logger.error("cannot start: {}", status.error().message);
    return fail(status.error());
  }
  fmt::print("The Name Server boot success. serializeType=JSON, address {}:{}\n", config.bind_address, server.port());
  std::fflush(stdout);
  signals.wait(**log, logger);
  server.stop();
  return 0;
}

}  // namespace
}  // namespace apogee::nameserver

int main(int argc, char** argv) { return apogee::nameserver::run(argc, argv); }
