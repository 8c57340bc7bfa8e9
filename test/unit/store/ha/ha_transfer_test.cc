#include <thread>

#include "test/support/catch.h"
#include "test/unit/store/ha/ha_rig.h"

using namespace apogee;
using namespace apogee::store;
using namespace apogee::test;

TEST_CASE("an empty slave gets the whole log, and what comes later", "[ha]") {
  MemoryLog master_log(4096), slave_log(4096);
  REQUIRE(master_log.epochs().begin_next(0));
  for (int i = 0; i < 300; ++i) master_log.put(std::string(static_cast<size_t>(i % 97), 'x'));
  MasterRig master(master_log);
  SlaveRig slave(slave_log);
  slave.client.follow(master.address(), false);
  CHECK(same_log(master_log, slave_log));
  for (int i = 0; i < 50; ++i) {
    master_log.put("later");
    CHECK(same_log(master_log, slave_log));
  }
  CHECK(eventually([&] {
    auto slaves = master_log.acks().slaves();
    return slaves.size() == 1 && slaves[0].acknowledged == master_log.end() && slaves[0].broker_id == 1;
  }));
  CHECK(slave_log.epochs().all() == master_log.epochs().all());
  CHECK(slave.is(HaClient::State::kTransfer));
  CHECK(slave.client.figures().caught_up_ms_ago >= 0);
}

TEST_CASE("a slave comes back and goes on where its log ends, through master restarts and new epochs", "[ha]") {
  MemoryLog master_log(1 << 14), slave_log(1 << 14);
  REQUIRE(master_log.epochs().begin_next(0));
  SlaveRig slave(slave_log);
  for (int round = 0; round < 4; ++round) {
    MasterRig master(master_log);
    slave.client.follow(master.address(), false);
    for (int i = 0; i < 100; ++i) master_log.put("round " + std::to_string(round));
    CHECK(same_log(master_log, slave_log));
    REQUIRE(master_log.epochs().begin_next(master_log.end()));
  }
  MasterRig master(master_log);
  slave.client.follow(master.address(), false);
  master_log.put("the last");
  CHECK(same_log(master_log, slave_log));
  CHECK(eventually([&] { return slave_log.epochs().all() == master_log.epochs().all(); }));
  CHECK(slave_log.epochs().all().size() == 5);
  CHECK(slave_log.truncations() == 0);
}

TEST_CASE("an empty slave begins where a master begins whose first files are gone", "[ha]") {
  MemoryLog master_log(4096), slave_log(4096);
  REQUIRE(master_log.epochs().begin_next(0));
  for (int i = 0; i < 200; ++i) master_log.put("long ago");
  master_log.forget_before(8192);
  MasterRig master(master_log);
  SlaveRig slave(slave_log);
  slave.client.follow(master.address(), false);
  CHECK(same_log(master_log, slave_log));
  CHECK(slave_log.begin() == 8192);
}

TEST_CASE("a slave whose end the master has deleted says so", "[ha]") {
  MemoryLog master_log(4096), slave_log(4096);
  REQUIRE(master_log.epochs().begin_next(0));
  for (int i = 0; i < 200; ++i) master_log.put("long ago");
  slave_log.put_raw(master_log.content(0, log_record(0, 0, "long ago").size()));
  REQUIRE(slave_log.epochs().append({1, 0}));
  master_log.forget_before(8192);
  MasterRig master(master_log);
  SlaveRig slave(slave_log);
  slave.client.follow(master.address(), false);
  CHECK(eventually([&] { return slave.is(HaClient::State::kRefused); }));
  CHECK(slave.client.figures().why.find("empty store") != std::string::npos);
  CHECK(slave.lines.have("empty store"));
}

namespace {

/// Both logs the same up to a place, and then the slave's goes on alone.
struct Ahead {
  MemoryLog master_log{1 << 14}, slave_log{1 << 14};
  LogOffset common = 0;

  Ahead() {
    REQUIRE(master_log.epochs().begin_next(0));
    REQUIRE(slave_log.epochs().append({1, 0}));
    for (int i = 0; i < 40; ++i) master_log.put("both");
    slave_log.put_raw(master_log.content());
    common = master_log.end();
    slave_log.put_raw(log_record(common, 900, "only here"));
    // The master was restored from an older disk, and has gone on.
    REQUIRE(master_log.epochs().begin_next(common));
    for (int i = 0; i < 40; ++i) master_log.put("only there");
  }
};

}  // namespace

