#include "common/base/crc32.h"
#include "store/ha/ha_frames.h"
#include "test/support/catch.h"
#include "test/support/stream_socket.h"
#include "test/unit/store/ha/ha_rig.h"

using namespace apogee;
using namespace apogee::store;
using namespace apogee::test;

namespace {

/// A slave of our stream, step by step, as a test wants it.
struct HandMadeSlave {
  explicit HandMadeSlave(const MasterRig& master) : socket(master.server.port()) {}

  template <typename Parse>
  auto next(const Parse& parse) {
    for (;;) {
      auto parsed = parse(inbox);
      if (!parsed) throw std::runtime_error(parsed.error().message);
      if (*parsed) {
        auto frame = std::move((*parsed)->frame);
        inbox.erase(0, (*parsed)->bytes);
        return frame;
      }
      auto more = socket.receive_some(4096, StreamSocket::kLimit);
      if (!more || more->empty()) throw std::runtime_error("the master has closed, or says nothing");
      inbox += *more;
    }
  }
  HaMasterFrame frame() { return next(parse_master_frame); }
  /// Up to the identity; what the master says then.
  HaMasterFrame identify(std::string_view secret, std::string name = "broker-a", int64_t id = 1) {
    socket.send(encode(HaHello{mine}));
    auto answer = next(parse_challenge);
    if (auto* refusal = std::get_if<HaRefusal>(&answer)) return std::move(*refusal);
    masters = std::get<HaChallenge>(answer).nonce;
    identity = encode(HaIdentity{mac_of_slave(secret, mine, masters, name, id), id, name});
    socket.send(identity);
    return frame();
  }
  /// Up to the proof; what the master says then.
  HaMasterFrame prove(const HaProof& proof, int64_t id = 1) {
    auto welcome = identify("s3cret", "broker-a", id);
    if (!std::holds_alternative<HaWelcome>(welcome)) return welcome;
    socket.send(encode(HaHandshake{id}));
    (void)frame();
    socket.send(encode(proof));
    return frame();
  }

  HaNonce mine{1, 2, 3};
  HaNonce masters{};
  std::string identity, inbox;
  StreamSocket socket;
};

std::string reason_of(const HaMasterFrame& frame) {
  const auto* refusal = std::get_if<HaRefusal>(&frame);
  return refusal ? refusal->reason : "";
}

HaProof proof_of(const MemoryLog& log, LogOffset end, LogOffset bytes) {
  return {end, end, static_cast<int32_t>(bytes), crc32(log.content(end - bytes, end))};
}

struct Bench {
  explicit Bench(HaServer::Options options = MasterRig::master_options()) {
    for (int i = 0; i < 20; ++i) log.put("message " + std::to_string(i));
    REQUIRE(log.epochs().begin_next(0));
    master = std::make_unique<MasterRig>(log, std::move(options));
  }
  [[nodiscard]] size_t slaves() { return log.acks().slaves().size(); }
  MemoryLog log;
  std::unique_ptr<MasterRig> master;
};

}  // namespace

TEST_CASE("a slave that knows the secret and proves its log is served", "[ha]") {
  Bench bench;
  HandMadeSlave slave(*bench.master);
  auto first = slave.prove(proof_of(bench.log, bench.log.end(), 100));
  REQUIRE(std::holds_alternative<HaTransfer>(first));
  CHECK(std::get<HaTransfer>(first).begin == bench.log.end());
  CHECK(std::get<HaTransfer>(first).epoch == Epoch{1, 0});
  CHECK(eventually([&] { return bench.slaves() == 1; }));
}

TEST_CASE("who does not know the secret is told so, and counts for nothing", "[ha]") {
  Bench bench;
  HandMadeSlave slave(*bench.master);
  CHECK(reason_of(slave.identify("wrong")).find("haSecret") != std::string::npos);
  CHECK(slave.socket.closes());
  CHECK(bench.slaves() == 0);
  CHECK(bench.master->lines.have("haSecret"));
  HandMadeSlave without(*bench.master);
  CHECK(reason_of(without.identify("")).find("haSecret") != std::string::npos);
}

TEST_CASE("an answer to one challenge is none to another", "[ha]") {
  Bench bench;
  HandMadeSlave slave(*bench.master);
  REQUIRE(std::holds_alternative<HaWelcome>(slave.identify("s3cret")));
  HandMadeSlave replay(*bench.master);
  replay.socket.send(encode(HaHello{replay.mine}));
  (void)replay.next(parse_challenge);
  replay.socket.send(slave.identity);
  CHECK(reason_of(replay.frame()).find("haSecret") != std::string::npos);
}

TEST_CASE("a slave of another group, or without a slave's id, is refused", "[ha]") {
  Bench bench;
  CHECK(reason_of(HandMadeSlave(*bench.master).identify("s3cret", "broker-b")).find("broker-a") != std::string::npos);
  CHECK(reason_of(HandMadeSlave(*bench.master).identify("s3cret", "broker-a", 0)).find("brokerId 0") !=
        std::string::npos);
}

