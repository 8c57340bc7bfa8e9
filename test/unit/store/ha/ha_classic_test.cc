#include "test/support/catch.h"
#include "test/support/ha_classic_peer.h"
#include "test/support/random.h"
#include "test/unit/store/ha/ha_rig.h"

using namespace apogee;
using namespace apogee::store;
using namespace apogee::test;

namespace {

constexpr int64_t kFileBytes = 4096;

/// The log of a master of Apache RocketMQ, and what it answers when it is asked.
struct Classic {
  MemoryLog log{kFileBytes};
  int records_asked = 0;

  explicit Classic(int messages) {
    for (int i = 0; i < messages; ++i) log.put("message " + std::to_string(i));
  }
  HaClient::Options slave_options() {
    auto options = SlaveRig::slave_options();
    options.ask_log = [this](std::function<void(Result<MasterLog>)> done) { done(MasterLog{log.begin(), log.end()}); };
    options.ask_record = [this](LogOffset at, std::function<void(Result<std::string>)> done) {
      ++records_asked;
      auto bytes = log.read(at, 4);
      if (!bytes || bytes->size() < 4) return done(Error(Errc::kNotFound, "no record"));
      done(log.content(at, at + load_be<int32_t>(bytes->bytes.data())));
    };
    return options;
  }
  [[nodiscard]] std::string address(const ClassicMaster& master) const {
    return "127.0.0.1:" + std::to_string(master.port());
  }
};

HaServer::Options classic_options() {
  auto options = MasterRig::master_options();
  options.classic_peers = {"127.0.0.1"};
  return options;
}

}  // namespace

TEST_CASE("an empty slave gets the whole log of a classic master, frames cut in records and connections cut in frames",
          "[ha]") {
  Classic classic(300);
  for (size_t frame_bytes : {size_t{100}, size_t{333}, size_t{32} << 10}) {
    for (int64_t cut_after : {int64_t{-1}, int64_t{5}, int64_t{12}, int64_t{1000}, int64_t{7777}}) {
      CAPTURE(frame_bytes, cut_after);
      ClassicMaster master(
          {.file_bytes = kFileBytes, .frame_bytes = frame_bytes, .cut_after_bytes = cut_after, .cuts = 3}, 0,
          classic.log.content());
      MemoryLog slave_log(kFileBytes);
      SlaveRig slave(slave_log, classic.slave_options());
      slave.client.follow(classic.address(master), true);
      CHECK(same_log(classic.log, slave_log));
      CHECK(eventually([&] { return master.acknowledged() == classic.log.end(); }));
      // A request of 0 would have meant the newest file.
      for (auto first : master.first_reports()) CHECK(first > 0);
    }
  }
}

TEST_CASE("heartbeats keep a classic connection, and the slave reports by itself", "[ha]") {
  Classic classic(10);
  ClassicMaster master({.file_bytes = kFileBytes, .heartbeat = std::chrono::milliseconds(50)}, 0,
                       classic.log.content());
  MemoryLog slave_log(kFileBytes);
  auto options = classic.slave_options();
  options.heartbeat_ms = 50;
  options.silence_ms_max = 1'000;
  SlaveRig slave(slave_log, options);
  slave.client.follow(classic.address(master), true);
  CHECK(same_log(classic.log, slave_log));
  CHECK(eventually([&] { return master.reports() > 30; }));
  CHECK(master.first_reports().size() == 1);
  CHECK(slave.is(HaClient::State::kTransfer));
}

TEST_CASE("a classic master that falls silent is left, and found again", "[ha]") {
  Classic classic(10);
  ClassicMaster master({.file_bytes = kFileBytes, .heartbeat = std::chrono::hours(1)}, 0, classic.log.content());
  MemoryLog slave_log(kFileBytes);
  auto options = classic.slave_options();
  options.silence_ms_max = 200;
  SlaveRig slave(slave_log, options);
  slave.client.follow(classic.address(master), true);
  CHECK(eventually([&] { return master.first_reports().size() >= 3; }));
  CHECK(slave.lines.have("nothing was heard"));
  CHECK(slave_log.content() == classic.log.content());
}

