#include "test/support/mqadmin.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "apogee/producer.h"
#include "apogee/push_consumer.h"
#include "test/support/catch.h"
#include "test/support/cluster.h"
#include "test/support/run_program.h"
#include "test/support/wait.h"

// The real mqadmin against a real NameServer and broker.

namespace {

using apogee::test::eventually;
using nlohmann::json;

using apogee::test::Ran;

using apogee::test::Admin;
using apogee::test::contains;

Ran run(const std::vector<std::string>& arguments, const std::string& namesrv = "") {
  return apogee::test::run_mqadmin(arguments, namesrv);
}

/// A NameServer and a broker, and mqadmin looking at them.
struct World {
  apogee::test::Cluster cluster;
  Admin admin{cluster.namesrv()};
  std::string broker = cluster.broker();
  std::string broker_name = admin.parsed({"clusterList"})[0]["brokerName"];
  std::string cluster_name = admin.parsed({"clusterList"})[0]["cluster"];
};

}  // namespace

TEST_CASE("mqadmin: help, and calls that are wrong", "[mqadmin]") {
  Admin admin;
  auto overview = admin.text({"help"});
  CHECK(run({}).out == overview);
  for (const char* name : {"clusterList",
                           "brokerStatus",
                           "getBrokerConfig",
                           "updateBrokerConfig",
                           "updateTopic",
                           "deleteTopic",
                           "topicList",
                           "topicRoute",
                           "topicStatus",
                           "topicClusterList",
                           "updateSubGroup",
                           "deleteSubGroup",
                           "consumerProgress",
                           "consumerConnection",
                           "producerConnection",
                           "consumerStatus",
                           "sendMessage",
                           "consumeMessage",
                           "printMsg",
                           "printMsgByQueue",
                           "queryMsgById",
                           "queryMsgByOffset",
                           "queryMsgByKey",
                           "queryMsgByUniqueKey",
                           "resetOffsetByTime",
                           "wipeWritePerm",
                           "addWritePerm",
                           "updateKvConfig",
                           "deleteKvConfig",
                           "getNamesrvConfig",
                           "updateNamesrvConfig",
                           "cloneGroupOffset",
                           "allocateMQ",
                           "DecodeMessageId",
                           "cleanExpiredCQ",
                           "cleanUnusedTopic",
                           "queryCq",
                           "deleteExpiredCommitLog"}) {
    INFO(name);
    CHECK(contains(overview, name));
    auto help = admin.text({"help", name});
    CHECK(contains(help, std::string("Example:\n  mqadmin ") + name));
    CHECK(admin.text({name, "-h"}) == help);
  }
  CHECK(contains(admin.failure({"topicLst"}, 2), "did you mean topicList?"));
  CHECK(contains(admin.failure({"updateTopic", "-t", "T"}, 2), "-b (brokerAddr) or -c (clusterName) is missing"));
  CHECK(contains(admin.failure({"topicStatus"}, 2), "-t (topic) is missing"));
  CHECK(contains(admin.failure({"topicStatus", "-t", "T", "-y"}, 2), "-y"));
  CHECK(contains(admin.failure({"topicList"}), "no NameServer address is given: use -n HOST:PORT or set NAMESRV_ADDR"));
  CHECK(contains(admin.failure({"DecodeMessageId", "-i", "nonsense"}), "DecodeMessageId: "));
  CHECK(contains(admin.text({"DecodeMessageId", "-i", "C0A8010A00002A9F18B4AAC2A9980001"}), "ip=192.168.1.10\ndate="));
  CHECK(admin.parsed({"DecodeMessageId", "-i", "C0A8010A00002A9F18B4AAC2A9980001"})["ip"] == "192.168.1.10");
}

TEST_CASE("mqadmin: nobody listens", "[mqadmin]") {
  Admin admin{"127.0.0.1:1"};
  CHECK(contains(admin.failure({"topicList"}), admin.namesrv));
  CHECK(contains(admin.failure({"brokerStatus", "-b", admin.namesrv}), admin.namesrv));
}

