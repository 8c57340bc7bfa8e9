// Peers that are not what they should be.
#include <atomic>
#include <thread>

#include "common/base/bytes.h"
#include "test/replication/checker.h"
#include "test/support/catch.h"
#include "test/support/random.h"
#include "test/support/raw_requests.h"
#include "test/support/wait.h"

namespace apogee::test {

using namespace std::chrono_literals;

namespace {

constexpr size_t kMaster = ReplicatedCluster::kMaster, kSlave = 1;
constexpr int kNoSlave = 11, kSlaveTimeout = 12;

std::string be64(uint64_t value) {
  std::string bytes(8, '\0');
  store_be(bytes.data(), value);
  return bytes;
}

/// The controller-mode frames of a slave: its handshake, and an acknowledgement.
std::string handshake() {
  std::string bytes(16, '\0');
  bytes[3] = 1;
  bytes[15] = 1;
  return bytes;
}
std::string acknowledgement(uint64_t end) {
  std::string bytes(4, '\0');
  bytes[3] = 2;
  return bytes + be64(end);
}

/// What a stranger says to the port for slaves.
std::vector<std::string> speeches(Random& random) {
  const uint64_t beyond = uint64_t{1} << 40, hello = uint64_t{1} << 63;
  return {be64(0) + be64(beyond),
          be64(beyond),
          be64(~uint64_t{0} >> 1),
          handshake() + acknowledgement(beyond),
          be64(hello | 1) + random.bytes(200) + handshake() + acknowledgement(beyond),
          random.bytes(4'096),
          std::string(65'536, '\0'),
          std::string(65'536, '\xff'),
          "GET / HTTP/1.1\r\n\r\n"};
}

}  // namespace

TEST_CASE("strangers on the port for slaves cannot make the master acknowledge", "[replication]") {
  ReplicatedCluster cluster({.all = {{"haSecret", "of this test"}}, .start = false});
  cluster.start(kMaster);
  cluster.create_topic("Replicated", 4);
  Random random(run_seed("strangers"));
  Ledger ledger;
  Load::Options options;
  options.pace = 5ms;
  Load load(cluster, ledger, options);
  auto talk = [&] {
    std::vector<std::unique_ptr<RawClient>> talking;
    for (const auto& speech : speeches(random)) {
      talking.push_back(std::make_unique<RawClient>(cluster.ha_port(kMaster)));
      talking.back()->send_bytes(speech);
      talking.back()->send_bytes(speech);  // a replay
    }
    return talking;
  };
  auto talking = talk();
  CHECK(eventually([&] { return ledger.count(kNoSlave) >= 50; }, 60s));
  CHECK(ledger.count(0) == 0);
  CHECK(ledger.count(kSlaveTimeout) == 0);  // none of them is waited for
  talking.clear();

  CHECK(logged(cluster, kMaster, {"garbage"}));

  // A slave with another secret is a stranger too: the two find that out, whoever asks first.
  cluster.start(kSlave, {{"haSecret", "another"}});

  CHECK(logged(cluster, kSlave, {"haSecret"}));
  CHECK(ledger.count(0) == 0);
  cluster.stop(kSlave);
  cluster.start(kSlave);
  CHECK(load.more(20));
  // While the true slave stands still the strangers cannot speak for it.
  cluster.pause(kSlave);
  const auto unsafe = ledger.count(kSlaveTimeout);
  CHECK(eventually([&] { return ledger.count(kSlaveTimeout) > unsafe; }, 60s));
  const auto safe = ledger.count(0);
  talking = talk();
  const auto without = ledger.count(kNoSlave);
  CHECK(eventually([&] { return ledger.count(kNoSlave) >= without + 20; }, 60s));
  CHECK(ledger.count(0) == safe);
  talking.clear();
  cluster.resume(kSlave);
  CHECK(load.more(20));
  check_after(cluster, load, ledger, "strangers on the port for slaves");
}

TEST_CASE("a classic peer cannot acknowledge what it was not sent", "[replication]") {
  ReplicatedCluster cluster({.slaves = 0, .all = {{"haClassicPeers", "127.0.0.1"}}});
  cluster.create_topic("Replicated", 4);
  Ledger ledger;
  Load::Options options;
  options.pace = 5ms;
  Load load(cluster, ledger, options);
  CHECK(eventually([&] { return ledger.count(kNoSlave) >= 20; }, 60s));
  {
    RawClient ahead(cluster.ha_port(kMaster));
    ahead.send_bytes(be64(uint64_t{1} << 40));
    CHECK(ahead.closed_by_peer(60s));
  }
  // One that takes the stream from the beginning, and says more than it can have.
  RawClient peer(cluster.ha_port(kMaster));
  peer.send_bytes(be64(0));
  const auto unsafe = ledger.count(kSlaveTimeout) + ledger.count(kNoSlave);
  CHECK(eventually([&] { return ledger.count(kSlaveTimeout) + ledger.count(kNoSlave) >= unsafe + 20; }, 60s));
  CHECK(ledger.count(0) == 0);
  peer.send_bytes(be64(uint64_t{1} << 40));
  CHECK(logged(cluster, kMaster, {std::to_string(uint64_t{1} << 40)}));
  const auto none = ledger.count(kNoSlave);
  CHECK(eventually([&] { return ledger.count(kNoSlave) >= none + 20; }, 60s));
  CHECK(ledger.count(0) == 0);
}

TEST_CASE("a slave of another broker group is refused", "[replication]") {
  ReplicatedCluster cluster({.start = false});
  cluster.start(kMaster);
  cluster.create_topic("Replicated", 4);
  cluster.start(kSlave, {{"brokerName", "broker-b"},
                         {"haMasterAddress", "127.0.0.1:" + std::to_string(cluster.ha_port(kMaster))}});
  CHECK(logged(cluster, kSlave, {"broker-a"}));
  Ledger ledger;
  Load::Options options;
  options.pace = 5ms;
  Load load(cluster, ledger, options);
  CHECK(eventually([&] { return ledger.count(kNoSlave) >= 20; }, 60s));
  load.stop();
  CHECK(ledger.count(0) == 0);
  CHECK(LogFiles(cluster.commit_log(kSlave)).end() == 0);
}

TEST_CASE("two masters with one name and id: it is told, and no slave takes from both", "[replication]") {
  ReplicatedCluster cluster({.slaves = 2, .role = "ASYNC_MASTER", .start = false});
  cluster.start(kMaster);
  cluster.start(kSlave);
  Ledger ledger;
  prepare(cluster, ledger);
  {
    Load load(cluster, ledger);
    CHECK(load.more(100));
  }
  check_logs(cluster, ledger);
  // The second one is node 2.
  cluster.start(2, {{"brokerId", "0"}, {"brokerRole", "ASYNC_MASTER"}});
  CHECK(eventually([&] { return logged(cluster, kMaster, {"another"}, 0ms) || logged(cluster, 2, {"another"}, 0ms); },
                   60s));
  auto reply = cluster.connect(2)->call(create_topic_request("Replicated", 4));
  REQUIRE(reply);
  Ledger other;
  Load::Options second;
  second.node = 2;
  Load there(cluster, other, second);
  Load here(cluster, ledger);
  CHECK(there.more(100));
  CHECK(here.more(100));
  there.stop();
  here.stop();
  const LogFiles one(cluster.commit_log(kMaster)), two(cluster.commit_log(2)), slave(cluster.commit_log(kSlave));
  const auto end = slave.end();
  const auto mine = slave.read(0, end);
  CHECK((mine == one.read(0, end) || mine == two.read(0, end)));
  cluster.stop(2);
  Load load(cluster, ledger);
  CHECK(load.more(50));
  check_after(cluster, load, ledger, "two masters with one name and id, then one");
}

}  // namespace apogee::test
