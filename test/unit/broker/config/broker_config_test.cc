#include "broker/broker_config.h"

#include <sched.h>

#include <thread>

#include "common/config/config_table.h"
#include "test/support/catch.h"

using namespace apogee;
using namespace apogee::broker;

namespace {

Result<std::vector<std::string>> check_with(const std::string& key, const std::string& value) {
  BrokerConfig config;
  config::ConfigTable table;
  add_rows(table, config);
  if (auto status = table.set(key, value, config::Origin::kFile); !status) return std::move(status).error();
  return check(config);
}

}  // namespace

TEST_CASE("the defaults are those of RocketMQ and can be started", "[broker][config]") {
  BrokerConfig config;
  config::ConfigTable table;
  add_rows(table, config);
  CHECK(*table.get("listenPort") == "10911");
  CHECK(*table.get("brokerClusterName") == "DefaultCluster");
  CHECK(*table.get("flushDiskType") == "ASYNC_FLUSH");
  CHECK(*table.get("mappedFileSizeCommitLog") == "1073741824");
  CHECK(*table.get("maxMessageSize") == "4194304");
  CHECK(*table.get("registerNameServerPeriod") == "30000");
  CHECK(*table.get("autoCreateTopicEnable") == "true");
  auto warnings = check(config);
  REQUIRE(warnings);
  CHECK(warnings->empty());
  CHECK(config.store_options().consume_queue_file_bytes == 6'000'000);
}

TEST_CASE("on a single processor one thread serves connections", "[broker][config]") {
  cpu_set_t allowed;
  REQUIRE(sched_getaffinity(0, sizeof allowed, &allowed) == 0);
  CHECK(BrokerConfig().io_threads == (CPU_COUNT(&allowed) > 1 ? 2 : 1));
  int first = 0;
  while (!CPU_ISSET(first, &allowed)) ++first;
  int io_threads = 0;
  bool bound = false;
  std::thread([&] {  // of this thread alone
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(first, &one);
    bound = sched_setaffinity(0, sizeof one, &one) == 0;
    io_threads = BrokerConfig().io_threads;
  })
      .join();
  REQUIRE(bound);
  CHECK(io_threads == 1);
}

TEST_CASE("what would break a promise stops the start and says so", "[broker][config]") {
  for (auto [key, value] : {std::pair{"enableDLegerCommitLog", "true"},
                            {"enableControllerMode", "true"},
                            {"storeType", "defaultRocksDB"},
                            {"aclEnable", "true"},
                            {"authenticationEnabled", "true"}}) {
    auto result = check_with(key, value);
    REQUIRE_FALSE(result);
    CHECK(result.error().code == Errc::kUnsupported);
    CHECK(result.error().message.find(key) != std::string::npos);
  }
  CHECK(check_with("brokerName", "a b").error().code == Errc::kInvalidArgument);
  CHECK(check_with("listenPort", "2").error().message.find("listenPort") != std::string::npos);
  CHECK(check_with("transientStorePoolEnable", "true")->size() == 1);
}

TEST_CASE("Role and id go together, and what weakens a promise is warned about", "[broker][config][replication]") {
  auto check_all = [](const std::vector<std::pair<std::string, std::string>>& settings) {
    BrokerConfig config;
    config::ConfigTable table;
    add_rows(table, config);
    for (const auto& [key, value] : settings) REQUIRE(table.set(key, value, config::Origin::kFile));
    return check(config);
  };
  CHECK(check_all({{"brokerRole", "SLAVE"}}).error().message.find("brokerId=0") != std::string::npos);
  CHECK(check_all({{"brokerId", "1"}}).error().message.find("brokerRole=SLAVE") != std::string::npos);
  CHECK(check_all({{"brokerRole", "SLAVE"}, {"brokerId", "1"}})->size() == 1);
  CHECK(check_all({{"brokerRole", "SLAVE"}, {"brokerId", "1"}, {"haSecret", "x"}})->empty());
  CHECK(check_all({{"brokerRole", "SYNC_MASTER"}, {"haSecret", "x"}})->empty());
  auto alone = check_all({{"brokerRole", "SYNC_MASTER"}, {"haSecret", "x"}, {"inSyncReplicas", "1"}});
  REQUIRE(alone);
  REQUIRE(alone->size() == 1);
  CHECK(alone->front().find("inSyncReplicas=1") != std::string::npos);
  CHECK(check_all({{"haMasterAddress", "10.0.0.1"}}).error().message.find("haMasterAddress") != std::string::npos);
  CHECK(check_all({{"haClassicPeers", "10.0.0.1, there"}}).error().message.find("there") != std::string::npos);
  CHECK(check_all({{"haClassicPeers", "10.0.0.1, 10.0.0.2"}})->empty());
}