TEST_CASE("mqadmin: clusters, brokers and NameServers", "[mqadmin]") {
  World world;
  const Admin& admin = world.admin;

  auto table = admin.text({"clusterList"});
  CHECK(table.rfind("#Cluster Name", 0) == 0);
  CHECK(contains(table, "#BID"));
  CHECK(contains(table, world.broker));
  auto brokers = admin.parsed({"clusterList"});
  REQUIRE(brokers.size() == 1);
  CHECK(brokers[0]["cluster"] == world.cluster_name);
  CHECK(brokers[0]["brokerName"] == world.broker_name);
  CHECK(brokers[0]["brokerId"] == 0);
  CHECK(brokers[0]["address"] == world.broker);
  CHECK(brokers[0]["inTps"].is_number());
  CHECK(contains(admin.text({"clusterList", "-m"}), "#InTotalToday"));
  CHECK(admin.parsed({"clusterList", "-m"})[0]["inToday"].is_number());
  // -n wins over the environment, before or behind the command.
  CHECK(run({"clusterList", "-n", world.admin.namesrv}, "127.0.0.1:1").exit_code == 0);
  CHECK(run({"-n", world.admin.namesrv, "clusterList"}).exit_code == 0);

  CHECK(contains(admin.text({"brokerStatus", "-b", world.broker}), "brokerVersionDesc"));
  CHECK(contains(admin.text({"brokerStatus", "-c", world.cluster_name}), world.broker));
  CHECK(admin.parsed({"brokerStatus", "-c", world.cluster_name})[world.broker]["brokerVersionDesc"].is_string());
  CHECK(contains(admin.failure({"brokerStatus", "-c", "NoCluster"}), "NoCluster"));

  CHECK(contains(admin.text({"getBrokerConfig", "-b", world.broker}), "============" + world.broker));
  CHECK(admin.parsed({"getBrokerConfig", "-c", world.cluster_name})[world.broker]["brokerName"] == world.broker_name);
  CHECK(contains(admin.text({"updateBrokerConfig", "-b", world.broker, "-k", "autoCreateTopicEnable", "-v", "false"}),
                 "update broker config success"));
  CHECK(admin.parsed({"getBrokerConfig", "-b", world.broker})[world.broker]["autoCreateTopicEnable"] == "false");
  CHECK(admin.parsed({"updateBrokerConfig", "-c", world.cluster_name, "-k", "autoCreateTopicEnable", "-v",
                      "true"})[0]["address"] == world.broker);
  CHECK(contains(admin.failure({"updateBrokerConfig", "-b", world.broker, "-k", "noSuchKey", "-v", "1"}), "noSuchKey"));

  CHECK(contains(admin.text({"getNamesrvConfig"}), "listenPort"));
  CHECK(admin.parsed({"getNamesrvConfig"})[admin.namesrv].count("listenPort") == 1);
  CHECK(contains(admin.text({"updateNamesrvConfig", "-k", "orderMessageEnable", "-v", "true"}), "success"));
  CHECK(admin.parsed({"getNamesrvConfig"})[admin.namesrv]["orderMessageEnable"] == "true");
  CHECK(admin.parsed({"updateNamesrvConfig", "-k", "orderMessageEnable", "-v", "true"}).is_array());
  CHECK(contains(admin.failure({"updateNamesrvConfig", "-k", "kvConfigPath", "-v", "x"}), "16 NO_PERMISSION"));

  CHECK(contains(admin.text({"updateKvConfig", "-s", "space", "-k", "key", "-v", "value"}), "success"));
  CHECK(admin.parsed({"updateKvConfig", "-s", "space", "-k", "key", "-v", "value"})["value"] == "value");
  CHECK(contains(admin.text({"deleteKvConfig", "-s", "space", "-k", "key"}), "success"));
  CHECK(admin.parsed({"deleteKvConfig", "-s", "space", "-k", "key"})["key"] == "key");

  CHECK(contains(admin.text({"wipeWritePerm", "-b", world.broker_name}), "OK, "));
  CHECK(admin.parsed({"topicRoute", "-t", "TBW102"})["queueDatas"][0]["perm"] == 5);
  CHECK(admin.parsed({"wipeWritePerm", "-b", world.broker_name})[0]["topics"].is_number());
  CHECK(contains(admin.failure({"wipeWritePerm", "-b", "nobody"}), "no broker has the name nobody"));
  CHECK(contains(admin.text({"addWritePerm", "-b", world.broker_name}), "OK, "));
  CHECK(admin.parsed({"topicRoute", "-t", "TBW102"})["queueDatas"][0]["perm"] == 6);
  CHECK(admin.parsed({"addWritePerm", "-b", world.broker_name})[0]["brokerName"] == world.broker_name);
}