TEST_CASE("a slave of a classic master whose first files are gone begins there", "[ha]") {
  Classic classic(300);
  classic.log.forget_before(2 * kFileBytes);
  ClassicMaster master({.file_bytes = kFileBytes}, 2 * kFileBytes, classic.log.content());
  MemoryLog slave_log(kFileBytes);
  SlaveRig slave(slave_log, classic.slave_options());
  slave.client.follow(classic.address(master), true);
  CHECK(same_log(classic.log, slave_log));
  CHECK(master.first_reports() == std::vector<int64_t>{2 * kFileBytes});
}

TEST_CASE("a slave of a classic master that is empty waits for its first message", "[ha]") {
  Classic classic(0);
  ClassicMaster master({.file_bytes = kFileBytes}, 0, "");
  MemoryLog slave_log(kFileBytes);
  SlaveRig slave(slave_log, classic.slave_options());
  slave.client.follow(classic.address(master), true);
  CHECK(eventually([&] { return master.first_reports() == std::vector<int64_t>{0}; }));
  classic.log.put("the first");
  master.append(classic.log.content());
  CHECK(same_log(classic.log, slave_log));
}

TEST_CASE("a slave that is ahead of a classic master, or another log, is refused", "[ha]") {
  Classic classic(50);
  ClassicMaster master({.file_bytes = kFileBytes}, 0, classic.log.content());
  MemoryLog slave_log(kFileBytes);
  slave_log.put_raw(classic.log.content());
  slave_log.put_raw(log_record(slave_log.end(), 50, "one more"));
  {
    SlaveRig slave(slave_log, classic.slave_options());
    slave.client.follow(classic.address(master), true);
    CHECK(eventually([&] { return slave.is(HaClient::State::kRefused); }));
    CHECK(slave.lines.have("is ahead"));
  }
  // As long as the master's, and another record at its end.
  classic.log.put("one else");
  SlaveRig slave(slave_log, classic.slave_options());
  slave.client.follow(classic.address(master), true);
  CHECK(eventually([&] { return slave.is(HaClient::State::kRefused); }));
  CHECK(slave.lines.have("have parted"));
  CHECK(master.first_reports().empty());
}

TEST_CASE("a slave that comes back to a classic master compares its last record, across a blank", "[ha]") {
  Classic classic(0);
  while (classic.log.end() < kFileBytes) classic.log.put("fill");
  ClassicMaster master({.file_bytes = kFileBytes}, 0, classic.log.content());
  MemoryLog slave_log(kFileBytes);
  slave_log.put_raw(classic.log.content(0, kFileBytes));
  SlaveRig slave(slave_log, classic.slave_options());
  slave.client.follow(classic.address(master), true);
  CHECK(same_log(classic.log, slave_log));
  CHECK(master.first_reports() == std::vector<int64_t>{kFileBytes});
}

TEST_CASE("damage on the way from a classic master is fetched again", "[ha]") {
  Classic classic(100);
  auto log = classic.log.content();
  // The master's own: it comes the same again and again.
  const size_t second = load_be<uint32_t>(log.data()), place = second + 30;
  log[place] = static_cast<char>(log[place] ^ 1);
  ClassicMaster master({.file_bytes = kFileBytes}, 0, log);
  MemoryLog slave_log(kFileBytes);
  SlaveRig slave(slave_log, classic.slave_options());
  slave.client.follow(classic.address(master), true);
  CHECK(eventually([&] { return slave_log.end() == classic.log.end(); }));
  CHECK(slave_log.content() == log);
  CHECK(slave.lines.have("the master's own log is damaged"));
}

TEST_CASE("a classic slave follows from its offset, and what it reports counts", "[ha]") {
  MemoryLog log(kFileBytes);
  for (int i = 0; i < 300; ++i) log.put("message " + std::to_string(i));
  MasterRig master(log, classic_options());
  const auto half = log.content(0, 5000);
  ClassicSlave slave(master.server.port(), {.log = half});
  CHECK(eventually([&] { return slave.end() == log.end(); }));
  for (int i = 0; i < 30; ++i) log.put("later");
  CHECK(eventually([&] { return slave.end() == log.end(); }));
  CHECK(slave.log() == log.content());
  CHECK(slave.complaint().empty());
  CHECK(slave.longest_frame() <= 32 << 10);
  CHECK_FALSE(slave.frame_crossed(kFileBytes));
  CHECK(eventually([&] {
    auto slaves = log.acks().slaves();
    return slaves.size() == 1 && slaves[0].classic && slaves[0].acknowledged == log.end();
  }));
  auto before = slave.heartbeats();
  CHECK(eventually([&] { return slave.heartbeats() >= before + 3; }));
}

