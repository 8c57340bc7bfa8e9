#include "tools/mqadmin/commands/commands.h"
#include "tools/mqadmin/tables/tables.h"

namespace mqadmin {

namespace {

std::vector<OptionSpec> clean_options() {
  return {{'b', "brokerAddr", Need::kOptional, "one broker, host:port"},
          {'c', "cluster", Need::kOptional, "all brokers of a cluster; without -b and -c, of every cluster"}};
}

}  // namespace

std::vector<CommandSpec> cluster_commands() {
  constexpr auto kRequired = Need::kRequired;
  constexpr auto kOptional = Need::kOptional;
  constexpr auto kFlag = Need::kFlag;
  return {
      {"clusterList",
       "Clusters and brokers",
       "List the brokers of every cluster with their load",
       "The load is messages per second over the last ten seconds; in brackets the requests that wait and for how "
       "long.",
       "clusterList -n 127.0.0.1:9876",
       {{'m', "moreStats", kFlag, "messages of yesterday and today instead"},
        {'i', "interval", kOptional, "list again every so many seconds"}},
       run_cluster_list},
      {"brokerStatus",
       "Clusters and brokers",
       "Show the runtime figures of a broker",
       "",
       "brokerStatus -b 127.0.0.1:10911",
       {{'b', "brokerAddr", Need::kOneOf, "one broker, host:port"},
        {'c', "clusterName", Need::kOneOf, "all brokers of a cluster"}},
       run_broker_status},
      {"getBrokerConfig",
       "Clusters and brokers",
       "Show the configuration that a broker runs with",
       "",
       "getBrokerConfig -b 127.0.0.1:10911",
       {{'b', "brokerAddr", Need::kOneOf, "one broker, host:port"},
        {'c', "clusterName", Need::kOneOf, "all brokers of a cluster"}},
       run_get_broker_config},
      {"updateBrokerConfig", "Clusters and brokers", "Change one configuration key of running brokers",
       "The broker keeps the new value in its configuration file, if it was started with one.",
       "updateBrokerConfig -c DefaultCluster -k logLevel -v debug",
       on_broker_or_cluster({{'k', "key", kRequired, "name of the key"}, {'v', "value", kRequired, "new value"}}),
       run_update_broker_config},
      {"wipeWritePerm",
       "Clusters and brokers",
       "Let producers leave a broker, before it is stopped",
       "Every NameServer takes the write permission from the broker's topics; consumers go on.",
       "wipeWritePerm -b broker-a",
       {{'b', "brokerName", kRequired, "name of the broker"}},
       run_wipe_write_perm},
      {"addWritePerm",
       "Clusters and brokers",
       "Let producers come back to a broker",
       "",
       "addWritePerm -b broker-a",
       {{'b', "brokerName", kRequired, "name of the broker"}},
       run_add_write_perm},

      {"cleanExpiredCQ", "Clusters and brokers", "Remove queues whose messages have all expired",
       "A message that comes later goes on with the queue's next offset.", "cleanExpiredCQ -c DefaultCluster",
       clean_options(), run_clean_expired_cq},
      {"cleanUnusedTopic", "Clusters and brokers", "Remove the queues of topics that a broker does not have any more",
       "", "cleanUnusedTopic -b 127.0.0.1:10911", clean_options(), run_clean_unused_topic},
      {"deleteExpiredCommitLog", "Clusters and brokers",
       "Remove files of the log that are older than fileReservedTime, whatever deleteWhen says",
       "They go after the command has ended, at most deleteFileBatchMax every cleanResourceInterval.",
       "deleteExpiredCommitLog -c DefaultCluster", clean_options(), run_delete_expired_commit_log},
      {"getNamesrvConfig",
       "NameServers",
       "Show the configuration of every NameServer",
       "",
       "getNamesrvConfig -n 127.0.0.1:9876",
       {},
       run_get_namesrv_config},
      {"updateNamesrvConfig",
       "NameServers",
       "Change one configuration key of every NameServer",
       "",
       "updateNamesrvConfig -k orderMessageEnable -v true",
       {{'k', "key", kRequired, "name of the key"}, {'v', "value", kRequired, "new value"}},
       run_update_namesrv_config},
      {"updateKvConfig",
       "NameServers",
       "Set one value of the NameServers' key-value table",
       "",
       "updateKvConfig -s ORDER_TOPIC_CONFIG -k Orders -v broker-a:8",
       {{'s', "namespace", kRequired, "which part of the table"},
        {'k', "key", kRequired, "name of the value"},
        {'v', "value", kRequired, "the value"}},
       run_update_kv_config},
      {"deleteKvConfig",
       "NameServers",
       "Delete one value of the NameServers' key-value table",
       "",
       "deleteKvConfig -s ORDER_TOPIC_CONFIG -k Orders",
       {{'s', "namespace", kRequired, "which part of the table"}, {'k', "key", kRequired, "name of the value"}},
       run_delete_kv_config},
  };
}

}  // namespace mqadmin
