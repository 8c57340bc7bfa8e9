#include <algorithm>

#include "apogee/admin_client.h"
#include "client/src/admin/admin_impl.h"
#include "common/remoting/bodies/ha_bodies.h"

namespace apogee {

using remoting::Command;
using remoting::RequestCode;

Result<admin::ReplicationState> AdminClient::replication_state(const std::string& address) {
  APOGEE_TRY_ASSIGN(auto answer, impl_->call(address, Command::request(RequestCode::kGetBrokerHaStatus)));
  APOGEE_TRY_ASSIGN(auto info, admin::decode_body(address, answer, remoting::decode_ha_runtime_info));
  admin::ReplicationState state;
  state.master = info.master;
  state.in_sync_slaves = info.in_sync_slave_nums;
  state.log_end = info.master ? info.master_commit_log_max_offset : info.client.max_offset;
  for (auto& connection : info.connections) {
    admin::ReplicaState slave;
    slave.address = std::move(connection.addr);
    slave.broker_id = connection.broker_id;
    slave.acknowledged = connection.slave_ack_offset;
    slave.lag_bytes = std::max<int64_t>(0, connection.diff);
    slave.lag_ms = connection.behind_ms;
    slave.in_sync = connection.in_sync;
    slave.bytes_per_second = connection.transferred_byte_in_second;
    state.slaves.push_back(std::move(slave));
  }
  state.state = std::move(info.client.state);
  state.why = std::move(info.client.why);
  state.master_address = std::move(info.client.master);
  state.master_end = info.client.master_max_offset;
  state.lag_ms = info.client.behind_ms;
  state.bytes_per_second = info.client.transferred_byte_in_second;
  return state;
}

Result<admin::LogEpochs> AdminClient::log_epochs(const std::string& address) {
  APOGEE_TRY_ASSIGN(auto answer, impl_->call(address, Command::request(RequestCode::kGetBrokerEpochCache)));
  APOGEE_TRY_ASSIGN(auto cache, admin::decode_body(address, answer, remoting::decode_epoch_entry_cache));
  admin::LogEpochs epochs{
      std::move(cache.cluster_name), std::move(cache.broker_name), cache.broker_id, cache.max_offset, {}};
  for (const auto& each : cache.epoch_list) epochs.epochs.push_back({each.epoch, each.start_offset, each.end_offset});
  return epochs;
}

}  // namespace apogee
