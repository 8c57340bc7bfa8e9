// Bad days of the network, each process on a machine of its own.
#include "common/base/bytes.h"
#include "store/ha/ha_frames.h"
#include "test/replication/acting_rig.h"
#include "test/replication/checker.h"
#include "test/support/catch.h"
#include "test/support/relay.h"
#include "test/support/wait.h"

namespace apogee::test {

using namespace std::chrono_literals;

namespace {

constexpr size_t kSlave = 1;

bool skipped() {
  const auto why = Network::why_not();
  if (!why.empty()) WARN("skipped: no network namespaces here: " << why);
  return !why.empty();
}

struct Machines {
  explicit Machines(ReplicatedCluster::Options options = {}) {
    options.network = &network;
    cluster.emplace(std::move(options));
  }
  void run(const std::string& bad_day, const std::function<void()>& begin, const std::function<void(Load&)>& during) {
    Load::Options options;
    options.pace = 3ms;
    Load load(*cluster, ledger, options);
    CHECK(load.more(30));
    begin();
    const auto means = network.means();
    during(load);
    network.heal();
    load.bad_day_ends();
    CHECK(load.more(30));
    check_after(*cluster, load, ledger, bad_day + " (" + means + ")");
  }
  /// Answered so from now on, and no message is called safe.
  void nothing_is_safe(Load& load) {
    const auto unsafe = ledger.count(11);
    CHECK(eventually([&] { return ledger.count(11) >= unsafe + 1; }, 60s));
    const auto safe = ledger.count(0);
    CHECK(eventually([&] { return ledger.count(11) >= unsafe + 20; }, 60s));
    CHECK(ledger.count(0) == safe);
    static_cast<void>(load);
  }
  Network network{{"namesrv", "master", "slave-1", "slave-2", "client", "relay"}};
  std::optional<ReplicatedCluster> cluster;
  Ledger ledger;
};

}  // namespace

TEST_CASE("partitions: between master and slave, one way, and from the NameServer", "[replication][netns]") {
  if (skipped()) return;
  Machines machines;
  auto& network = machines.network;
  prepare(*machines.cluster, machines.ledger);
  machines.run(
      "partition between master and slave", [&] { network.cut("master", "slave-1"); },
      [&](Load& load) { machines.nothing_is_safe(load); });
  machines.run(
      "nothing from the slave reaches the master", [&] { network.cut_one_way("slave-1", "master"); },
      [&](Load& load) { machines.nothing_is_safe(load); });
  machines.run(
      "nothing from the master reaches the slave", [&] { network.cut_one_way("master", "slave-1"); },
      [&](Load& load) { machines.nothing_is_safe(load); });
  // Who has found its master goes on.
  machines.run(
      "partition between the master and the NameServer", [&] { network.cut("master", "namesrv"); },
      [&](Load& load) { CHECK(load.more(100)); });
  machines.run(
      "partition between the slave and the NameServer", [&] { network.cut("slave-1", "namesrv"); },
      [&](Load& load) { CHECK(load.more(100)); });
}

TEST_CASE("30 % of the packets are lost, and 10 Mbit/s", "[replication][netns]") {
  if (skipped()) return;
  Machines machines;
  auto& network = machines.network;
  prepare(*machines.cluster, machines.ledger);
  machines.run(
      "30 % loss between master and slave", [&] { network.lose("master", "slave-1", 30); },
      [&](Load& load) { CHECK(load.more(20)); });
  machines.run(
      "10 Mbit/s from the master", [&] { network.limit_rate("master", 10); },
      [&](Load& load) { CHECK(load.more(300)); });
}

TEST_CASE("200 ms between master and slave", "[replication][netns]") {
  if (skipped()) return;
  ReplicatedCluster::Options options;
  options.all = {{"haSecret", "of this test"}};
  options.start = false;
  Machines machines(options);
  auto& cluster = *machines.cluster;
  cluster.start(ReplicatedCluster::kMaster);
  std::optional<Relay> relay;
  {
    const Network::Visit visit(machines.network, "relay");
    relay.emplace(machines.network.address("relay"), cluster.host(0), cluster.ha_port(0), 200ms);
  }
  cluster.start(kSlave, {{"haMasterAddress", machines.network.address("relay") + ":" + std::to_string(relay->port())}});
  prepare(cluster, machines.ledger);
  Load load(cluster, machines.ledger);
  CHECK(load.more(40));
  check_after(cluster, load, machines.ledger, "200 ms each way between master and slave (a relay)");
  CHECK(relay->bytes() > 0);
  cluster.kill(kSlave);  // its connection goes before the relay
}

TEST_CASE("peers are known by their addresses: a stranger's is refused, and one brokerId has one",
          "[replication][netns]") {
  if (skipped()) return;
  ReplicatedCluster::Options options;
  options.slaves = 2;
  options.start = false;
  Machines machines(options);
  auto& cluster = *machines.cluster;
  cluster.start(ReplicatedCluster::kMaster);
  cluster.start(kSlave);
  prepare(cluster, machines.ledger);
  Load load(cluster, machines.ledger);
  CHECK(load.more(20));
  // Our hello, from a machine that no NameServer lists for this broker group.
  {
    const Network::Visit visit(machines.network, "relay");
    std::string hello(8 + 32, '\x11');
    store_be<uint64_t>(hello.data(), store::kHaHello);
    RawClient stranger(cluster.host(0), cluster.ha_port(0));
    stranger.send_bytes(hello);
    CHECK(logged(cluster, 0, {machines.network.address("relay"), "no haSecret"}));
  }
  // Another slave that says it is the first one.
  cluster.start(2, {{"brokerId", "1"}});
  CHECK(logged(cluster, 0, {machines.network.address("slave-2"), "brokerId 1 is taken"}));
  CHECK(logged(cluster, 2, {"two brokers of the group"}));
  CHECK(load.more(50));
  cluster.kill(2);
  check_after(cluster, load, machines.ledger, "a stranger, and two slaves with one brokerId");
}

TEST_CASE("a master is cut off from its slave, which acts for it, and from the NameServer", "[acting_master][netns]") {
  if (skipped()) return;
  ReplicatedCluster::Options options;
  options.all = acting::kActing;
  options.start = false;
  Machines machines(options);
  auto& cluster = *machines.cluster;
  auto& network = machines.network;
  const auto in_network = [&](const std::string& machine, uint16_t port, const remoting::Command& request) {
    const Network::Visit visit(network, "client");
    return acting::ask(network.address(machine) + ":" + std::to_string(port), request);
  };
  acting::let_slaves_act([&](const remoting::Command& request) {
    const auto port = static_cast<uint16_t>(std::stoi(cluster.namesrv().substr(cluster.namesrv().rfind(':') + 1)));
    return in_network("namesrv", port, request);
  });
  cluster.start(ReplicatedCluster::kMaster);
  cluster.start(kSlave);
  prepare(cluster, machines.ledger);
  const auto acts = [&](const char* wanted) {
    return eventually(
        [&] {
          const Network::Visit visit(network, "client");
          return acting::figure(cluster.address(kSlave), "actingMaster") == wanted;
        },
        60s);
  };
  machines.run(
      "master cut off from slave and NameServer, the slave acts",
      [&] {
        network.cut("master", "slave-1");
        network.cut("master", "namesrv");
      },
      [&](Load& load) {
        CHECK(acts("true"));
        // It takes messages from who still reaches it, and calls none of them safe.
        machines.nothing_is_safe(load);
      });
  CHECK(acts("false"));
  const auto back = read_back(cluster, kSlave, machines.ledger);
  INFO(back.first_loss);
  CHECK(back.lost == 0);
}

}  // namespace apogee::test
