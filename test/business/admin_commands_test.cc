#include <atomic>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "apogee/producer.h"
#include "apogee/pull_consumer.h"
#include "apogee/push_consumer.h"
#include "test/support/catch.h"
#include "test/support/cluster.h"
#include "test/support/mqadmin.h"
#include "test/support/process.h"
#include "test/support/wait.h"

// The commands of mqadmin that business messages need, against real processes.

namespace {

using apogee::test::Admin;
using apogee::test::contains;
using apogee::test::eventually;
using nlohmann::json;

constexpr auto kLimit = std::chrono::seconds(60);
constexpr const char* kClusterName = "DefaultCluster";

struct World {
  apogee::test::Cluster cluster;
  Admin admin{cluster.namesrv()};
  std::string broker = cluster.broker();

  explicit World(const std::string& topic, int queues = 2) { cluster.create_topic(topic, queues); }
};

/// A push consumer that counts.
struct Worker {
  std::atomic<int> consumed{0};
  apogee::PushConsumer consumer;

  Worker(const World& world, const std::string& group, const std::string& topic, const std::string& tags,
         apogee::GroupModel model = apogee::GroupModel::kClustering)
      : consumer(config_of(world, group, model)) {
    REQUIRE(consumer.subscribe(topic, tags));
    consumer.set_concurrent_listener(
        [this](const std::vector<apogee::ReceivedMessage>& messages, apogee::ConcurrentContext&) {
          consumed += static_cast<int>(messages.size());
          return apogee::ConsumeResult::kSuccess;
        });
    REQUIRE(consumer.start());
  }
  static apogee::PushConsumerConfig config_of(const World& world, const std::string& group, apogee::GroupModel model) {
    apogee::PushConsumerConfig config;
    config.name_servers = world.cluster.namesrv();
    config.group = group;
    config.model = model;
    config.local_offset_dir = (world.cluster.directory() / "offsets").string();
    config.consume_from = apogee::ConsumeFrom::kFirst;
    config.offset_persist_interval = std::chrono::milliseconds(100);
    return config;
  }
};

/// The status of each group in what queryMsgByKey -s printed of one message; nothing while the index does not have it.
std::map<std::string, std::string> status_of(const json& found) {
  std::map<std::string, std::string> status;
  if (!found.contains("tracks") || !found["tracks"].is_array() || found["tracks"].size() != 1) return status;
  for (const auto& track : found["tracks"][0]) status[track["group"]] = track["status"];
  return status;
}

json read_file(const std::filesystem::path& path) {
  std::ifstream file(path);
  return json::parse(file, nullptr, false);
}

}  // namespace

TEST_CASE("admin commands: every one explains itself with an example and says what is missing", "[admin_commands]") {
  Admin admin{"127.0.0.1:1"};
  for (const char* name :
       {"checkMsgSendRT", "clusterRT", "sendMsgStatus", "getConsumerConfig", "updateOrderConf", "updateTopicPerm",
        "startMonitoring", "consumer", "producer", "brokerConsumeStats", "statsAll", "exportMetadata", "exportConfigs",
        "exportMetrics", "setConsumeMode", "consumerProgress", "queryMsgByKey", "queryMsgByUniqueKey"}) {
    INFO(name);
    auto help = admin.text({name, "--help"});
    CHECK(contains(help, "Example:\n  mqadmin " + std::string(name)));
    CHECK(contains(help, "--json"));
    CHECK(contains(admin.failure({name, "--noSuchOption"}, 2), name));
  }
  for (const char* name :
       {"checkMsgSendRT", "sendMsgStatus", "getConsumerConfig", "updateOrderConf", "updateTopicPerm", "consumer",
        "producer", "brokerConsumeStats", "exportMetadata", "exportConfigs", "exportMetrics", "setConsumeMode"}) {
    INFO(name);
    CHECK(contains(admin.failure({name}, 2), "is missing"));
  }
  CHECK(contains(admin.failure({"checkMsgSendRT", "-t", "T", "-a", "0"}), "-a must be a whole number"));
  CHECK(contains(admin.failure({"setConsumeMode", "-b", "x:1", "-t", "T", "-g", "g", "-m", "PUSH"}), "PULL or POP"));
  CHECK(contains(admin.failure({"updateTopicPerm", "-b", "x:1", "-t", "T", "-p", "3"}), "2 (write), 4 (read)"));
  CHECK(contains(admin.failure({"updateOrderConf", "-t", "T", "-m", "set"}), "put, get or delete"));
  CHECK(contains(admin.failure({"updateOrderConf", "-t", "T", "-m", "put"}), "needs -v"));
  CHECK(contains(admin.failure({"updateOrderConf", "-t", "T", "-m", "put", "-v", "a:0"}), "\"a:0\" is not"));
  CHECK(contains(admin.failure({"exportMetadata", "-b", "x:1", "-t", "-g"}), "only one of"));
  // Nobody answers there.
  CHECK(contains(admin.failure({"statsAll"}), "127.0.0.1:1"));
}

