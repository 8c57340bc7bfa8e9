#include "broker/transactions/transactions.h"

#include "common/base/text.h"
#include "test/unit/broker/transactions/transaction_bench.h"

using namespace apogee;
using namespace apogee::broker;
using namespace apogee::broker::test;
using Texts = std::vector<std::string>;

TEST_CASE("An offset floor is what no put under way and nothing undone lies in front of", "[transactions]") {
  OffsetFloor floor;
  floor.start_at(5);
  CHECK(floor.floor() == 5);
  const int64_t a = floor.begin_put();
  const int64_t b = floor.begin_put();
  floor.end_put(b, 6);  // b was stored behind a, but is told first
  CHECK(floor.floor() == 5);
  CHECK(floor.next() == 7);
  floor.end_put(a, 5);
  CHECK(floor.floor() == 5);
  floor.release(5);
  CHECK(floor.floor() == 6);
  floor.release(6);
  floor.release(6);
  CHECK(floor.floor() == 7);
  floor.end_put(floor.begin_put(), std::nullopt);
  CHECK(floor.floor() == 7);
  floor.see(20);
  floor.see(3);
  CHECK(floor.floor() == 21);
  OffsetFloor anywhere(0);
  anywhere.see(100);
  CHECK(anywhere.begin_put() == 100);
  anywhere.end_put(100, 250);
  CHECK(anywhere.floor() == 250);
  anywhere.release(250);
  CHECK(anywhere.floor() == 250);
}

