#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "apogee/log.h"
#include "apogee/result.h"
#include "broker/timers/timer_limits.h"
#include "common/config/config_table.h"
#include "common/config/tunable.h"
#include "store/message_store.h"

namespace apogee::broker {

enum class BrokerRole : uint8_t { kAsyncMaster, kSyncMaster, kSlave };

/// The broker's settings, named as the keys of RocketMQ where those exist (key of each: broker_config.cc).
/// A Tunable may change while the broker runs; everything else is constant after the start.
struct BrokerConfig {
  // Who this broker is, and where.
  std::string broker_name;  ///< default: the host's name
  std::string cluster_name = "DefaultCluster";
  int64_t broker_id = 0;
  BrokerRole role = BrokerRole::kAsyncMaster;
  config::Tunable<std::string> namesrv_addr;  ///< "host:port;host:port"
  std::string broker_ip1;                     ///< empty: chosen at start
  std::string broker_ip2;                     ///< of the HA port; empty: as broker_ip1
  std::string bind_address = "0.0.0.0";
  int32_t listen_port = 10911;  ///< 0: any free pair of ports
  int32_t ha_listen_port = 0;   ///< 0: listen_port + 1
  config::Tunable<int32_t> permission = 6;
  config::Tunable<int64_t> register_period_ms = 30'000;
  config::Tunable<int64_t> register_timeout_ms = 24'000;
  bool compressed_register = false;
  int32_t namesrv_listen_port = 9876;  ///< of the NameServer inside, with --standalone

  // Connections and threads.
  int32_t io_threads = 2;
  int32_t reader_threads = 4;
  int64_t channel_idle_s = 120;
  int64_t connection_inflight_bytes = 64LL << 20;
  int64_t total_inflight_bytes = 512LL << 20;
  int64_t connection_unsent_bytes = 256LL << 20;
  config::Tunable<int32_t> held_pulls_max = 100'000;
  int64_t stop_drain_ms = 3'000;

  // Topics, groups, features.
  config::Tunable<bool> auto_create_topic = true;
  config::Tunable<bool> auto_create_group = true;
  int32_t default_topic_queue_nums = 8;
  bool cluster_topic = true;
  bool broker_topic = true;
  bool trace_topic = false;
  std::string trace_topic_name = "RMQ_SYS_TRACE_TOPIC";
  config::Tunable<bool> long_polling = true;
  config::Tunable<int64_t> short_polling_ms = 1'000;
  config::Tunable<bool> lite_pull = true;
  config::Tunable<int64_t> publish_rate_per_topic = 0;  ///< messages per second, as the three below; 0: no limit
  config::Tunable<int64_t> publish_rate_per_client = 0;
  config::Tunable<int64_t> consume_rate = 0;
  config::Tunable<int64_t> consume_rate_per_group = 0;
  config::Tunable<bool> property_filter = false;
  config::Tunable<bool> filter_retry = false;
  config::Tunable<int64_t> filter_data_life_ms = 86'400'000;
  config::Tunable<int64_t> flush_consumer_offset_ms = 5'000;
  config::Tunable<std::string> region_id = "DefaultRegion";
  config::Tunable<int64_t> lock_life_ms = 60'000;
  config::Tunable<bool> trace_on = true;
  std::string message_delay_level = "1s 5s 10s 30s 1m 2m 3m 4m 5m 6m 7m 8m 9m 10m 20m 30m 1h 2h";
  config::Tunable<int64_t> flush_delay_offset_ms = 1'000;
  config::Tunable<bool> store_reply = true;
  config::Tunable<bool> reject_transactions = false;
  config::Tunable<int64_t> transaction_timeout_ms = 6'000;
  config::Tunable<int64_t> transaction_check_interval_ms = 30'000;
  config::Tunable<int32_t> transaction_check_max = 15;
  config::Tunable<int32_t> transaction_op_bytes_max = 4'096;
  config::Tunable<int64_t> transaction_op_interval_ms = 3'000;
  config::Tunable<int32_t> transaction_undecided_max = 1'000'000;
  config::Tunable<int64_t> accept_sends_from_ms = 0;  ///< ms since 1970
  config::Tunable<int64_t> transfer_bytes_max = 262'144;
  config::Tunable<int32_t> transfer_count_max = 32;
  int32_t in_memory_ratio = 40;  ///< percent of the memory

