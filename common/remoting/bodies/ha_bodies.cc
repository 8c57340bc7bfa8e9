#include "common/remoting/bodies/ha_bodies.h"

#include "common/remoting/bodies/body_reader.h"
#include "common/remoting/bodies/json_writer.h"

namespace apogee::remoting {

static void read_body(const BodyReader& in, HaRuntimeInfo::Connection& to) {
  in.read("addr", to.addr);
  in.read("slaveAckOffset", to.slave_ack_offset);
  in.read("diff", to.diff);
  in.read("inSync", to.in_sync);
  in.read("transferredByteInSecond", to.transferred_byte_in_second);
  in.read("transferFromWhere", to.transfer_from_where);
  in.read("brokerId", to.broker_id);
  in.read("behindMs", to.behind_ms);
  in.read("stream", to.stream);
}

static void read_body(const BodyReader& in, HaRuntimeInfo::Client& to) {
  in.read("lastReadTimestamp", to.last_read_timestamp);
  in.read("lastWriteTimestamp", to.last_write_timestamp);
  in.read("masterFlushOffset", to.master_flush_offset);
  in.read("maxOffset", to.max_offset);
  in.read("transferredByteInSecond", to.transferred_byte_in_second);
  in.read("state", to.state);
  in.read("why", to.why);
  in.read("masterHaAddress", to.master);
  in.read("masterMaxOffset", to.master_max_offset);
  in.read("behindMs", to.behind_ms);
}

static void read_body(const BodyReader& in, HaRuntimeInfo& to) {
  in.read("master", to.master);
  in.read("masterCommitLogMaxOffset", to.master_commit_log_max_offset);
  in.read("inSyncSlaveNums", to.in_sync_slave_nums);
  in.read_structs("haConnectionInfo", to.connections);
  in.read_struct("haClientRuntimeInfo", to.client);
}

static void read_body(const BodyReader& in, EpochEntryCache::Entry& to) {
  in.read("epoch", to.epoch);
  in.read("startOffset", to.start_offset);
  in.read("endOffset", to.end_offset);
}

static void read_body(const BodyReader& in, EpochEntryCache& to) {
  in.read("clusterName", to.cluster_name);
  in.read("brokerName", to.broker_name);
  in.read("brokerId", to.broker_id);
  in.read_structs("epochList", to.epoch_list);
  in.read("maxOffset", to.max_offset);
}

std::string encode(const HaRuntimeInfo& body) {
  JsonWriter out;
  out.begin_object().key("haClientRuntimeInfo").begin_object();
  const auto& client = body.client;
  out.member("lastReadTimestamp", client.last_read_timestamp)
      .member("lastWriteTimestamp", client.last_write_timestamp)
      .member("masterFlushOffset", client.master_flush_offset)
      .member("maxOffset", client.max_offset)
      .member("transferredByteInSecond", client.transferred_byte_in_second);
  if (!body.master)
    out.member("behindMs", client.behind_ms)
        .member("masterHaAddress", client.master)
        .member("masterMaxOffset", client.master_max_offset)
        .member("state", client.state)
        .member("why", client.why);
  out.end_object().key("haConnectionInfo").begin_array();
  for (const auto& each : body.connections) {
    out.begin_object()
        .member("addr", each.addr)
        .member("behindMs", each.behind_ms)
        .member("brokerId", each.broker_id)
        .member("diff", each.diff)
        .member("inSync", each.in_sync)
        .member("slaveAckOffset", each.slave_ack_offset)
        .member("stream", each.stream)
        .member("transferFromWhere", each.transfer_from_where)
        .member("transferredByteInSecond", each.transferred_byte_in_second)
        .end_object();
  }
  out.end_array()
      .member("inSyncSlaveNums", body.in_sync_slave_nums)
      .member("master", body.master)
      .member("masterCommitLogMaxOffset", body.master_commit_log_max_offset);
  return out.end_object().take();
}

Result<HaRuntimeInfo> decode_ha_runtime_info(std::string_view json) {
  return decode_body<HaRuntimeInfo>(json, "HARuntimeInfo");
}

std::string encode(const EpochEntryCache& body) {
  JsonWriter out;
  out.begin_object()
      .member("brokerId", body.broker_id)
      .member("brokerName", body.broker_name)
      .member("clusterName", body.cluster_name)
      .key("epochList")
      .begin_array();
  for (const auto& each : body.epoch_list)
    out.begin_object()
        .member("endOffset", each.end_offset)
        .member("epoch", each.epoch)
        .member("startOffset", each.start_offset)
        .end_object();
  return out.end_array().member("maxOffset", body.max_offset).end_object().take();
}

Result<EpochEntryCache> decode_epoch_entry_cache(std::string_view json) {
  return decode_body<EpochEntryCache>(json, "EpochEntryCache");
}

}  // namespace apogee::remoting
