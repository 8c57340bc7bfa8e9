// Transactions through the real broker: the SDK, and clients of another make.
#include <algorithm>
#include <set>

#include "test/business/transaction_bench.h"

namespace apogee::test {

using namespace std::chrono_literals;
using remoting::RequestCode;
namespace code = remoting::response_code;

namespace {

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

Message order(const std::string& body) { return Message(kTransactionTopic, body).set_tags("created").set_keys(body); }

}  // namespace

TEST_CASE("The SDK's transactions: committed messages are seen, others are not, and who is silent is asked",
          "[business][transactions]") {
  Cluster cluster(impatient());
  cluster.create_topic(kTransactionTopic, 2);
  Seen seen;
  auto consumer = listen(consumer_config<PushConsumerConfig>(cluster, "shop", "c1"), kTransactionTopic, "*", seen);
  Ledger ledger;
  ledger.execute = [](const std::string& body) {
    if (contains(body, "throws")) throw std::runtime_error("as some applications do");
    if (contains(body, "commit")) return TransactionState::kCommit;
    return contains(body, "back") ? TransactionState::kRollback : TransactionState::kUnknown;
  };
  ledger.check = [&ledger](const std::string& body) {
    if (ledger.checks(body) < 2) return TransactionState::kUnknown;
    return contains(body, "no") ? TransactionState::kRollback : TransactionState::kCommit;
  };
  TransactionProducer producer(transaction_config(cluster), ledger.listener());
  REQUIRE(producer.start());
  for (const char* body : {"commit 1", "back 1", "later yes", "later no", "throws yes", "commit 2"}) {
    auto receipt = producer.send_in_transaction(order(body));
    INFO(body);
    REQUIRE(receipt);
    CHECK(receipt->sent.transaction_id == receipt->sent.msg_id);
  }
  REQUIRE(eventually([&] { return seen.count() >= 4; }, 60s));
  REQUIRE(eventually([&] { return figure(cluster.broker_port(), "transactionsUndecided") == 0; }, 60s));
  CHECK(seen.distinct() == std::set<std::string>{"commit 1", "commit 2", "later yes", "throws yes"});
  CHECK(seen.count() == 4);
  CHECK(ledger.checks("commit 1") == 0);
  CHECK(ledger.checks("back 1") == 0);
  CHECK(ledger.checks("later no") == 2);
  CHECK(figure(cluster.broker_port(), "transactionsCommitted") == 4);
  CHECK(figure(cluster.broker_port(), "transactionsRolledBack") == 2);
  // The one that was asked for is known by the id that the sender got.
  std::lock_guard lock(ledger.mutex);
  for (const auto& id : ledger.checked_ids)
    CHECK(std::count(ledger.executed_ids.begin(), ledger.executed_ids.end(), id) == 1);
  CHECK(producer.shutdown());
}

TEST_CASE("Half messages and their ends of a foreign client", "[business][transactions]") {
  Cluster cluster({"--transactionTimeOut", "60000"});
  cluster.create_topic(kTransactionTopic, 1);
  RawClient client(cluster.broker_port());
  auto ended = [&](const remoting::Command& request) {
    auto reply = client.call(request);
    REQUIRE(reply);
    return std::pair(reply->code, reply->remark.value_or(""));
  };
  auto half = raw_half("kept");
  half.key = "TX-1";
  half.send(client);
  CHECK(half.transaction_id == "TX-1");
  CHECK(bodies_of(cluster.broker_port(), kTransactionTopic).empty());

  SECTION("each part of an end is checked") {
    auto wrong = half;
    wrong.group = "others";
    CHECK(ended(wrong.end(8)) == std::pair(1, std::string("The producer group wrong")));
    wrong = half;
    ++wrong.queue_offset;
    CHECK(ended(wrong.end(8)) == std::pair(1, std::string("The transaction state table offset wrong")));
    wrong = half;
    wrong.log_offset += 4;
    auto [wrong_code, remark] = ended(wrong.end(8));
    CHECK(wrong_code == 1);
    CHECK(contains(remark, "Find prepared transaction message failed"));
    wrong.log_offset = -1;
    CHECK(ended(wrong.end(8)).first == 1);
    wrong = half;
    wrong.transaction_id = "TX-2";
    CHECK(contains(ended(wrong.end(12)).second, "The transaction id wrong"));
    auto strange = half.end(7);
    CHECK(ended(strange).first == code::kInvalidParameter);
    auto incomplete = half.end(8);
    incomplete.ext.set("commitLogOffset", "x");
    CHECK(ended(incomplete).first == code::kInvalidParameter);
    CHECK(ended(half.end(0)).first == 0);
    CHECK(bodies_of(cluster.broker_port(), kTransactionTopic).empty());
    CHECK(ended(half.end(8)).first == 0);
    CHECK(bodies_of(cluster.broker_port(), kTransactionTopic) == std::vector<std::string>{"kept"});
  }
  SECTION("what is decided stays decided") {
    CHECK(ended(half.end(12)).first == 0);
    for (int32_t decision : {8, 12, 8}) {
      auto [ignored_code, remark] = ended(half.end(decision));
      CHECK(ignored_code == 604);
      CHECK(contains(remark, "decided before"));
    }
    auto other = raw_half("twice");
    other.send(client);
    CHECK(ended(other.end(8)).first == 0);
    CHECK(ended(other.end(8)).first == 604);
    CHECK(ended(other.end(12)).first == 604);
    CHECK(bodies_of(cluster.broker_port(), kTransactionTopic) == std::vector<std::string>{"twice"});
    CHECK(figure(cluster.broker_port(), "transactionEndsIgnored") == 5);
    // The same after a restart, and for a message that is none of a transaction.
    cluster.stop_broker();
    cluster.start_broker();
    RawClient again(cluster.broker_port());
    for (const auto* each : {&half, &other}) {
      auto reply = again.call(each->end(8));
      REQUIRE(reply);
      CHECK(reply->code == 604);
    }
    CHECK(bodies_of(cluster.broker_port(), kTransactionTopic) == std::vector<std::string>{"twice"});
  }
  SECTION("a plain message cannot be committed") {
    auto plain = client.call(send_request({kTransactionTopic, 0, "plain"}));
    REQUIRE(plain);
    RawHalf not_half = half;
    not_half.queue_offset = 0;
    not_half.log_offset = message::decode_offset_message_id(std::string(*plain->ext.get("msgId")))->physical_offset;
    CHECK(contains(ended(not_half.end(8)).second, "is no half message"));
  }
}

TEST_CASE("Half messages that are refused", "[business][transactions]") {
  Cluster cluster;
  cluster.create_topic(kTransactionTopic, 1);
  RawClient client(cluster.broker_port());
  auto sent = [&](const remoting::Command& request) {
    auto reply = client.call(request);
    REQUIRE(reply);
    return std::pair(reply->code, reply->remark.value_or(""));
  };
  auto without_group = raw_half("x");
  without_group.group = "";
  auto [refused, remark] = sent(without_group.request());
  CHECK(refused == code::kMessageIllegal);
  CHECK(contains(remark, "PGROUP"));
  auto decided = send_request({kTransactionTopic, 0, "x"});
  decided.ext.set("f", 8);
  CHECK(sent(decided).first == code::kMessageIllegal);
  for (const char* closed : {"RMQ_SYS_TRANS_HALF_TOPIC", "RMQ_SYS_TRANS_OP_HALF_TOPIC", "TRANS_CHECK_MAX_TIME_TOPIC"})
    CHECK(sent(send_request({closed, 0, "x"})).first == code::kNoPermission);
  auto change = remoting::Command::request(RequestCode::kUpdateBrokerConfig);
  change.body = SharedBytes::from("rejectTransactionMessage=true\n");
  REQUIRE(sent(change).first == 0);
  CHECK(sent(raw_half("x").request()).first == code::kNoPermission);
  CHECK(figure(cluster.broker_port(), "transactionsUndecided") == 0);
}

}  // namespace apogee::test
