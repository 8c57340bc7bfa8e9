#include "test/unit/broker/transactions/transaction_bench.h"

using namespace apogee;
using namespace apogee::broker;
using namespace apogee::broker::test;
using Texts = std::vector<std::string>;

TEST_CASE("A crash at each step of a transaction", "[transactions]") {
  TransactionBench bench;
  bench.add_producer(7);
  auto before = bench.prepare("before");
  CHECK(bench.commit(before) == 0);
  bench.transactions->tick(true);
  auto half = bench.prepare("a");
  bench.clock.advance(10'000);

  SECTION("the half message is stored") {
    bench.restart();
    CHECK(bench.transactions->figures().undecided == 1);
    CHECK(bench.commit(half) == 0);
  }
  SECTION("the message for consumers is stored, its op message is not") {
    CHECK(bench.commit(half) == 0);
    bench.restart();
    CHECK(bench.transactions->figures().undecided == 0);
    CHECK(bench.transactions->figures().ops_waiting == 1);
    bench.transactions->check_round();
    CHECK(bench.sent.sent->empty());
    bench.transactions->tick(true);
    CHECK(bench.bodies(kOpTopic) == Texts{"0", "1"});
    bench.restart();
    CHECK(bench.transactions->figures().ops_waiting == 0);
  }
  SECTION("the copy for a check is stored") {
    bench.transactions->check_round();
    auto copy = bench.asked();
    bench.restart();
    CHECK(bench.transactions->figures().undecided == 1);
    CHECK(bench.commit(copy) == 0);
    CHECK(bench.commit(half) == 604);
  }
  SECTION("committed by the first message, after a copy was stored") {
    bench.transactions->check_round();
    auto copy = bench.asked();
    CHECK(bench.commit(half) == 0);
    bench.restart();
    CHECK(bench.commit(copy) == 604);
  }
  SECTION("committed between the storing of the copy and its answer") {
    bench.store.held_topic = kHalfTopic;
    bench.transactions->check_round();
    CHECK(bench.commit(half) == 0);
    bench.store.lose();
    bench.store.held_topic.clear();
    bench.restart();
    CHECK(bench.transactions->figures().undecided == 0);
  }
  SECTION("the op message is stored, the progress is not") {
    CHECK(bench.commit(half) == 0);
    bench.transactions->tick(true);
    bench.offsets->reset(kTransactionGroup, kHalfTopic, 0, 0);
    bench.offsets->reset(kTransactionGroup, kOpTopic, 0, 0);
    bench.restart();
    CHECK(bench.transactions->figures().ops_waiting == 0);
  }
  SECTION("everything is stored, and the progress too") {
    CHECK(bench.commit(half) == 0);
    for (int i = 0; i < 3; ++i) bench.transactions->tick(true);
    bench.restart();
  }
  CHECK(bench.commit(half) == 604);
  CHECK(bench.roll_back(half) == 604);
  CHECK(bench.commit(before) == 604);
  CHECK(bench.transactions->figures().undecided == 0);
  CHECK(bench.bodies("T", 3) == Texts{"before", "a"});
  bench.transactions->tick(true);
  bench.restart();
  CHECK(bench.transactions->figures().undecided == 0);
}

TEST_CASE("A rollback that was answered is there after a crash", "[transactions]") {
  TransactionBench bench;
  auto half = bench.prepare("a");
  CHECK(bench.roll_back(half) == 0);
  bench.restart();
  CHECK(bench.transactions->figures().undecided == 0);
  CHECK(bench.commit(half) == 604);
  CHECK(bench.bodies("T", 3).empty());
}

TEST_CASE("The commits of a delayed message are found too", "[transactions]") {
  TransactionBench bench;
  bench.put.add_rule([](const store::MessageDraft& draft) -> Result<std::optional<ParkedAt>> {
    if (!message::find_property(draft.properties, "DELAY")) return std::optional<ParkedAt>();
    return std::optional(park(draft, "SCHEDULE_TOPIC_XXXX", 2));
  });
  auto half = bench.prepare("a",
                            "DELAY\x01"
                            "3\x02");
  CHECK(bench.bodies(kHalfTopic) == Texts{"a"});
  CHECK(bench.commit(half) == 0);
  CHECK(bench.bodies("SCHEDULE_TOPIC_XXXX", 2) == Texts{"a"});
  bench.restart();
  CHECK(bench.commit(half) == 604);
}

TEST_CASE("A start looks for commits behind what the last op message covers", "[transactions]") {
  TransactionBench bench;
  auto open = bench.prepare("open");
  auto a = bench.prepare("a"), b = bench.prepare("b");
  CHECK(bench.commit(a) == 0);
  const auto a_at = bench.store.message("T", 3, 0).physical_offset;
  bench.transactions->tick(true);
  // Not beyond the commit that this very message tells.
  CHECK(std::stoll(bench.property_of(kOpTopic, 0, 0, kOpsCoverProperty)) <= a_at);
  CHECK(bench.commit(b) == 0);
  bench.transactions->tick(true);
  const auto covered = std::stoll(bench.property_of(kOpTopic, 0, 1, kOpsCoverProperty));
  CHECK(covered > a_at);
  CHECK(covered <= bench.store.message("T", 3, 1).physical_offset);
  bench.restart();
  CHECK(bench.transactions->figures().undecided == 1);
  CHECK(bench.commit(open) == 0);
}

TEST_CASE("A commit right behind an op message at which nothing was under way", "[transactions]") {
  TransactionBench bench;
  auto open = bench.prepare("open"), back = bench.prepare("back"), a = bench.prepare("a");
  CHECK(bench.roll_back(back) == 0);
  // Where a record begins: the last one that was seen.
  CHECK(std::stoll(bench.property_of(kOpTopic, 0, 0, kOpsCoverProperty)) == a.log_offset);
  CHECK(bench.commit(a) == 0);
  bench.restart();
  CHECK(bench.transactions->figures().undecided == 1);
  CHECK(bench.commit(a) == 604);
  CHECK(bench.commit(open) == 0);
}

TEST_CASE("An op message whose mark is no place of a record", "[transactions]") {
  TransactionBench bench;
  auto a = bench.prepare("a");
  store::MessageDraft op;
  op.topic = kOpTopic;
  op.body = "77";
  const std::string properties =
      "TAGS\x01"
      "d\x02" +
      std::string(kOpsCoverProperty) + "\x01" + std::to_string(a.log_offset + 1) + "\x02";
  op.properties = properties;
  bench.store.append(op, [](const store::PutResult& result) { REQUIRE(result.stored()); });
  CHECK(bench.commit(a) == 0);
  bench.restart();
  CHECK(bench.commit(a) == 604);
}

TEST_CASE("A store that another broker wrote", "[transactions]") {
  TransactionBench bench;
  auto a = bench.prepare("a"), b = bench.prepare("b"), c = bench.prepare("c");
  // Op messages of Apache RocketMQ 5.3, and of 4.9; one with a strange tag, and a strange half message.
  auto put = [&](std::string_view topic, std::string_view body, std::string_view properties) {
    store::MessageDraft draft;
    draft.topic = topic;
    draft.body = body;
    draft.properties = properties;
    bench.store.append(draft, [](const store::PutResult& result) { REQUIRE(result.stored()); });
  };
  put(kOpTopic, "0,",
      "TAGS\x01"
      "d\x02");
  put(kOpTopic, "1",
      "TAGS\x01"
      "d\x02");
  put(kOpTopic, "2", "TAGS\x01z\x02");
  put(kHalfTopic, "strange",
      "TAGS\x01"
      "d\x02");
  bench.restart();
  CHECK(bench.transactions->figures().undecided == 1);
  CHECK(bench.commit(a) == 604);
  CHECK(bench.commit(b) == 604);
  CHECK(bench.commit(c) == 0);
  // A message with the marks of a commit that names no half message, or another one.
  auto d = bench.prepare("d");
  store::MessageDraft forged;
  forged.topic = "T";
  forged.queue_id = 3;
  forged.body = "forged";
  forged.sys_flag = message::sys_flag::kTransactionCommit;
  for (auto at : {d.log_offset, int64_t{1}}) {
    forged.prepared_transaction_offset = at;
    bench.store.append(forged, [](const store::PutResult& result) { REQUIRE(result.stored()); });
  }
  bench.restart();
  CHECK(bench.transactions->figures().undecided == 1);
  CHECK(bench.commit(d) == 0);
}

TEST_CASE("The thread starts and stops, and leaves no op message behind", "[transactions]") {
  TransactionBench bench;
  bench.config.transaction_check_interval_ms = 3'600'000;  // the message was born long ago
  auto half = bench.prepare("a");
  bench.restart();
  bench.transactions.reset();
  bench.transactions = std::make_unique<Transactions>(
      Transactions::Parts{bench.config, bench.store, bench.put, *bench.offsets, bench.producers, bench.stats,
                          bench.sent.calls(), host_address_of("127.0.0.1:10911"), bench.quiet, system_now_ms});
  REQUIRE(bench.transactions->start());
  CHECK(bench.commit(half) == 0);
  bench.transactions->stop();
  CHECK(bench.bodies(kOpTopic) == Texts{"0"});
  bench.transactions->stop();
}
