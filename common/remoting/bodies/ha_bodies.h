#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "apogee/result.h"

namespace apogee::remoting {

/// Answer to GET_BROKER_HA_STATUS. Members marked "ours" are not in Apache RocketMQ, whose tools pass over them.
struct HaRuntimeInfo {
  struct Connection {
    std::string addr;
    int64_t slave_ack_offset = 0;
    int64_t diff = 0;  ///< bytes of the log that the slave lacks
    bool in_sync = false;
    int64_t transferred_byte_in_second = 0;
    int64_t transfer_from_where = 0;
    int64_t broker_id = -1;  ///< ours; -1: not known
    int64_t behind_ms = -1;  ///< ours: since the slave had everything there was; -1: not known
    std::string stream;      ///< ours: "classic" or "epochs"
  };
  struct Client {
    int64_t last_read_timestamp = 0, last_write_timestamp = 0;
    int64_t master_flush_offset = 0;
    int64_t max_offset = 0;  ///< of the slave's log
    int64_t transferred_byte_in_second = 0;
    std::string state, why;         ///< ours: what the slave does, and why it is refused or was disconnected
    std::string master;             ///< ours: HA address
    int64_t master_max_offset = 0;  ///< ours
    int64_t behind_ms = -1;         ///< ours
  };
  bool master = true;
  int64_t master_commit_log_max_offset = 0;
  int32_t in_sync_slave_nums = 0;
  std::vector<Connection> connections;  ///< of a master
  Client client;                        ///< of a slave
};
std::string encode(const HaRuntimeInfo& body);
[[nodiscard]] Result<HaRuntimeInfo> decode_ha_runtime_info(std::string_view json);

/// Answer to GET_BROKER_EPOCH_CACHE.
struct EpochEntryCache {
  struct Entry {
    int32_t epoch = 0;
    int64_t start_offset = 0;
    int64_t end_offset = 0;  ///< INT64_MAX: the present one
  };
  std::string cluster_name, broker_name;
  int64_t broker_id = 0;
  std::vector<Entry> epoch_list;
  int64_t max_offset = 0;
};
std::string encode(const EpochEntryCache& body);
[[nodiscard]] Result<EpochEntryCache> decode_epoch_entry_cache(std::string_view json);

}  // namespace apogee::remoting
