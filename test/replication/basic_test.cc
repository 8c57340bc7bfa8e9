// A master and its slave on a usual day: what is stored, read, told and refused where.

#include "common/remoting/bodies/group_bodies.h"
#include "common/remoting/bodies/ha_bodies.h"
#include "common/remoting/bodies/topic_bodies.h"
#include "test/replication/checker.h"
#include "test/support/catch.h"
#include "test/support/mqadmin.h"
#include "test/support/raw_requests.h"
#include "test/support/wait.h"

namespace apogee::test {

using remoting::Command;
using remoting::RequestCode;

namespace {

constexpr auto kLong = std::chrono::seconds(60);

Command ask(const ReplicatedCluster& cluster, size_t node, const Command& request) {
  auto answer = cluster.connect(node)->call(request);
  REQUIRE(answer);
  return std::move(*answer);
}

Command offset_request(RequestCode code, const std::string& group, const std::string& topic, int32_t queue,
                       int64_t offset = -1) {
  auto request = Command::request(code);
  request.ext.set("consumerGroup", group);
  request.ext.set("topic", topic);
  request.ext.set("queueId", queue);
  if (offset >= 0) request.ext.set("commitOffset", offset);
  return request;
}

/// The offset that a node answers; -1: none.
int64_t offset_at(const ReplicatedCluster& cluster, size_t node, const std::string& group, const std::string& topic) {
  auto request = offset_request(RequestCode::kQueryConsumerOffset, group, topic, 0);
  request.ext.set("setZeroIfNotFound", false);
  const auto answer = ask(cluster, node, request);
  if (answer.code != 0) return -1;
  return std::stoll(std::string(answer.ext.get("offset").value_or("-1")));
}

void make_group(const ReplicatedCluster& cluster, const std::string& group, int32_t retries) {
  remoting::SubscriptionGroupConfig config;
  config.group_name = group;
  config.retry_max_times = retries;
  auto request = Command::request(RequestCode::kUpdateAndCreateSubscriptiongroup);
  request.body = SharedBytes::from(encode(config));
  REQUIRE(ask(cluster, 0, request).code == 0);
}

/// 0: there is no such group.
int32_t retries_of(const ReplicatedCluster& cluster, size_t node, const std::string& group) {
  const auto answer = ask(cluster, node, Command::request(RequestCode::kGetAllSubscriptiongroupConfig));
  auto table = remoting::decode_subscription_group_wrapper(answer.body.bytes);
  REQUIRE(table);
  auto found = table->subscription_group_table.find(group);
  return found == table->subscription_group_table.end() ? 0 : found->second.retry_max_times;
}

bool has_topic(const ReplicatedCluster& cluster, size_t node, const std::string& topic) {
  const auto answer = ask(cluster, node, Command::request(RequestCode::kGetAllTopicConfig));
  auto table = remoting::decode_topic_config_serialize_wrapper(answer.body.bytes);
  REQUIRE(table);
  return table->topic_config_table.count(topic) != 0;
}

remoting::HaRuntimeInfo ha_status(const ReplicatedCluster& cluster, size_t node) {
  const auto answer = ask(cluster, node, Command::request(RequestCode::kGetBrokerHaStatus));
  REQUIRE(answer.code == 0);
  auto info = remoting::decode_ha_runtime_info(answer.body.bytes);
  REQUIRE(info);
  return std::move(*info);
}

}  // namespace

TEST_CASE("a slave has its master's log, byte by byte, also after kill -9 of either", "[basic][crash]") {
  const std::string role = GENERATE("ASYNC_MASTER", "SYNC_MASTER");
  ReplicatedCluster cluster({.slaves = 1, .role = role});
  Ledger ledger;
  prepare(cluster, ledger);
  {
    Load load(cluster, ledger);
    REQUIRE(load.more(200));
    cluster.kill(1);
    REQUIRE(eventually([&] { return ledger.count(0) + ledger.count(11) + ledger.count(12) > 300; }, kLong));
    cluster.start(1);
    REQUIRE(load.more(100));
    cluster.kill(0);
    cluster.start(0);
    REQUIRE(load.more(100));
    load.stop();
    check_after(cluster, load, ledger, "kill -9 of slave and master, " + role);
  }
  // What the slave has is read from it.
  const auto back = read_back(cluster, 1, ledger);
  INFO(back.first_loss);
  CHECK(back.lost == 0);
}

TEST_CASE("a slave refuses writes and tells its state", "[basic]") {
  ReplicatedCluster cluster({.slaves = 1, .role = "ASYNC_MASTER", .all = {{"haSecret", "sesame"}}});
  Ledger ledger;
  prepare(cluster, ledger);
  CHECK(ask(cluster, 1, create_topic_request("Refused", 1)).code == 1);
  CHECK(ask(cluster, 1, send_request({"Replicated", 0, "x"})).code == remoting::response_code::kServiceNotAvailable);

  REQUIRE(eventually([&] { return ha_status(cluster, 1).client.state == "TRANSFER"; }, kLong));
  REQUIRE(eventually([&] { return ha_status(cluster, 0).connections.size() == 1; }, kLong));
  REQUIRE(eventually(
      [&] {
        const auto info = ha_status(cluster, 0);
        return info.connections.size() == 1 && info.connections.front().diff == 0 &&
               info.connections.front().broker_id == 1 && info.in_sync_slave_nums == 1;
      },
      kLong));
  const auto of_master = ask(cluster, 0, Command::request(RequestCode::kGetBrokerEpochCache));
  const auto of_slave = ask(cluster, 1, Command::request(RequestCode::kGetBrokerEpochCache));
  auto master_epochs = remoting::decode_epoch_entry_cache(of_master.body.bytes);
  auto slave_epochs = remoting::decode_epoch_entry_cache(of_slave.body.bytes);
  REQUIRE((master_epochs && slave_epochs));
  REQUIRE_FALSE(master_epochs->epoch_list.empty());
  REQUIRE_FALSE(slave_epochs->epoch_list.empty());
  CHECK(master_epochs->epoch_list.back().epoch == slave_epochs->epoch_list.back().epoch);
  CHECK(master_epochs->max_offset == slave_epochs->max_offset);

  const Admin admin{cluster.namesrv()};
  const auto status = admin.text({"haStatus", "-b", cluster.address(0)});
  INFO(status);
  CHECK(contains(status, "MASTER"));
  CHECK(contains(status, "connected"));
  CHECK(contains(admin.text({"haStatus", "-b", cluster.address(1)}), "TRANSFER"));
  CHECK(contains(admin.text({"getBrokerEpoch", "-b", ReplicatedCluster::kBrokerName}), cluster.address(1)));
  CHECK(contains(admin.text({"brokerStatus", "-b", cluster.address(0)}), "lagBytes=0 lagMs=0 inSync=true"));
  CHECK(contains(admin.text({"brokerStatus", "-b", cluster.address(1)}), "haLagBytes"));

  // The secret is in no answer.
  const auto config = ask(cluster, 0, Command::request(RequestCode::kGetBrokerConfig));
  CHECK(config.body.bytes.find("sesame") == std::string_view::npos);
}

TEST_CASE("settings and offsets reach the slave, which has them without its master; its own reach the master",
          "[basic][metadata]") {
  ReplicatedCluster cluster({.slaves = 1, .role = "ASYNC_MASTER"});
  cluster.create_topic("T", 1);
  make_group(cluster, "G", 5);
  REQUIRE(ask(cluster, 0, offset_request(RequestCode::kUpdateConsumerOffset, "G", "T", 0, 7)).code == 0);
  const auto synced = [&](int32_t retries, int64_t offset) {
    return eventually(
        [&] {
          return has_topic(cluster, 1, "T") && retries_of(cluster, 1, "G") == retries &&
                 offset_at(cluster, 1, "G", "T") == offset;
        },
        kLong);
  };
  REQUIRE(synced(5, 7));
  // Changes, and one backward.
  make_group(cluster, "G", 6);
  REQUIRE(ask(cluster, 0, offset_request(RequestCode::kUpdateConsumerOffset, "G", "T", 0, 4)).code == 0);
  REQUIRE(synced(6, 4));

  cluster.kill(0);
  cluster.kill(1);
  cluster.start(1);  // alone
  CHECK(has_topic(cluster, 1, "T"));
  CHECK(retries_of(cluster, 1, "G") == 6);
  CHECK(offset_at(cluster, 1, "G", "T") == 4);
  CHECK(ask(cluster, 1, offset_request(RequestCode::kUpdateConsumerOffset, "G", "T", 0, 9)).code == 0);
  CHECK(offset_at(cluster, 1, "G", "T") == 9);
  const auto own_file = cluster.store(1) / "config" / "slaveOffsets.json";
  REQUIRE(eventually([&] { return std::filesystem::exists(own_file); }, kLong));
  cluster.stop(1);
  cluster.start(1);

  cluster.start(0);
  REQUIRE(eventually([&] { return offset_at(cluster, 0, "G", "T") == 9; }, kLong));
  CHECK(offset_at(cluster, 1, "G", "T") == 9);
  // From then on the master leads again, also backward.
  REQUIRE(ask(cluster, 0, offset_request(RequestCode::kUpdateConsumerOffset, "G", "T", 0, 2)).code == 0);
  REQUIRE(eventually([&] { return offset_at(cluster, 1, "G", "T") == 2; }, kLong));
  CHECK(offset_at(cluster, 0, "G", "T") == 2);
}

TEST_CASE("an outdated slave sets no consumer back", "[basic]") {
  ReplicatedCluster cluster({.slaves = 1, .role = "ASYNC_MASTER"});
  Ledger ledger;
  prepare(cluster, ledger, 1);
  REQUIRE(eventually([&] { return has_topic(cluster, 1, "Replicated"); }, kLong));
  auto pull = pull_request("G", "Replicated", 0, 1'000'000);
  const auto at_master = ask(cluster, 0, pull), at_slave = ask(cluster, 1, pull);
  CHECK(at_master.code == remoting::response_code::kPullOffsetMoved);
  CHECK(at_slave.code == remoting::response_code::kPullRetryImmediately);
  CHECK(at_slave.ext.get("suggestWhichBrokerId") == "0");
  CHECK(at_slave.ext.get("nextBeginOffset") == "1000000");
}

}  // namespace apogee::test
