// The bench itself: it sees what is there, and what is not.
#include "test/replication/checker.h"
#include "test/support/catch.h"
#include "test/support/relay.h"
#include "test/support/wait.h"

namespace apogee::test {

TEST_CASE("the bench finds a message that is missing, and logs that part", "[bench]") {
  ReplicatedCluster cluster({.slaves = 0, .role = "ASYNC_MASTER"});
  Ledger ledger;
  prepare(cluster, ledger);
  {
    Load load(cluster, ledger);
    REQUIRE(load.more(50));
  }
  CHECK(read_back(cluster, 0, ledger).lost == 0);
  CHECK(read_back(cluster, 0, ledger).read >= 50);
  const LogFiles log(cluster.commit_log(0));
  CHECK(log.end() > ledger.last_log_offset(0));
  CHECK(compare_logs(cluster.commit_log(0), cluster.commit_log(0), log.end()).empty());
  CHECK_FALSE(compare_logs(cluster.commit_log(0), cluster.commit_log(0), log.end() + (8 << 20)).empty());
  const int32_t queue = ledger.queues().begin()->first;
  ledger.acknowledged(queue, 0, {"nobody", 1, 0, 0});
  CHECK(read_back(cluster, 0, ledger).lost == 1);
  CHECK(ledger.contradictions().size() == 1);
}

TEST_CASE("machines of their own: cut, one way, lossy, slow, healed", "[bench][netns]") {
  if (const auto why = Network::why_not(); !why.empty()) {
    WARN("skipped: no network namespaces here: " << why);
    return;
  }
  Network network({"namesrv", "master", "client"});
  ReplicatedCluster cluster({.slaves = 0, .role = "ASYNC_MASTER", .network = &network});
  Ledger ledger;
  cluster.create_topic("Replicated", 4);
  Load::Options options;
  options.answer_limit = std::chrono::seconds(1);
  Load load(cluster, ledger, options);
  REQUIRE(load.more(20));
  auto silent = [&](auto bad_day) {
    bad_day();
    // Answers that were on their way have come after a second.
    return !load.more(1, std::chrono::seconds(1)) || !load.more(1, std::chrono::seconds(1));
  };
  CHECK(silent([&] { network.cut("client", "master"); }));
  network.heal();
  CHECK(load.more(20));
  CHECK(silent([&] { network.cut_one_way("master", "client"); }));
  network.heal();
  CHECK(load.more(20));
  network.lose("client", "master", 30);
  CHECK(load.more(20));
  network.heal();
  network.limit_rate("master", 10);
  CHECK(load.more(20));
  network.heal();
  const bool netem = network.delay("master", 20);
  network.heal();
  load.stop();
  CHECK(read_back(cluster, 0, ledger).lost == 0);
  std::printf("machines: %s; delay by %s\n", network.means().c_str(), netem ? "tc netem" : "a relay");

  const Network::Visit visit(network, "client");
  Relay relay(network.address("client"), network.address("master"), cluster.port(0), std::chrono::milliseconds(100));
  const auto before = std::chrono::steady_clock::now();
  RawClient client(network.address("client"), relay.port());
  CHECK(client.call(remoting::Command::request(remoting::RequestCode::kGetBrokerRuntimeInfo)));
  CHECK(std::chrono::steady_clock::now() - before >= std::chrono::milliseconds(200));
}

}  // namespace apogee::test