TEST_CASE("admin commands: what became of a message in every group", "[admin_commands]") {
  World world("Track", 1);
  const Admin& admin = world.admin;
  auto first = admin.parsed({"sendMessage", "-t", "Track", "-p", "one", "-k", "one", "-c", "TagA"});
  CHECK(eventually(
      [&] {
        auto ran = apogee::test::run_mqadmin({"queryMsgByKey", "-t", "Track", "-k", "one", "-s"}, admin.namesrv);
        return ran.exit_code == 0 && contains(ran.out, "WARN: No Consumer");
      },
      kLimit));

  Worker all(world, "all", "Track", "*");
  Worker other(world, "other_tag", "Track", "TagB");
  Worker everybody(world, "everybody", "Track", "*", apogee::GroupModel::kBroadcasting);
  apogee::PullConsumerConfig pulling;
  pulling.name_servers = world.cluster.namesrv();
  pulling.group = "puller";
  apogee::PullConsumer puller(pulling);
  REQUIRE(puller.subscribe("Track"));
  REQUIRE(puller.start());
  {
    Worker gone(world, "gone", "Track", "*");
    REQUIRE(eventually([&] { return gone.consumed == 1; }, kLimit));
    REQUIRE(gone.consumer.shutdown());
  }
  const std::map<std::string, std::string> expected{{"all", "CONSUMED"},
                                                    {"other_tag", "CONSUMED_BUT_FILTERED"},
                                                    {"everybody", "CONSUME_BROADCASTING"},
                                                    {"puller", "PULL"},
                                                    {"gone", "NOT_ONLINE"}};
  auto status = [&](const char* key) {
    auto ran = apogee::test::run_mqadmin({"queryMsgByKey", "-t", "Track", "-k", key, "-s", "--json"}, admin.namesrv);
    return ran.exit_code == 0 ? status_of(json::parse(ran.out)) : std::map<std::string, std::string>();
  };
  eventually([&] { return status("one") == expected; }, kLimit);
  CHECK(status("one") == expected);
  auto by_id = admin.parsed({"queryMsgByUniqueKey", "-t", "Track", "-i", first[0]["msgId"]});
  CHECK(status_of(by_id) == expected);
  CHECK(by_id["messages"][0]["body"] == "one");
  CHECK(contains(admin.text({"queryMsgByUniqueKey", "-t", "Track", "-i", first[0]["msgId"]}),
                 "MessageTrack [consumerGroup=all, trackType=CONSUMED"));

  // Nobody of the group takes the next one.
  all.consumer.pause();
  (void)admin.parsed({"sendMessage", "-t", "Track", "-p", "two", "-k", "two", "-c", "TagA"});
  CHECK(eventually([&] { return status("two")["other_tag"] == "CONSUMED_BUT_FILTERED"; }, kLimit));
  CHECK(status("two")["all"] == "NOT_CONSUME_YET");
}