TEST_CASE("mqadmin: topics", "[mqadmin]") {
  World world;
  const Admin& admin = world.admin;

  CHECK(contains(admin.text({"updateTopic", "-c", world.cluster_name, "-t", "Plain", "-r", "3", "-w", "2"}),
                 "create topic to " + world.broker + " success."));
  auto made = admin.parsed({"updateTopic", "-b", world.broker, "-t", "Ordered", "-w", "4", "-o", "true", "-p", "6"});
  CHECK(made["brokers"][0] == world.broker);
  CHECK(made["order"] == true);
  CHECK(contains(admin.failure({"updateTopic", "-b", world.broker, "-t", "no topic"}), "topic"));
  CHECK(contains(admin.failure({"updateTopic", "-b", world.broker, "-t", "T", "-r", "many"}),
                 "-r must be a whole number"));

  auto listed = admin.parsed({"topicList"});
  std::set<std::string> topics;
  for (const auto& row : listed) topics.insert(row["topic"]);
  CHECK(topics.count("Plain") == 1);
  CHECK(topics.count("Ordered") == 1);
  CHECK(contains(admin.text({"topicList"}), "Plain\n"));
  CHECK(contains(admin.text({"topicList", "-c"}), "#Consumer Group"));
  bool found = false;
  for (const auto& row : admin.parsed({"topicList", "-c"})) {
    found = found || (row["topic"] == "Plain" && row["cluster"] == world.cluster_name);
  }
  CHECK(found);

  auto route = json::parse(admin.text({"topicRoute", "-t", "Plain"}), nullptr, false);
  REQUIRE(route.is_object());
  CHECK(route == admin.parsed({"topicRoute", "-t", "Plain"}));
  CHECK(route["queueDatas"][0]["readQueueNums"] == 3);
  CHECK(route["queueDatas"][0]["writeQueueNums"] == 2);
  CHECK(route["brokerDatas"][0]["brokerAddrs"]["0"] == world.broker);
  CHECK(contains(admin.text({"topicRoute", "-t", "Plain", "-l"}), "#WriteQueue"));
  CHECK(contains(admin.failure({"topicRoute", "-t", "Nothing"}), "17 TOPIC_NOT_EXIST"));

  CHECK(contains(admin.text({"topicStatus", "-t", "Plain"}), "#Last Updated"));
  auto status = admin.parsed({"topicStatus", "-t", "Plain"});
  REQUIRE(status.size() == 3);
  CHECK(status[0]["brokerName"] == world.broker_name);
  CHECK(status[0]["maxOffset"] == 0);
  CHECK(admin.text({"topicClusterList", "-t", "Plain"}) == world.cluster_name + "\n");
  CHECK(admin.parsed({"topicClusterList", "-t", "Plain"})[0]["cluster"] == world.cluster_name);

  auto shares = admin.parsed({"allocateMQ", "-t", "Plain", "-i", "10.0.0.1,10.0.0.2"})["result"];
  CHECK(shares["10.0.0.1"].size() == 2);
  CHECK(shares["10.0.0.2"].size() == 1);
  CHECK(contains(admin.text({"allocateMQ", "-t", "Plain", "-i", "10.0.0.1"}), "\"queueId\":2"));

  CHECK(contains(admin.text({"deleteTopic", "-c", world.cluster_name, "-t", "Plain"}), "from NameServer success."));
  CHECK(contains(admin.failure({"topicStatus", "-t", "Plain"}), "17 TOPIC_NOT_EXIST"));
  CHECK(admin.parsed({"deleteTopic", "-c", world.cluster_name, "-t", "Ordered"})["topic"] == "Ordered");
  CHECK(contains(admin.failure({"deleteTopic", "-c", "NoCluster", "-t", "Plain"}), "NoCluster"));
}

