#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "apogee/result.h"
#include "common/base/logger.h"
#include "common/config/config_table.h"
#include "nameserver/config.h"

namespace apogee::nameserver {

/// The NameServer: builds its parts, starts them in order and stops them in reverse. Usable within another process.
class NameServer {
 public:
  /// config, table (whose rows point into config) and logger must outlive it.
  NameServer(const NameServerConfig& config, config::ConfigTable& table, const Logger& logger);
  ~NameServer();  ///< stops
  NameServer(const NameServer&) = delete;
  NameServer& operator=(const NameServer&) = delete;

  /// Called on the housekeeping thread after a request changed settings. Before start().
  void set_change_listener(std::function<void(const std::vector<config::ConfigTable::Change>&)> listener);

  /// Once. Errors: kAlreadyExists for a taken port, and those of reading the kvConfig.json.
  [[nodiscard]] Status start();
  void stop();
  /// The port that it listens on; after start().
  [[nodiscard]] uint16_t port() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace apogee::nameserver
