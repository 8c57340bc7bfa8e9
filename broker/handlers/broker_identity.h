#pragma once

#include <string>

namespace apogee::broker {

/// What this broker is called in the queues and figures that it answers with.
struct BrokerIdentity {
  std::string cluster_name, broker_name;
  std::string address;  ///< "ip:port" that it registers with
};

}  // namespace apogee::broker