TEST_CASE("mqadmin: what is on the disk", "[mqadmin]") {
  World world;
  const Admin& admin = world.admin;
  admin.text({"updateTopic", "-c", world.cluster_name, "-t", "Stock", "-r", "1", "-w", "1"});
  for (const char* body : {"one", "two", "three"})
    admin.text({"sendMessage", "-t", "Stock", "-p", body, "-c", "A", "-b", world.broker_name, "-i", "0"});
  const std::vector<std::string> query{"queryCq", "-t", "Stock", "-q", "0", "-i", "1", "-c", "5"};
  REQUIRE(eventually([&] { return admin.parsed(query)["queueData"].size() == 2; }));
  auto found = admin.parsed(query);
  CHECK(found["maxQueueIndex"] == 3);
  CHECK(found["minQueueIndex"] == 0);
  CHECK(found["queueData"][0]["idx"] == 1);
  CHECK(found["queueData"][0]["physicOffset"] > 0);
  CHECK(found["queueData"][0]["tagsCode"] == 65);
  auto text = admin.text({"queryCq", "-t", "Stock", "-q", "0", "-i", "2", "-b", world.broker, "-g", "nobody"});
  CHECK(contains(text, "Filter data: \nnobody@Stock is not online!\n"));
  CHECK(contains(text, "Queue data: \nmax: 3, min: 0\n"));
  CHECK(contains(text, "idx: 2\nConsumeQueueData{physicOffset="));
  CHECK(contains(admin.failure({"queryCq", "-t", "Stock", "-q", "0", "-i", "9"}), "Index 9"));
  CHECK(contains(admin.failure({"queryCq", "-t", "Stock", "-q", "7", "-i", "0"}), "is not exist"));

  for (const char* command : {"cleanExpiredCQ", "cleanUnusedTopic", "deleteExpiredCommitLog"}) {
    CHECK(admin.text({command, "-b", world.broker}) == "success\n");
    CHECK(admin.text({command}) == "success\n");
    CHECK(admin.parsed({command, "-c", world.cluster_name})["brokers"] == json{world.broker});
    CHECK(contains(admin.failure({command, "-c", "Nowhere"}), "there is no cluster Nowhere"));
  }
  CHECK(admin.parsed(query)["queueData"].size() == 2);  // nothing of it has expired
}

