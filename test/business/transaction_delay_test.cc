// Transactions whose messages are to come later: the delay counts from the commit.
#include <algorithm>

#include "common/message/property_names.h"
#include "test/business/transaction_bench.h"

namespace apogee::test {

using namespace std::chrono_literals;

namespace {

/// What came, with when it was stored.
struct Arrived {
  std::mutex mutex;
  std::map<std::string, std::pair<int64_t, int64_t>> by_body;  ///< store time; TIMER_OUT_MS, else 0; guarded by mutex
  std::vector<std::string> order;                              // guarded by mutex

  void add(const std::vector<ReceivedMessage>& messages) {
    std::lock_guard lock(mutex);
    for (const auto& message : messages) {
      const auto due = message.property(message::property::kTimerOutMs);
      by_body[std::string(message.body())] = {message.store_time_ms(), due ? std::stoll(std::string(*due)) : 0};
      order.emplace_back(message.body());
    }
  }
  size_t count() {
    std::lock_guard lock(mutex);
    return order.size();
  }
};

}  // namespace

TEST_CASE("Transactions with a delay level or an instant: committed ones come when they are due, others never",
          "[business][transactions][delay][timer]") {
  Cluster cluster(impatient({"--messageDelayLevel", "1s 2s 3s"}));
  cluster.create_topic(kTransactionTopic, 1);
  Arrived arrived;
  PushConsumer consumer(consumer_config<PushConsumerConfig>(cluster, "shop", "c1"));
  consumer.set_concurrent_listener([&](const std::vector<ReceivedMessage>& messages, ConcurrentContext&) {
    arrived.add(messages);
    return ConsumeResult::kSuccess;
  });
  REQUIRE(consumer.subscribe(kTransactionTopic));
  REQUIRE(consumer.start());
  Ledger ledger;
  ledger.execute = [](const std::string& body) {
    if (body == "asked") return TransactionState::kUnknown;
    return body.find("back") == 0 ? TransactionState::kRollback : TransactionState::kCommit;
  };
  ledger.check = [](const std::string&) { return TransactionState::kCommit; };
  TransactionProducer producer(transaction_config(cluster), ledger.listener());
  REQUIRE(producer.start());
  const int64_t begun = wall_ms(), instant = begun + 4'000;
  auto send = [&](Message message) {
    auto receipt = producer.send_in_transaction(message);
    if (!receipt) FAIL(receipt.error().message);
    CHECK(receipt->sent.recall_handle.empty());
  };
  send(Message(kTransactionTopic, "level").set_delay_level(3));
  send(Message(kTransactionTopic, "instant").set_deliver_at(instant));
  send(Message(kTransactionTopic, "asked").set_delay_level(1));
  send(Message(kTransactionTopic, "back level").set_delay_level(1));
  send(Message(kTransactionTopic, "back instant").set_deliver_at(begun + 1'000));
  send(Message(kTransactionTopic, "at once"));
  REQUIRE(eventually([&] { return arrived.count() >= 4; }, 60s));
  REQUIRE(eventually([&] { return figure(cluster.broker_port(), "transactionsUndecided") == 0; }, 60s));
  CHECK(figure(cluster.broker_port(), "timerPending") == 0);
  std::lock_guard lock(arrived.mutex);
  CHECK(arrived.order.size() == 4);
  CHECK(arrived.order.front() == "at once");
  CHECK(arrived.by_body["level"].first >= begun + 3'000);
  CHECK(arrived.by_body["instant"].first >= instant);
  CHECK(arrived.by_body["instant"].second == instant);
  CHECK(arrived.by_body["asked"].first >= begun + 1'000);
}

TEST_CASE("raw frames: a half message with a delay is delayed when it is committed, also across kill -9",
          "[business][transactions][delay][timer][crash]") {
  Cluster cluster({"--transactionTimeOut", "60000", "--messageDelayLevel", "1s 2s 3s"});
  cluster.create_topic(kTransactionTopic, 1);
  auto level = raw_half("level"), instant = raw_half("instant"), bad = raw_half("bad");
  const int64_t due = wall_ms() + 5'000;
  level.more = {{"DELAY", "2"}};
  instant.more = {{"TIMER_DELIVER_MS", std::to_string(due)}};
  bad.more = {{"TIMER_DELAY_MS", "-1"}};
  {
    RawClient client(cluster.broker_port());
    level.send(client);
    instant.send(client);
    auto refused = client.call(bad.request());  // not only when it is committed
    REQUIRE(refused);
    CHECK(refused->code == 13);
    CHECK(bodies_of(cluster.broker_port(), kTransactionTopic).empty());
    for (const auto* half : {&level, &instant}) {
      auto ended = client.call(half->end(8));
      REQUIRE(ended);
      CHECK(ended->code == 0);
    }
  }
  cluster.kill_broker();
  cluster.start_broker();
  REQUIRE(eventually([&] { return bodies_of(cluster.broker_port(), kTransactionTopic).size() >= 2; }, 60s));
  auto bodies = bodies_of(cluster.broker_port(), kTransactionTopic);
  std::sort(bodies.begin(), bodies.end());
  CHECK(bodies == std::vector<std::string>{"instant", "level"});
  CHECK(wall_ms() >= due);
}

}  // namespace apogee::test
