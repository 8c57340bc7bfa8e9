#include <fmt/core.h>

#include <algorithm>
#include <cstdio>
#include <iostream>
#include <memory>
#include <string>

#include "broker/broker.h"
#include "broker/broker_config.h"
#include "common/base/log_file.h"
#include "common/base/process.h"
#include "common/base/stop_signals.h"
#include "common/base/version.h"
#include "common/config/command_line.h"
#include "nameserver/config.h"
#include "nameserver/nameserver.h"

namespace apogee::broker {
namespace {

constexpr const char* kStandalone = "--standalone";

config::Program program() {
  config::Program program;
  program.name = "mqbroker";
  program.version = kVersion;
  program.summary =
      "The broker of ApogeeMQ: takes messages, keeps them, and gives them to consumers.\n"
      "There is no access control yet: listen only where everybody may read and write everything.";
  program.examples =
      "  mqbroker --standalone --bindAddress 127.0.0.1   with a NameServer inside; nothing else to start\n"
      "  mqbroker -n ns1:9876;ns2:9876 -c conf/broker.conf\n"
      "  mqbroker -p -c conf/broker.conf                 print every setting and end\n"
      "  mqshutdown broker                               stop it\n";
  program.flags = {{kStandalone, "run a NameServer in the same process, on namesrvListenPort"}};
  program.environment = {{"NAMESRV_ADDR", "namesrvAddr"}};
  program.namesrv_key = "namesrvAddr";
  return program;
}

int fail(const Error& error) {
  fmt::print(stderr, "mqbroker: {}\n", error.message);
  return 1;
}

/// A NameServer inside this process, with its settings.
struct InnerNameServer {
  nameserver::NameServerConfig config = nameserver::NameServerConfig::from_environment();
  config::ConfigTable table;
  std::unique_ptr<nameserver::NameServer> server;

  Status start(const BrokerConfig& broker, const Logger& logger) {
    config.bind_address = broker.bind_address;
    config.listen_port = broker.namesrv_listen_port;
    config.kv_config_path = broker.store_root + "/namesrv/kvConfig.json";
    config.config_store_path = broker.store_root + "/namesrv/namesrv.properties";
    add_rows(config, table);
    server = std::make_unique<nameserver::NameServer>(config, table, logger);
    return server->start();
  }
  [[nodiscard]] std::string address() const {
    const std::string& bound = config.bind_address;
    const bool any = bound == "0.0.0.0" || bound == "::";
    return (any ? std::string("127.0.0.1") : bound) + ":" + std::to_string(server->port());
  }
};

int run(int argc, char** argv) {
  BrokerConfig config;
  config::ConfigTable table;
  add_rows(table, config);
  auto line = config::parse_command_line(argc, argv, program(), table, std::cout, std::cerr);
  if (line.exit_code) return *line.exit_code;

  return_large_buffers();
  const StopSignals signals;
  LogFile::Options log_options;
  log_options.path = log_path(config.log_dir, "broker.log");
  auto log = LogFile::open(log_options);
  if (!log) return fail(log.error());
  Logger logger((*log)->sink(), config.log_level);
  for (const auto& notice : table.take_notices()) logger.warn("{}", notice);

  InnerNameServer inner;
  if (line.flags.count(kStandalone) != 0) {
    if (auto status = inner.start(config, logger); !status) {
      logger.error("cannot start the NameServer: {}", status.error().message);
      return fail(status.error());
    }
    const std::string own = inner.address();
    const auto given = split_addresses(config.namesrv_addr.get());
    std::string all = own;
    for (const auto& address : given)
      if (address != own) all += ";" + address;
    config.namesrv_addr.set(all);
  }
  Broker broker(config, table, line.config_file, logger);
  if (auto status = broker.start(); !status) {
    logger.error("cannot start: {}", status.error().message);
    return fail(status.error());
  }
  const std::string name_servers = config.namesrv_addr.get();
  fmt::print("The broker[{}, {}] boot success. serializeType=JSON{}\n", config.broker_name, broker.address(),
             name_servers.empty() ? "" : " and name server is " + name_servers);
  std::fflush(stdout);
  signals.wait(**log, logger);
  broker.stop();
  if (inner.server) inner.server->stop();
  return 0;
}

}  // namespace
}  // namespace apogee::broker

int main(int argc, char** argv) { return apogee::broker::run(argc, argv); }
