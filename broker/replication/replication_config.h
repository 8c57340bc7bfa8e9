#pragma once

#include <string>
#include <vector>

#include "broker/broker_config.h"

namespace apogee::broker {

/// Adds the rows of replication.
void add_replication_rows(config::ConfigTable& table, BrokerConfig& config);

/// Whether role, id and the replication settings go together; adds lines to be logged as warnings.
/// Errors: kInvalidArgument naming the key.
[[nodiscard]] Status check_replication(const BrokerConfig& config, std::vector<std::string>& warnings);

/// When a message counts as replicated; changes while the broker runs.
[[nodiscard]] store::ReplicationRules replication_rules(const BrokerConfig& config);

/// haClassicPeers as a list.
[[nodiscard]] std::vector<std::string> classic_peers(const BrokerConfig& config);

}  // namespace apogee::broker
