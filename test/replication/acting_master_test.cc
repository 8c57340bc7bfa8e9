// A master is gone: its slave does what is due, by way of another master, and gives it back.

#include <fstream>
#include <iostream>

#include "common/remoting/bodies/client_bodies.h"
#include "common/remoting/bodies/kv_bodies.h"
#include "common/remoting/bodies/route_bodies.h"
#include "test/support/catch.h"
#include "test/support/raw_requests.h"
#include "test/support/replicated_cluster.h"
#include "test/support/wait.h"

namespace apogee::test {

using remoting::Command;
using remoting::RequestCode;

namespace {

constexpr auto kLong = std::chrono::seconds(60);
constexpr const char* kTopic = "Acting";
constexpr int32_t kQueues = 2;

std::optional<Command> ask(const std::string& address, const Command& request) {
  const auto colon = address.rfind(':');
  try {
    RawClient client(address.substr(0, colon), static_cast<uint16_t>(std::stoi(address.substr(colon + 1))),
                     std::chrono::seconds(20));
    auto answer = client.call(request);
    return answer ? std::optional(std::move(*answer)) : std::nullopt;
  } catch (const std::exception&) {
    return std::nullopt;  // it starts or is gone
  }
}

int64_t max_offset(const std::string& address, const std::string& topic, int32_t queue) {
  auto request = Command::request(RequestCode::kGetMaxOffset);
  request.ext.set("topic", topic);
  request.ext.set("queueId", queue);
  const auto answer = ask(address, request);
  return answer && answer->code == 0 ? answer->ext.get_int<int64_t>("offset").value_or(-1) : -1;
}

int64_t messages(const std::string& address) {
  int64_t sum = 0;
  for (int32_t queue = 0; queue < kQueues; ++queue) sum += std::max<int64_t>(0, max_offset(address, kTopic, queue));
  return sum;
}

std::string figure(const std::string& address, const std::string& name) {
  const auto answer = ask(address, Command::request(RequestCode::kGetBrokerRuntimeInfo));
  if (!answer || answer->code != 0) return "";
  auto table = remoting::decode_kv_table(answer->body.bytes);
  return table && table->table.count(name) != 0 ? table->table.at(name) : "";
}

void send(const std::string& address, const std::string& body, const std::string& properties) {
  const auto answer = ask(address, send_request({kTopic, 1, body, properties}));
  REQUIRE(answer);
  INFO(answer->remark.value_or(""));
  REQUIRE(answer->code == 0);
}

int64_t now_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch())
      .count();
}

const Settings kActing{{"enableSlaveActingMaster", "true"},      {"enableRemoteEscape", "true"},
                       {"brokerNotActiveTimeoutMillis", "2000"}, {"brokerHeartbeatInterval", "200"},
                       {"syncBrokerMemberGroupPeriod", "200"},   {"messageDelayLevel", "12s 1h"},
                       {"transactionCheckInterval", "600000"}};

/// The master of another broker name.
struct OtherMaster {
  explicit OtherMaster(const ReplicatedCluster& cluster) : address("127.0.0.1:" + std::to_string(port)) {
    const auto home = cluster.directory() / "other";
    std::filesystem::create_directories(home);
    Settings settings = kActing;
    settings.merge(Settings{{"namesrvAddr", cluster.namesrv()},
                            {"listenPort", std::to_string(port)},
                            {"bindAddress", "127.0.0.1"},
                            {"brokerIP1", "127.0.0.1"},
                            {"brokerName", "broker-b"},
                            {"storePathRootDir", (home / "store").string()},
                            {"logDir", (home / "logs").string()},
                            {"mappedFileSizeCommitLog", "1048576"}});
    const auto file = home / "broker.conf";
    std::ofstream out(file);
    for (const auto& [key, value] : settings) out << key << "=" << value << "\n";
    out.close();
    process = std::make_unique<Process>("broker/mqbroker", std::vector<std::string>{"-c", file.string()},
                                        (home / "broker.out").string());
    REQUIRE(process->wait_for_output("boot success", kLong));
  }
  uint16_t port = free_port();
  std::string address;
  std::unique_ptr<Process> process;
};

}  // namespace