TEST_CASE("mqadmin: messages", "[mqadmin]") {
  World world;
  const Admin& admin = world.admin;
  admin.text({"updateTopic", "-c", world.cluster_name, "-t", "Mail", "-r", "2", "-w", "2"});

  auto table = admin.text(
      {"sendMessage", "-t", "Mail", "-p", "first \"one\"", "-k", "k1", "-c", "A", "-b", world.broker_name, "-i", "1"});
  CHECK(contains(table, "#Send Result"));
  CHECK(contains(table, "SEND_OK"));
  auto sent =
      admin.parsed({"sendMessage", "-t", "Mail", "-p", "second", "-c", "B", "-b", world.broker_name, "-i", "1"})[0];
  CHECK(sent["sendResult"] == "SEND_OK");
  CHECK(sent["queueId"] == 1);
  admin.text({"sendMessage", "-t", "Mail", "-p", "third"});
  CHECK(contains(admin.failure({"sendMessage", "-t", "Mail", "-p", "x", "-i", "1"}), "-b"));
  CHECK(contains(admin.failure({"sendMessage", "-t", "Mail", "-p", "x", "-m", "true"}), "trace"));
  CHECK(contains(admin.failure({"sendMessage", "-t", "Mail", "-p", "x", "-b", "nobody"}), "nobody"));

  std::string id = sent["offsetMsgId"];
  CHECK(contains(admin.text({"queryMsgById", "-i", id}), "OffsetID:            " + id));
  auto message = admin.parsed({"queryMsgById", "-i", id})[0];
  CHECK(message["body"] == "second");
  CHECK(message["tags"] == "B");
  CHECK(message["msgId"] == sent["msgId"]);
  CHECK(message["brokerName"] == world.broker_name);
  CHECK(contains(admin.failure({"queryMsgById", "-i", "7F000001000000010000000000000000"}), "no offset message id"));
  CHECK(contains(admin.failure({"queryMsgById", "-i", "zz"}), "queryMsgById: "));

  // Queues are filled a moment after the log.
  REQUIRE(eventually([&] {
    int64_t messages = 0;
    for (const auto& row : admin.parsed({"topicStatus", "-t", "Mail"})) messages += row["maxOffset"].get<int64_t>();
    return messages == 3;
  }));
  CHECK(contains(admin.text({"queryMsgByOffset", "-t", "Mail", "-b", world.broker_name, "-i", "1", "-o", "0"}),
                 "first \"one\""));
  auto first = admin.parsed({"queryMsgByOffset", "-t", "Mail", "-b", world.broker_name, "-i", "1", "-o", "0"});
  CHECK(first["keys"] == "k1");
  CHECK(first["queueOffset"] == 0);
  CHECK(contains(admin.failure({"queryMsgByOffset", "-t", "Mail", "-b", world.broker_name, "-i", "1", "-o", "99"}),
                 "offset 99"));

  auto printed = admin.text({"printMsg", "-t", "Mail"});
  CHECK(contains(printed, "BODY: second"));
  CHECK(contains(printed, "BODY: third"));
  CHECK(admin.parsed({"printMsg", "-t", "Mail"}).size() == 3);
  auto tagged = admin.parsed({"printMsg", "-t", "Mail", "-s", "A || C", "-d", "false"});
  REQUIRE(tagged.size() == 1);
  CHECK(tagged[0]["keys"] == "k1");
  CHECK(tagged[0].count("body") == 0);
  CHECK(admin.parsed({"printMsg", "-t", "Mail", "-b", "now"}).empty());
  CHECK(admin.parsed({"printMsg", "-t", "Mail", "-e", "2001-01-01#00:00:00:000"}).empty());
  CHECK(contains(admin.failure({"printMsg", "-t", "Mail", "-b", "soon"}), "-b: \"soon\" is no time"));
  CHECK(contains(admin.failure({"printMsg", "-t", "Mail", "-c", "NOSUCHSET"}), "NOSUCHSET"));

  std::vector<std::string> by_queue{"printMsgByQueue", "-t", "Mail", "-a", world.broker_name, "-i", "1"};
  auto with = [&by_queue](std::vector<std::string> more) {
    more.insert(more.begin(), by_queue.begin(), by_queue.end());
    return more;
  };
  CHECK(contains(admin.text(with({"-p", "true", "-d", "true"})), "BODY: second"));
  CHECK(admin.parsed(with({"-p", "true"})).size() >= 2);
  CHECK(contains(admin.text(with({"-f", "true"})), "Tag: A"));
  CHECK(admin.parsed(with({"-f", "true"})).size() >= 2);

  CHECK(contains(admin.text({"consumeMessage", "-t", "Mail"}), "BODY: first \"one\""));
  CHECK(admin.parsed({"consumeMessage", "-t", "Mail", "-c", "2"}).size() == 2);
  auto rest = admin.parsed({"consumeMessage", "-t", "Mail", "-b", world.broker_name, "-i", "1", "-o", "1", "-c", "1"});
  REQUIRE(rest.size() == 1);
  CHECK(rest[0]["body"] == "second");
  CHECK(contains(admin.failure({"consumeMessage", "-t", "Mail", "-i", "1"}), "-b"));
  CHECK(contains(admin.failure({"consumeMessage", "-t", "Nothing"}), "17 TOPIC_NOT_EXIST"));
}

TEST_CASE("mqadmin: messages by key and by unique id", "[mqadmin]") {
  World world;
  const Admin& admin = world.admin;
  admin.text({"updateTopic", "-c", world.cluster_name, "-t", "Mail", "-r", "1", "-w", "1"});
  auto send = [&](const std::string& body, const std::string& keys) -> std::string {
    return admin.parsed({"sendMessage", "-t", "Mail", "-p", body, "-k", keys})[0]["msgId"];
  };
  const auto first = send("first", "order-1 blue"), second = send("second", "order-2 blue");
  const std::vector<std::string> by_key{"queryMsgByKey", "-t", "Mail", "-k", "blue", "-c", world.cluster_name};
  REQUIRE(eventually([&] { return admin.parsed(by_key)["messages"].size() == 2; }));
  auto found = admin.parsed(by_key);
  CHECK(found["messages"][0]["msgId"] == second);
  CHECK(found["messages"][1]["keys"] == "order-1 blue");
  CHECK(found["truncated"] == false);
  CHECK(found["warnings"].empty());
  CHECK(contains(admin.text(by_key), "#Message ID"));
  CHECK(contains(admin.text(by_key), first));
  auto with = [&](std::vector<std::string> more) {
    more.insert(more.begin(), by_key.begin(), by_key.end());
    return more;
  };
  CHECK(admin.parsed(with({"-m", "1"}))["truncated"] == true);
  CHECK(contains(admin.text(with({"-m", "1"})), "There are more"));
  auto time = [](const json& message) { return std::to_string(message["storeTimestamp"].get<int64_t>()); };
  const auto from = time(found["messages"][1]), to = time(found["messages"][0]);
  CHECK(admin.parsed(with({"-b", from, "-e", to}))["messages"].size() == 2);
  CHECK(admin.parsed(with({"-e", "1000"}))["messages"].empty());
  CHECK(admin.parsed({"queryMsgByKey", "-t", "Mail", "-k", "order"})["messages"].empty());
  CHECK(contains(admin.failure({"queryMsgByKey", "-t", "Mail", "-k", "x", "-c", "Nowhere"}), "Nowhere"));
  CHECK(contains(admin.failure({"queryMsgByKey", "-t", "Nothing", "-k", "x"}), "17 TOPIC_NOT_EXIST"));

  auto one = admin.parsed({"queryMsgByUniqueKey", "-t", "Mail", "-i", first});
  REQUIRE(one["messages"].size() == 1);
  CHECK(one["messages"][0]["body"] == "first");
  CHECK(contains(admin.text({"queryMsgByUniqueKey", "-t", "Mail", "-i", first, "-a"}), "Message Body:        first"));
  CHECK(contains(admin.failure({"queryMsgByUniqueKey", "-t", "Mail", "-i", first + "0"}), "has no message"));
  CHECK(contains(admin.failure({"queryMsgByUniqueKey", "-t", "Mail", "-i", first, "-g", "crew"}), "go together"));
}