  // Store.
  std::string store_root;  ///< default: $HOME/store
  std::string commit_log_dir;
  int64_t commit_log_file_bytes = 1LL << 30;
  int64_t consume_queue_file_bytes = 6'000'000;
  store::FlushDiskType flush_disk_type = store::FlushDiskType::kAsync;
  int64_t flush_interval_ms = 500;
  int64_t flush_least_pages = 4;
  store::StoreCompatibility store_compatibility = store::StoreCompatibility::k5x;
  int64_t flush_thorough_interval_ms = 10'000;
  bool warm_log_files = false;
  int64_t sync_flush_timeout_ms = 5'000;
  config::Tunable<int32_t> message_bytes_max = 4 * 1024 * 1024;
  int64_t page_cache_busy_ms = 1'000;
  int32_t disk_used_percent_max = 90;
  config::Tunable<int64_t> file_reserved_hours = 72;
  config::Tunable<std::string> delete_when = "04";  ///< "04" or "04;13"
  config::Tunable<int32_t> disk_clean_percent = 75;
  config::Tunable<int32_t> disk_forced_percent = 85;
  config::Tunable<bool> clean_forcibly = true;
  config::Tunable<int64_t> clean_interval_ms = 10'000;
  config::Tunable<int64_t> delete_pause_ms = 100;
  config::Tunable<int32_t> delete_files_max = 10;
  bool check_crc_on_recover = true;
  bool message_index = true;
  int64_t message_index_cache_bytes = 8 << 20;
  config::Tunable<int32_t> query_count_max = 64;
  config::Tunable<int32_t> unique_query_count_max = 32;

  // Replication.
  std::string ha_master_address;                  ///< "host:port"; empty: as the NameServers say
  std::string ha_secret;                          ///< never told to anybody
  std::string ha_classic_peers;                   ///< IP addresses, with commas
  config::Tunable<int32_t> in_sync_replicas = 0;  ///< 0: not given
  config::Tunable<int32_t> min_in_sync_replicas = 1;
  config::Tunable<bool> all_ack_in_sync = false;
  config::Tunable<int64_t> slave_timeout_ms = 3'000;
  config::Tunable<int64_t> ha_fall_behind_bytes_max = 256LL << 20;
  config::Tunable<int64_t> ha_catch_up_ms_max = 15'000;
  bool ha_ack_on_disk = false;
  int64_t ha_heartbeat_ms = 5'000;
  int64_t ha_silence_ms_max = 20'000;
  int64_t ha_batch_bytes = 256 << 10;
  int64_t ha_window_bytes = 16 << 20;
  config::Tunable<bool> ha_flow_control = false;
  config::Tunable<int64_t> ha_bytes_per_second = 100LL << 20;
  bool ha_truncate_ahead = false;
  int64_t ha_scrub_bytes_per_second = 8 << 20;
  config::Tunable<int64_t> slave_sync_ms = 500;
  config::Tunable<bool> slave_read = false;
  config::Tunable<bool> offset_check_in_slave = false;
  bool slave_acting_master = false, remote_escape = false;
  int64_t broker_not_active_ms = 10'000;
  int64_t broker_heartbeat_ms = 1'000;
  int64_t member_group_ms = 1'000;

  // Timers.
  config::Tunable<bool> timers_enabled = true;
  config::Tunable<int64_t> timer_delay_s_max = 259'200;
  int64_t timer_precision_ms = 1'000;
  config::Tunable<bool> recall_enabled = false;
  config::Tunable<bool> recall_without_write_permission = true;

  // Log.
  std::string log_dir;  ///< of broker.log; empty: no log file. Default: default_log_dir()
  config::Tunable<LogLevel> log_level = LogLevel::kInfo;

  // Not in this release; check() refuses what would break a promise.
  bool dleger = false, controller_mode = false, acl = false, authentication = false, authorization = false;
  bool transient_store_pool = false;
  int32_t processors = 1;  ///< default: those of this machine
  std::string store_type = "default";

  /// Fills in what depends on the machine: host name and $HOME.
  BrokerConfig();

  [[nodiscard]] store::StoreOptions store_options() const;
  [[nodiscard]] store::RetentionOptions retention_options() const;
  [[nodiscard]] TimerLimits timer_limits() const;
  [[nodiscard]] std::string config_file(const std::string& name) const { return store_root + "/config/" + name; }
};

/// Adds a row for each key of the broker, and the keys of Apache RocketMQ that mean nothing here.
void add_rows(config::ConfigTable& table, BrokerConfig& config);

/// Whether the broker can be started like this. Returns lines to be logged as warnings.
/// Errors: kInvalidArgument, kUnsupported for what would lose messages or security if it were passed over.
[[nodiscard]] Result<std::vector<std::string>> check(const BrokerConfig& config);

/// The address to register with, and why: brokerIP1 where it is given, else the first IPv4 address of this machine
/// that is not loopback, else loopback. Errors: kInvalidArgument when that would be loopback, but a NameServer is
/// elsewhere; kNotFound.
struct ChosenAddress {
  std::string ip, why;
};
[[nodiscard]] Result<ChosenAddress> choose_address(const std::string& broker_ip1, const std::string& bind_address,
                                                   const std::vector<std::string>& name_servers);

/// "host:port;host:port" as a list, without blanks and empty parts.
[[nodiscard]] std::vector<std::string> split_addresses(const std::string& text);

}  // namespace apogee::broker