TEST_CASE("a classic slave that has nothing gets the newest file", "[ha]") {
  MemoryLog log(kFileBytes);
  for (int i = 0; i < 300; ++i) log.put("message " + std::to_string(i));
  MasterRig master(log, classic_options());
  ClassicSlave slave(master.server.port(), {});
  CHECK(eventually([&] { return slave.end() == log.end(); }));
  const auto newest = log.end() - log.end() % kFileBytes;
  CHECK(slave.begin() == newest);
  CHECK(slave.log() == log.content(newest, log.end()));
}

TEST_CASE("a classic slave that has nothing, and gets nothing yet, stays", "[ha]") {
  MemoryLog log(kFileBytes);
  while (log.end() < kFileBytes) log.put(std::string(500, 'x'));
  // Up to the end of a file, so that the newest one is empty.
  const auto left = static_cast<size_t>(kFileBytes - log.end() % kFileBytes);
  std::string blank(left, '\0');
  store_be<int32_t>(blank.data(), static_cast<int32_t>(left));
  store_be<int32_t>(blank.data() + 4, message::kBlankMagic);
  log.put_raw(blank);
  MasterRig master(log, classic_options());
  ClassicSlave slave(master.server.port(), {.heartbeat = std::chrono::milliseconds(20)});
  CHECK(eventually([&] { return slave.heartbeats() >= 3; }));
  CHECK_FALSE(slave.ended());
  log.put("at last");
  CHECK(eventually([&] { return slave.end() == log.end(); }));
  CHECK(slave.begin() == 2 * kFileBytes);
}

TEST_CASE("a classic frame has at most 32 KiB of log", "[ha]") {
  MemoryLog log(1 << 20);
  for (int i = 0; i < 100; ++i) log.put(std::string(5000, 'f'));
  MasterRig master(log, classic_options());
  ClassicSlave slave(master.server.port(), {});
  CHECK(eventually([&] { return slave.end() == log.end(); }));
  CHECK(slave.longest_frame() == 32 << 10);
}

TEST_CASE("a classic slave may take its time with the first report", "[ha]") {
  MemoryLog log(kFileBytes);
  log.put("x");
  // Ten seconds against the fifteen of a real master; made shorter where not the long form is asked for.
  auto options = classic_options();
  options.heartbeat_ms = 50;
  options.silence_ms_max = 400;
  if (!is_soak()) options.handshake_ms_max = 60'000;
  MasterRig master(log, options);
  ClassicSlave slave(master.server.port(),
                     {.first_report_after = std::chrono::milliseconds(is_soak() ? 10'000 : 1'000)});
  CHECK(eventually([&] { return slave.end() == log.end(); }));
  CHECK_FALSE(slave.ended());
  CHECK(HaServer::Options().handshake_ms_max >= 10'000);
}

TEST_CASE("the classic stream is served to listed peers alone", "[ha]") {
  MemoryLog log(kFileBytes);
  log.put("x");
  MasterRig master(log);
  ClassicSlave slave(master.server.port(), {.log = "12345678"});
  CHECK(eventually([&] { return slave.ended(); }));
  CHECK(slave.end() == 8);
  CHECK(log.acks().slaves().empty());
  CHECK(master.lines.have("haClassicPeers"));
}

TEST_CASE("a classic slave that is ahead of the log, or reports garbage, is disconnected", "[ha]") {
  MemoryLog log(kFileBytes);
  for (int i = 0; i < 10; ++i) log.put("x");
  MasterRig master(log, classic_options());
  ClassicSlave ahead(master.server.port(), {.log = std::string(static_cast<size_t>(log.end()) + 1, 'x')});
  CHECK(eventually([&] { return ahead.ended(); }));
  StreamSocket garbage(master.server.port());
  garbage.send(log_record(0, 0, "").substr(0, 8));
  CHECK(garbage.closes());
  StreamSocket wild(master.server.port());
  std::string reports;
  append_be<int64_t>(reports, log.end());
  append_be<int64_t>(reports, log.end() + 1);
  wild.send(reports);
  CHECK(wild.closes());
  CHECK(master.lines.have("it acknowledges"));
}
