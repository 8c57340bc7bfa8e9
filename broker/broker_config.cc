#include "broker/broker_config.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <thread>
#include <utility>

#include "broker/ignored_keys.h"
#include "broker/replication/replication_config.h"
#include "broker/schedule/delay_levels.h"
#include "common/base/process.h"
#include "common/base/text.h"

namespace apogee::broker {

namespace {

constexpr int64_t kHourMs = 3'600'000;

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string() : std::string(value);
}

bool is_loopback(std::string_view host) {
  return host == "localhost" || host == "::1" || host == "[::1]" || host.substr(0, 4) == "127.";
}

std::string host_of(const std::string& address) { return address.substr(0, address.rfind(':')); }

std::string first_public_ipv4() {
  ifaddrs* list = nullptr;
  std::string found;
  if (getifaddrs(&list) != 0) return found;
  for (ifaddrs* i = list; i != nullptr && found.empty(); i = i->ifa_next) {
    if (i->ifa_addr == nullptr || i->ifa_addr->sa_family != AF_INET) continue;
    if ((i->ifa_flags & IFF_UP) == 0 || (i->ifa_flags & IFF_LOOPBACK) != 0) continue;
    char text[INET_ADDRSTRLEN] = {};
    const auto* address = reinterpret_cast<const sockaddr_in*>(i->ifa_addr);
    if (inet_ntop(AF_INET, &address->sin_addr, text, sizeof text) != nullptr) found = text;
  }
  freeifaddrs(list);
  return found;
}

/// The hours in a text like 04 or 04;16.
Result<std::vector<int32_t>> hours_of(std::string_view text) {
  std::vector<int32_t> hours;
  for (auto part : split(text, ";")) {
    part = trim(part);
    if (part.empty() && !hours.empty()) continue;
    int32_t hour = -1;
    auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), hour);
    if (error != std::errc() || end != part.data() + part.size() || hour < 0 || hour > 23)
      return Error{Errc::kInvalidArgument,
                   "\"" + std::string(text) + "\": hours from 00 to 23 are wanted, as 04 or 04;16"};
    hours.push_back(hour);
  }
  return hours;
}

