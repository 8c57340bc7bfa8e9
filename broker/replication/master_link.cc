#include "broker/replication/master_link.h"

#include <cstdlib>

namespace apogee::broker {

std::string ip_of(const std::string& address) {
  std::string host = address.substr(0, address.rfind(':'));
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  return host;
}

MasterLink::MasterLink(const BrokerConfig& config, const Logger& logger)
    : fixed_(config.ha_master_address), logger_(logger) {
  if (fixed_.empty()) return;
  master_.ha_address = fixed_;
  // Until a NameServer says where it is: the HA port is by default the one behind the port for requests.
  const auto colon = fixed_.rfind(':');
  const auto port = std::strtol(fixed_.c_str() + colon + 1, nullptr, 10);
  master_.address = fixed_.substr(0, colon + 1) + std::to_string(port - 1);
}

void MasterLink::told(const std::string& address, const std::string& ha_address) {
  if (address.empty()) return;
  Master now;
  {
    std::lock_guard lock(mutex_);
    now = {address, !fixed_.empty() ? fixed_ : ha_address};
    if (now == master_) return;
    master_ = now;
  }
  logger_.info("the master is {}, its log is at {}", now.address, now.ha_address);
  if (changed_) changed_(now);
}

MasterLink::Master MasterLink::get() const {
  std::lock_guard lock(mutex_);
  return master_;
}

}  // namespace apogee::broker