TEST_CASE("What counts as a half message", "[transactions]") {
  struct Row {
    std::string properties;
    int32_t sys_flag, reconsume_times;
    bool half;
  };
  const std::vector<Row> rows{
      {"TRAN_MSG\x01true\x02", 0, 0, true},
      {"TRAN_MSG\x01TRUE\x02", 4, 0, true},
      {"TRAN_MSG\x01 false\x02", 4, 0, false},
      {"", 4, 0, true},
      {"", 1, 0, false},
      {"TRAN_MSG\x01true\x02"
       "DELAY\x01"
       "3\x02",
       4, 0, true},
      {"TRAN_MSG\x01true\x02"
       "DELAY\x01"
       "3\x02",
       4, 2, false},
      {"TRAN_MSG\x01true\x02", 4, 2, true},
  };
  for (const auto& row : rows) {
    INFO(row.properties << " " << row.sys_flag << " " << row.reconsume_times);
    CHECK(is_half_message(row.properties, row.sys_flag, row.reconsume_times) == row.half);
  }
  CHECK(op_offsets("7,9,x,,-3,12,") == std::vector<int64_t>{7, 9, 12});
  CHECK(op_offsets("").empty());
  CHECK(immunity_s_of("CHECK_IMMUNITY_TIME_IN_SECONDS\x01"
                      "20\x02") == 20);
  for (const char* bad : {"", "CHECK_IMMUNITY_TIME_IN_SECONDS\x01-1\x02", "CHECK_IMMUNITY_TIME_IN_SECONDS\x01x\x02"})
    CHECK(immunity_s_of(bad) == -1);
  CHECK(immunity_s_of("CHECK_IMMUNITY_TIME_IN_SECONDS\x01"
                      "999999999999\x02") == 10 * 366 * 86'400);
  CHECK(immunity_ms_of(-1, 6'000) == 6'000);
  CHECK(immunity_ms_of(2, 6'000) == 6'000);
  CHECK(immunity_ms_of(60, 6'000) == 60'000);
}

TEST_CASE("A half message waits in the half topic, and is delivered when it is committed", "[transactions]") {
  TransactionBench bench;
  auto half = bench.prepare("a",
                            "TAGS\x01x\x02TRAN_PREPARED_QUEUE_OFFSET\x01"
                            "77\x02TRANSACTION_CHECK_TIMES\x01"
                            "15\x02");
  CHECK(half.offset == 0);
  const auto stored = bench.store.message(std::string(kHalfTopic), 0, 0);
  CHECK(stored.body == "a");
  CHECK((stored.sys_flag & message::sys_flag::kTransactionMask) == 0);
  CHECK(bench.property_of(kHalfTopic, 0, 0, "REAL_TOPIC") == "T");
  CHECK(bench.property_of(kHalfTopic, 0, 0, "REAL_QID") == "3");
  CHECK(bench.property_of(kHalfTopic, 0, 0, "__transactionId__") == "KEY-a");
  CHECK(bench.property_of(kHalfTopic, 0, 0, "TRAN_PREPARED_QUEUE_OFFSET").empty());
  CHECK(bench.property_of(kHalfTopic, 0, 0, "TRANSACTION_CHECK_TIMES").empty());
  CHECK(bench.bodies("T", 3).empty());
  CHECK(bench.transactions->figures().undecided == 1);

  CHECK(bench.end(bench.request(half, EndTransaction::Decision::kUnknown)).code == 0);
  CHECK(bench.bodies("T", 3).empty());
  CHECK(bench.commit(half) == 0);
  const auto message = bench.store.message("T", 3, 0);
  CHECK(message.body == "a");
  CHECK(message.flag == 9);
  CHECK((message.sys_flag & message::sys_flag::kTransactionMask) == message::sys_flag::kTransactionCommit);
  CHECK(message.prepared_transaction_offset == half.log_offset);
  CHECK(message.born_timestamp_ms == stored.born_timestamp_ms);
  CHECK(bench.property_of("T", 3, 0, "TAGS") == "x");
  CHECK(bench.transactions->figures().undecided == 0);
  CHECK(bench.transactions->figures().committed == 1);
}

TEST_CASE("What an end of a transaction has to say", "[transactions]") {
  TransactionBench bench;
  auto half = bench.prepare("a",
                            "CHECK_IMMUNITY_TIME_IN_SECONDS\x01"
                            "10\x02");
  store::MessageDraft plain;
  plain.topic = "T";
  plain.body = "plain";
  store::LogOffset plain_at = 0;
  bench.put.put(plain, [&](const store::PutResult& result) { plain_at = result.offsets[0]; });
  struct Row {
    std::function<void(EndTransaction&)> change;
    int32_t code;
    std::string remark;
  };
  const std::vector<Row> rows{
      {[](EndTransaction& end) { end.group = "h"; }, 1, "The producer group wrong"},
      {[](EndTransaction& end) { end.half_offset = 5; }, 1, "The transaction state table offset wrong"},
      {[](EndTransaction& end) { end.transaction_id = "KEY-b"; }, 1, "The transaction id wrong"},
      {[](EndTransaction& end) { ++end.log_offset; }, 1, "no message begins"},
      {[](EndTransaction& end) { end.log_offset = -7; }, 1, "no message begins"},
      {[&](EndTransaction& end) { end.log_offset = plain_at; }, 1, "is no half message"},
      {[&](EndTransaction&) { bench.clock.advance(10'001); }, 604, "The time is over"},
  };
  for (const auto& row : rows) {
    auto end = bench.request(half, EndTransaction::Decision::kCommit);
    row.change(end);
    auto answer = bench.end(end);
    INFO(row.remark);
    CHECK(answer.code == row.code);
    CHECK(answer.remark.find(row.remark) != std::string::npos);
  }
  CHECK(bench.transactions->figures().undecided == 1);
  auto end = bench.request(half, EndTransaction::Decision::kCommit);
  end.from_check = true;
  end.transaction_id.clear();
  CHECK(bench.end(end).code == 0);
}

TEST_CASE("A transaction is decided once", "[transactions]") {
  TransactionBench bench;
  auto committed = bench.prepare("c"), rolled_back = bench.prepare("r"), failed = bench.prepare("f");
  CHECK(bench.commit(committed) == 0);
  CHECK(bench.roll_back(rolled_back) == 0);
  for (int round = 0; round < 3; ++round) {
    for (const auto& half : {committed, rolled_back}) {
      CHECK(bench.commit(half) == 604);
      CHECK(bench.roll_back(half) == 604);
    }
    if (round == 0) bench.transactions->tick(true);
    if (round == 1) bench.restart();
  }
  CHECK(bench.transactions->figures().ignored == 4);
  // What could not be stored is not decided.
  bench.store.next_status = store::PutStatus::kServiceNotAvailable;
  CHECK(bench.commit(failed) == 14);
  bench.store.next_status = store::PutStatus::kOk;
  CHECK(bench.commit(failed) == 0);
  CHECK(bench.bodies("T", 3) == Texts{"c", "f"});
}

TEST_CASE("Op messages: gathered, at once for a rollback, one a message for 4.9", "[transactions]") {
  TransactionBench bench;
  std::vector<TransactionBench::Half> halves;
  for (int i = 0; i < 12; ++i) halves.push_back(bench.prepare(std::to_string(i)));
  SECTION("by time") {
    CHECK(bench.commit(halves[1]) == 0);
    CHECK(bench.commit(halves[0]) == 0);
    bench.clock.advance(2'999);
    bench.transactions->tick(false);
    CHECK(bench.bodies(kOpTopic).empty());
    CHECK(bench.transactions->figures().ops_waiting == 2);
    bench.clock.advance(1);
    bench.transactions->tick(false);
    CHECK(bench.bodies(kOpTopic) == Texts{"1,0"});
    CHECK(bench.property_of(kOpTopic, 0, 0, "TAGS") == "d");
    CHECK(bench.transactions->figures().ops_waiting == 0);
  }
  SECTION("by size") {
    bench.config.transaction_op_bytes_max = 8;
    for (const auto& half : halves) CHECK(bench.commit(half) == 0);
    CHECK(bench.bodies(kOpTopic) == Texts{"0,1,2,3", "4,5,6,7", "8,9,10"});
    bench.transactions->tick(true);
    CHECK(bench.bodies(kOpTopic).back() == "11");
  }
  SECTION("a rollback takes along what waits") {
    CHECK(bench.commit(halves[0]) == 0);
    CHECK(bench.roll_back(halves[5]) == 0);
    CHECK(bench.bodies(kOpTopic) == Texts{"0,5"});
  }
  SECTION("4.9") {
    bench.config.store_compatibility = store::StoreCompatibility::k49;
    auto half = bench.prepare("of 4.9");
    CHECK(bench.property_of(kHalfTopic, 0, half.offset, "__transactionId__").empty());
    CHECK(bench.commit(halves[3]) == 0);
    CHECK(bench.roll_back(halves[4]) == 0);
    CHECK(bench.bodies(kOpTopic) == Texts{"3", "4"});
  }
  SECTION("what cannot be stored is tried again") {
    CHECK(bench.commit(halves[0]) == 0);
    bench.store.next_status = store::PutStatus::kServiceNotAvailable;
    auto answer = bench.end(bench.request(halves[1], EndTransaction::Decision::kRollback));
    CHECK(answer.code == 14);
    CHECK(bench.roll_back(halves[1]) == 604);
    bench.store.next_status = store::PutStatus::kOk;
    bench.transactions->tick(true);
    CHECK(bench.bodies(kOpTopic).empty());  // not again and again
    bench.clock.advance(1'000);
    bench.transactions->tick(true);
    CHECK(bench.bodies(kOpTopic) == Texts{"0,1"});
  }
}

TEST_CASE("The progress of CID_RMQ_SYS_TRANS is behind nothing undecided, the op queue's behind the half queue's",
          "[transactions]") {
  TransactionBench bench;
  auto progress = [&] {
    bench.transactions->tick(true);
    return std::pair(bench.offsets->query(kTransactionGroup, kHalfTopic, 0).value_or(-1),
                     bench.offsets->query(kTransactionGroup, kOpTopic, 0).value_or(-1));
  };
  CHECK(progress() == std::pair<int64_t, int64_t>(-1, -1));
  auto a = bench.prepare("a"), b = bench.prepare("b"), c = bench.prepare("c");
  CHECK(progress() == std::pair<int64_t, int64_t>(-1, -1));
  CHECK(bench.commit(b) == 0);
  CHECK(progress() == std::pair<int64_t, int64_t>(-1, -1));
  CHECK(bench.roll_back(a) == 0);
  CHECK(progress() == std::pair<int64_t, int64_t>(2, 0));
  CHECK(progress() == std::pair<int64_t, int64_t>(2, 2));
  CHECK(bench.commit(c) == 0);
  CHECK(progress() == std::pair<int64_t, int64_t>(3, 2));
  CHECK(progress() == std::pair<int64_t, int64_t>(3, 3));
  bench.restart();
  CHECK(bench.transactions->figures().undecided == 0);
  CHECK(progress() == std::pair<int64_t, int64_t>(3, 3));
}

TEST_CASE("Too many undecided transactions", "[transactions]") {
  TransactionBench bench;
  bench.config.transaction_undecided_max = 2;
  auto a = bench.prepare("a");
  CHECK_FALSE(bench.transactions->busy());
  bench.prepare("b");
  REQUIRE(bench.transactions->busy());
  CHECK(bench.transactions->busy()->find("transactionUndecidedMax") != std::string::npos);
  CHECK(bench.commit(a) == 0);
  CHECK_FALSE(bench.transactions->busy());
}
