#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "apogee/result.h"
#include "broker/broker_config.h"
#include "common/base/logger.h"

namespace apogee::broker {

/// The broker: builds its parts, starts them in order and stops them in reverse. Usable within another process.
/// Parts, threads and lock order: README.md.
class Broker {
 public:
  /// config, table (whose rows point into config) and logger must outlive it. config_file: where settings that are
  /// changed while it runs are kept; empty: <store root>/config/broker.properties. logger's level follows logLevel.
  Broker(BrokerConfig& config, config::ConfigTable& table, std::string config_file, Logger& logger);
  ~Broker();  ///< stops
  Broker(const Broker&) = delete;
  Broker& operator=(const Broker&) = delete;

  /// Once. Opens the store, listens, registers. Errors: those of check(), choose_address() and MessageStore::open();
  /// kAlreadyExists for a taken port or a store in use.
  [[nodiscard]] Status start();
  /// Unregisters, stops accepting, answers what is held, writes everything to disk.
  void stop();

  /// After start().
  [[nodiscard]] uint16_t port() const;
  [[nodiscard]] const std::string& address() const;  ///< "ip:port" told to clients

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace apogee::broker