TEST_CASE("admin commands: how long sends take", "[admin_commands]") {
  World world("Work", 2);
  const Admin& admin = world.admin;
  auto checked = admin.parsed({"checkMsgSendRT", "-t", "Work", "-a", "6", "-s", "64"});
  REQUIRE(checked["sends"].size() == 6);
  CHECK(checked["sends"][0]["queueId"] == 0);
  CHECK(checked["sends"][1]["queueId"] == 1);
  CHECK(checked["sends"][5]["sent"] == true);
  CHECK(checked["averageRtMs"].get<double>() > 0);
  CHECK(contains(admin.text({"checkMsgSendRT", "-t", "Work", "-a", "1"}), "Avg RT: "));

  auto sent = admin.parsed({"sendMsgStatus", "-b", "broker-a", "-c", "3", "-s", "100"});
  REQUIRE(sent.size() == 3);
  CHECK(sent[2]["sendStatus"] == "SEND_OK");
  CHECK(contains(admin.text({"sendMsgStatus", "-b", "broker-a", "-c", "1"}), "sendStatus=SEND_OK"));
  CHECK(contains(admin.failure({"sendMsgStatus", "-b", "nobody"}), "no broker has the name nobody"));

  auto round = admin.parsed({"clusterRT", "-a", "4", "-r", "1"});
  CHECK(round["brokerName"] == "broker-a");
  CHECK(round["successCount"] == 4);
  CHECK(round["failCount"] == 0);
  auto rounds = admin.text({"clusterRT", "-a", "2", "-r", "2", "-i", "1", "-c", kClusterName});
  CHECK(rounds.find("#Cluster Name") == rounds.rfind("#Cluster Name"));
  CHECK(contains(admin.text({"clusterRT", "-a", "2", "-r", "1", "-p", "true", "-m", "room"}),
                 "|room|DefaultCluster|broker-a|"));
  CHECK(contains(admin.failure({"clusterRT", "-c", "Nowhere"}), "there is no cluster Nowhere"));

  // Ctrl-C is a good end.
  apogee::test::Process endless("tools/mqadmin", {"clusterRT", "-n", admin.namesrv, "-a", "1", "-i", "3600"},
                                (world.cluster.directory() / "endless.out").string());
  REQUIRE(endless.wait_for_output("broker-a", kLimit));
  endless.signal(SIGINT);
  CHECK(endless.wait(kLimit) == 0);
}

TEST_CASE("admin commands: settings of topics and groups", "[admin_commands]") {
  World world("Orders", 3);
  const Admin& admin = world.admin;
  auto perm = [&] { return admin.parsed({"topicRoute", "-t", "Orders"})["queueDatas"][0]; };
  CHECK(contains(admin.text({"updateTopicPerm", "-c", kClusterName, "-t", "Orders", "-p", "4"}),
                 "update topic perm from 6 to 4 in " + world.broker + " success."));
  REQUIRE(eventually([&] { return perm()["perm"] == 4; }, kLimit));
  CHECK(perm()["writeQueueNums"] == 3);
  CHECK(contains(admin.failure({"sendMessage", "-t", "Orders", "-p", "x"}), "no writable queue"));
  CHECK(contains(admin.text({"updateTopicPerm", "-b", world.broker, "-t", "Orders", "-p", "4"}),
                 "new perm equals to the old one"));
  CHECK(admin.parsed({"updateTopicPerm", "-b", world.broker, "-t", "Orders", "-p", "6"})["brokers"][0]["before"] == 4);
  CHECK(contains(admin.failure({"updateTopicPerm", "-c", kClusterName, "-t", "None", "-p", "6"}), "None is not on"));

  CHECK(contains(admin.failure({"updateOrderConf", "-t", "Orders", "-m", "get"}), "has no order configuration"));
  CHECK(contains(admin.text({"updateOrderConf", "-t", "Orders", "-m", "put", "-v", "broker-a:3; broker-b:1"}),
                 "update orderConf success. topic=[Orders], orderConf=[broker-a:3;broker-b:1]"));
  CHECK(admin.parsed({"updateOrderConf", "-t", "Orders", "-m", "get"})["orderConf"] == "broker-a:3;broker-b:1");
  CHECK(contains(admin.text({"updateOrderConf", "-t", "Orders", "-m", "delete"}), "delete orderConf success."));
  CHECK(contains(admin.failure({"updateOrderConf", "-t", "Orders", "-m", "get"}), "has no order configuration"));

  (void)admin.text({"updateSubGroup", "-c", kClusterName, "-g", "billing", "-r", "5"});
  CHECK(contains(admin.text({"getConsumerConfig", "-g", "billing"}), "retryMaxTimes"));
  auto config = admin.parsed({"getConsumerConfig", "-g", "billing"});
  REQUIRE(config.size() == 1);
  CHECK(config[0]["brokerName"] == "broker-a");
  CHECK(config[0]["config"]["retryMaxTimes"] == 5);
  (void)admin.text({"updateBrokerConfig", "-b", world.broker, "-k", "autoCreateSubscriptionGroup", "-v", "false"});
  CHECK(contains(admin.failure({"getConsumerConfig", "-g", "nobody"}), "no broker has the group nobody"));

  CHECK(contains(admin.text({"setConsumeMode", "-c", kClusterName, "-t", "Orders", "-g", "billing", "-m", "PULL"}),
                 "set consume mode to " + world.broker + " success."));
  CHECK(admin.parsed({"setConsumeMode", "-b", world.broker, "-t", "Orders", "-g", "billing", "-m", "PULL"})["mode"] ==
        "PULL");
  CHECK(contains(admin.failure({"setConsumeMode", "-b", world.broker, "-t", "Orders", "-g", "billing", "-m", "POP"}),
                 "has no POP consumption"));
  CHECK(contains(admin.failure({"setConsumeMode", "-b", world.broker, "-t", "None", "-g", "billing", "-m", "PULL"}),
                 "17 TOPIC_NOT_EXIST"));
}

