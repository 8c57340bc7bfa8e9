#pragma once

#include <chrono>
#include <string>

#include "apogee/log.h"

namespace apogee {

/// What every kind of client needs to know. The defaults are those of Apache RocketMQ clients; the
/// intervals exist so that tests and special networks can change them.
struct ClientConfig {
  /// "host:port;host:port". Empty: the environment variable NAMESRV_ADDR is read at start.
  std::string name_servers;
  /// Part of the client id `ip@instance_name[@unit_name]`. Empty: process id and a time in ns, unique on
  /// this machine. Two members of one group must never share a client id.
  std::string instance_name;
  std::string unit_name;
  /// Part of the client id. Empty: the address that this machine uses towards the first NameServer.
  std::string client_ip;
  /// Prefix ("ns%") of topics and groups, added and removed by the SDK; system topics have none.
  std::string name_space;

  /// Where log lines go; see LogSink. Without one they are dropped.
  LogSink log_sink;
  LogLevel log_level = LogLevel::kInfo;

  std::chrono::milliseconds connect_timeout{3'000};
  std::chrono::milliseconds request_timeout{3'000};          ///< of one request other than a send or a pull
  std::chrono::milliseconds route_refresh_interval{30'000};  ///< of the routes of all topics in use
  std::chrono::milliseconds heartbeat_interval{30'000};
  std::chrono::milliseconds offset_persist_interval{5'000};  ///< consumers only
  std::chrono::milliseconds rebalance_interval{20'000};      ///< consumers only; changes are seen at once
  /// Send and administrative requests go to the broker's port - 2.
  bool vip_channel = false;
};

}  // namespace apogee
