#include "nameserver/config.h"

#include <cstdlib>

#include "common/base/process.h"

namespace apogee::nameserver {
namespace {

std::string environment(const char* name, const char* fallback) {
  const char* value = std::getenv(name);
  return value != nullptr && *value != '\0' ? value : fallback;
}

/// What a namesrv.conf of Apache RocketMQ 4.9.8 or 5.x may hold; those with a row are not ignored.
std::vector<std::string> apache_keys() {
  return {
      "bindAddress",
      "channelNotActiveInterval",
      "clientAsyncSemaphoreValue",
      "clientCallbackExecutorThreads",
      "clientChannelMaxIdleTimeSeconds",
      "clientCloseSocketIfTimeout",
      "clientOnewaySemaphoreValue",
      "clientPooledByteBufAllocatorEnable",
      "clientRequestThreadPoolNums",
      "clientRequestThreadPoolQueueCapacity",
      "clientSocketRcvBufSize",
      "clientSocketSndBufSize",
      "clientWorkerThreads",
      "clusterTest",
      "configBlackList",
      "configStorePath",
      "connectTimeoutMillis",
      "controllerDLegerGroup",
      "controllerDLegerPeers",
      "controllerDLegerSelfId",
      "controllerRequestThreadPoolQueueCapacity",
      "controllerStorePath",
      "controllerThreadPoolNums",
      "controllerType",
      "defaultThreadPoolNums",
      "defaultThreadPoolQueueCapacity",
      "deleteTopicWithBrokerRegistration",
      "disableCallbackExecutor",
      "disableNettyWorkerGroup",
      "electMasterMaxRetryCount",
      "enableAllTopicList",
      "enableControllerInNamesrv",
      "enableElectUncleanMaster",
      "enableReconnectForGoAway",
      "enableShutdownGracefully",
      "enableTopicList",
      "jraftConfig",
      "kvConfigPath",
      "listenPort",
      "mappedFileSize",
      "maxReconnectIntervalTimeSeconds",
      "metricGrpcExporterIntervalInMills",
      "metricGrpcExporterTimeOutInMills",
      "metricLoggingExporterIntervalInMills",
      "metricsExporterType",
      "metricsGrpcExporterHeader",
      "metricsGrpcExporterTarget",
      "metricsInDelta",
      "metricsLabel",
      "metricsPromExporterHost",
      "metricsPromExporterPort",
      "needWaitForService",
      "notifyBrokerRoleChanged",
      "notifyMinBrokerIdChanged",
      "orderMessageEnable",
      "processReadEvent",
      "productEnvName",
      "returnOrderTopicConfigToBroker",
      "rocketmqHome",
      "scanAvailableNameSrv",
      "scanInactiveMasterInterval",
      "scanNotActiveBrokerInterval",
      "serverAsyncSemaphoreValue",
      "serverCallbackExecutorThreads",
      "serverChannelMaxIdleTimeSeconds",
      "serverNettyWorkerGroupEnable",
      "serverOnewaySemaphoreValue",
      "serverPooledByteBufAllocatorEnable",
      "serverSelectorThreads",
      "serverSocketBacklog",
      "serverSocketRcvBufSize",
      "serverSocketSndBufSize",
      "serverWorkerThreads",
      "shutdownWaitTimeSeconds",
      "socksProxyConfig",
      "supportActingMaster",
      "unRegisterBrokerQueueCapacity",
      "useEpollNativeSelector",
      "useTLS",
      "waitSecondsForService",
      "writeBufferHighWaterMark",
      "writeBufferLowWaterMark",
  };
}

}  // namespace

NameServerConfig NameServerConfig::from_environment() {
  NameServerConfig config;
  const std::string home = environment("HOME", ".");
  config.rocketmq_home = environment("ROCKETMQ_HOME", "");
  config.kv_config_path = home + "/namesrv/kvConfig.json";
  config.config_store_path = home + "/namesrv/namesrv.properties";
  config.log_dir = default_log_dir();
  return config;
}

void add_rows(NameServerConfig& c, config::ConfigTable& table) {
  table.group("Network");
  table.add_int("listenPort", &c.listen_port, {0, 65535}, "TCP port for brokers, clients and tools; 0 takes a free one",
                {.unit = "", .important = true});
  table.add_string("bindAddress", &c.bind_address, "IP address to listen on", {.unit = "", .important = true});
  table.add_int("serverWorkerThreads", &c.io_threads, {1, 64}, "Threads that read, answer and write");
  table.add_int("serverChannelMaxIdleTimeSeconds", &c.connection_idle_s_max, {1, 86400},
                "A connection without any traffic for so long is closed", {.unit = "s"});
  table.add_int("frameBytesMax", &c.frame_bytes_max, {4096, 1 << 30}, "Largest request that is read",
                {.unit = "bytes"});

  table.group("Files");
  table.add_string("rocketmqHome", &c.rocketmq_home, "Folder of the installation; only reported",
                   {.unit = "", .important = true, .locked = true});
  table.add_string("kvConfigPath", &c.kv_config_path, "Where key-value settings (PUT_KV_CONFIG) are kept",
                   {.unit = "", .important = true, .locked = true});
  table.add_string("configStorePath", &c.config_store_path,
                   "Properties file that keeps settings changed while running; with -c it is that file",
                   {.unit = "", .important = true, .locked = true});

  table.group("Routes");
  table.add_bool("orderMessageEnable", &c.order_message_enable,
                 "Tell clients the order configuration of a topic with its route", {.unit = "", .important = true});
  table.add_bool("returnOrderTopicConfigToBroker", &c.return_order_topic_config_to_broker,
                 "Answer a registration with the order configuration of all topics");
  table.add_bool("deleteTopicWithBrokerRegistration", &c.delete_topic_with_broker_registration,
                 "Drop the topics of a broker that its registration does not name any more");
  table.add_int(
      "scanNotActiveBrokerInterval", &c.scan_inactive_interval_ms, {100, 600'000},
      "How often silent brokers are looked for; one is dropped 120 s after its last registration or heartbeat, "
      "or after the time that it announced itself",
      {.unit = "ms"});
  table.add_bool("supportActingMaster", &c.support_acting_master,
                 "Where a master is gone, show the slave with the smallest id in its place in routes, without the "
                 "permission to write; for brokers that registered with enableSlaveActingMaster",
                 {.unit = "", .important = true});
  table.add_bool("notifyMinBrokerIdChanged", &c.notify_min_broker_id_changed,
                 "Tell the brokers of a name when the smallest id among them changed");
  table.add_bool("needWaitForService", &c.need_wait_for_service,
                 "Refuse route requests until brokers had time to register after a start");
  table.add_int("waitSecondsForService", &c.wait_s_for_service, {0, 3600}, "That time", {.unit = "s"});
  table.add_bool("enableAllTopicList", &c.enable_all_topic_list, "Answer requests for the list of all topics");
  table.add_bool("enableTopicList", &c.enable_topic_list,
                 "Answer requests for the topics of a cluster and for unit topics");

  table.group("Administration");
  table.add_string("configBlackList", &c.config_black_list,
                   "Settings that no request may change, separated by semicolons", {.unit = "", .locked = true});
  table.add_string("logDir", &c.log_dir, "Folder of namesrv.log; empty = no log file", {.unit = "", .important = true});
  table.add_enum("logLevel", &c.log_level,
                 {{"DEBUG", LogLevel::kDebug},
                  {"INFO", LogLevel::kInfo},
                  {"WARN", LogLevel::kWarn},
                  {"ERROR", LogLevel::kError},
                  {"OFF", LogLevel::kOff}},
                 "Least important lines that are logged", {.unit = "", .important = true});
  table.add_int("logFileBytesMax", &c.log_file_bytes_max, {64 * 1024, int64_t{1} << 40},
                "A log file is moved aside at this size", {.unit = "bytes"});
  table.add_int("logFilesMax", &c.log_files_max, {1, 1000}, "Moved-aside log files that are kept");
  table.add_bool("logToStderr", &c.log_to_stderr, "Log to the standard error output too");
  table.add_ignored(apache_keys());
}

}  // namespace apogee::nameserver
