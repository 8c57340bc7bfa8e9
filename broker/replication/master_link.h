#pragma once

#include <functional>
#include <mutex>
#include <string>

#include "broker/broker_config.h"
#include "common/base/logger.h"

namespace apogee::broker {

/// Which broker a slave follows: what haMasterAddress says, else what a NameServer told last. Thread: any.
class MasterLink {
 public:
  struct Master {
    std::string address;     ///< "ip:port" for requests; empty: not known
    std::string ha_address;  ///< "ip:port" of its log; empty: not known
    bool operator==(const Master& other) const { return address == other.address && ha_address == other.ha_address; }
  };
  MasterLink(const BrokerConfig& config, const Logger& logger);

  /// Told on the thread of told(), when another master is to be followed. Before the start.
  void set_listener(std::function<void(const Master& master)> changed) { changed_ = std::move(changed); }
  /// What a NameServer knows; empty texts, as while the master is away, change nothing.
  void told(const std::string& address, const std::string& ha_address);
  [[nodiscard]] Master get() const;

 private:
  const std::string fixed_;
  const Logger& logger_;
  std::function<void(const Master& master)> changed_;
  mutable std::mutex mutex_;
  Master master_;  // guarded by mutex_
};

/// The part in front of the port.
[[nodiscard]] std::string ip_of(const std::string& address);

}  // namespace apogee::broker
