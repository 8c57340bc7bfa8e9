// Transactions and kill -9: of the broker at each step and at any time, and of the producer.
#include <cstdlib>
#include <iostream>
#include <thread>

#include "test/business/transaction_bench.h"
#include "test/support/random.h"

namespace apogee::test {

using namespace std::chrono_literals;
using remoting::RequestCode;
using Texts = std::vector<std::string>;

namespace {

/// A producer of another make that is connected, to be asked.
struct Asked {
  explicit Asked(uint16_t port) : client(port) {
    auto reply = client.call(producer_heartbeat("raw@1", kTransactionProducers));
    REQUIRE(reply);
    REQUIRE(reply->code == 0);
  }
  /// Waits for the next question about this transaction, and gives it the place that it names.
  void next(RawHalf& half) {
    for (;;) {
      auto question = client.receive(60s);
      REQUIRE(question);
      REQUIRE(question->request_code() == RequestCode::kCheckTransactionState);
      if (question->ext.get("transactionId") != half.transaction_id) continue;
      half.queue_offset = *question->ext.get_int<int64_t>("tranStateTableOffset");
      half.log_offset = *question->ext.get_int<int64_t>("commitLogOffset");
      return;
    }
  }
  RawClient client;
};

void restart(Cluster& cluster) {
  cluster.kill_broker();
  cluster.start_broker();
}

int32_t end(const Cluster& cluster, const RawHalf& half, int32_t decision, bool from_check = false) {
  RawClient client(cluster.broker_port());
  auto reply = client.call(half.end(decision, from_check));
  REQUIRE(reply);
  return reply->code;
}

Texts delivered(const Cluster& cluster, int32_t queues = 1) {
  return bodies_of(cluster.broker_port(), kTransactionTopic, queues);
}

int64_t rounds(int64_t in_ci) { return std::getenv("APOGEE_SOAK") == nullptr ? in_ci : in_ci * 20; }

}  // namespace

TEST_CASE("kill -9 of the broker at each step of a transaction", "[business][transactions][crash]") {
  // Op messages of commits wait so long that a kill always comes before; nobody is asked but where the step is that.
  Cluster cluster(
      {"--transactionTimeOut", "300", "--transactionCheckInterval", "200", "--transactionOpBatchInterval", "3600000"});
  cluster.create_topic(kTransactionTopic, 1);
  auto half = raw_half("a");
  half.more = {{"CHECK_IMMUNITY_TIME_IN_SECONDS", "3600"}};
  auto send = [&] {
    RawClient client(cluster.broker_port());
    half.send(client);
  };
  SECTION("the half message is stored") {
    send();
    restart(cluster);
    CHECK(delivered(cluster).empty());
    CHECK(end(cluster, half, 8) == 0);
    CHECK(end(cluster, half, 8) == 604);
    CHECK(delivered(cluster) == Texts{"a"});
  }
  SECTION("the half message is stored, the producer is asked afterwards") {
    half.more.clear();
    send();
    restart(cluster);
    Asked asked(cluster.broker_port());
    auto first = half;
    asked.next(half);
    CHECK(end(cluster, half, 8, true) == 0);
    CHECK(end(cluster, first, 8) == 604);
    CHECK(delivered(cluster) == Texts{"a"});
  }
  SECTION("the message for consumers is stored, its op message is not") {
    send();
    CHECK(end(cluster, half, 8) == 0);
    CHECK(figure(cluster.broker_port(), "transactionOpsWaiting") == 1);
    restart(cluster);
    CHECK(figure(cluster.broker_port(), "transactionsUndecided") == 0);
    CHECK(end(cluster, half, 8) == 604);
    CHECK(end(cluster, half, 12) == 604);
    restart(cluster);
    CHECK(end(cluster, half, 8, true) == 604);
    CHECK(delivered(cluster) == Texts{"a"});
  }
  SECTION("the rollback is answered") {
    send();
    CHECK(end(cluster, half, 12) == 0);
    restart(cluster);
    CHECK(end(cluster, half, 8) == 604);
    CHECK(delivered(cluster).empty());
  }
  SECTION("the producer was asked, and has not answered") {
    half.more.clear();
    send();
    auto first = half, copy = half;
    Asked(cluster.broker_port()).next(copy);
    restart(cluster);
    auto later = copy;
    Asked(cluster.broker_port()).next(later);
    CHECK(later.queue_offset > copy.queue_offset);
    CHECK(end(cluster, copy, 8, true) == 0);
    for (const auto* each : {&first, &copy, &later}) CHECK(end(cluster, *each, 8, true) == 604);
    restart(cluster);
    for (const auto* each : {&first, &copy, &later}) CHECK(end(cluster, *each, 8, true) == 604);
    CHECK(delivered(cluster) == Texts{"a"});
  }
  SECTION("the answer to a question is stored") {
    half.more.clear();
    send();
    auto first = half;
    {
      Asked asked(cluster.broker_port());
      asked.next(half);
      CHECK(end(cluster, first, 8) == 0);  // told about the first message, after the copy was stored
    }
    restart(cluster);
    for (const auto* each : {&first, &half}) CHECK(end(cluster, *each, 8, true) == 604);
    CHECK(delivered(cluster) == Texts{"a"});
  }
  SECTION("the transaction was given up") {
    RawClient client(cluster.broker_port());
    auto change = remoting::Command::request(RequestCode::kUpdateBrokerConfig);
    change.body = SharedBytes::from("transactionCheckMax=2\n");
    REQUIRE(client.call(change)->code == 0);
    half.more.clear();
    send();
    REQUIRE(eventually([&] { return figure(cluster.broker_port(), "transactionsGivenUp") == 1; }, 60s));
    restart(cluster);
    CHECK(end(cluster, half, 8) == 604);
    CHECK(delivered(cluster).empty());
    CHECK(bodies_of(cluster.broker_port(), "TRANS_CHECK_MAX_TIME_TOPIC") == Texts{"a"});
  }
}

TEST_CASE("kill -9 of the broker again and again: each transaction is delivered once, or not at all",
          "[business][transactions][crash]") {
  const std::string compatibility = GENERATE(std::string("5.x"), std::string("4.9"));
  INFO("storeCompatibility " << compatibility);
  constexpr int kSenders = 3;
  Cluster cluster(impatient({"--storeCompatibility", compatibility, "--transactionCheckMax", "100000"}));
  cluster.create_topic(kTransactionTopic, 4);
  Ledger ledger;
  std::mutex mutex;
  std::map<std::string, TransactionState> decided;  // of what was executed
  ledger.execute = [&](const std::string& body) {
    const char last = body.back();
    const auto state = last < '6' ? TransactionState::kCommit : TransactionState::kRollback;
    std::lock_guard lock(mutex);
    decided[body] = state;
    return last == '5' || last == '9' ? TransactionState::kUnknown : state;
  };
  ledger.check = [&](const std::string& body) {
    std::lock_guard lock(mutex);
    auto known = decided.find(body);
    return known == decided.end() ? TransactionState::kRollback : known->second;
  };
  auto config = transaction_config(cluster);
  config.send_timeout = 2s;
  TransactionProducer producer(config, ledger.listener());
  REQUIRE(producer.start());
  std::atomic<bool> stop{false};
  std::vector<std::thread> senders;
  for (int sender = 0; sender < kSenders; ++sender)
    senders.emplace_back([&, sender] {
      for (int i = 0; !stop; ++i) {
        const std::string body = std::to_string(sender) + "-" + std::to_string(i);
        if (!producer.send_in_transaction(Message(kTransactionTopic, body))) pause(20ms);
      }
    });
  Random random(20'261'121);
  for (int64_t i = 0; i < rounds(3); ++i) {
    pause(std::chrono::milliseconds(random.between(200, 900)));
    restart(cluster);
  }
  pause(300ms);
  stop = true;
  for (auto& sender : senders) sender.join();
  REQUIRE(eventually([&] { return figure(cluster.broker_port(), "transactionsUndecided") == 0; }, 60s));
  // A rollback that nobody waits for holds when its op message is stored, a moment later.
  REQUIRE(eventually([&] { return figure(cluster.broker_port(), "transactionOpsWaiting") == 0; }, 60s));
  restart(cluster);
  CHECK(figure(cluster.broker_port(), "transactionsUndecided") == 0);
  std::map<std::string, int> times;
  for (const auto& body : delivered(cluster, 4)) ++times[body];
  int wrong = 0, commits = 0;
  for (const auto& [body, state] : decided) {
    const int expected = state == TransactionState::kCommit ? 1 : 0;
    commits += expected;
    if (times[body] == expected) continue;
    if (++wrong < 10) UNSCOPED_INFO(body << " was delivered " << times[body] << " times");
  }
  CHECK(wrong == 0);
  for (const auto& [body, count] : times) wrong += count > 0 && decided.count(body) == 0 ? 1 : 0;
  CHECK(wrong == 0);  // nothing that was never executed
  CHECK(commits > 0);
  std::cout << "transactions and kill -9 (" << compatibility << "): " << decided.size() << " executed, " << commits
            << " committed\n";
}

namespace {

/// What the helper does with each message, and then waits to be killed.
constexpr const char* kHelperSteps[] = {"hang", "unknown", "commit"};

}  // namespace

// Run by the next test as a process of its own.
TEST_CASE("A producer that is to be killed", "[.][transaction-helper]") {
  const char* namesrv = std::getenv("NAMESRV_ADDR");
  REQUIRE(namesrv != nullptr);
  TransactionProducerConfig config;
  config.group = kTransactionProducers;
  config.instance_name = "helper";
  config.send_timeout = 20s;
  TransactionListener listener;
  listener.execute = [](const Message& message, const SendReceipt&) {
    if (message.body() == "commit") return TransactionState::kCommit;
    if (message.body() == "hang") {
      std::cout << "executing" << std::endl;
      pause(10min);
    }
    return TransactionState::kUnknown;
  };
  listener.check = [](const ReceivedMessage&) { return TransactionState::kUnknown; };
  TransactionProducer producer(config, listener);
  REQUIRE(producer.start());
  for (const char* step : {kHelperSteps[2], kHelperSteps[1], kHelperSteps[0]})
    REQUIRE(producer.send_in_transaction(Message(kTransactionTopic, step)));
}

TEST_CASE("kill -9 of a producer: another one of its group is asked", "[business][transactions][crash]") {
  Cluster cluster(impatient({"--transactionCheckMax", "100000"}));
  cluster.create_topic(kTransactionTopic, 1);
  Process helper("test/business", {"[transaction-helper]"}, (cluster.directory() / "helper.out").string(),
                 {"NAMESRV_ADDR=" + cluster.namesrv()});
  INFO(helper.output());
  REQUIRE(helper.wait_for_output("executing", 60s));
  REQUIRE(eventually([&] { return delivered(cluster) == Texts{"commit"}; }, 60s));
  helper.kill();
  Ledger ledger;
  ledger.check = [](const std::string& body) {
    return body == "hang" ? TransactionState::kCommit : TransactionState::kRollback;
  };
  TransactionProducer survivor(transaction_config(cluster, "survivor"), ledger.listener());
  REQUIRE(survivor.start());
  REQUIRE(eventually([&] { return figure(cluster.broker_port(), "transactionsUndecided") == 0; }, 60s));
  CHECK(delivered(cluster) == Texts{"commit", "hang"});
  CHECK(ledger.checks("hang") >= 1);
  CHECK(ledger.checks("unknown") >= 1);
  CHECK(ledger.checks("commit") == 0);
}

}  // namespace apogee::test
