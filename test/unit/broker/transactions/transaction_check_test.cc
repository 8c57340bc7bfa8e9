#include "common/remoting/request_code.h"
#include "test/unit/broker/transactions/transaction_bench.h"

using namespace apogee;
using namespace apogee::broker;
using namespace apogee::broker::test;
using Texts = std::vector<std::string>;

TEST_CASE("Producers are asked about what stays undecided", "[transactions]") {
  TransactionBench bench;
  bench.add_producer(7);
  bench.add_producer(8);
  bench.add_producer(9, "others");
  auto half = bench.prepare("a");
  auto done = bench.prepare("b");
  CHECK(bench.commit(done) == 0);
  bench.clock.advance(6'000);
  bench.transactions->check_round();
  CHECK(bench.sent.sent->empty());
  bench.clock.advance(1);
  bench.transactions->check_round();
  REQUIRE(bench.sent.sent->size() == 1);
  const auto& first = bench.sent.sent->front();
  CHECK(first.request.request_code() == remoting::RequestCode::kCheckTransactionState);
  CHECK(first.request.is_oneway());
  CHECK(first.request.ext.get("msgId") == "KEY-a");
  CHECK(first.request.ext.get("transactionId") == "KEY-a");
  CHECK(first.request.ext.get("topic") == "T");
  CHECK(first.request.ext.get("bname") == "broker-a");
  auto copy = bench.asked();
  CHECK(copy.offset == 2);
  auto shown = message::decode_record(first.request.body.bytes);
  REQUIRE(shown);
  CHECK(shown->topic == "T");
  CHECK(shown->queue_id == 3);
  CHECK(shown->queue_offset == copy.offset);
  CHECK(shown->physical_offset == copy.log_offset);
  CHECK(shown->body == "a");
  CHECK(message::body_crc_matches(*shown));
  CHECK(message::find_property(shown->properties, "PGROUP") == "g");
  CHECK(bench.property_of(kHalfTopic, 0, 2, "TRANSACTION_CHECK_TIMES") == "1");
  CHECK(bench.property_of(kHalfTopic, 0, 2, "TRAN_PREPARED_QUEUE_OFFSET") == "0");

  // The other one the next time.
  bench.transactions->check_round();
  REQUIRE(bench.sent.sent->size() == 2);
  CHECK(bench.sent.sent->at(0).connection + bench.sent.sent->at(1).connection == 15);
  CHECK(bench.property_of(kHalfTopic, 0, 3, "TRANSACTION_CHECK_TIMES") == "2");
  CHECK(bench.property_of(kHalfTopic, 0, 3, "TRAN_PREPARED_QUEUE_OFFSET") == "0");

  SECTION("an answer about any of the copies decides, once") {
    CHECK(bench.commit(copy) == 0);
    CHECK(bench.store.message("T", 3, 1).prepared_transaction_offset == copy.log_offset);
  }
  SECTION("so does one about the first") { CHECK(bench.commit(half) == 0); }
  CHECK(bench.commit(half) == 604);
  CHECK(bench.commit(copy) == 604);
  CHECK(bench.commit(bench.asked()) == 604);
  bench.transactions->tick(true);
  CHECK(bench.bodies(kOpTopic) == Texts{"1", "3"});  // told is the newest copy
  bench.transactions->check_round();
  CHECK(bench.sent.sent->size() == 2);
  CHECK(bench.transactions->figures().checks == 2);
  bench.restart();
  CHECK(bench.transactions->figures().undecided == 0);
  for (const auto& each : {half, copy}) CHECK(bench.roll_back(each) == 604);
  CHECK(bench.bodies("T", 3).size() == 2);
}

TEST_CASE("When producers are asked", "[transactions]") {
  TransactionBench bench;
  bench.add_producer(7);
  struct Row {
    std::string properties;
    int64_t born_ago_ms, expected;
  };
  SECTION("ages") {
    const std::string immune = "CHECK_IMMUNITY_TIME_IN_SECONDS\x01";
    for (const auto& [properties, age, asked] : std::vector<Row>{{"", 6'000, 0},
                                                                 {"", 6'001, 1},
                                                                 {"", -1, 1},
                                                                 {immune + "20\x02", 20'000, 0},
                                                                 {immune + "20\x02", 20'001, 1},
                                                                 {immune + "2\x02", 2'001, 0},
                                                                 {immune + "2\x02", 6'001, 1},
                                                                 {immune + "x\x02", 6'001, 1}}) {
      TransactionBench fresh;
      fresh.add_producer(7);
      fresh.prepare("a", properties);
      fresh.clock.advance(age);
      fresh.transactions->check_round();
      INFO(properties << " " << age);
      CHECK(static_cast<int64_t>(fresh.sent.sent->size()) == asked);
    }
  }
  SECTION("so often, then no more") {
    bench.config.transaction_check_max = 3;
    auto half = bench.prepare("a");
    bench.clock.advance(10'000);
    for (int i = 0; i < 5; ++i) {
      bench.transactions->check_round();
      if (i == 1) bench.restart();
    }
    CHECK(bench.sent.sent->size() == 3);
    CHECK(bench.bodies(kCheckMaxTopic) == Texts{"a"});
    CHECK(bench.property_of(kCheckMaxTopic, 0, 0, "REAL_TOPIC") == "T");
    CHECK(bench.transactions->figures().undecided == 0);
    CHECK(bench.transactions->figures().given_up == 1);
    CHECK(bench.commit(half) == 604);
    CHECK(bench.bodies(kOpTopic).size() == 1);
  }
  SECTION("nobody is there: that counts too, as in Apache RocketMQ") {
    bench.producers.connection_closed(7);
    bench.prepare("a");
    bench.clock.advance(10'000);
    bench.transactions->check_round();
    CHECK(bench.sent.sent->empty());
    CHECK(bench.property_of(kHalfTopic, 0, 1, "TRANSACTION_CHECK_TIMES") == "1");
    bench.add_producer(11);
    bench.transactions->check_round();
    REQUIRE(bench.sent.sent->size() == 1);
    CHECK(bench.sent.sent->front().connection == 11);
  }
  SECTION("what is older than fileReservedTime") {
    bench.config.file_reserved_hours = 1;
    bench.prepare("a");
    bench.clock.advance(3'600'001);
    bench.transactions->check_round();
    CHECK(bench.sent.sent->empty());
    CHECK(bench.bodies(kCheckMaxTopic) == Texts{"a"});
  }
  SECTION("what cannot be stored is tried in the next round") {
    auto half = bench.prepare("a");
    bench.config.transaction_check_max = 1;
    bench.clock.advance(10'000);
    bench.store.next_status = store::PutStatus::kServiceNotAvailable;
    bench.transactions->check_round();
    CHECK(bench.sent.sent->empty());
    bench.store.next_status = store::PutStatus::kOk;
    bench.transactions->check_round();
    CHECK(bench.sent.sent->size() == 1);
    bench.store.next_status = store::PutStatus::kServiceNotAvailable;
    bench.transactions->check_round();
    CHECK(bench.transactions->figures().undecided == 1);
    bench.store.next_status = store::PutStatus::kOk;
    CHECK(bench.commit(half) == 0);
  }
}

TEST_CASE("A decision while the copy for a check is being stored", "[transactions]") {
  TransactionBench bench;
  bench.add_producer(7);
  auto half = bench.prepare("a");
  bench.clock.advance(10'000);
  bench.store.held_topic = kHalfTopic;
  bench.transactions->check_round();
  bench.transactions->check_round();  // one copy at a time
  CHECK(bench.store.max_offset(kHalfTopic, 0) == 2);
  SECTION("commit") { CHECK(bench.commit(half) == 0); }
  SECTION("rollback, which is answered when it is told") { CHECK(bench.roll_back(half) == -1); }
  CHECK(bench.bodies(kOpTopic).empty());
  bench.store.release();
  bench.store.held_topic.clear();
  CHECK(bench.sent.sent->empty());
  bench.transactions->tick(true);
  CHECK(bench.bodies(kOpTopic) == Texts{"1,0"});
  bench.transactions->tick(true);
  bench.transactions->tick(true);
  CHECK(bench.offsets->query(kTransactionGroup, kHalfTopic, 0) == 2);
  bench.restart();
  CHECK(bench.transactions->figures().undecided == 0);
}

TEST_CASE("An immune message does not hold the progress back for ever", "[transactions]") {
  TransactionBench bench;
  bench.add_producer(7);
  auto immune = bench.prepare("immune",
                              "CHECK_IMMUNITY_TIME_IN_SECONDS\x01"
                              "3600\x02");
  for (int i = 0; i < 9'999; ++i) {
    auto half = bench.prepare("x");
    if (bench.commit(half) != 0) FAIL("a commit was refused");
  }
  bench.transactions->check_round();
  CHECK(bench.store.max_offset(kHalfTopic, 0) == 10'000);
  bench.prepare("one more");
  bench.transactions->check_round();
  CHECK(bench.store.max_offset(kHalfTopic, 0) == 10'002);
  CHECK(bench.sent.sent->empty());
  CHECK(bench.property_of(kHalfTopic, 0, 10'001, "TRANSACTION_CHECK_TIMES").empty());
  CHECK(bench.property_of(kHalfTopic, 0, 10'001, "TRAN_PREPARED_QUEUE_OFFSET") == "0");
  bench.transactions->tick(true);
  bench.transactions->tick(true);
  CHECK(bench.offsets->query(kTransactionGroup, kHalfTopic, 0) == 10'000);
  bench.restart();
  CHECK(bench.transactions->figures().undecided == 2);
  CHECK(bench.commit(immune) == 0);
  CHECK(bench.bodies("T", 3).back() == "immune");
}