TEST_CASE("a slave acts for its master, and nothing of that is delivered by the master that returns",
          "[acting_master][crash]") {
  ReplicatedCluster cluster({.slaves = 1, .role = "ASYNC_MASTER", .all = kActing});
  const std::string master = cluster.address(0), slave = cluster.address(1);
  auto settings = Command::request(RequestCode::kUpdateNamesrvConfig);
  settings.body = SharedBytes::from(std::string("supportActingMaster=true\nscanNotActiveBrokerInterval=200\n"));
  const auto set = ask(cluster.namesrv(), settings);
  REQUIRE(set);
  REQUIRE(set->code == 0);
  OtherMaster other(cluster);
  cluster.create_topic(kTopic, kQueues);
  REQUIRE(ask(other.address, create_topic_request(kTopic, kQueues))->code == 0);

  const std::string due = std::to_string(now_ms() + 12'000);
  for (int i = 0; i < 5; ++i) {
    const std::string key = "UNIQ_KEY\x01K" + std::to_string(i);
    send(master, "delayed",
         key +
             "d\x02"
             "DELAY\x01"
             "1\x02");
    send(master, "timed", key + "t\x02TIMER_DELIVER_MS\x01" + due + "\x02");
    if (i < 3) send(master, "half", key + "h\x02PGROUP\x01producers\x02TRAN_MSG\x01true\x02");
  }
  REQUIRE(eventually(
      [&] {
        return max_offset(slave, "SCHEDULE_TOPIC_XXXX", 0) == 5 && max_offset(slave, "rmq_sys_wheel_timer", 0) == 5 &&
               max_offset(slave, "RMQ_SYS_TRANS_HALF_TOPIC", 0) == 3;
      },
      kLong));
  cluster.kill(0);

  // Everything that waits goes to the other master; it holds the half messages and will ask.
  REQUIRE(eventually([&] { return messages(other.address) >= 10; }, kLong));
  REQUIRE(eventually([&] { return max_offset(other.address, "RMQ_SYS_TRANS_HALF_TOPIC", 0) >= 3; }, kLong));
  CHECK(figure(slave, "actingMaster") == "true");
  CHECK(messages(slave) == 0);  // its own log is as it was

  // Clients see the slave in the master's place: it grants locks, and takes no messages.
  auto ask_route = Command::request(RequestCode::kGetRouteinfoByTopic);
  ask_route.ext.set("topic", kTopic);
  const auto answered = ask(cluster.namesrv(), ask_route);
  REQUIRE(answered);
  const auto route = remoting::decode_topic_route_data(answered->body.bytes);
  REQUIRE(route);
  for (const auto& broker : route->broker_datas) {
    if (broker.broker_name == ReplicatedCluster::kBrokerName)
      CHECK(broker.broker_addrs == std::map<int64_t, std::string>{{0, slave}});
  }
  for (const auto& queues : route->queue_datas)
    CHECK(queues.perm == (queues.broker_name == ReplicatedCluster::kBrokerName ? 4 : 6));
  remoting::LockBatchRequest lock;
  lock.consumer_group = "orderly";
  lock.client_id = "member";
  lock.mq_set = {{kTopic, ReplicatedCluster::kBrokerName, 0}};
  auto lock_request = Command::request(RequestCode::kLockBatchMq);
  lock_request.body = SharedBytes::from(remoting::encode(lock));
  const auto locked = ask(slave, lock_request);
  REQUIRE(locked);
  REQUIRE(locked->code == 0);
  CHECK(remoting::decode_lock_batch_response(locked->body.bytes)->lock_ok_mq_set.size() == 1);
  CHECK(ask(slave, send_request({kTopic, 0, "x"}))->code == remoting::response_code::kServiceNotAvailable);

  cluster.start(0);
  REQUIRE(eventually([&] { return figure(slave, "actingMaster") == "false"; }, kLong));
  // What comes after it is delivered, what went before is not.
  const auto taken_over = messages(master);
  send(master, "marker",
       "DELAY\x01"
       "1\x02");
  send(master, "marker", "TIMER_DELIVER_MS\x01" + std::to_string(now_ms() + 1'000) + "\x02");
  REQUIRE(eventually([&] { return messages(master) >= taken_over + 2; }, kLong));
  CHECK(messages(master) == 2);
  CHECK(messages(other.address) == 10);
  CHECK(max_offset(other.address, "RMQ_SYS_TRANS_HALF_TOPIC", 0) == 3);
  CHECK(figure(master, "transactionsUndecided") == "0");
  CHECK(figure(slave, "escapedDelayed") == "5");
  CHECK(figure(slave, "escapedTimers") == "5");
  CHECK(figure(slave, "escapedHalf") == "3");
  std::cout << "acting master: 10 due and 3 half messages sent to another master, 0 lost, "
            << messages(other.address) + messages(master) - 12 << " twice\n";
}

}  // namespace apogee::test
