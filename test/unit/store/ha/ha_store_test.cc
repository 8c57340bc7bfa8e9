// Both ends of the stream over real stores.
#include "test/unit/store/ha/copy_bench.h"
#include "test/unit/store/ha/ha_rig.h"

using namespace apogee;
using namespace apogee::store;
using namespace apogee::test;

namespace {

constexpr int kQueues = 3;

StoreOptions store_options(const Directory& directory, bool slave) {
  auto options = small_options(directory.path);
  options.message_index_enabled = false;
  options.slave = slave;
  return options;
}

void put_some(MessageStore& store, int from, int to) {
  for (int i = from; i < to; ++i)
    REQUIRE(
        put(store, "T", i % kQueues, std::to_string(i) + std::string(static_cast<size_t>(i * 53 % 900), 'b')).stored());
}

bool same_store(MessageStore& master, MessageStore& slave) {
  auto& theirs = master.replicated_log();
  auto& ours = slave.replicated_log();
  if (!eventually([&] { return ours.end() == theirs.end(); })) return false;
  if (log_bytes(ours) != log_bytes(theirs)) return false;
  for (int queue = 0; queue < kQueues; ++queue) {
    if (!eventually([&] { return slave.max_offset("T", queue) == master.max_offset("T", queue); })) return false;
    if (bodies_of(slave, "T", queue) != bodies_of(master, "T", queue)) return false;
  }
  return true;
}

}  // namespace

TEST_CASE("a store follows another one over many files, is stopped, and goes on", "[ha]") {
  Directory master_directory, slave_directory;
  Running master(store_options(master_directory, false));
  put_some(*master.store, 0, 600);
  REQUIRE(master.store->replicated_log().end() > 4 * 64 * 1024);
  MasterRig server(master.store->replicated_log());
  for (int round = 0; round < 3; ++round) {
    Running slave(store_options(slave_directory, true));
    SlaveRig client(slave.store->replicated_log());
    client.client.follow(server.address(), false);
    CHECK(same_store(*master.store, *slave.store));
    put_some(*master.store, 600 + round * 50, 650 + round * 50);
    CHECK(same_store(*master.store, *slave.store));
    CHECK(slave.store->replicated_log().epochs().all() == master.store->replicated_log().epochs().all());
    client.client.stop();
  }
}

TEST_CASE("a synchronous master's answers wait for what the stream brings back", "[ha]") {
  Directory master_directory, slave_directory;
  auto options = store_options(master_directory, false);
  options.replication.waits = true;
  options.replication.timeout_ms = 20'000;
  Running master(options);
  CHECK(put(*master.store, "T", 0, "alone").status == PutStatus::kSlaveNotAvailable);
  MasterRig server(master.store->replicated_log());
  Running slave(store_options(slave_directory, true));
  SlaveRig client(slave.store->replicated_log());
  client.client.follow(server.address(), false);
  CHECK(eventually([&] { return put(*master.store, "T", 0, "warm").status == PutStatus::kOk; }));
  for (int i = 0; i < 100; ++i) {
    auto result = put(*master.store, "T", i % kQueues, "m" + std::to_string(i));
    REQUIRE(result.status == PutStatus::kOk);
    REQUIRE(slave.store->replicated_log().end() > result.offsets[0]);
  }
  CHECK(same_store(*master.store, *slave.store));
  client.client.stop();
  CHECK(eventually([&] { return master.store->replicated_log().acks().slaves().empty(); }));
  CHECK(put(*master.store, "T", 0, "gone").status == PutStatus::kSlaveNotAvailable);
}

TEST_CASE("a slave's store that is ahead is cut while it runs, and follows", "[ha]") {
  Directory master_directory, slave_directory, old_master;
  {
    Running master(store_options(master_directory, false));
    put_some(*master.store, 0, 200);
    master.store->stop();
    fs::copy(master_directory.path, old_master.path, fs::copy_options::recursive);
    master.store.reset();
  }
  {
    // On the newer disk the master goes on; the slave has it all.
    Running master(store_options(master_directory, false));
    put_some(*master.store, 200, 250);
    MasterRig server(master.store->replicated_log());
    Running slave(store_options(slave_directory, true));
    SlaveRig client(slave.store->replicated_log());
    client.client.follow(server.address(), false);
    REQUIRE(same_store(*master.store, *slave.store));
    client.client.stop();
  }
  Running master(store_options(old_master, false));
  put_some(*master.store, 300, 500);
  MasterRig server(master.store->replicated_log());
  auto options = SlaveRig::slave_options();
  options.truncate_ahead = true;
  Running slave(store_options(slave_directory, true));
  SlaveRig client(slave.store->replicated_log(), options);
  client.client.follow(server.address(), false);
  CHECK(same_store(*master.store, *slave.store));
  CHECK(client.lines.have("is cut off"));
  client.client.stop();
}