TEST_CASE("a slave that is ahead refuses, and is cut only when that is wanted", "[ha]") {
  Ahead ahead;
  const auto kept = ahead.slave_log.content();
  MasterRig master(ahead.master_log);
  {
    SlaveRig slave(ahead.slave_log);
    slave.client.follow(master.address(), false);
    CHECK(eventually([&] { return slave.is(HaClient::State::kRefused); }));
    CHECK(slave.lines.have("haTruncateAhead"));
    CHECK(ahead.slave_log.content() == kept);
    CHECK(ahead.master_log.acks().slaves().empty());
  }
  auto options = SlaveRig::slave_options();
  options.truncate_ahead = true;
  SlaveRig slave(ahead.slave_log, options);
  slave.client.follow(master.address(), false);
  CHECK(same_log(ahead.master_log, ahead.slave_log));
  CHECK(ahead.slave_log.truncations() == 1);
  CHECK(slave.lines.have("is cut off"));
  CHECK(ahead.slave_log.epochs().all() == ahead.master_log.epochs().all());
}

TEST_CASE("a log that takes nothing stops the slave, which goes on by itself", "[ha]") {
  MemoryLog master_log, slave_log;
  REQUIRE(master_log.epochs().begin_next(0));
  for (int i = 0; i < 50; ++i) master_log.put("x");
  for (int i = 0; i < 3; ++i) slave_log.fail_next(Error(Errc::kDiskFull, "no room"));
  slave_log.fail_next(Error(Errc::kBusy, "parked too long"));
  MasterRig master(master_log);
  SlaveRig slave(slave_log);
  slave.client.follow(master.address(), false);
  CHECK(same_log(master_log, slave_log));
  CHECK(slave.lines.have("no room"));
  CHECK(slave.client.figures().reconnects >= 4);
}

