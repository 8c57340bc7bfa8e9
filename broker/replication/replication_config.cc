#include "broker/replication/replication_config.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include "common/base/text.h"

namespace apogee::broker {

namespace {

constexpr int64_t kHourMs = 3'600'000;
constexpr int32_t kInSyncReplicasDefault = 2;

std::string address_problem(const std::string& address) {
  const auto colon = address.rfind(':');
  int32_t port = 0;
  if (colon != std::string::npos)
    for (char c : address.substr(colon + 1)) {
      if (c < '0' || c > '9' || port > 65'535) return "the port is no number";
      port = port * 10 + (c - '0');
    }
  return colon == 0 || port < 1 || port > 65'535 ? "host:port is wanted" : "";
}

}  // namespace

void add_replication_rows(config::ConfigTable& table, BrokerConfig& config) {
  const config::Traits ms{"ms", false, false}, bytes{"bytes", false, false};
  table.group("Replication");
  table.add_string("haMasterAddress", &config.ha_master_address,
                   "of a slave: HA address of its master, host:port; empty: as the NameServers say");
  table.add_string("haSecret", &config.ha_secret,
                   "what master and slaves of a broker know and nobody else; empty: peers from loopback and from the "
                   "addresses that the NameServers list for this broker are believed",
                   {"", true, true, true});
  table.add_string("haClassicPeers", &config.ha_classic_peers,
                   "IP addresses, with commas, of masters and slaves of Apache RocketMQ, which cannot prove who they "
                   "are: between them and this broker the stream of RocketMQ 4 is spoken",
                   {"", false, true});
  table.add_int("inSyncReplicas", &config.in_sync_replicas, {0, 64},
                "of a SYNC_MASTER: so many brokers, itself among them, must have a message before it is acknowledged; "
                "0, as when it is not given: 2");
  table.add_int("minInSyncReplicas", &config.min_in_sync_replicas, {1, 64},
                "of a SYNC_MASTER: with fewer brokers in sync, itself among them, messages are refused");
  table.add_bool("allAckInSyncStateSet", &config.all_ack_in_sync,
                 "of a SYNC_MASTER: every broker that is in sync must have a message before it is acknowledged");
  table.add_int("slaveTimeout", &config.slave_timeout_ms, {1, kHourMs},
                "how long a send waits for slaves; then it is answered FLUSH_SLAVE_TIMEOUT", ms);
  table.add_int("haSlaveFallbehindMax", &config.ha_fall_behind_bytes_max, {1, INT64_MAX},
                "a slave that lags more is not waited for", bytes);
  table.add_int("haMaxTimeSlaveNotCatchup", &config.ha_catch_up_ms_max, {1, kHourMs},
                "a slave that has not had everything for so long is not in sync any more", ms);
  table.add_bool("haAckOnDisk", &config.ha_ack_on_disk,
                 "of a slave: acknowledge what is on its disk, not what is in its page cache");
  table.add_int("haSendHeartbeatInterval", &config.ha_heartbeat_ms, {1, kHourMs},
                "time between signs of life on an HA connection", ms);
  table.add_int("haHousekeepingInterval", &config.ha_silence_ms_max, {1, kHourMs},
                "an HA connection that is silent for so long is closed", ms);
  table.add_int("haTransferBatchSize", &config.ha_batch_bytes, {1 << 10, 3 << 20},
                "most bytes of the log in one frame; slaves of Apache RocketMQ get at most 32768", bytes);
  table.add_int("haWindowBytes", &config.ha_window_bytes, {1 << 16, 1LL << 30},
                "what is sent to a slave and not acknowledged by it is at most that much", bytes);
  table.add_bool("haFlowControlEnable", &config.ha_flow_control, "obey maxHaTransferByteInSecond");
  table.add_int("maxHaTransferByteInSecond", &config.ha_bytes_per_second, {1, INT64_MAX},
                "most bytes of the log that go in a second to a slave that is far behind while messages come; with "
                "haFlowControlEnable to any slave, at any time",
                bytes);
  table.add_bool(
      "haTruncateAhead", &config.ha_truncate_ahead,
      "of a slave: cut off what its master lacks, which may have been acknowledged; such messages are lost. For "
      "one start, after the operator has decided which log is the right one");
  table.add_int("haScrubBytesPerSecond", &config.ha_scrub_bytes_per_second, {0, INT64_MAX},
                "of a slave: how fast it checks its own log after a start; damaged records are fetched from the "
                "master; 0: not at all",
                bytes);
  table.add_int("slaveSyncInterval", &config.slave_sync_ms, {50, kHourMs},
                "of a slave: time between looks for changes of topics, groups, offsets and progress; whole tables of "
                "a master of Apache RocketMQ are asked for each 10 s at most",
                ms);
  table.add_bool("slaveReadEnable", &config.slave_read,
                 "send consumers that lag behind the memory (accessMessageInMemoryMaxRatio) to a slave");
  table.add_bool("offsetCheckInSlave", &config.offset_check_in_slave,
                 "a slave may correct the offset of a consumer; else it sends it to the master");
  table.add_bool(
      "enableSlaveActingMaster", &config.slave_acting_master,
      "while there is no master its slave with the smallest id acts for it; for the master, which takes over "
      "when it returns, and for the slaves; the NameServers need supportActingMaster=true");
  table.add_bool("enableRemoteEscape", &config.remote_escape,
                 "of an acting slave: what is due is sent to other masters of the cluster; else it waits");
  table.add_int("brokerNotActiveTimeoutMillis", &config.broker_not_active_ms, {100, kHourMs},
                "with enableSlaveActingMaster: NameServers drop this broker after so long without a heartbeat", ms);
  table.add_int("brokerHeartbeatInterval", &config.broker_heartbeat_ms, {50, kHourMs},
                "with enableSlaveActingMaster: time between heartbeats to the NameServers", ms);
  table.add_int("syncBrokerMemberGroupPeriod", &config.member_group_ms, {50, kHourMs},
                "with enableSlaveActingMaster, of a slave: time between looks whether its master is there", ms);
}

Status check_replication(const BrokerConfig& config, std::vector<std::string>& warnings) {
  auto refuse = [](std::string why) { return Error{Errc::kInvalidArgument, std::move(why)}; };
  const bool slave = config.role == BrokerRole::kSlave;
  if (slave && config.broker_id == 0)
    return refuse(
        "brokerRole=SLAVE with brokerId=0: 0 is the master; give each slave of a brokerName a brokerId of its own "
        "from 1 on");
  if (!slave && config.broker_id != 0)
    return refuse("brokerId=" + std::to_string(config.broker_id) +
                  ": a master has brokerId=0; set brokerRole=SLAVE if this is a slave");
  if (!config.ha_master_address.empty())
    if (auto why = address_problem(config.ha_master_address); !why.empty())
      return refuse("haMasterAddress: " + config.ha_master_address + ": " + why);
  for (const auto& peer : classic_peers(config)) {
    in_addr v4{};
    in6_addr v6{};
    if (inet_pton(AF_INET, peer.c_str(), &v4) != 1 && inet_pton(AF_INET6, peer.c_str(), &v6) != 1)
      return refuse("haClassicPeers: " + peer + " is no IP address");
  }
  if (config.role == BrokerRole::kSyncMaster) {
    const auto rules = replication_rules(config);
    if (rules.in_sync_replicas == 1 && rules.min_in_sync_replicas == 1 && !rules.all_in_sync)
      warnings.emplace_back(
          "inSyncReplicas=1: this SYNC_MASTER waits for no slave; what it acknowledges is lost with its machine. Leave "
          "the key out to wait for one slave");
    if (rules.min_in_sync_replicas > rules.in_sync_replicas)
      warnings.emplace_back(
          "minInSyncReplicas is greater than inSyncReplicas: the brokers in between are not waited "
          "for");
  }
  if (slave && config.ha_secret.empty() && config.ha_classic_peers.empty())
    warnings.emplace_back(
        "haSecret is empty: whoever answers at the master's address is believed; set the same haSecret at the master "
        "and its slaves");
  if (config.role == BrokerRole::kSyncMaster && config.ha_secret.empty())
    warnings.emplace_back(
        "haSecret is empty: whoever connects to the HA port from loopback or from an address that the NameServers list "
        "for this broker is believed to be its slave; set the same haSecret at the master and its slaves");
  if (slave && config.ha_truncate_ahead)
    warnings.emplace_back("haTruncateAhead=true: what this slave has and its master lacks will be cut off");
  return {};
}

store::ReplicationRules replication_rules(const BrokerConfig& config) {
  store::ReplicationRules rules;
  rules.waits = config.role == BrokerRole::kSyncMaster;
  const int32_t wanted = config.in_sync_replicas;
  rules.in_sync_replicas = wanted == 0 ? kInSyncReplicasDefault : wanted;
  rules.min_in_sync_replicas = config.min_in_sync_replicas;
  rules.all_in_sync = config.all_ack_in_sync;
  rules.timeout_ms = config.slave_timeout_ms;
  rules.fall_behind_bytes_max = config.ha_fall_behind_bytes_max;
  rules.catch_up_ms_max = config.ha_catch_up_ms_max;
  return rules;
}

std::vector<std::string> classic_peers(const BrokerConfig& config) {
  std::vector<std::string> peers;
  for (std::string_view part : split(config.ha_classic_peers, ","))
    if (auto peer = trim(part); !peer.empty()) peers.emplace_back(peer);
  return peers;
}

}  // namespace apogee::broker