TEST_CASE("The HA secret is told to nobody", "[broker][config][replication]") {
  BrokerConfig config;
  config::ConfigTable table;
  add_rows(table, config);
  REQUIRE(table.set("haSecret", "sesame", config::Origin::kFile));
  CHECK(config.ha_secret == "sesame");
  CHECK(*table.get("haSecret") == "***");
  CHECK(table.to_properties_text().find("haSecret") == std::string::npos);
  for (const auto& row : table.rows()) CHECK(row.value != "sesame");
  CHECK(table.update("haSecret=sesame").error().code == Errc::kPermission);
}

TEST_CASE("keys of Apache RocketMQ pass, misspelt ones do not", "[broker][config]") {
  CHECK(check_with("fileReservedTime", "48"));
  CHECK(check_with("deleteWhen", "04"));
  CHECK(check_with("sendMessageThreadPoolNums", "16"));
  auto result = check_with("flushDiskTyp", "SYNC_FLUSH");
  REQUIRE_FALSE(result);
  CHECK(result.error().message.find("flushDiskType") != std::string::npos);
}

TEST_CASE("retention is set by the keys of Apache RocketMQ, also while the broker runs", "[broker][config]") {
  BrokerConfig config;
  config::ConfigTable table;
  add_rows(table, config);
  auto options = config.store_options().retention;
  CHECK(options.reserved_ms == 72 * 3'600'000LL);
  CHECK(options.delete_hours == std::vector<int32_t>{4});
  CHECK(options.clean_above == 0.75);
  CHECK(options.clean_forcibly_above == 0.85);
  CHECK(options.clean_forcibly);
  CHECK(options.interval_ms == 10'000);
  CHECK(options.file_pause_ms == 100);
  CHECK(options.files_max == 10);
  REQUIRE(
      table.update("fileReservedTime=48\ndeleteWhen=04; 16\ndiskMaxUsedSpaceRatio=5\ncleanFileForciblyEnable=false\n"));
  options = config.retention_options();
  CHECK(options.reserved_ms == 48 * 3'600'000LL);
  CHECK(options.delete_hours == std::vector<int32_t>{4, 16});
  CHECK(options.clean_above == 0.10);
  CHECK_FALSE(options.clean_forcibly);
  for (const char* bad : {"24", "four", "", ";4", "-1"}) {
    auto status = table.set("deleteWhen", bad, config::Origin::kRunTime);
    REQUIRE_FALSE(status);
    CHECK(status.error().message.find("deleteWhen") != std::string::npos);
  }
  CHECK(table.get("deleteWhen").value() == "04; 16");
}

TEST_CASE("the address that clients get", "[broker][config]") {
  CHECK(choose_address("192.0.2.7", "0.0.0.0", {"ns.example:9876"})->ip == "192.0.2.7");
  CHECK(choose_address("", "127.0.0.1", {"127.0.0.1:9876"})->ip == "127.0.0.1");
  CHECK(choose_address("127.0.0.1", "0.0.0.0", {"localhost:9876"})->ip == "127.0.0.1");
  CHECK_FALSE(choose_address("", "0.0.0.0", {})->why.empty());
  auto refused = choose_address("127.0.0.1", "0.0.0.0", {"127.0.0.1:9876", "192.0.2.1:9876"});
  REQUIRE_FALSE(refused);
  CHECK(refused.error().message.find("192.0.2.1:9876") != std::string::npos);
  CHECK_FALSE(choose_address("somewhere", "0.0.0.0", {}));
  CHECK(split_addresses(" a:1; b:2;;") == std::vector<std::string>{"a:1", "b:2"});
}
