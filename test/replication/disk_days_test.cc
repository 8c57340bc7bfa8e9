// Disks that are full, wrong, or older than they should be.
#include <fstream>

#include "common/base/bytes.h"
#include "common/message/message_record.h"
#include "test/replication/checker.h"
#include "test/support/catch.h"
#include "test/support/raw_requests.h"
#include "test/support/small_disk.h"
#include "test/support/wait.h"

namespace apogee::test {

using namespace std::chrono_literals;

namespace {

constexpr size_t kMaster = ReplicatedCluster::kMaster, kSlave = 1;
constexpr int kNoSlave = 11;

Load::Options large_messages() {
  Load::Options options;
  options.body_bytes_max = 60'000;
  return options;
}

/// For whom nothing waits: without a slave a master answers at once.
Load::Options slow() {
  Load::Options options;
  options.pace = 10ms;
  return options;
}

/// Loads until the master's log has so many files.
void fill(ReplicatedCluster& cluster, Ledger& ledger, size_t files) {
  Load load(cluster, ledger, large_messages());
  CHECK(eventually([&] { return LogFiles(cluster.commit_log(kMaster)).files().size() >= files; }, 120s));
}

void overwrite(const std::filesystem::path& file, int64_t at, const std::string& bytes) {
  std::fstream out(file, std::ios::in | std::ios::out | std::ios::binary);
  out.seekp(at);
  out << bytes;
  REQUIRE(out.good());
}

void copy_store(const std::filesystem::path& from, const std::filesystem::path& to) {
  std::filesystem::remove_all(to);
  std::filesystem::copy(from, to, std::filesystem::copy_options::recursive);
}

void check_slave_reads(const ReplicatedCluster& cluster, const Ledger& ledger, const Expectation& expectation = {}) {
  const auto back = read_back(cluster, kSlave, ledger, expectation);
  INFO(back.first_loss);
  CHECK(back.lost == 0);
}

}  // namespace

TEST_CASE("the slave's disk is full: the master goes on, and so does the slave once there is room", "[replication]") {
  ReplicatedCluster cluster({.start = false});
  SmallDisk disk(cluster.store(kSlave), 12);
  if (!disk.why_not().empty()) {
    WARN("skipped: no file system of its own size here: " << disk.why_not());
    return;
  }
  cluster.start(kMaster);
  cluster.start(kSlave, {{"diskSpaceWarningLevelRatio", "100"}});
  Ledger ledger;
  prepare(cluster, ledger);
  Load load(cluster, ledger, large_messages());
  const bool full = eventually([&] { return ledger.count(kNoSlave) >= 20; }, 120s);
  CHECK(full);
  CHECK(cluster.runs(kSlave));
  load.bad_day_ends();
  REQUIRE(disk.resize(512));
  CHECK(load.more(20));
  check_after(cluster, load, ledger, "slave's disk full");
  check_slave_reads(cluster, ledger);
  cluster.kill(kSlave);
}

TEST_CASE("the slave's log is damaged in the middle: detected, and fetched from the master", "[replication]") {
  ReplicatedCluster cluster({.slave = {{"haScrubBytesPerSecond", "100000000"}}});
  Ledger ledger;
  prepare(cluster, ledger);
  fill(cluster, ledger, 5);
  check_logs(cluster, ledger);
  cluster.stop(kSlave);
  const LogFiles log(cluster.commit_log(kSlave));
  REQUIRE(log.files().size() >= 4);
  auto file = log.files().begin();
  overwrite((++file)->second, 300'000, std::string(5'000, '\x55'));  // also what says how long a record is
  overwrite((++file)->second, 700'000, std::string(1, '\x7f'));
  cluster.start(kSlave);
  Load load(cluster, ledger);
  load.bad_day_ends();
  CHECK(load.more(20));
  check_after(cluster, load, ledger, "slave's log damaged in two places");
  check_slave_reads(cluster, ledger);
}

TEST_CASE(
    "the slave is ahead of a master that was restored from an older disk: refused and told, truncated when allowed",
    "[replication]") {
  ReplicatedCluster cluster({});
  Ledger ledger;
  prepare(cluster, ledger);
  {
    Load load(cluster, ledger);
    CHECK(load.more(50));
  }
  cluster.stop(kMaster);
  const auto older = cluster.directory() / "older";
  copy_store(cluster.store(kMaster), older);
  cluster.start(kMaster);
  Ledger lost;
  {
    Load load(cluster, lost);
    CHECK(load.more(50));
  }
  check_logs(cluster, lost);
  cluster.stop(kMaster);
  const auto end = LogFiles(cluster.commit_log(kSlave)).end();
  const auto whole = LogFiles(cluster.commit_log(kSlave)).read(0, end);
  copy_store(older, cluster.store(kMaster));
  cluster.start(kMaster);

  // The slave may hold what was acknowledged: it keeps it, and nothing is called safe.
  CHECK(logged(cluster, kSlave, {"haTruncateAhead"}));
  const auto safe = ledger.count(0), before = ledger.count(kNoSlave);
  {
    Load::Options few;
    few.senders = 1;
    few.body_bytes_max = 100;
    few.pace = 10ms;
    Load load(cluster, ledger, few);
    CHECK(eventually([&] { return ledger.count(kNoSlave) >= before + 20; }, 60s));
  }
  CHECK(ledger.count(0) == safe);
  CHECK(LogFiles(cluster.commit_log(kSlave)).end() == end);
  CHECK(LogFiles(cluster.commit_log(kSlave)).read(0, end) == whole);

  // The same when the master has gone on and its log is the longer one: they have parted.
  cluster.stop(kSlave);
  {
    Load load(cluster, ledger, slow());
    CHECK(eventually([&] { return LogFiles(cluster.commit_log(kMaster)).end() > end + 10'000; }, 60s));
  }
  cluster.start(kSlave);
  {
    Load load(cluster, ledger, slow());
    const auto unsafe = ledger.count(kNoSlave);
    CHECK(eventually([&] { return ledger.count(kNoSlave) >= unsafe + 50; }, 60s));
    CHECK(logged(cluster, kSlave, {"haTruncateAhead"}));
  }
  CHECK(ledger.count(0) == safe);
  CHECK(LogFiles(cluster.commit_log(kSlave)).read(0, end) == whole);

  cluster.stop(kSlave);
  cluster.start(kSlave, {{"haTruncateAhead", "true"}});
  Load load(cluster, ledger, slow());
  load.bad_day_ends();
  CHECK(load.more(20));
  check_after(cluster, load, ledger, "slave ahead of its master, haTruncateAhead=true");
  const auto master = LogFiles(cluster.commit_log(kMaster));
  CHECK(compare_logs(cluster.commit_log(kMaster), cluster.commit_log(kSlave), master.end()).empty());
}

TEST_CASE("haAckOnDisk: what the slave has not synced it does not acknowledge", "[replication]") {
  ReplicatedCluster cluster(
      {.slave = {{"haAckOnDisk", "true"}, {"flushIntervalCommitLog", "50"}, {"flushCommitLogLeastPages", "0"}}});
  Ledger ledger;
  prepare(cluster, ledger);
  Load load(cluster, ledger);
  CHECK(load.more(20));
  // Its syncs come too late for anybody.
  cluster.stop(kSlave);
  cluster.start(kSlave, {{"flushIntervalCommitLog", "1000000"},
                         {"flushCommitLogLeastPages", "1000000"},
                         {"flushCommitLogThoroughInterval", "1000000"}});
  const auto has_all = [&] {
    const auto end = LogFiles(cluster.commit_log(kMaster)).end();
    return LogFiles(cluster.commit_log(kSlave)).end() == end;
  };
  constexpr int kSlaveTimeout = 12;
  const auto late = ledger.count(kSlaveTimeout);
  CHECK(eventually([&] { return ledger.count(kSlaveTimeout) >= late + 4; }, 60s));
  const auto safe = ledger.count(0);
  CHECK(eventually([&] { return ledger.count(kSlaveTimeout) >= late + 8; }, 60s));
  CHECK(ledger.count(0) == safe);
  CHECK(eventually(has_all, 60s));  // though it has them
  // The same slave that acknowledges what it has.
  cluster.stop(kSlave);
  cluster.start(kSlave, {{"haAckOnDisk", "false"},
                         {"flushIntervalCommitLog", "1000000"},
                         {"flushCommitLogLeastPages", "1000000"},
                         {"flushCommitLogThoroughInterval", "1000000"}});
  CHECK(load.more(20));
  cluster.stop(kSlave);
  cluster.start(kSlave);
  CHECK(load.more(20));
  {
    // So much between two syncs that the slave leaves a part of it for the next one.
    Load::Options much;
    much.senders = 48;
    much.body_bytes_max = 120'000;
    Load burst(cluster, ledger, much);
    CHECK(burst.more(500));
  }
  check_after(cluster, load, ledger, "haAckOnDisk, and a slave that does not sync");
}

TEST_CASE("the master's own log is damaged: told, never copied as if it were whole, and the logs do not part",
          "[replication]") {
  ReplicatedCluster cluster({.slaves = 2, .start = false});
  cluster.start(kMaster);
  cluster.start(kSlave);
  Ledger ledger;
  prepare(cluster, ledger);
  fill(cluster, ledger, 4);
  check_logs(cluster, ledger);
  cluster.stop(kMaster);
  // A byte of a body, far behind what anybody asks for at a connection.
  const LogFiles log(cluster.commit_log(kMaster));
  const auto second = std::next(log.files().begin());
  const auto record = log.read(second->first, 8);
  REQUIRE(load_be<int32_t>(record.data()) > 2'000);
  overwrite(second->second, 1'000, std::string(1, '\x7f'));
  cluster.start(kMaster);
  cluster.start(2);  // with nothing
  CHECK(logged(cluster, 2, {"the master's own log is damaged"}));
  const auto end = LogFiles(cluster.commit_log(kMaster)).end();
  CHECK(eventually([&] { return LogFiles(cluster.commit_log(2)).end() >= end; }, 60s));
  CHECK(compare_logs(cluster.commit_log(kMaster), cluster.commit_log(2), end).empty());
  // Who had it whole still has.
  const auto back = read_back(cluster, kSlave, ledger);
  INFO(back.first_loss);
  CHECK(back.lost == 0);

  // Damage where the slave's log ends: it is not followed, by name, and the slave's log stays as it is.
  cluster.stop(2);
  cluster.stop(kSlave);
  cluster.stop(kMaster);
  const auto whole = LogFiles(cluster.commit_log(kSlave)).read(0, end);
  const auto last = ledger.last_log_offset(0);
  const LogFiles damaged(cluster.commit_log(kMaster));
  const auto file = std::prev(damaged.files().upper_bound(last));
  overwrite(file->second, last - file->first + 100, std::string(1, '\x7f'));
  cluster.start(kMaster);
  cluster.start(kSlave);
  const auto refused = [&](const char* word) { return logged(cluster, kSlave, {word}, 1ms); };
  CHECK(eventually([&] { return refused("the logs have parted") || refused("haTruncateAhead"); }, 60s));
  CHECK(LogFiles(cluster.commit_log(kSlave)).read(0, end) == whole);
  const auto kept = read_back(cluster, kSlave, ledger);
  INFO(kept.first_loss);
  CHECK(kept.lost == 0);
  print_figures("master's log damaged in two places, read from the slave that had it whole", ledger, kept, -1);
}

TEST_CASE("an empty slave gets the whole log of a master whose first files have gone", "[replication]") {
  ReplicatedCluster cluster({.slaves = 3, .master = {{"fileReservedTime", "0"}}, .start = false});
  cluster.start(kMaster, {{"brokerRole", "ASYNC_MASTER"}});
  Ledger ledger;
  prepare(cluster, ledger);
  fill(cluster, ledger, 8);
  auto reply =
      cluster.connect(kMaster)->call(remoting::Command::request(remoting::RequestCode::kDeleteExpiredCommitlog));
  REQUIRE(reply);
  CHECK(reply->code == 0);
  CHECK(eventually([&] { return LogFiles(cluster.commit_log(kMaster)).begin() > 0; }, 60s));
  cluster.stop(kMaster);
  cluster.start(kMaster, {{"brokerRole", "ASYNC_MASTER"}, {"fileReservedTime", "72"}});  // no more files go
  fill(cluster, ledger, LogFiles(cluster.commit_log(kMaster)).files().size() + 3);
  for (size_t slave = 1; slave <= 3; ++slave) cluster.start(slave);
  Load load(cluster, ledger);
  CHECK(load.more(50));
  load.stop();
  check_logs(cluster, ledger);
  for (size_t slave = 1; slave <= 3; ++slave)
    CHECK(LogFiles(cluster.commit_log(slave)).begin() == LogFiles(cluster.commit_log(kMaster)).begin());
  // What the slaves serve is what the master serves.
  for (size_t slave = 1; slave <= 3; ++slave) {
    for (int32_t queue = 0; queue < 4; ++queue) {
      for (auto code : {remoting::RequestCode::kGetMinOffset, remoting::RequestCode::kGetMaxOffset}) {
        int64_t ours = -1, theirs = -2;
        const bool same = eventually(
            [&] {
              auto a = cluster.connect(kMaster)->call(queue_request(code, "Replicated", queue));
              auto b = cluster.connect(slave)->call(queue_request(code, "Replicated", queue));
              ours = a ? a->ext.get_int<int64_t>("offset").value_or(-1) : -1;
              theirs = b ? b->ext.get_int<int64_t>("offset").value_or(-2) : -2;
              return ours == theirs;
            },
            60s);
        INFO("slave " << slave << " queue " << queue << ": " << ours << " and " << theirs);
        CHECK(same);
      }
    }
  }
}

TEST_CASE("several slaves: acknowledged on all three machines, one of which is lost with the master's",
          "[replication][crash]") {
  ReplicatedCluster cluster({.slaves = 2, .master = {{"inSyncReplicas", "3"}, {"minInSyncReplicas", "2"}}});
  Ledger ledger;
  prepare(cluster, ledger);
  Load load(cluster, ledger);
  CHECK(load.more(200));
  cluster.kill(kMaster);
  cluster.kill(2);
  load.stop();
  cluster.lose_disk(kMaster);
  cluster.lose_disk(2);
  Expectation safe;
  safe.codes = {0};
  const auto back = read_back(cluster, kSlave, ledger, safe);
  INFO(back.first_loss);
  CHECK(back.lost == 0);
  print_figures("two of three machines lost, inSyncReplicas=3", ledger, back, -1);
}

}  // namespace apogee::test