void add_identity_rows(config::ConfigTable& table, BrokerConfig& config) {
  config::Traits important{"", true, false};
  table.group("Identity and network");
  table.add_string("brokerName", &config.broker_name, "name of this broker; a master and its slaves share it",
                   important);
  table.add_string("brokerClusterName", &config.cluster_name, "name of the cluster", important);
  table.add_int("brokerId", &config.broker_id, {0, INT32_MAX}, "0 is the master; each slave has one of its own",
                important);
  table.add_enum("brokerRole", &config.role,
                 {{"ASYNC_MASTER", BrokerRole::kAsyncMaster},
                  {"SYNC_MASTER", BrokerRole::kSyncMaster},
                  {"SLAVE", BrokerRole::kSlave}},
                 "role of this broker", important);
  table.add_string("namesrvAddr", &config.namesrv_addr, "addresses of all NameServers, host:port;host:port", important);
  table.add_string("brokerIP1", &config.broker_ip1, "address told to clients; empty: the first that is not loopback",
                   important);
  table.add_string("brokerIP2", &config.broker_ip2, "address told to slaves; empty: brokerIP1");
  table.add_string("bindAddress", &config.bind_address, "local address to listen on", important);
  table.add_int("listenPort", &config.listen_port, {0, 65534}, "port for clients; this - 2 is the VIP port; 0: any",
                important);
  table.add_int("haListenPort", &config.ha_listen_port, {0, 65535}, "port for slaves; 0: listenPort + 1");
  table.add_int("brokerPermission", &config.permission, {0, 7}, "4 read, 2 write, 6 both");
  table.add_int("registerNameServerPeriod", &config.register_period_ms, {1, INT32_MAX},
                "time between registrations, taken as at least 10000 and at most 60000", {"ms", false, false});
  table.add_int("registerBrokerTimeoutMills", &config.register_timeout_ms, {100, kHourMs},
                "how long a NameServer may take to answer", {"ms", false, false});
  table.add_bool("compressedRegister", &config.compressed_register, "send registrations compressed");
  table.add_int("namesrvListenPort", &config.namesrv_listen_port, {0, 65535},
                "port of the NameServer inside, with --standalone; 0: any");

  table.group("Connections and threads");
  table.add_int("ioThreads", &config.io_threads, {1, 256},
                "threads that serve connections; by default 2, on a single processor 1");
  table.add_int("readerThreads", &config.reader_threads, {1, 256}, "threads for requests that may touch the disk");
  table.add_int("serverChannelMaxIdleTimeSeconds", &config.channel_idle_s, {1, 86'400},
                "a connection without traffic is closed after this", {"s", false, false});
  table.add_int("connectionInflightBytesMax", &config.connection_inflight_bytes, {1 << 20, INT64_MAX},
                "requests of one connection that are not answered yet", {"bytes", false, false});
  table.add_int("totalInflightBytesMax", &config.total_inflight_bytes, {1 << 20, INT64_MAX},
                "requests of all connections that are not answered yet", {"bytes", false, false});
  table.add_int("connectionUnsentBytesMax", &config.connection_unsent_bytes, {1 << 20, INT64_MAX},
                "answers that a connection has not taken yet; beyond it is closed", {"bytes", false, false});
  table.add_int("heldPullsMax", &config.held_pulls_max, {0, INT32_MAX},
                "pulls that wait for messages; beyond they are answered at once");
  table.add_int("stopDrainMs", &config.stop_drain_ms, {0, 600'000}, "how long stopping waits for answers to be written",
                {"ms", false, false});
}

void add_transaction_rows(config::ConfigTable& table, BrokerConfig& config) {
  const config::Traits ms{"ms", false, false};
  table.add_bool("rejectTransactionMessage", &config.reject_transactions, "refuse half messages");
  table.add_int("transactionTimeOut", &config.transaction_timeout_ms, {0, kHourMs},
                "age from which the producers are asked for the state of a half message", ms);
  table.add_int("transactionCheckInterval", &config.transaction_check_interval_ms, {1, kHourMs},
                "time between two rounds of asking", ms);
  table.add_int("transactionCheckMax", &config.transaction_check_max, {0, 1'000'000},
                "so often is asked; then the half message goes to TRANS_CHECK_MAX_TIME_TOPIC");
  table.add_int("transactionOpMsgMaxSize", &config.transaction_op_bytes_max, {1, 1 << 20},
                "bytes of decisions that are stored as one message", {"bytes", false, false});
  table.add_int("transactionOpBatchInterval", &config.transaction_op_interval_ms, {0, kHourMs},
                "how long a decision to commit is gathered with others before it is stored", ms);
  table.add_int("transactionUndecidedMax", &config.transaction_undecided_max, {1, INT32_MAX},
                "half messages are refused as busy while so many are undecided");
}

void add_feature_rows(config::ConfigTable& table, BrokerConfig& config) {
  table.group("Topics, groups, features");
  table.add_bool("autoCreateTopicEnable", &config.auto_create_topic, "a send may create its topic", {"", true, false});
  table.add_bool("autoCreateSubscriptionGroup", &config.auto_create_group, "a consumer may create its group",
                 {"", true, false});
  table.add_int("defaultTopicQueueNums", &config.default_topic_queue_nums, {1, 65'536}, "queues of TBW102");
  table.add_bool("clusterTopicEnable", &config.cluster_topic,
                 "the topic named as the cluster is readable and writable");
  table.add_bool("brokerTopicEnable", &config.broker_topic, "the topic named as the broker is readable and writable");
  table.add_bool("traceTopicEnable", &config.trace_topic, "make the topic of message traces");
  table.add_string("msgTraceTopicName", &config.trace_topic_name, "the topic of message traces");
  table.add_bool("longPollingEnable", &config.long_polling, "hold pulls as long as the client asks for");
  table.add_int("shortPollingTimeMills", &config.short_polling_ms, {1, 60'000},
                "how long pulls are held when longPollingEnable is false", {"ms", false, false});
  table.add_bool("litePullMessageEnable", &config.lite_pull, "serve LITE_PULL_MESSAGE");
  const config::Traits rate{"messages per second", false, false};
  table.add_int("publishRatePerTopic", &config.publish_rate_per_topic, {0, INT32_MAX},
                "messages that all clients together may send to a topic; 0: no limit", rate);
  table.add_int("publishRatePerClient", &config.publish_rate_per_client, {0, INT32_MAX},
                "messages that a client may send; 0: no limit", rate);
  table.add_int("maxConsumeRate", &config.consume_rate, {0, INT32_MAX},
                "messages that one consumer of a group may pull; 0: no limit", rate);
  table.add_int("maxConsumeRatePerGroup", &config.consume_rate_per_group, {0, INT32_MAX},
                "messages that all consumers of a group together may pull; 0: no limit", rate);
  table.add_bool("enablePropertyFilter", &config.property_filter,
                 "consumers may filter by SQL92 expressions on message properties");
  table.add_bool("filterSupportRetry", &config.filter_retry,
                 "messages that a group gets again pass its SQL92 filter of their topic once more");
  table.add_int("filterDataCleanTimeSpan", &config.filter_data_life_ms, {0, INT64_MAX},
                "how long the filters of a group that has gone stay in consumerFilter.json", {"ms", false, false});
  table.add_int("flushConsumerOffsetInterval", &config.flush_consumer_offset_ms, {100, kHourMs},
                "time between exports of consumer offsets to consumerOffset.json", {"ms", false, false});
  table.add_int("rebalanceLockMaxLiveTime", &config.lock_life_ms, {1, kHourMs},
                "how long a queue stays locked for an orderly consumer that does not ask again; in Apache RocketMQ the "
                "system property rocketmq.broker.rebalance.lockMaxLiveTime",
                {"ms", false, false});
  table.add_string("regionId", &config.region_id, "value of the property MSG_REGION");
  table.add_bool("storeReplyMessageEnable", &config.store_reply, "store replies to requests, besides pushing them");
  table.add_bool("traceOn", &config.trace_on, "value of the property TRACE_ON");
  table.add_string("messageDelayLevel", &config.message_delay_level,
                   "the delays of levels 1, 2, ...: whole numbers with one of the units s, m, h, d");
  table.add_int("flushDelayOffsetInterval", &config.flush_delay_offset_ms, {1, kHourMs},
                "time between saves of how far each delay level is delivered; after a crash that much may be delivered "
                "again",
                {"ms", false, false});
  table.add_int("startAcceptSendRequestTimeStamp", &config.accept_sends_from_ms, {0, INT64_MAX},
                "sends are refused before this time", {"ms since 1970", false, false});
  table.add_int("maxTransferBytesOnMessageInMemory", &config.transfer_bytes_max, {1, 128 << 20},
                "most bytes in the answer to a pull", {"bytes", false, false});
  table.add_int("maxTransferCountOnMessageInMemory", &config.transfer_count_max, {1, 65'536},
                "most messages in the answer to a pull");
  table.add_int("accessMessageInMemoryMaxRatio", &config.in_memory_ratio, {1, 100},
                "part of the memory in which messages are taken to be", {"percent", false, false});
  add_transaction_rows(table, config);
}

void add_store_rows(config::ConfigTable& table, BrokerConfig& config) {
  table.group("Store");
  table.add_string("storePathRootDir", &config.store_root, "directory of everything that is stored", {"", true, false});
  table.add_string("storePathCommitLog", &config.commit_log_dir, "directory of the log; empty: ROOT/commitlog");
  table.add_int("mappedFileSizeCommitLog", &config.commit_log_file_bytes, {1 << 16, INT32_MAX}, "size of a log file",
                {"bytes", false, false});
  table.add_int("mappedFileSizeConsumeQueue", &config.consume_queue_file_bytes, {20, INT32_MAX}, "size of a queue file",
                {"bytes", false, false});
  table.add_enum("storeCompatibility", &config.store_compatibility,
                 {{"5.x", store::StoreCompatibility::k5x}, {"4.9", store::StoreCompatibility::k49}},
                 "4.9: nothing is written that a broker of Apache RocketMQ 4.9 could not read");
  table.add_enum("flushDiskType", &config.flush_disk_type,
                 {{"ASYNC_FLUSH", store::FlushDiskType::kAsync}, {"SYNC_FLUSH", store::FlushDiskType::kSync}},
                 "whether a send is answered before or after its message is on disk", {"", true, false});
  table.add_int("flushIntervalCommitLog", &config.flush_interval_ms, {1, kHourMs}, "time between flushes",
                {"ms", false, false});
  table.add_int("flushCommitLogLeastPages", &config.flush_least_pages, {0, 1 << 20},
                "pages of 4 KiB that a flush waits for, at most the thorough interval", {"", false, false});
  table.add_int("flushCommitLogThoroughInterval", &config.flush_thorough_interval_ms, {1, kHourMs},
                "longest time between flushes", {"ms", false, false});
  table.add_bool("warmMapedFileEnable", &config.warm_log_files,
                 "touch all pages of the next log file ahead of its use, and lock them in memory");
  table.add_int("syncFlushTimeout", &config.sync_flush_timeout_ms, {1, kHourMs},
                "how long a send waits for the disk with SYNC_FLUSH", {"ms", false, false});
  table.add_int("maxMessageSize", &config.message_bytes_max, {1, 64 << 20}, "largest body", {"bytes", false, false});
  table.add_int("osPageCacheBusyTimeOutMills", &config.page_cache_busy_ms, {1, kHourMs},
                "sends are refused as busy when an append takes longer", {"ms", false, false});
  table.add_int("diskSpaceWarningLevelRatio", &config.disk_used_percent_max, {1, 100},
                "sends are refused above this use of the disk, until it is down to diskSpaceCleanForciblyRatio",
                {"percent", false, false});
  table.add_int("fileReservedTime", &config.file_reserved_hours, {0, 1'000'000},
                "how long messages are kept; counts from when their file was full", {"h", true, false});
  table.add_string("deleteWhen", &config.delete_when,
                   [](std::string_view text) -> Status {
                     APOGEE_TRY(hours_of(text));
                     return {};
                   },
                   "hours of the day in which expired files go, as 04 or 04;16", {"", true, false});
  table.add_int("diskMaxUsedSpaceRatio", &config.disk_clean_percent, {0, 100},
                "above this use of the disk expired files go at any hour; taken as at least 10 and at most 95",
                {"percent", false, false});
  table.add_int("diskSpaceCleanForciblyRatio", &config.disk_forced_percent, {1, 100},
                "above this use of the disk the oldest files go, expired or not", {"percent", false, false});
  table.add_bool("cleanFileForciblyEnable", &config.clean_forcibly,
                 "false: messages that have not expired stay, however full the disk");
  table.add_int("cleanResourceInterval", &config.clean_interval_ms, {1, kHourMs}, "time between looks for such files",
                {"ms", false, false});
  table.add_int("deleteCommitLogFilesInterval", &config.delete_pause_ms, {0, kHourMs},
                "pause between the removal of two files of the log", {"ms", false, false});
  table.add_int("deleteFileBatchMax", &config.delete_files_max, {1, 1'000'000},
                "most files of the log that are removed at one look");
  table.add_bool("checkCRCOnRecover", &config.check_crc_on_recover, "check bodies when recovering");
  table.add_bool("messageIndexEnable", &config.message_index, "keep the index of messages by key (ROOT/indexdb)");
  table.add_int("messageIndexCacheBytes", &config.message_index_cache_bytes, {1 << 20, INT64_MAX},
                "memory for parts of the index that were read", {"bytes", false, false});
  table.add_int("maxMsgsNumBatch", &config.query_count_max, {1, 65'536},
                "most messages in the answer to a query by key");
  table.add_int("defaultQueryMaxNum", &config.unique_query_count_max, {1, 65'536},
                "most messages in the answer to a query by unique key");

  table.group("Timers");
  table.add_bool("timerWheelEnable", &config.timers_enabled,
                 "take messages that ask for an instant (TIMER_DELIVER_MS, ...); those that wait are delivered anyway");
  table.add_int("timerMaxDelaySec", &config.timer_delay_s_max, {1, 100LL * 366 * 86'400},
                "longest delay that a message may ask for, up to a hundred years", {"s", false, false});
  table.add_int("timerPrecisionMs", &config.timer_precision_ms, {1, 60'000},
                "a cancellation finds its message when both are due in the same unit of this length; deliveries are to "
                "the millisecond all the same",
                {"ms", false, false});
  table.add_bool("recallMessageEnable", &config.recall_enabled,
                 "answers to sends of timers have a handle by which RECALL_MESSAGE takes them back");
  table.add_bool("allowRecallWhenBrokerNotWriteable", &config.recall_without_write_permission,
                 "take timers back also while brokerPermission forbids to write");

  table.group("Log");
  table.add_string("logDir", &config.log_dir, "directory of broker.log; empty: no log file");
  table.add_enum("logLevel", &config.log_level,
                 {{"DEBUG", LogLevel::kDebug},
                  {"INFO", LogLevel::kInfo},
                  {"WARN", LogLevel::kWarn},
                  {"ERROR", LogLevel::kError},
                  {"OFF", LogLevel::kOff}},
                 "least important lines that are logged");
}

void add_unsupported_rows(config::ConfigTable& table, BrokerConfig& config) {
  table.group("Not supported by this release");
  const config::Traits locked{"", false, true};
  table.add_bool("enableDLegerCommitLog", &config.dleger, "true is refused", locked);
  table.add_bool("enableControllerMode", &config.controller_mode, "true is refused", locked);
  table.add_string("storeType", &config.store_type, "only default", locked);
  table.add_bool("aclEnable", &config.acl, "true is refused", locked);
  table.add_bool("authenticationEnabled", &config.authentication, "true is refused", locked);
  table.add_bool("authorizationEnabled", &config.authorization, "true is refused", locked);
  table.add_bool("transientStorePoolEnable", &config.transient_store_pool, "has no effect: the log is safer without it",
                 locked);
  table.add_int("clientCallbackExecutorThreads", &config.processors, {0, INT32_MAX},
                "has no effect: tools read here how many processors the machine has", locked);
}

/// Processors that this process may run on. Of one alone, two loops would only be in each other's way.
int32_t processors_allowed() {
  cpu_set_t allowed;
  return sched_getaffinity(0, sizeof allowed, &allowed) == 0 ? std::max(1, CPU_COUNT(&allowed)) : INT32_MAX;
}

}  // namespace

BrokerConfig::BrokerConfig() {
  char host[256] = {};
  if (gethostname(host, sizeof host - 1) == 0) broker_name = host;
  for (char& c : broker_name)
    if (!check_topic_name(std::string(1, c))) c = '_';  // the name is a topic too
  if (broker_name.empty()) broker_name = "DEFAULT_BROKER";
  std::string home = environment("HOME");
  processors = static_cast<int32_t>(std::max(1U, std::thread::hardware_concurrency()));
  io_threads = std::min(io_threads, processors_allowed());
  store_root = (home.empty() ? std::string(".") : home) + "/store";
  log_dir = default_log_dir();
}

store::StoreOptions BrokerConfig::store_options() const {
  store::StoreOptions options;
  options.root_dir = store_root;
  options.commit_log_dir = commit_log_dir;
  options.commit_log_file_bytes = commit_log_file_bytes;
  options.consume_queue_file_bytes = (consume_queue_file_bytes + 19) / 20 * 20;
  options.flush_disk_type = flush_disk_type;
  options.flush_interval_ms = flush_interval_ms;
  options.flush_least_pages = flush_least_pages;
  options.compatibility = store_compatibility;
  options.flush_thorough_interval_ms = flush_thorough_interval_ms;
  options.warm_log_files = warm_log_files;
  options.sync_flush_timeout_ms = sync_flush_timeout_ms;
  options.message_bytes_max = message_bytes_max;
  options.page_cache_busy_ms = page_cache_busy_ms;
  options.disk_used_ratio_max = disk_used_percent_max / 100.0;
  options.check_crc_on_recover = check_crc_on_recover;
  options.message_index_enabled = message_index;
  options.message_index_cache_bytes = message_index_cache_bytes;
  options.retention = retention_options();
  options.replication = replication_rules(*this);
  options.slave = role == BrokerRole::kSlave;
  if (auto levels = parse_delay_levels(message_delay_level)) options.delay_levels_ms = std::move(*levels);
  return options;
}

TimerLimits BrokerConfig::timer_limits() const {
  TimerLimits limits;
  limits.enabled = timers_enabled;
  limits.compatible_with_49 = store_compatibility == store::StoreCompatibility::k49;
  limits.max_delay_ms = timer_delay_s_max * 1'000;
  return limits;
}

store::RetentionOptions BrokerConfig::retention_options() const {
  store::RetentionOptions options;
  if (auto hours = hours_of(delete_when.get())) options.delete_hours = std::move(*hours);
  options.reserved_ms = file_reserved_hours * kHourMs;
  options.clean_above = std::clamp<int32_t>(disk_clean_percent, 10, 95) / 100.0;
  options.clean_forcibly_above = disk_forced_percent / 100.0;
  options.clean_forcibly = clean_forcibly;
  options.interval_ms = clean_interval_ms;
  options.file_pause_ms = delete_pause_ms;
  options.files_max = delete_files_max;
  return options;
}

void add_rows(config::ConfigTable& table, BrokerConfig& config) {
  add_identity_rows(table, config);
  add_feature_rows(table, config);
  add_store_rows(table, config);
  add_replication_rows(table, config);
  add_unsupported_rows(table, config);
  table.add_ignored(apache_broker_keys());
}

Result<std::vector<std::string>> check(const BrokerConfig& config) {
  auto refuse = [](std::string why) { return Error{Errc::kUnsupported, std::move(why)}; };
  if (config.dleger)
    return refuse(
        "enableDLegerCommitLog=true: DLedger is not supported by this release; messages would not be replicated");
  if (config.controller_mode)
    return refuse(
        "enableControllerMode=true: controller mode is not supported by this release; messages would not be "
        "replicated");
  if (config.store_type != "default")
    return refuse("storeType=" + config.store_type +
                  ": only storeType=default is supported; the queues and settings of another store would look empty");
  if (config.acl || config.authentication || config.authorization)
    return refuse(
        "aclEnable, authenticationEnabled or authorizationEnabled is true: this release has no access control; "
        "without it everybody who reaches the port could read and write everything");
  if (auto status = check_topic_name(config.broker_name); !status)
    return Error{Errc::kInvalidArgument, "brokerName: " + status.error().message};
  if (auto status = check_topic_name(config.cluster_name); !status)
    return Error{Errc::kInvalidArgument, "brokerClusterName: " + status.error().message};
  if (config.trace_topic)
    if (auto status = check_topic_name(config.trace_topic_name); !status)
      return Error{Errc::kInvalidArgument, "msgTraceTopicName: " + status.error().message};
  if (config.listen_port != 0 && config.listen_port < 3)
    return Error{Errc::kInvalidArgument, "listenPort: at least 3, because listenPort - 2 is used too"};
  auto levels = parse_delay_levels(config.message_delay_level);
  if (!levels) return Error{Errc::kInvalidArgument, "messageDelayLevel: " + levels.error().message};
  if (config.store_root.empty()) return Error{Errc::kInvalidArgument, "storePathRootDir: it is empty"};
  std::vector<std::string> warnings;
  APOGEE_TRY(check_replication(config, warnings));
  if (*std::max_element(levels->begin(), levels->end()) >= config.file_reserved_hours * kHourMs)
    warnings.emplace_back(
        "messageDelayLevel: a delay is not shorter than fileReservedTime; files of the log stay until their delayed "
        "messages are delivered, so the log keeps more than fileReservedTime");
  if (config.transient_store_pool)
    warnings.emplace_back("transientStorePoolEnable has no effect: what is acknowledged is in the page cache at least");
  return warnings;
}

std::vector<std::string> split_addresses(const std::string& text) {
  std::vector<std::string> addresses;
  for (std::string_view part : split(text, ";"))
    if (auto address = trim(part); !address.empty()) addresses.emplace_back(address);
  return addresses;
}

Result<ChosenAddress> choose_address(const std::string& broker_ip1, const std::string& bind_address,
                                     const std::vector<std::string>& name_servers) {
  ChosenAddress chosen;
  in_addr v4{};
  in6_addr v6{};
  if (!broker_ip1.empty()) {
    chosen = {broker_ip1, "it is configured as brokerIP1"};
    if (inet_pton(AF_INET, broker_ip1.c_str(), &v4) != 1 && inet_pton(AF_INET6, broker_ip1.c_str(), &v6) != 1)
      return Error{Errc::kInvalidArgument, "brokerIP1: " + broker_ip1 + " is no IP address"};
  } else if (inet_pton(AF_INET, bind_address.c_str(), &v4) == 1 && v4.s_addr != INADDR_ANY) {
    chosen = {bind_address, "it is the address that the broker listens on (bindAddress)"};
  } else {
    chosen = {first_public_ipv4(), "it is the first IPv4 address of this machine that is not loopback"};
    if (chosen.ip.empty()) chosen = {"127.0.0.1", "this machine has no IPv4 address but loopback"};
  }
  if (!is_loopback(chosen.ip)) return chosen;
  for (const auto& address : name_servers)
    if (!is_loopback(host_of(address)))
      return Error{Errc::kInvalidArgument,
                   "brokerIP1: the broker would register as " + chosen.ip + " (" + chosen.why +
                       ") with the NameServer " + address +
                       ", where clients could not reach it; set brokerIP1 to an address of this machine that " +
                       "they can reach"};
  return chosen;
}

}  // namespace apogee::broker
