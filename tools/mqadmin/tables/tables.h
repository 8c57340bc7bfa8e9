#pragma once

#include <vector>

#include "tools/mqadmin/command.h"

// The rows of each family of commands; command_table.cc puts them together.
namespace mqadmin {

std::vector<CommandSpec> cluster_commands();  ///< clusters, brokers, NameServers
std::vector<CommandSpec> topic_commands();
std::vector<CommandSpec> group_commands();  ///< groups and clients
std::vector<CommandSpec> message_commands();
std::vector<CommandSpec> trace_commands();

/// The options -b and -c of commands for one broker or all masters of a cluster, and more.
std::vector<OptionSpec> on_broker_or_cluster(std::vector<OptionSpec> more);

inline constexpr const char* kTimeHelp = "now, ms since 1970, or yyyy-MM-dd#HH:mm:ss:SSS";

}  // namespace mqadmin