TEST_CASE("mqadmin: groups, offsets and clients", "[mqadmin]") {
  World world;
  const Admin& admin = world.admin;
  admin.text({"updateTopic", "-c", world.cluster_name, "-t", "Work", "-r", "2", "-w", "2"});
  CHECK(contains(admin.text({"updateSubGroup", "-c", world.cluster_name, "-g", "crew"}),
                 "create subscription group to " + world.broker + " success."));
  CHECK(admin.parsed({"updateSubGroup", "-b", world.broker, "-g", "crew", "-r", "3"})["brokers"][0] == world.broker);
  CHECK(contains(admin.failure({"updateSubGroup", "-b", world.broker, "-g", "crew", "-s", "maybe"}),
                 "-s must be true or false"));
  CHECK(contains(admin.failure({"consumerConnection", "-g", "strangers"}), "strangers"));
  CHECK(contains(admin.failure({"consumerProgress", "-g", "strangers"}), "strangers"));

  std::mutex mutex;
  std::condition_variable changed;
  int consumed = 0;
  apogee::PushConsumerConfig config;
  config.name_servers = admin.namesrv;
  config.group = "crew";
  config.consume_from = apogee::ConsumeFrom::kFirst;
  apogee::PushConsumer consumer(config);
  consumer.set_concurrent_listener(
      [&](const std::vector<apogee::ReceivedMessage>& messages, apogee::ConcurrentContext&) {
        std::lock_guard lock(mutex);
        consumed += static_cast<int>(messages.size());
        changed.notify_all();
        return apogee::ConsumeResult::kSuccess;
      });
  REQUIRE(consumer.subscribe("Work"));
  REQUIRE(consumer.start());
  apogee::ProducerConfig producer_config;
  producer_config.name_servers = admin.namesrv;
  producer_config.group = "shop";
  apogee::Producer producer(producer_config);
  REQUIRE(producer.start());
  std::string one_id;
  for (int i = 0; i < 4; ++i) {
    auto receipt = producer.send(apogee::Message("Work", "job " + std::to_string(i)));
    REQUIRE(receipt);
    one_id = receipt->offset_msg_id;
  }
  {
    std::unique_lock lock(mutex);
    REQUIRE(changed.wait_for(lock, std::chrono::seconds(60), [&consumed] { return consumed >= 4; }));
  }

  // Brokers tell the NameServer of the group's retry topic a moment after the group joined.
  REQUIRE(eventually([&] { return run({"consumerConnection", "-g", "crew"}, admin.namesrv).exit_code == 0; }));
  auto connection = admin.parsed({"consumerConnection", "-g", "crew"});
  REQUIRE(connection["connections"].size() == 1);
  CHECK(connection["connections"][0]["clientId"] == consumer.client_id());
  CHECK(connection["messageModel"] == "CLUSTERING");
  CHECK(contains(admin.text({"consumerConnection", "-g", "crew", "-b", world.broker}), "Below is subscription:"));
  CHECK(contains(admin.text({"producerConnection", "-g", "shop", "-t", "Work"}), "#ClientAddr"));
  CHECK(admin.parsed({"producerConnection", "-g", "shop", "-t", "Work"}).size() == 1);
  CHECK(contains(admin.failure({"producerConnection", "-g", "nobody", "-t", "Work"}), " 1 SYSTEM_ERROR"));

  auto state = admin.parsed({"consumerStatus", "-g", "crew"});
  CHECK(state["sameSubscription"] == true);
  REQUIRE(state["clients"].size() == 1);
  CHECK(state["clients"][0]["clientId"] == consumer.client_id());
  CHECK(
      contains(admin.text({"consumerStatus", "-g", "crew", "-i", consumer.client_id(), "-s"}), "#Consumer MQ Detail#"));
  CHECK(contains(admin.failure({"consumerStatus", "-g", "crew", "-i", "somebody"}), "somebody"));

  auto direct = admin.parsed({"queryMsgById", "-i", one_id, "-g", "crew", "-d", consumer.client_id()});
  CHECK(direct[0]["consumeResult"] == "CR_SUCCESS");
  CHECK(contains(admin.text({"queryMsgById", "-i", one_id, "-g", "crew", "-d", consumer.client_id()}), "CR_SUCCESS"));
  CHECK(contains(admin.failure({"queryMsgById", "-i", one_id, "-g", "crew"}), "go together"));

  // Offsets reach the broker every few seconds.
  REQUIRE(eventually([&] { return admin.parsed({"consumerProgress", "-g", "crew", "-t", "Work"})["diffTotal"] == 0; }));
  auto progress = admin.text({"consumerProgress", "-g", "crew", "-s", "true"});
  CHECK(contains(progress, "#Consumer Offset"));
  CHECK(contains(progress, "#Client IP"));
  CHECK(contains(progress, "Diff Total: 0"));
  bool listed = false;
  for (const auto& row : admin.parsed({"consumerProgress"})) {
    listed = listed || (row["group"] == "crew" && row["count"] == 1 && row["type"] == "PUSH");
  }
  CHECK(listed);
  CHECK(contains(admin.text({"consumerProgress"}), "#Diff Total"));

  // Back to the beginning while the consumer runs: it gets everything again.
  auto reset = admin.parsed({"resetOffsetByTime", "-g", "crew", "-t", "Work", "-s", "2001-01-01#00:00:00:000"});
  CHECK(reset.size() == 2);
  {
    std::unique_lock lock(mutex);
    int before = 4 + 2;  // the two that were handed over directly count as well
    CHECK(changed.wait_for(lock, std::chrono::seconds(60), [&] { return consumed >= before + 4; }));
  }
  REQUIRE(consumer.shutdown());

  // And while nobody runs.
  auto offline = admin.parsed({"resetOffsetByTime", "-g", "crew", "-t", "Work", "-s", "2001-01-01#00:00:00:000"});
  REQUIRE(offline.size() == 2);
  CHECK(offline[0]["offset"] == 0);
  CHECK(admin.parsed({"consumerProgress", "-g", "crew", "-t", "Work"})["diffTotal"] == 4);
  CHECK(contains(admin.text({"resetOffsetByTime", "-g", "crew", "-t", "Work", "-s", "-1"}), "#offset"));
  CHECK(admin.parsed({"consumerProgress", "-g", "crew", "-t", "Work"})["diffTotal"] == 0);

  CHECK(contains(admin.text({"updateSubGroup", "-c", world.cluster_name, "-g", "night"}), "success"));
  CHECK(contains(admin.text({"cloneGroupOffset", "-s", "crew", "-d", "night", "-t", "Work", "-o", "true"}),
                 "clone group offset success."));
  CHECK(admin.parsed({"consumerProgress", "-g", "night", "-t", "Work"})["diffTotal"] == 0);
  CHECK(admin.parsed({"cloneGroupOffset", "-s", "crew", "-d", "night", "-t", "Work"})["destGroup"] == "night");

  CHECK(contains(admin.text({"deleteSubGroup", "-b", world.broker, "-g", "night", "-r", "true"}), "success."));
  CHECK(admin.parsed({"deleteSubGroup", "-c", world.cluster_name, "-g", "crew"})["brokers"][0] == world.broker);
  CHECK(contains(admin.failure({"consumerConnection", "-g", "crew"}), "crew"));
}
