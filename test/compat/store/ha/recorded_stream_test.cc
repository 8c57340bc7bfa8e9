// The replication stream between a master and a slave of Apache RocketMQ 4.9.8, as it was recorded (recorded/index.json
// says what is in it): our slave is fed with the master's side, our master with the slave's.
#include <fstream>
#include <nlohmann/json.hpp>

#include "test/support/catch.h"
#include "test/support/stream_socket.h"
#include "test/unit/store/ha/ha_rig.h"

using namespace apogee;
using namespace apogee::store;
using namespace apogee::test;

namespace {

std::string file(const std::string& name) {
  std::ifstream in(std::string(APOGEE_SOURCE_DIR) + "/test/compat/store/ha/recorded/" + name, std::ios::binary);
  REQUIRE(in.good());
  return {std::istreambuf_iterator<char>(in), {}};
}

/// The log that the master's stream carries, from 0 on.
std::string log_of(std::string_view stream) {
  std::string log;
  while (!stream.empty()) {
    const auto begin = load_be<int64_t>(stream.data());
    const auto size = load_be<uint32_t>(stream.data() + 8);
    REQUIRE(begin == static_cast<int64_t>(log.size()));
    log += stream.substr(12, size);
    stream.remove_prefix(12 + size);
  }
  return log;
}

std::vector<int64_t> reports_of(std::string_view stream) {
  std::vector<int64_t> reports;
  for (; !stream.empty(); stream.remove_prefix(8)) reports.push_back(load_be<int64_t>(stream.data()));
  return reports;
}

std::string first_log() { return log_of(file("first-sync.master-to-slave.bin")); }

}  // namespace

TEST_CASE("the recording is what its index says", "[ha]") {
  auto index = nlohmann::json::parse(file("index.json"));
  auto log = first_log();
  size_t records = 0;
  for (const auto& step : index.at(0).at("timeline")) {
    for (const auto& record : step.value("records", nlohmann::json::array())) {
      auto at = record.at("physicalOffset").get<size_t>();
      auto decoded = message::decode_record(std::string_view(log).substr(at));
      REQUIRE(decoded.has_value());
      CHECK(decoded->topic == record.at("topic").get<std::string>());
      CHECK(decoded->bytes.size() == record.at("size").get<size_t>());
      ++records;
    }
  }
  CHECK(records == 15);
}

TEST_CASE("our slave takes the recorded stream, whole and in every piece", "[ha]") {
  const auto stream = file("first-sync.master-to-slave.bin");
  const auto log = first_log();
  for (size_t piece : {stream.size(), size_t{1000}, size_t{97}, size_t{13}, size_t{1}}) {
    CAPTURE(piece);
    StreamListener listener;
    MemoryLog slave_log;
    auto options = SlaveRig::slave_options();
    // The master was empty when the slave connected, which therefore asked for 0 as the recorded one did.
    options.ask_log = [](auto done) { done(MasterLog{0, 0}); };
    options.ask_record = [](LogOffset, auto done) { done(Error(Errc::kNotFound, "not asked for")); };
    SlaveRig slave(slave_log, options);
    slave.client.follow("127.0.0.1:" + std::to_string(listener.port()), true);
    StreamSocket master(listener.accept(StreamSocket::kLimit));
    CHECK(master.receive(8) == std::string(8, '\0'));
    for (size_t at = 0; at < stream.size(); at += piece) master.send(std::string_view(stream).substr(at, piece));
    CHECK(eventually([&] { return slave_log.end() == static_cast<LogOffset>(log.size()); }));
    CHECK(slave_log.content() == log);
    // It reports its end, as the recorded slave did.
    int64_t reported = 0;
    while (reported < slave_log.end()) {
      auto report = master.receive(8);
      REQUIRE(report.has_value());
      CHECK(load_be<int64_t>(report->data()) >= reported);
      reported = load_be<int64_t>(report->data());
    }
    CHECK(reported == reports_of(file("first-sync.slave-to-master.bin")).back());
  }
}

TEST_CASE("our slave resumes as the recorded one did", "[ha]") {
  const auto log = first_log();
  StreamListener listener;
  MemoryLog slave_log;
  slave_log.put_raw(log);
  auto options = SlaveRig::slave_options();
  options.ask_log = [&](auto done) { done(MasterLog{0, static_cast<LogOffset>(log.size())}); };
  options.ask_record = [&](LogOffset at, auto done) {
    done(log.substr(static_cast<size_t>(at), load_be<uint32_t>(log.data() + at)));
  };
  SlaveRig slave(slave_log, options);
  slave.client.follow("127.0.0.1:" + std::to_string(listener.port()), true);
  StreamSocket master(listener.accept(StreamSocket::kLimit));
  CHECK(master.receive(8) == file("resume.slave-to-master.bin").substr(0, 8));
  master.send(file("resume.master-to-slave.bin"));
  CHECK(master.receive(8) == file("resume.slave-to-master.bin").substr(8, 8));
  CHECK(slave_log.content() == log);
  CHECK(slave.is(HaClient::State::kTransfer));
}

TEST_CASE("our master serves the recorded slave the recorded log", "[ha]") {
  const auto log = first_log();
  const auto reports = reports_of(file("first-sync.slave-to-master.bin"));
  MemoryLog master_log;
  auto options = MasterRig::master_options();
  options.classic_peers = {"127.0.0.1"};
  MasterRig master(master_log, options);
  StreamSocket slave(master.server.port());
  std::string received;
  for (auto report : reports) {
    // The log grows as it did when the recording was made.
    if (report > master_log.end())
      master_log.put_raw(std::string_view(log).substr(static_cast<size_t>(master_log.end()),
                                                      static_cast<size_t>(report - master_log.end())));
    while (static_cast<int64_t>(received.size()) < report) {
      auto header = slave.receive(12);
      CAPTURE(report, master.lines.all());
      REQUIRE(header.has_value());
      REQUIRE(load_be<int64_t>(header->data()) == static_cast<int64_t>(received.size()));
      auto body = slave.receive(load_be<uint32_t>(header->data() + 8));
      REQUIRE(body.has_value());
      received += *body;
    }
    std::string bytes;
    append_be<int64_t>(bytes, report);
    CHECK(slave.send(bytes));
  }
  CHECK(received == log);
  CHECK(eventually([&] {
    auto slaves = master_log.acks().slaves();
    return slaves.size() == 1 && slaves[0].acknowledged == reports.back();
  }));
  // And the resumed connection.
  StreamSocket again(master.server.port());
  again.send(file("resume.slave-to-master.bin"));
  const auto heartbeat = file("resume.master-to-slave.bin").substr(0, 12);
  CHECK(again.receive(12) == heartbeat);
  CHECK(again.receive(12) == heartbeat);
}
