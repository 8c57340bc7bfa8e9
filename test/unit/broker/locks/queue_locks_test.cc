#include "broker/locks/queue_locks.h"

#include <fstream>

#include "test/unit/broker/support/handler_bench.h"

namespace apogee::broker {
namespace {

MessageQueue queue(int32_t id) { return {"T", "broker-a", id}; }

TEST_CASE("QueueLocks: a lock belongs to one client, who may renew it", "[broker]") {
  test::FakeClock clock;
  QueueLocks locks({"", 60'000, clock.now(), clock.now()});
  CHECK(locks.lock("G", "a", {queue(0), queue(1)}).size() == 2);
  CHECK(locks.lock("G", "a", {queue(0)}).size() == 1);
  CHECK(locks.lock("G", "b", {queue(0), queue(1), queue(2)}) == std::vector<MessageQueue>{queue(2)});
  CHECK(locks.lock("H", "b", {queue(0)}).size() == 1);
  CHECK(locks.owner("G", queue(0)) == "a");
  CHECK(locks.any_locked("G"));
  CHECK_FALSE(locks.any_locked("X"));
}

TEST_CASE("QueueLocks: only the owner unlocks", "[broker]") {
  test::FakeClock clock;
  QueueLocks locks({"", 60'000, clock.now(), clock.now()});
  REQUIRE(locks.lock("G", "a", {queue(0)}).size() == 1);
  locks.unlock("G", "b", {queue(0)});
  CHECK(locks.owner("G", queue(0)) == "a");
  locks.unlock("G", "a", {queue(0)});
  CHECK(locks.owner("G", queue(0)).empty());
  CHECK(locks.lock("G", "b", {queue(0)}).size() == 1);
}

TEST_CASE("QueueLocks: a lock that was not renewed for 60 s is free", "[broker]") {
  test::FakeClock clock;
  QueueLocks locks({"", 60'000, clock.now(), clock.now()});
  REQUIRE(locks.lock("G", "a", {queue(0), queue(1)}).size() == 2);
  clock.advance(40'000);
  REQUIRE(locks.lock("G", "a", {queue(1)}).size() == 1);
  clock.advance(20'000);
  CHECK(locks.lock("G", "b", {queue(0)}).empty());
  clock.advance(1);
  CHECK(locks.owner("G", queue(0)).empty());
  CHECK(locks.lock("G", "b", {queue(0), queue(1)}) == std::vector<MessageQueue>{queue(0)});
  clock.advance(60'001);
  CHECK_FALSE(locks.any_locked("G"));
  CHECK(locks.expire() == 2);
  locks.set_life_ms(10);
  REQUIRE(locks.lock("G", "a", {queue(0)}).size() == 1);
  clock.advance(11);
  CHECK(locks.lock("G", "b", {queue(0)}).size() == 1);
}

TEST_CASE("QueueLocks: a restart forgets no lock, and makes none longer", "[broker]") {
  test::FakeClock clock, wall;
  test::TempDir dir;
  const QueueLocks::Options options{dir.file("config/queueLocks.json"), 60'000, clock.now(), wall.now()};
  {
    QueueLocks locks(options);
    REQUIRE(locks.load());
    CHECK_FALSE(locks.changed());
    REQUIRE(locks.lock("G", "a", {queue(0), queue(1)}).size() == 2);
    CHECK(locks.changed());
    locks.unlock("G", "a", {queue(1)});
    REQUIRE(locks.save_if_changed());
    CHECK_FALSE(locks.changed());
    REQUIRE(locks.lock("G", "a", {queue(0)}).size() == 1);
    CHECK_FALSE(locks.changed());  // a renewal alone is not worth a write
  }
  clock.advance(1'000'000);  // another boot's
  wall.advance(50'000);
  QueueLocks locks(options);
  REQUIRE(locks.load());
  CHECK(locks.owner("G", queue(0)) == "a");
  CHECK(locks.lock("G", "b", {queue(0), queue(1)}) == std::vector<MessageQueue>{queue(1)});
  clock.advance(10'001);
  CHECK(locks.lock("G", "b", {queue(0)}).size() == 1);
}

TEST_CASE("QueueLocks: a slave has its master's, and a returning master takes those renewed later", "[broker]") {
  test::FakeClock clock, other_clock;
  other_clock.advance(123'456'789);
  QueueLocks master({"", 60'000, clock.now(), clock.now()});
  QueueLocks slave({"", 60'000, other_clock.now(), other_clock.now()});
  REQUIRE(slave.lock("Old", "x", {queue(0)}).size() == 1);
  REQUIRE(master.lock("G", "a", {queue(0), queue(1)}).size() == 2);
  const auto version = master.version();
  clock.advance(20'000);
  REQUIRE(slave.take_over(master.to_json()));
  CHECK(slave.owner("Old", queue(0)).empty());
  CHECK(slave.owner("G", queue(0)) == "a");
  CHECK(slave.lock("G", "b", {queue(0)}).empty());
  clock.advance(30'000);
  other_clock.advance(30'000);
  REQUIRE(slave.lock("G", "a", {queue(0)}).size() == 1);
  clock.advance(10'001);
  other_clock.advance(10'001);
  REQUIRE(slave.lock("G", "b", {queue(1)}).size() == 1);  // it was not renewed
  REQUIRE(master.merge(slave.to_json()));
  CHECK(master.version() != version);
  CHECK(master.owner("G", queue(0)) == "a");
  CHECK(master.owner("G", queue(1)) == "b");
  for (const char* wrong : {"", "[]", "{\"locks\":[{}]}"}) {
    CHECK(slave.take_over(wrong).error().code == Errc::kCorrupt);
    CHECK(master.merge(wrong).error().code == Errc::kCorrupt);
  }
  CHECK(master.owner("G", queue(1)) == "b");
}

TEST_CASE("QueueLocks: a damaged file is told and left", "[broker]") {
  test::TempDir dir;
  const auto text = GENERATE(as<std::string>{}, "", "[]", "{\"locks\":[{\"group\":1}]}", "{\"locks\":[{}]}", "\x01");
  std::ofstream(dir.file("locks.json")) << text;
  QueueLocks locks({dir.file("locks.json")});
  auto loaded = locks.load();
  REQUIRE_FALSE(loaded);
  CHECK(loaded.error().message.find("locks.json") != std::string::npos);
  CHECK(locks.lock("G", "a", {queue(0)}).size() == 1);
}

}  // namespace
}  // namespace apogee::broker
