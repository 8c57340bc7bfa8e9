// Messages that wait for an instant: delivered, cancelled, kept over restarts, lost databases and removed log files.
#include "broker/timers/timer_service.h"

#include <filesystem>
#include <fstream>
#include <iostream>
#include <set>

#include "test/unit/broker/support/memory_store.h"
#include "test/unit/broker/timers/timer_bench.h"

namespace apogee::broker::test {
namespace {

using Bodies = std::vector<std::string>;

std::string property_of(const message::RecordView& record, std::string_view name) {
  auto value = message::find_property(record.properties, name);
  return value ? std::string(*value) : "(none)";
}

}  // namespace

TEST_CASE("Timers: messages are delivered in the order of their milliseconds, none too early", "[broker][timer]") {
  TimerBench bench;
  bench.start();
  const int64_t base = bench.now() + 1'000;
  bench.send_at("c", base + 2);
  bench.send_at("a", base);
  bench.send_at("d", base + 3);
  bench.send_at("b1", base + 1);
  bench.send_at("b2", base + 1);
  bench.send_at("other queue", base + 2, "", 3);
  REQUIRE(bench.waiting(6));
  CHECK(bench.bodies().empty());
  bench.advance(1'000);
  CHECK(bench.has({"a"}));
  REQUIRE(bench.waiting(5));
  bench.advance(2);
  CHECK(bench.has({"a", "b1", "b2", "c"}));
  CHECK(bench.has({"other queue"}, 3));
  bench.advance(1);
  CHECK(bench.has({"a", "b1", "b2", "c", "d"}));
  CHECK(bench.waiting(0));
  CHECK(bench.timers->figures().delivered_total == 6);

  // What is due already goes the ordinary way.
  bench.send_at("late", base);
  CHECK(bench.has({"a", "b1", "b2", "c", "d", "late"}));
  CHECK(bench.store->max_offset(kTimerTopic, 0) == 6);
}

TEST_CASE("Timers: a delivered message is as it was sent", "[broker][timer]") {
  TimerBench bench;
  bench.start();
  auto properties = TimerBench::timer_properties(bench.now() + 5, "K");
  message::append_property(properties, "TAGS", "red");
  message::append_property(properties, "mine", "1");
  REQUIRE(bench.send("T", "body", properties, 2).stored());
  bench.advance(5);
  REQUIRE(bench.has({"body"}, 2));
  auto bytes = bench.store->record_at(bench.store->queue_entries("T", 2, 0, 1).at(0).physical_offset);
  auto record = *message::decode_record(bytes->bytes);
  CHECK(record.born_timestamp_ms == 77);
  CHECK(record.flag == 5);
  CHECK(property_of(record, "TAGS") == "red");
  CHECK(property_of(record, "mine") == "1");
  CHECK(property_of(record, "UNIQ_KEY") == "K");
  CHECK(property_of(record, "TIMER_OUT_MS") == std::to_string(bench.now()));
  CHECK(property_of(record, "REAL_TOPIC") == "(none)");
  CHECK(property_of(record, "REAL_QID") == "(none)");
}

TEST_CASE("Timers: a cancellation meets its message, whichever is first", "[broker][timer]") {
  TimerBench bench;
  bench.start();
  const int64_t due = bench.now() / 1'000 * 1'000 + 10'500;
  bench.send_at("cancelled later", due, "K1");
  REQUIRE(bench.waiting(1));
  bench.cancel("K1", due);
  bench.cancel("K2", due);
  bench.send_at("cancelled before", due, "K2");
  bench.send_at("in one batch", due, "K3");
  bench.cancel("K3", due + 400);  // in the same second, as in Apache
  bench.send_at("another second", due, "K4");
  bench.cancel("K4", due + 500 + 1);
  bench.send_at("another topic", due, "K5");
  bench.cancel("K5", due, "U");
  bench.send_at("twice", due, "K6");
  bench.send_at("twice", due + 1, "K6");
  bench.cancel("K6", due);
  bench.send_at("stays", due, "K7");
  bench.cancel("unknown", due);
  CHECK(eventually([&] { return bench.settled() && bench.timers->figures().cancelled_total == 5; }));
  bench.restart();
  bench.advance(20'000);
  CHECK(bench.has({"another second", "another topic", "stays"}));
  CHECK(bench.waiting(0));
}

TEST_CASE("Timers: what waits survives a restart, and nothing is delivered twice", "[broker][timer]") {
  TimerBench bench;
  bench.start();
  bench.send_at("first", bench.now() + 10);
  bench.send_at("second", bench.now() + 20'000);
  bench.advance(10);
  REQUIRE(bench.has({"first"}));
  bench.restart();
  CHECK(bench.timers->figures().pending == 1);
  bench.send_at("third", bench.now() + 20'001);
  bench.stop();
  bench.clock.advance(30'000);  // due while the broker is down
  bench.start();
  CHECK(bench.has({"first", "second", "third"}));
  bench.restart();
  REQUIRE(bench.settled());
  CHECK(bench.has({"first", "second", "third"}));
}

TEST_CASE("Timers: a missing or damaged database is built again from the log", "[broker][timer]") {
  TimerBench bench;
  bench.start();
  bench.send_at("delivered", bench.now() + 10);
  bench.send_at("waits", bench.now() + 60'000);
  bench.send_at("cancelled", bench.now() + 60'000, "K");
  bench.cancel("K", bench.now() + 60'000);
  bench.advance(10);
  REQUIRE(bench.has({"delivered"}));
  const std::string until = "\"deliveredUntilMs\":" + std::to_string(bench.now());
  REQUIRE(eventually([&] {
    std::ifstream file(bench.checkpoint());
    std::string text{std::istreambuf_iterator<char>(file), {}};
    return text.find("\"queueOffset\":4") != std::string::npos && text.find(until) != std::string::npos;
  }));
  bench.stop();
  SECTION("missing") { std::filesystem::remove_all(bench.db_dir()); }
  SECTION("damaged") {
    for (const auto& file : std::filesystem::directory_iterator(bench.db_dir()))
      if (file.path().filename().string().rfind("MANIFEST", 0) == 0) std::filesystem::resize_file(file.path(), 5);
  }
  SECTION("of another version") { std::ofstream(bench.db_dir() + "/CURRENT") << "nonsense"; }
  bench.start();
  REQUIRE(bench.settled());
  CHECK(bench.has({"delivered"}));
  CHECK(bench.waiting(2));  // and the cancellation
  bench.advance(60'000);
  CHECK(bench.has({"delivered", "waits"}));
  CHECK(bench.waiting(0));
}

TEST_CASE("Timers: what an Apache broker delivered before is not delivered again", "[broker][timer]") {
  TimerBench bench;
  bench.open();
  auto put = [&](const std::string& body, int64_t due_ms, int roll_times = 0) {
    std::string properties;
    for (const auto& [name, value] :
         {std::pair("TIMER_OUT_MS", std::to_string(due_ms)), std::pair("REAL_TOPIC", std::string("T")),
          std::pair("REAL_QID", std::string("0")), std::pair("UNIQ_KEY", body),
          std::pair("TIMER_ROLL_TIMES", roll_times > 0 ? std::to_string(roll_times) : std::string())})
      message::append_property(properties, name, value);
    REQUIRE(bench.send(std::string(kTimerTopic), body, properties).stored());
  };
  const int64_t read_until = bench.now() - 10'000;
  put("delivered", read_until);
  put("waits", bench.now() + 10'000);
  put("was rolled", bench.now() + 20'000);
  put("was rolled", bench.now() + 20'000, 1);
  put("not read", read_until);
  std::string timercheck;
  for (int64_t field : {read_until, int64_t{52}, int64_t{4}, int64_t{4}}) append_be(timercheck, field);
  bench.stop();
  std::filesystem::create_directories(bench.dir.file("store/config"));
  std::ofstream(bench.dir.file("store/config/timercheck")) << timercheck;
  std::filesystem::remove_all(bench.db_dir());
  bench.start();
  CHECK(bench.has({"not read"}));
  CHECK(bench.waiting(2));
  bench.advance(30'000);
  CHECK(bench.has({"not read", "waits", "was rolled"}));
  CHECK(bench.waiting(0));
}

TEST_CASE("Timers: records of the topic that are no timers are passed over", "[broker][timer]") {
  TimerBench bench;
  bench.start();
  REQUIRE(bench
              .send(std::string(kTimerTopic), "injected",
                    "a\x01"
                    "b\x02")
              .stored());
  bench.send_at("good", bench.now() + 10);
  bench.advance(10);
  CHECK(bench.has({"good"}));
  CHECK(bench.waiting(0));
}

TEST_CASE("Timers: a clock that is set back delays, and loses nothing", "[broker][timer]") {
  TimerBench bench;
  bench.start();
  bench.send_at("x", bench.now() + 1'000);
  REQUIRE(bench.waiting(1));
  bench.advance(-3'600'000);
  bench.send_at("y", bench.now() + 1'000);  // due an hour before x
  REQUIRE(bench.waiting(2));
  bench.advance(1'000);
  CHECK(bench.has({"y"}));
  bench.advance(3'600'000);
  CHECK(bench.has({"y", "x"}));
}

TEST_CASE("Timers: while the store refuses, what is due waits", "[broker][timer]") {
  TempDir dir;
  Logger quiet;
  FakeClock clock;
  MemoryStore store;
  MessagePut put{store};
  put.add_rule(timer_rule([] { return TimerLimits{}; }, clock.now()));
  auto opened = TimerService::open({dir.file("timersdb"), {}, {}, 1'000, 10}, {store, put, quiet, clock.now()});
  REQUIRE(opened);
  auto& timers = **opened;
  store.set_arrival_listener([&](const auto& arrivals) { timers.on_arrivals(arrivals); });
  timers.start({});
  for (const char* body : {"a", "b"}) {
    store::MessageDraft draft;
    draft.topic = "T";
    draft.body = body;
    const auto properties = TimerBench::timer_properties(clock.ms->load() + 10, body);
    draft.properties = properties;
    put.put(draft, [](const store::PutResult& result) { CHECK(result.stored()); });
  }
  REQUIRE(eventually([&] { return timers.figures().pending == 2; }));
  store.next_status = store::PutStatus::kServiceNotAvailable;
  clock.advance(10);
  REQUIRE(eventually([&] { return timers.figures().read_behind_ms == 0 && timers.figures().pending == 2; }));
  clock.advance(100);
  CHECK(eventually([&] { return timers.figures().read_behind_ms == 100; }));
  CHECK(store.max_offset("T", 0) == 0);
  store.next_status = store::PutStatus::kOk;
  CHECK(eventually([&] { return timers.figures().pending == 0; }));
  CHECK(store.message("T", 0, 0).body == "a");
  CHECK(store.message("T", 0, 1).body == "b");
  timers.stop();
}

TEST_CASE("Timers: what cannot be delivered is given up after three tries, and nothing waits for it",
          "[broker][timer][retention]") {
  TimerBench bench;
  bench.log_file_bytes = 64 << 10;
  bench.start();
  const int64_t due = bench.now() + 1'000;
  bench.send_at(std::string(500, 'x'), due, "K1");
  bench.send_at("well", due + 1);
  REQUIRE(bench.waiting(2));
  SECTION("because the store refuses it when it is due") {
    bench.store->set_message_bytes_max(100);
    bench.advance(1'001);
    CHECK(bench.has({"well"}));
  }
  SECTION("because the store refuses it when its file of the log is to go") {
    bench.store->set_message_bytes_max(100);
    const auto end = bench.store->figures().log_max_offset;
    REQUIRE(eventually([&] { return bench.timers->may_remove(end); }, std::chrono::seconds(60)));
    CHECK(bench.timers->figures().rolled_total == 1);
    bench.advance(1'001);
    CHECK(bench.has({"well"}));
  }
  SECTION("because it cannot be read any more") {
    const auto first = bench.store->queue_entries(kTimerTopic, 0, 0, 1).at(0).physical_offset;
    std::fstream log(bench.dir.file("store/commitlog/00000000000000000000"),
                     std::ios::in | std::ios::out | std::ios::binary);
    log.seekp(first);
    log.write("\0\0\0\0\0\0\0\0", 8);
    log.close();
    bench.advance(1'001);
    CHECK(bench.has({"well"}));
  }
  CHECK(bench.waiting(0));
  CHECK(bench.timers->figures().lost_total == 1);
  CHECK(bench.timers->figures().delivered_total == 1);
}

TEST_CASE("Timers: before a file of the log goes its timers are appended again", "[broker][timer][retention]") {
  TimerBench bench;
  bench.log_file_bytes = 64 << 10;
  bench.start();
  const int64_t due = bench.now() + 100'000;
  Bodies wanted;
  for (int i = 0; i < 20; ++i) {
    wanted.push_back("waits " + std::to_string(i));
    bench.send_at(wanted.back(), due + i);
  }
  bench.send_at("cancelled", due, "K");
  bench.cancel("K", due);
  REQUIRE(bench.waiting(21));
  auto fill = [&] {
    for (int i = 0; i < 100; ++i) REQUIRE(bench.send("Filler", std::string(2'000, 'f'), "").stored());
  };
  auto expire = [&] {
    const auto old = bench.store->figures().log_min_offset;
    const auto last = (bench.store->figures().log_max_offset - 1) / bench.log_file_bytes * bench.log_file_bytes;
    REQUIRE(last > old);
    bench.store->clean_expired_files();
    REQUIRE(eventually([&] { return bench.store->figures().log_min_offset >= last; }, std::chrono::seconds(60)));
  };
  for (int round = 1; round <= 3; ++round) {
    fill();
    expire();
    CHECK(bench.waiting(21));
    CHECK(bench.timers->figures().rolled_total >= round * 21);
  }
  SECTION("as it is") {}
  SECTION("after a restart") { bench.restart(); }
  SECTION("from the copies alone") {
    bench.stop();
    std::filesystem::remove_all(bench.db_dir());
    std::filesystem::remove(bench.checkpoint());
    bench.start();
    CHECK(bench.waiting(21));
  }
  CHECK(bench.bodies().empty());
  bench.advance(200'000);
  CHECK(bench.has(wanted));
  CHECK(bench.waiting(0));
}

TEST_CASE("Timers: a database is rebuilt while copies and originals are both in the log",
          "[broker][timer][retention]") {
  TimerBench bench;
  bench.log_file_bytes = 64 << 10;
  bench.start();
  bench.send_at("one", bench.now() + 100'000);
  REQUIRE(bench.waiting(1));
  const auto end = bench.store->figures().log_max_offset;
  REQUIRE(eventually([&] { return bench.timers->may_remove(end); }));
  CHECK(bench.timers->figures().rolled_total == 1);
  bench.stop();
  std::filesystem::remove_all(bench.db_dir());
  bench.start();
  CHECK(bench.waiting(1));
  bench.advance(100'000);
  CHECK(bench.has({"one"}));
}

TEST_CASE("TimerDb: what the log has lost waits again", "[broker][timer]") {
  TempDir dir;
  auto db = TimerDb::open(dir.file("db"));
  REQUIRE(db);
  CHECK((*db)->is_new());
  TimerDb::Changes changes;
  for (int64_t i = 1; i <= 3; ++i) changes.added.push_back({i * 10, i * 100, i - 1, 7, false});
  changes.queue_progress = 3;
  REQUIRE((*db)->apply(changes));
  auto due = (*db)->due(100, 10);
  REQUIRE(due);
  REQUIRE(due->size() == 3);
  for (size_t i = 0; i < 2; ++i) {
    TimerDb::Changes delivered;
    delivered.removed = delivered.delivered.entries = {due->at(i)};
    delivered.delivered.last_copy = 1'000 + static_cast<int64_t>(i) * 1'000;
    REQUIRE((*db)->apply(delivered));
  }
  CHECK((*db)->pending() == 1);
  db->reset();
  db = TimerDb::open(dir.file("db"));
  REQUIRE(db);
  CHECK_FALSE((*db)->is_new());
  CHECK((*db)->pending() == 1);
  auto again = (*db)->restore(1'500, 2);  // the second copy stood at 2000
  REQUIRE(again);
  CHECK(*again == 1);
  CHECK((*db)->queue_progress() == 2);
  due = (*db)->due(100, 10);
  REQUIRE(due);
  REQUIRE(due->size() == 2);
  CHECK(due->at(0).offset == 200);
  CHECK(due->at(0).queue_offset == 1);
  CHECK((*db)->forget_delivered(900).value() == 1'000);
  CHECK((*db)->forget_delivered(1'001).value() == -1);
}

}  // namespace apogee::broker::test
