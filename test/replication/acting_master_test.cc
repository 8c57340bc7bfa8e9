// A master is gone: its slave does what is due, by way of another master, and gives it back.

#include <atomic>
#include <iostream>
#include <mutex>
#include <set>
#include <vector>

#include "apogee/push_consumer.h"
#include "apogee/transaction_producer.h"
#include "common/remoting/bodies/client_bodies.h"
#include "common/remoting/bodies/route_bodies.h"
#include "test/replication/acting_rig.h"

namespace apogee::test {

using namespace std::chrono_literals;
using namespace acting;

TEST_CASE("a slave acts for its master, and nothing of that is delivered by the master that returns",
          "[acting_master][crash]") {
  ReplicatedCluster cluster({.slaves = 1, .role = "ASYNC_MASTER", .all = kActing});
  const std::string master = cluster.address(0), slave = cluster.address(1);
  let_slaves_act(cluster);
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

TEST_CASE("a producer is asked by the other master what its transactions came to while one master is away",
          "[acting_master][crash]") {
  ReplicatedCluster cluster({.slaves = 1, .role = "ASYNC_MASTER", .all = kActing});
  let_slaves_act(cluster);
  OtherMaster other(cluster, {{"transactionCheckInterval", "500"}, {"transactionTimeOut", "500"}});
  cluster.create_topic(kTopic, kQueues);
  REQUIRE(ask(other.address, create_topic_request(kTopic, kQueues))->code == 0);
  TransactionProducerConfig config;
  config.group = "undecided";
  config.name_servers = cluster.namesrv();
  config.topics = {kTopic};
  std::mutex mutex;
  std::set<std::string> asked;
  TransactionListener listener;
  listener.execute = [](const Message&, const SendReceipt&) { return TransactionState::kUnknown; };
  listener.check = [&](const ReceivedMessage& message) {
    std::lock_guard lock(mutex);
    asked.emplace(message.body());
    return TransactionState::kCommit;
  };
  TransactionProducer producer(config, listener);
  REQUIRE(producer.start());
  std::set<std::string> at_master;
  int sent = 0;
  for (; sent < 200 && at_master.size() < 5; ++sent) {
    const auto body = "transaction " + std::to_string(sent);
    const auto receipt = producer.send_in_transaction(Message(kTopic, body));
    REQUIRE(receipt);
    if (receipt->sent.queue.broker_name == ReplicatedCluster::kBrokerName) at_master.insert(body);
  }
  REQUIRE(at_master.size() == 5);
  REQUIRE(eventually([&] { return max_offset(cluster.address(1), "RMQ_SYS_TRANS_HALF_TOPIC", 0) == 5; }, kLong));
  CHECK(messages(cluster.address(0)) == 0);
  cluster.kill(0);

  CHECK(eventually([&] { return messages(other.address) == sent; }, kLong));
  CHECK(figure(cluster.address(1), "escapedHalf") == "5");
  {
    std::lock_guard lock(mutex);
    CHECK(asked.size() == static_cast<size_t>(sent));
    for (const auto& body : at_master) CHECK(asked.count(body) == 1);
  }
  cluster.start(0);
  REQUIRE(eventually([&] { return figure(cluster.address(1), "actingMaster") == "false"; }, kLong));
  CHECK(figure(cluster.address(0), "transactionsUndecided") == "0");
  CHECK(messages(cluster.address(0)) == 0);
  std::cout << "transactions of a master that is away: 5 asked about by another one, 0 lost, "
            << messages(other.address) - sent << " twice\n";
  REQUIRE(producer.shutdown());
}

TEST_CASE("an orderly consumer goes on from the acting master and comes back, in order", "[acting_master][crash]") {
  ReplicatedCluster cluster({.slaves = 1, .role = "ASYNC_MASTER", .all = kActing});
  let_slaves_act(cluster);
  cluster.create_topic(kTopic, 1);
  int sent = 0;
  const auto send_until = [&](int end) {
    for (; sent < end; ++sent) {
      const auto answer = ask(cluster.address(0), send_request({kTopic, 0, std::to_string(sent)}));
      REQUIRE(answer);
      REQUIRE(answer->code == 0);
    }
  };
  send_until(40);
  REQUIRE(eventually([&] { return max_offset(cluster.address(1), kTopic, 0) == 40; }, kLong));

  std::mutex mutex;
  std::vector<int> seen;
  std::atomic<bool> hold{true};
  PushConsumerConfig config;
  config.group = "orderly";
  config.name_servers = cluster.namesrv();
  config.consume_from = ConsumeFrom::kFirst;
  config.consume_batch_max = 1;
  config.pull_batch = 4;
  config.cached_messages_max = 8;  // so that most are pulled after the master is gone
  config.rebalance_interval = 500ms;
  config.heartbeat_interval = 500ms;
  config.offset_persist_interval = 200ms;
  config.route_refresh_interval = 200ms;
  config.pull_error_delay = 100ms;
  PushConsumer consumer(config);
  consumer.set_orderly_listener([&](const std::vector<ReceivedMessage>& batch, OrderlyContext&) {
    std::unique_lock lock(mutex);
    for (const auto& message : batch) seen.push_back(std::stoi(std::string(message.body())));
    const bool wait = hold && seen.size() >= 10;
    lock.unlock();
    if (wait) eventually([&] { return !hold; }, kLong);
    return OrderlyResult::kSuccess;
  });
  REQUIRE(consumer.subscribe(kTopic, "*"));
  REQUIRE(consumer.start());
  const auto has = [&](int number) {
    std::lock_guard lock(mutex);
    return std::find(seen.begin(), seen.end(), number) != seen.end();
  };
  REQUIRE(eventually([&] { return has(9); }, kLong));
  // The slave has heard of the lock.
  REQUIRE(eventually(
      [&] {
        const auto locks = ask(cluster.address(1), Command::request(RequestCode::kGetAllQueueLocks));
        return locks && locks->body.bytes.find(config.group) != std::string_view::npos;
      },
      kLong));
  cluster.kill(0);
  hold = false;
  REQUIRE(eventually([&] { return figure(cluster.address(1), "actingMaster") == "true"; }, kLong));
  CHECK(eventually([&] { return has(39); }, kLong));

  // The lock is the slave's to grant, and nobody else gets it.
  remoting::LockBatchRequest lock;
  lock.consumer_group = config.group;
  lock.client_id = "somebody else";
  lock.mq_set = {{kTopic, ReplicatedCluster::kBrokerName, 0}};
  auto lock_request = Command::request(RequestCode::kLockBatchMq);
  lock_request.body = SharedBytes::from(remoting::encode(lock));
  const auto granted_by = [&](size_t node) -> size_t {
    const auto answer = ask(cluster.address(node), lock_request);
    if (!answer || answer->code != 0) return 99;
    return remoting::decode_lock_batch_response(answer->body.bytes)->lock_ok_mq_set.size();
  };
  CHECK(granted_by(1) == 0);

  cluster.start(0);
  REQUIRE(eventually([&] { return figure(cluster.address(1), "actingMaster") == "false"; }, kLong));
  send_until(60);
  CHECK(eventually([&] { return has(59); }, kLong));
  CHECK(granted_by(0) == 0);
  REQUIRE(consumer.shutdown());
  // Each for the first time in order; what comes again does so because an offset was not known yet.
  int next = 0;
  for (const int number : seen) {
    CHECK(number <= next);
    next = std::max(next, number + 1);
  }
  CHECK(next == 60);
  std::cout << "orderly consumer over an acting master: 60 messages, lost " << 60 - next << ", twice "
            << seen.size() - 60 << "\n";
}

}  // namespace apogee::test
