#pragma once

#include <cstdint>
#include <string>

#include "apogee/log.h"
#include "common/config/config_table.h"
#include "common/config/tunable.h"

namespace apogee::nameserver {

/// Settings of the NameServer; keys, units and ranges are in add_rows(). Tunable fields may change while it runs.
struct NameServerConfig {
  std::string bind_address = "0.0.0.0";
  int32_t listen_port = 9876;
  int32_t io_threads = 2;
  int32_t connection_idle_s_max = 120;
  int32_t frame_bytes_max = 16 * 1024 * 1024;

  std::string rocketmq_home;      ///< $ROCKETMQ_HOME
  std::string kv_config_path;     ///< $HOME/namesrv/kvConfig.json
  std::string config_store_path;  ///< $HOME/namesrv/namesrv.properties, or the file of -c

  config::Tunable<bool> order_message_enable{false};
  config::Tunable<bool> return_order_topic_config_to_broker{true};
  config::Tunable<bool> delete_topic_with_broker_registration{false};
  config::Tunable<bool> enable_all_topic_list{true};
  config::Tunable<bool> enable_topic_list{true};
  config::Tunable<bool> need_wait_for_service{false};
  config::Tunable<int32_t> wait_s_for_service{45};
  config::Tunable<int32_t> scan_inactive_interval_ms{5'000};
  config::Tunable<bool> support_acting_master{false};
  config::Tunable<bool> notify_min_broker_id_changed{false};
  config::Tunable<std::string> config_black_list{"configBlackList;configStorePath;kvConfigPath;rocketmqHome"};

  std::string log_dir;  ///< of namesrv.log; empty: no log file. Default: default_log_dir()
  config::Tunable<LogLevel> log_level{LogLevel::kInfo};
  int64_t log_file_bytes_max = 64 << 20;
  int32_t log_files_max = 10;
  bool log_to_stderr = false;

  /// With the paths that follow from $HOME and $ROCKETMQ_HOME.
  static NameServerConfig from_environment();
};

/// Adds a row for each setting, and the keys of Apache RocketMQ that have no effect here. `config` must outlive the
/// table.
void add_rows(NameServerConfig& config, config::ConfigTable& table);

}  // namespace apogee::nameserver
