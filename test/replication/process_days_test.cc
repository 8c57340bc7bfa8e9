// Processes that die, and processes that stop and go on as if nothing had been.
#include "test/replication/checker.h"
#include "test/support/catch.h"
#include "test/support/random.h"
#include "test/support/wait.h"

namespace apogee::test {

using namespace std::chrono_literals;

namespace {

constexpr size_t kMaster = ReplicatedCluster::kMaster, kSlave = 1;
constexpr int kSlaveTimeout = 12, kNoSlave = 11;

/// Longer than every time-out of a ReplicatedCluster.
constexpr auto kLong = 5s;

bool comes(const Ledger& ledger, int code, size_t more = 1) {
  const auto before = ledger.count(code);
  return eventually([&] { return ledger.count(code) >= before + more; }, 60s);
}

void kill_again_and_again(const char* role, size_t victim, const std::string& bad_day) {
  const int cycles = is_soak() ? 100 : 3;
  ReplicatedCluster cluster({.role = role});
  Ledger ledger;
  prepare(cluster, ledger);
  for (int cycle = 0; cycle < cycles; ++cycle) {
    Load load(cluster, ledger);
    CHECK(load.more(100));
    cluster.kill(victim);
    load.bad_day_ends();
    cluster.start(victim);
    CHECK(load.more(100));
    if (cycle < cycles - 1) continue;
    check_after(cluster, load, ledger, bad_day);
  }
}

}  // namespace

TEST_CASE("kill -9 of the slave of a SYNC_MASTER under load", "[replication][crash]") {
  kill_again_and_again("SYNC_MASTER", kSlave, "kill -9 of the slave, SYNC_MASTER");
}

TEST_CASE("kill -9 of a SYNC_MASTER under load", "[replication][crash]") {
  kill_again_and_again("SYNC_MASTER", kMaster, "kill -9 of the master, SYNC_MASTER");
}

TEST_CASE("kill -9 of an ASYNC_MASTER under load", "[replication][crash]") {
  kill_again_and_again("ASYNC_MASTER", kMaster, "kill -9 of the master, ASYNC_MASTER");
}

TEST_CASE("a slave that stands still for longer than every time-out", "[replication][crash]") {
  ReplicatedCluster cluster({});
  Ledger ledger;
  prepare(cluster, ledger);
  Load::Options options;
  options.pace = 3ms;
  Load load(cluster, ledger, options);
  CHECK(load.more(50));
  cluster.pause(kSlave);
  // Nobody but the slave can make a message safe.
  CHECK(comes(ledger, kSlaveTimeout));
  CHECK(comes(ledger, kNoSlave));
  const auto safe = ledger.count(0);
  CHECK(comes(ledger, kNoSlave, 20));
  CHECK(ledger.count(0) == safe);
  load.bad_day_ends();
  cluster.resume(kSlave);
  CHECK(load.more(50));
  check_after(cluster, load, ledger, "SIGSTOP of the slave");
}

TEST_CASE("a master that stands still for longer than every time-out", "[replication][crash]") {
  ReplicatedCluster cluster({});
  Ledger ledger;
  prepare(cluster, ledger);
  Load load(cluster, ledger);
  CHECK(load.more(50));
  cluster.pause(kMaster);
  pause(kLong);
  load.bad_day_ends();
  cluster.resume(kMaster);
  CHECK(load.more(50));
  check_after(cluster, load, ledger, "SIGSTOP of the master");
}

TEST_CASE("the machine of a SYNC_MASTER is lost: what it acknowledged is on the slave, which becomes its successor",
          "[replication][crash]") {
  ReplicatedCluster cluster({});
  Ledger ledger;
  prepare(cluster, ledger);
  Load load(cluster, ledger);
  CHECK(load.more(300));
  // With it go the messages on their way.
  cluster.kill(kMaster);
  load.stop();
  cluster.lose_disk(kMaster);
  Expectation safe;
  safe.codes = {0};
  auto back = read_back(cluster, kSlave, ledger, safe);
  INFO(back.first_loss);
  CHECK(back.lost == 0);
  print_figures("machine of the SYNC_MASTER lost, read from the slave", ledger, back, -1);

  // By hand, until brokers can do it themselves: the slave's store is the new master's, and a new slave joins.
  cluster.stop(kSlave);
  std::filesystem::copy(cluster.store(kSlave), cluster.store(kMaster), std::filesystem::copy_options::recursive);
  cluster.lose_disk(kSlave);
  cluster.start(kMaster);
  cluster.start(kSlave);
  Load again(cluster, ledger);
  CHECK(again.more(50));
  again.stop();
  back = read_back(cluster, kMaster, ledger, safe);
  INFO(back.first_loss);
  CHECK(back.lost == 0);
  cluster.kill(kMaster);
  back = read_back(cluster, kSlave, ledger, safe);
  INFO(back.first_loss);
  CHECK(back.lost == 0);
}

TEST_CASE("a slave alone: it serves everything while its master is down, also after its own restart",
          "[replication][crash]") {
  ReplicatedCluster cluster({});
  Ledger ledger;
  prepare(cluster, ledger);
  Load load(cluster, ledger);
  CHECK(load.more(100));
  load.stop();
  check_logs(cluster, ledger);
  cluster.kill(kMaster);
  auto back = read_back(cluster, kSlave, ledger);
  INFO(back.first_loss);
  CHECK(back.lost == 0);
  cluster.kill(kSlave);
  cluster.start(kSlave);
  back = read_back(cluster, kSlave, ledger);
  INFO(back.first_loss);
  CHECK(back.lost == 0);
  print_figures("master down, slave restarted without it", ledger, back, -1);
  cluster.start(kMaster);
  Load again(cluster, ledger);
  CHECK(again.more(20));
  check_after(cluster, again, ledger, "and the master is back");
}

}  // namespace apogee::test