TEST_CASE("a slave whose log is slow takes no more memory, and loses nothing", "[ha]") {
  MemoryLog master_log(8 << 20), slave_log(8 << 20);
  REQUIRE(master_log.epochs().begin_next(0));
  const std::string body(100'000, 'm');
  for (int i = 0; i < 400; ++i) master_log.put(body);
  auto options = MasterRig::master_options();
  options.window_bytes = 1LL << 30;
  MasterRig master(master_log, options);
  slave_log.park(true);
  SlaveRig slave(slave_log);
  slave.client.follow(master.address(), false);
  // It reads until it has enough, and then the connection's own limits hold the master up.
  int64_t received = -1;
  CHECK(eventually([&] {
    auto before = std::exchange(received, slave.client.figures().received_bytes);
    pause(std::chrono::milliseconds(300));
    return before > 0 && before == slave.client.figures().received_bytes;
  }));
  CHECK(received < 30 << 20);
  CHECK(slave.is(HaClient::State::kTransfer));
  slave_log.park(false);
  CHECK(same_log(master_log, slave_log));
}

TEST_CASE("with acknowledgement on disk only what is synced counts", "[ha]") {
  MemoryLog master_log, slave_log;
  slave_log.set_flushes(false);
  REQUIRE(master_log.epochs().begin_next(0));
  for (int i = 0; i < 50; ++i) master_log.put("x");
  MasterRig master(master_log);
  auto options = SlaveRig::slave_options();
  options.acknowledge_on_disk = true;
  SlaveRig slave(slave_log, options);
  slave.client.follow(master.address(), false);
  CHECK(same_log(master_log, slave_log));
  auto acknowledged = [&] {
    auto slaves = master_log.acks().slaves();
    return slaves.empty() ? -1 : slaves[0].acknowledged;
  };
  CHECK(acknowledged() == 0);
  slave_log.flush(500);
  CHECK(eventually([&] { return acknowledged() == 500; }));
  slave_log.flush(slave_log.end());
  CHECK(eventually([&] { return acknowledged() == master_log.end(); }));
}

TEST_CASE("a slave with files of another size is told so", "[ha]") {
  MemoryLog master_log(4096), slave_log(8192);
  MasterRig master(master_log);
  SlaveRig slave(slave_log);
  slave.client.follow(master.address(), false);
  CHECK(eventually([&] { return slave.is(HaClient::State::kRefused); }));
  CHECK(slave.lines.have("mappedFileSizeCommitLog"));
}

TEST_CASE("the master's own damage is copied with an error, and what follows it too", "[ha]") {
  MemoryLog master_log(4096), slave_log(4096);
  REQUIRE(master_log.epochs().begin_next(0));
  for (int i = 0; i < 10; ++i) master_log.put("before");
  auto at = master_log.put("damaged later");
  for (int i = 0; i < 60; ++i) master_log.put("behind");
  master_log.damage(at + 30);
  MasterRig master(master_log);
  SlaveRig slave(slave_log);
  slave.client.follow(master.address(), false);
  CHECK(same_log(master_log, slave_log));
  CHECK(slave_log.damaged_stretches() == 1);
  CHECK(slave.lines.have("the master's own log is damaged in [" + std::to_string(at)));
}

TEST_CASE("the rate of the stream is bounded", "[ha]") {
  MemoryLog master_log, slave_log;
  REQUIRE(master_log.epochs().begin_next(0));
  for (int i = 0; i < 500; ++i) master_log.put(std::string(400, 'r'));
  auto options = MasterRig::master_options();
  std::atomic<int> asked{0};
  options.bytes_per_second = [&asked] {
    ++asked;
    return int64_t{500'000};
  };
  options.batch_bytes = 16 << 10;
  MasterRig master(master_log, options);
  SlaveRig slave(slave_log);
  slave.client.follow(master.address(), false);
  CHECK(same_log(master_log, slave_log));
  // 250 kB at this rate are asked about again and again.
  CHECK(asked > 15);
}

TEST_CASE("a slave that is far behind waits for others while the log grows, and comes near", "[ha]") {
  MemoryLog master_log(1 << 20), slave_log(1 << 20);
  REQUIRE(master_log.epochs().begin_next(0));
  while (master_log.end() < (12 << 20)) master_log.put(std::string(50'000, 'f'));
  auto options = MasterRig::master_options();
  options.window_bytes = 1 << 20;
  std::atomic<int> asked{0};
  options.catch_up_bytes_per_second = [&asked] {
    ++asked;
    return int64_t{64 << 10};
  };
  MasterRig master(master_log, options);
  SlaveRig slave(slave_log);
  slave.client.follow(master.address(), false);
  std::atomic<bool> stop{false};
  std::thread producer([&] {
    while (!stop) {
      master_log.put("x");
      pause(std::chrono::milliseconds(2));
    }
  });
  const auto asks = [&](int more) { return eventually([&, wanted = asked + more] { return asked >= wanted; }); };
  // From the start on, when it is not known yet that the log grows.
  CHECK(eventually([&] { return master_log.acks().slaves().size() == 1; }));
  CHECK(asks(200));
  CHECK(master_log.end() - slave_log.end() > (8 << 20));
  stop = true;
  producer.join();
  CHECK(same_log(master_log, slave_log));
}

TEST_CASE("what a SYNC_FLUSH master has not on its disk no slave gets", "[ha]") {
  MemoryLog master_log, slave_log;
  REQUIRE(master_log.epochs().begin_next(0));
  for (int i = 0; i < 10; ++i) master_log.put("flushed");
  const auto flushed = master_log.end();
  master_log.set_flushes(false);
  for (int i = 0; i < 10; ++i) master_log.put("not yet");
  auto options = MasterRig::master_options();
  options.flushed_only = true;
  MasterRig master(master_log, options);
  SlaveRig slave(slave_log);
  slave.client.follow(master.address(), false);
  CHECK(eventually([&] { return slave_log.end() == flushed; }));
  const auto next = master_log.put("not yet either");
  master_log.flush(next);
  CHECK(eventually([&] { return slave_log.end() == next; }));
  master_log.flush(master_log.end());
  CHECK(same_log(master_log, slave_log));
}

TEST_CASE("damage in a slave's log is found, fetched and mended", "[ha]") {
  MemoryLog master_log(4096), slave_log(4096);
  REQUIRE(master_log.epochs().begin_next(0));
  std::vector<LogOffset> places;
  for (int i = 0; i < 100; ++i) places.push_back(master_log.put(std::string(50, 'k')));
  slave_log.put_raw(master_log.content());
  REQUIRE(slave_log.epochs().append({1, 0}));
  const std::string good = master_log.content();
  for (int place : {3, 4, 40}) slave_log.damage(places[static_cast<size_t>(place)] + 100);
  MasterRig master(master_log);
  auto options = SlaveRig::slave_options();
  options.scrub_bytes_per_second = 8'000;
  options.ask_record = [&](LogOffset at, std::function<void(Result<std::string>)> done) {
    auto length = load_be<uint32_t>(good.data() + at);
    done(good.substr(static_cast<size_t>(at), length));
  };
  SlaveRig slave(slave_log, options);
  slave.client.follow(master.address(), false);
  CHECK(eventually([&] { return slave_log.content() == good && slave.client.figures().mended_ranges >= 2; }));
  CHECK(eventually([&] { return slave.client.figures().damaged_ranges == 0; }));
  CHECK(slave.lines.have("has been fetched from the master"));
}
