#pragma once

#include <string>
#include <vector>

namespace apogee::broker {

/// Every key that a broker.conf of Apache RocketMQ 4.9.8 or 5.x may hold: of the broker, its store, its network layer,
/// tiered storage and access control. Meant for ConfigTable::add_ignored(), which passes over those that have a row.
[[nodiscard]] std::vector<std::string> apache_broker_keys();

}  // namespace apogee::broker