TEST_CASE("admin commands: who is connected, how far behind, and what is wrong", "[admin_commands]") {
  World world("Work", 2);
  const Admin& admin = world.admin;
  apogee::ProducerConfig config;
  config.name_servers = world.cluster.namesrv();
  config.group = "shop";
  apogee::Producer producer(config);
  REQUIRE(producer.start());
  for (int i = 0; i < 10; ++i) REQUIRE(producer.send(apogee::Message("Work", "x")));

  auto producers = [&] {
    std::map<std::string, std::string> clients;
    for (const auto& row : admin.parsed({"producer", "-b", world.broker})) clients[row["group"]] = row["clientId"];
    return clients;
  };
  REQUIRE(eventually([&] { return producers()["shop"] == producer.client_id(); }, kLimit));
  CHECK(contains(admin.text({"producer", "-b", world.broker}), "shop"));

  Worker worker(world, "crew", "Work", "*");
  REQUIRE(eventually([&] { return worker.consumed == 10; }, kLimit));
  auto crew = [&] { return apogee::test::run_mqadmin({"consumer", "-g", "crew"}, admin.namesrv); };
  REQUIRE(eventually([&] { return contains(crew().out, "Rebalance OK"); }, kLimit));
  auto members = admin.parsed({"consumer", "-g", "crew", "-s"});
  CHECK(members["clients"][0]["clientId"] == worker.consumer.client_id());
  CHECK(members["sameSubscription"] == true);
  CHECK(members["jstacks"].size() == 1);
  CHECK(contains(admin.failure({"consumer", "-g", "nobody"}), "nobody"));
  {
    Worker stranger(world, "crew", "Work", "TagA");
    REQUIRE(eventually([&] { return contains(crew().out, "WARN: Different subscription"); }, kLimit));
    auto report = admin.parsed({"startMonitoring", "-r", "1"});
    REQUIRE(!report["groups"].empty());
    CHECK(report["groups"][0]["trouble"] == "the members subscribe differently");
  }

  // Nothing waits, and then something does.
  auto progress = [&] { return admin.parsed({"consumerProgress", "-g", "crew", "-t", "Work"}); };
  REQUIRE(eventually([&] { return progress()["diffTotal"] == 0; }, kLimit));
  CHECK(progress()["timeLagMs"] == 0);
  REQUIRE(worker.consumer.shutdown());
  for (int i = 0; i < 4; ++i) REQUIRE(producer.send(apogee::Message("Work", "x")));
  REQUIRE(eventually([&] { return progress()["timeLagMs"] > 50; }, kLimit));
  auto behind = progress();
  CHECK(behind["diffTotal"] == 4);
  CHECK(behind["queues"][0]["timeLagMs"].get<int64_t>() > 0);
  CHECK(contains(admin.text({"consumerProgress", "-g", "crew", "-t", "Work"}), "Consume Time Lag: "));
  auto all = admin.parsed({"consumerProgress"});
  REQUIRE(all.size() == 1);
  CHECK(all[0]["diffTotal"] == 4);
  CHECK(all[0]["timeLagMs"].get<int64_t>() > 0);

  auto stats = admin.parsed({"brokerConsumeStats", "-b", world.broker});
  CHECK(stats["diffTotal"] == 4);
  CHECK(admin.parsed({"brokerConsumeStats", "-b", world.broker, "-l", "100"})["queues"].empty());
  CHECK(admin.parsed({"brokerConsumeStats", "-b", world.broker, "-o", "true"})["queues"].empty());
  CHECK(contains(admin.text({"brokerConsumeStats", "-b", world.broker}), "Diff Total: 4"));

  auto traffic = [&] { return admin.parsed({"statsAll", "-t", "Work"})[0]; };
  REQUIRE(eventually([&] { return traffic()["in24Hours"] == 14 && traffic()["out24Hours"] >= 10; }, kLimit));
  CHECK(traffic()["group"] == "crew");
  CHECK(traffic()["accumulation"] == 4);
  for (const auto& row : admin.parsed({"statsAll", "-a"})) CHECK(row["topic"] == "Work");
  CHECK(contains(admin.failure({"statsAll", "-t", "None"}), "None"));
}

