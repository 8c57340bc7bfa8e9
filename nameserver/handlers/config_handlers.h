#pragma once

#include <functional>
#include <vector>

#include "common/base/logger.h"
#include "common/config/config_table.h"
#include "common/remoting/remoting_server.h"
#include "nameserver/config.h"
#include "nameserver/handlers/request_fields.h"
#include "nameserver/kv_config.h"

namespace apogee::nameserver {

/// Key-value settings of clients, and the settings of this server. Thread: any, but changes write files and so
/// belong on the housekeeping loop.
class ConfigHandlers {
 public:
  using Changes = std::vector<config::ConfigTable::Change>;
  /// on_change is told what a request changed; it may be empty.
  ConfigHandlers(KvConfig& kv, config::ConfigTable& table, const NameServerConfig& config,
                 std::function<void(const Changes&)> on_change, const Logger& logger)
      : kv_(kv), table_(table), config_(config), on_change_(std::move(on_change)), logger_(logger) {}

  using Caller = remoting::Caller;
  using Command = remoting::Command;
  Command put(const Caller& caller, const Command& request) const;            // PUT_KV_CONFIG
  Command get(const Caller& caller, const Command& request) const;            // GET_KV_CONFIG
  Command remove(const Caller& caller, const Command& request) const;         // DELETE_KV_CONFIG
  Command list(const Caller& caller, const Command& request) const;           // GET_KVLIST_BY_NAMESPACE
  Command update_config(const Caller& caller, const Command& request) const;  // UPDATE_NAMESRV_CONFIG
  Command get_config(const Caller& caller, const Command& request) const;     // GET_NAMESRV_CONFIG

 private:
  KvConfig& kv_;
  config::ConfigTable& table_;
  const NameServerConfig& config_;
  std::function<void(const Changes&)> on_change_;
  const Logger& logger_;
};

}  // namespace apogee::nameserver