TEST_CASE("a log that is not the master's is refused", "[ha]") {
  Bench bench;
  const auto end = bench.log.end();
  auto told = [&](const HaProof& proof) { return reason_of(HandMadeSlave(*bench.master).prove(proof)); };
  auto wrong = proof_of(bench.log, end, 100);
  wrong.crc ^= 1;
  CHECK(told(wrong).find("parted") != std::string::npos);
  CHECK(told({end + 100, end, 10, 1}).find("ahead") != std::string::npos);
  CHECK(told({end, end, 0, 0}).find("proves nothing") != std::string::npos);
  CHECK(bench.slaves() == 0);
}

TEST_CASE("garbage ends the connection with a line that names the peer", "[ha]") {
  Bench bench;
  auto closed = [&](const std::string& bytes) {
    StreamSocket socket(bench.master->server.port());
    socket.send(bytes);
    return socket.closes();
  };
  CHECK(closed(std::string(64, '\xFF')));
  CHECK(closed("GET / HTTP/1.1\r\n\r\n"));
  CHECK(closed(std::string(64, '\0')));
  CHECK(bench.master->lines.have("127.0.0.1:"));
  CHECK(bench.master->lines.have("garbage"));
  CHECK(bench.master->lines.have("haClassicPeers"));
  CHECK(bench.slaves() == 0);
}

TEST_CASE("an acknowledgement that cannot be ends the connection and counts for nothing", "[ha]") {
  Bench bench;
  const auto half = bench.log.end() / 2;
  // A record's boundary is no matter of the proof.
  auto run = [&](const std::string& bytes) {
    HandMadeSlave slave(*bench.master);
    auto first = slave.prove(proof_of(bench.log, half, 50));
    if (!std::holds_alternative<HaTransfer>(first)) return false;
    slave.socket.send(bytes);
    return slave.socket.closes();
  };
  CHECK(run(encode(HaAck{bench.log.end() + 1})));
  CHECK(run(encode(HaAck{half - 1})));
  CHECK(run(encode(HaAck{-5})));
  CHECK(run(std::string(12, '\x11')));
  for (const auto& slave : bench.log.acks().slaves()) CHECK(slave.acknowledged <= half);
  CHECK(bench.master->lines.have("it acknowledges"));
}

TEST_CASE("the newer connection of a slave wins; another machine with its id is refused", "[ha]") {
  Bench bench;
  HandMadeSlave first(*bench.master), second(*bench.master);
  REQUIRE(std::holds_alternative<HaTransfer>(first.prove(proof_of(bench.log, bench.log.end(), 100))));
  REQUIRE(std::holds_alternative<HaTransfer>(second.prove(proof_of(bench.log, bench.log.end(), 100))));
  CHECK(first.socket.closes());
  CHECK(bench.master->lines.have("connected anew"));
  CHECK(eventually([&] {
    auto slaves = bench.log.acks().slaves();
    return slaves.size() == 1 && slaves[0].broker_id == 1;
  }));
}

TEST_CASE("no more slaves than allowed", "[ha]") {
  auto options = MasterRig::master_options();
  options.slaves_max = 1;
  Bench bench(options);
  HandMadeSlave first(*bench.master), second(*bench.master);
  auto proof = proof_of(bench.log, bench.log.end(), 100);
  REQUIRE(std::holds_alternative<HaTransfer>(first.prove(proof, 1)));
  CHECK(reason_of(second.prove(proof, 2)).find("slaves already") != std::string::npos);
}

TEST_CASE("silence ends a connection, in the handshake and later", "[ha]") {
  auto options = MasterRig::master_options();
  options.handshake_ms_max = 150;
  options.silence_ms_max = 300;
  Bench bench(options);
  StreamSocket mute(bench.master->server.port());
  CHECK(mute.closes());
  CHECK(bench.master->lines.have("not proven itself"));
  HandMadeSlave slave(*bench.master);
  REQUIRE(std::holds_alternative<HaTransfer>(slave.prove(proof_of(bench.log, bench.log.end(), 100))));
  CHECK(slave.socket.closes());
  CHECK(bench.master->lines.have("nothing was heard"));
}

TEST_CASE("no more than the window is on its way to a slave that says nothing", "[ha]") {
  auto options = MasterRig::master_options();
  options.window_bytes = 4096;
  options.batch_bytes = 1000;
  MemoryLog log(1 << 16);
  for (int i = 0; i < 200; ++i) log.put(std::string(100, 'w'));
  MasterRig master(log, options);
  HandMadeSlave slave(master);
  auto first = slave.prove({-1, -1, 0, 0});
  REQUIRE(std::holds_alternative<HaTransfer>(first));
  CHECK(eventually([&] {
    auto slaves = log.acks().slaves();
    return slaves.size() == 1 && slaves[0].sent == 4096;
  }));
  slave.socket.send(encode(HaAck{1000}));
  CHECK(eventually([&] { return log.acks().slaves()[0].sent == 5096; }));
}

TEST_CASE("without a secret only the listed and loopback are served", "[ha]") {
  auto options = MasterRig::master_options();
  options.secret.clear();
  Bench bench(options);
  HandMadeSlave slave(*bench.master);
  CHECK(std::holds_alternative<HaWelcome>(slave.identify("")));
  // A slave that has one does not follow a master without it.
  MemoryLog log;
  SlaveRig rig(log);
  rig.client.follow(bench.master->address(), false);
  CHECK(eventually([&] { return rig.is(HaClient::State::kRefused); }));
  CHECK(rig.client.figures().why.find("haSecret") != std::string::npos);
}
