// Topics that are made, and deleted, just before the master is lost.

#include "common/remoting/bodies/topic_bodies.h"
#include "test/replication/checker.h"
#include "test/support/catch.h"
#include "test/support/raw_requests.h"
#include "test/support/wait.h"

namespace apogee::test {

using remoting::Command;
using remoting::RequestCode;

namespace {

constexpr auto kLong = std::chrono::seconds(60);
constexpr size_t kMaster = ReplicatedCluster::kMaster, kSlave = 1;

std::map<std::string, remoting::TopicConfig> topics_of(const ReplicatedCluster& cluster, size_t node) {
  const auto answer = cluster.connect(node)->call(Command::request(RequestCode::kGetAllTopicConfig));
  REQUIRE(answer);
  auto table = remoting::decode_topic_config_serialize_wrapper(answer->body.bytes);
  REQUIRE(table);
  return {table->topic_config_table.begin(), table->topic_config_table.end()};
}

int64_t offset_of(const ReplicatedCluster& cluster, size_t node, RequestCode code, const std::string& topic) {
  const auto answer = cluster.connect(node)->call(queue_request(code, topic, 0));
  REQUIRE(answer);
  return answer->ext.get_int<int64_t>("offset").value_or(-1);
}

void delete_topic(const ReplicatedCluster& cluster, const std::string& topic) {
  auto request = Command::request(RequestCode::kDeleteTopicInBroker);
  request.ext.set("topic", topic);
  const auto answer = cluster.connect(kMaster)->call(request);
  REQUIRE(answer);
  REQUIRE(answer->code == 0);
}

void send(const ReplicatedCluster& cluster, const std::string& topic, const std::string& body) {
  const auto answer = cluster.connect(kMaster)->call(send_request({topic, 0, body}));
  REQUIRE(answer);
  REQUIRE(answer->code == 0);
}

}  // namespace

TEST_CASE("a topic is with the slave when it is acknowledged, and the slave takes its master's place",
          "[topics][crash]") {
  // Nothing comes by itself.
  ReplicatedCluster cluster({.slave = {{"slaveSyncInterval", "600000"}}});
  Ledger ledger;
  prepare(cluster, ledger);
  cluster.create_topic("JustMade", 3);
  CHECK(topics_of(cluster, kSlave).count("JustMade") == 1);
  Load::Options options;
  options.topic = "JustMade";
  options.queues = 3;
  Ledger made;
  Load load(cluster, made, options);
  CHECK(load.more(100));
  cluster.kill(kMaster);
  load.stop();

  Expectation safe;
  safe.topic = "JustMade";
  safe.codes = {0};
  const bool table_is_lost = GENERATE(false, true);
  cluster.kill(kSlave);
  if (table_is_lost) {
    for (const char* name : {"topics.json", "topics.json.bak"})
      std::filesystem::remove(cluster.store(kSlave) / "config" / name);
  }
  cluster.start(kSlave, {{"brokerRole", "SYNC_MASTER"}, {"brokerId", "0"}});
  const auto topics = topics_of(cluster, kSlave);
  REQUIRE(topics.count("JustMade") == 1);
  CHECK(topics.at("JustMade").read_queue_nums == 3);
  CHECK(topics.at("JustMade").perm == 6);
  CHECK(logged(cluster, kSlave, {"JustMade", "made again"}, std::chrono::milliseconds(1)) == table_is_lost);
  const auto back = read_back(cluster, kSlave, made, safe);
  INFO(back.first_loss);
  CHECK(back.lost == 0);
  print_figures(table_is_lost ? "topic made, master and the successor's topics lost" : "topic made, master lost", made,
                back, -1);
}

TEST_CASE("a topic of which the slave has messages and has not heard is read there while the master is away",
          "[topics][crash]") {
  ReplicatedCluster cluster({});
  Ledger ledger;
  prepare(cluster, ledger);
  cluster.stop(kSlave);
  for (const char* name : {"topics.json", "topics.json.bak"})
    std::filesystem::remove(cluster.store(kSlave) / "config" / name);
  cluster.kill(kMaster);
  cluster.start(kSlave);
  REQUIRE(eventually([&] { return topics_of(cluster, kSlave).count("Replicated") == 1; }, kLong));
  const auto back = read_back(cluster, kSlave, ledger);
  INFO(back.first_loss);
  CHECK(back.lost == 0);
  // With the master comes its table.
  cluster.start(kMaster);
  REQUIRE(eventually(
      [&] {
        return topics_of(cluster, kSlave).count("Replicated") == 1 &&
               topics_of(cluster, kSlave).at("Replicated").read_queue_nums == 4;
      },
      kLong));
  CHECK(read_back(cluster, kSlave, ledger).lost == 0);
}

TEST_CASE("a slave removes the queues of a topic that its master deleted, also when it hears of it later",
          "[topics][crash]") {
  ReplicatedCluster cluster({});
  Ledger ledger;
  prepare(cluster, ledger);
  cluster.create_topic("Deleted", 1);
  for (int i = 0; i < 5; ++i) send(cluster, "Deleted", "old");
  REQUIRE(eventually([&] { return offset_of(cluster, kSlave, RequestCode::kGetMaxOffset, "Deleted") == 5; }, kLong));
  delete_topic(cluster, "Deleted");
  CHECK(topics_of(cluster, kSlave).count("Deleted") == 0);
  REQUIRE(eventually([&] { return offset_of(cluster, kSlave, RequestCode::kGetMaxOffset, "Deleted") == 0; }, kLong));

  // The slave is away while a topic goes and comes.
  cluster.create_topic("Deleted", 1);
  for (int i = 0; i < 3; ++i) send(cluster, "Deleted", "again");
  REQUIRE(eventually([&] { return offset_of(cluster, kSlave, RequestCode::kGetMaxOffset, "Deleted") == 8; }, kLong));
  CHECK(offset_of(cluster, kSlave, RequestCode::kGetMinOffset, "Deleted") == 5);
  cluster.kill(kSlave);
  delete_topic(cluster, "Deleted");
  cluster.start(kSlave);
  REQUIRE(eventually([&] { return offset_of(cluster, kSlave, RequestCode::kGetMaxOffset, "Deleted") == 0; }, kLong));
  CHECK(read_back(cluster, kSlave, ledger).lost == 0);

  // An empty slave gets records of topics that are not there any more.
  cluster.kill(kSlave);
  cluster.lose_disk(kSlave);
  cluster.start(kSlave);
  REQUIRE(eventually([&] { return read_back(cluster, kSlave, ledger).lost == 0; }, kLong));
  REQUIRE(eventually([&] { return offset_of(cluster, kSlave, RequestCode::kGetMaxOffset, "Deleted") == 0; }, kLong));
  CHECK_FALSE(std::filesystem::exists(cluster.store(kSlave) / "consumequeue" / "Deleted"));
}

}  // namespace apogee::test
