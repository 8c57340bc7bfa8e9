#pragma once

#include <functional>
#include <mutex>
#include <string>
#include <vector>

#include "broker/groups/client_info.h"
#include "common/base/logger.h"
#include "common/config/config_table.h"
#include "common/remoting/bodies/topic_bodies.h"

namespace apogee::broker {

/// Reads and changes the settings while the broker runs. Runs on: reader pool (a change is written to the
/// configuration file before it is acknowledged).
class ConfigAdminHandlers {
 public:
  using Changes = std::vector<config::ConfigTable::Change>;
  struct Parts {
    config::ConfigTable& table;
    std::string config_file;  ///< that of -c, else <store root>/config/broker.properties; made when missing
    const Logger& logger;
    /// Told after a change, for what does not read its setting each time. May be empty.
    std::function<void(const Changes& changes)> on_change;
    NowMs now_ms = system_now_ms;
  };
  explicit ConfigAdminHandlers(Parts parts);

  void update_config(const remoting::Caller& caller, remoting::Command request, remoting::Responder respond);  ///< 25
  void get_config(const remoting::Caller& caller, remoting::Command request, remoting::Responder respond);     ///< 26

 private:
  [[nodiscard]] Status save(const Changes& changes);
  Parts parts_;
  std::mutex mutex_;               ///< one change at a time
  remoting::DataVersion version_;  // guarded by mutex_
};

}  // namespace apogee::broker