TEST_CASE("admin commands: a cluster written into files", "[admin_commands]") {
  World world("Orders", 3);
  const Admin& admin = world.admin;
  (void)admin.text({"updateSubGroup", "-c", kClusterName, "-g", "billing", "-r", "5"});
  const auto directory = world.cluster.directory() / "export";
  CHECK(
      contains(admin.text({"exportMetadata", "-c", kClusterName, "-f", directory.string()}), "metadata.json success"));
  auto metadata = read_file(directory / "metadata.json");
  CHECK(metadata["topicConfigTable"].size() == 1);
  CHECK(metadata["topicConfigTable"]["Orders"]["writeQueueNums"] == 3);
  CHECK(metadata["subscriptionGroupTable"].size() == 1);
  CHECK(metadata["subscriptionGroupTable"]["billing"]["retryMaxTimes"] == 5);
  auto written = admin.parsed({"exportMetadata", "-b", world.broker, "-t", "-f", directory.string()});
  CHECK(written["path"] == (directory / "topic.json").string());
  CHECK_FALSE(read_file(directory / "topic.json").contains("subscriptionGroupTable"));
  (void)admin.text({"exportMetadata", "-b", world.broker, "-g", "-f", directory.string()});
  CHECK_FALSE(read_file(directory / "subscriptionGroup.json").contains("topicConfigTable"));

  (void)admin.text({"exportConfigs", "-c", kClusterName, "-f", directory.string()});
  auto configs = read_file(directory / "configs.json");
  CHECK(configs["brokerConfigs"]["broker-a"]["brokerName"] == "broker-a");
  CHECK(configs["clusterScale"]["masterBrokerSize"] == 1);
  CHECK(configs["clusterScale"]["namesrvSize"] == 1);

  (void)admin.text({"exportMetrics", "-c", kClusterName, "-f", directory.string()});
  auto metrics = read_file(directory / "metrics.json");
  CHECK(metrics["evaluateReport"]["broker-a"]["runtimeQuota"]["topicSize"] == 1);
  const auto& machine = metrics["evaluateReport"]["broker-a"]["runtimeEnv"];
  CHECK(machine["cpuNum"] == std::to_string(std::thread::hardware_concurrency()));
  CHECK(std::stoll(machine["totalMemKBytes"].get<std::string>()) > 64 * 1'024);
  CHECK(metrics["totalData"]["totalTps"].contains("totalNormalInTps"));
  CHECK(contains(admin.failure({"exportMetrics", "-c", "Nowhere"}), "there is no cluster Nowhere"));
  CHECK(contains(admin.failure({"exportConfigs", "-c", kClusterName, "-f", "/proc/nowhere"}), "/proc/nowhere"));
}
