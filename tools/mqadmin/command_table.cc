#include <iterator>
#include <utility>

#include "tools/mqadmin/tables/tables.h"

namespace mqadmin {

std::vector<OptionSpec> on_broker_or_cluster(std::vector<OptionSpec> more) {
  const OptionSpec either[] = {{'b', "brokerAddr", Need::kOneOf, "one broker, host:port"},
                               {'c', "clusterName", Need::kOneOf, "all masters of a cluster"}};
  more.insert(more.begin(), std::begin(either), std::end(either));
  return more;
}

const std::vector<CommandSpec>& commands() {
  static const std::vector<CommandSpec> all = [] {
    std::vector<CommandSpec> rows;
    for (auto family : {cluster_commands, topic_commands, group_commands, message_commands, trace_commands}) {
      auto more = family();
      rows.insert(rows.end(), std::make_move_iterator(more.begin()), std::make_move_iterator(more.end()));
    }
    return rows;
  }();
  return all;
}

}  // namespace mqadmin
