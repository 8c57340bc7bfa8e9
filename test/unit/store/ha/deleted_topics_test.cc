// A slave gives up what its master's deletion of a topic took, and nothing that came later.
#include "test/unit/store/ha/copy_bench.h"

namespace apogee::store {

namespace {

struct Pair {
  test::MemoryFileSystem master_files, slave_files;
  std::optional<Running> master, slave;

  Pair() {
    master.emplace(memory_options(), master_files);
    slave.emplace(memory_options(true), slave_files);
  }
  LogOffset send(int from, int to) {
    for (int i = from; i < to; ++i) put(*master->store, "T", i % 2, "m" + std::to_string(i));
    put(*master->store, "Other", 0, "x");
    REQUIRE(copy_log(master->store->replicated_log(), slave->store->replicated_log()));
    const auto end = master->store->replicated_log().end();
    for (auto* each : {&*master, &*slave})
      REQUIRE(test::eventually([&] { return each->store->figures().dispatched_offset == end; }));
    return end;
  }
  void restart_slave() {
    slave.reset();
    slave.emplace(memory_options(true), slave_files);
  }
};

}  // namespace

TEST_CASE("A slave's queues of a deleted topic: all of it goes, and stays away", "[store][ha][deleted]") {
  Pair pair;
  const auto end = pair.send(0, 10);
  CHECK(pair.slave->store->queue_count("T") == 2);
  pair.slave->store->delete_topic_before("T", end);
  CHECK(pair.slave->store->queue_count("T") == 0);
  CHECK(pair.slave->store->topics() == std::vector<std::string>{"Other"});
  pair.restart_slave();
  CHECK(pair.slave->store->topics() == std::vector<std::string>{"Other"});

  // Made again, it goes on with the offsets that the master gives.
  pair.master->store->delete_topic("T");
  pair.send(10, 14);
  for (int queue = 0; queue < 2; ++queue) {
    CHECK(pair.slave->store->min_offset("T", queue) == 5);
    CHECK(pair.slave->store->max_offset("T", queue) == 7);
    CHECK(bodies_of(*pair.slave->store, "T", queue) == bodies_of(*pair.master->store, "T", queue));
  }
}

TEST_CASE("A slave's queues of a topic that was made again before the slave heard of its deletion",
          "[store][ha][deleted]") {
  Pair pair;
  const auto end = pair.send(0, 10);
  pair.master->store->delete_topic("T");
  put(*pair.master->store, "T", 1, "new");
  pair.send(0, 0);
  CHECK(bodies_of(*pair.slave->store, "T", 1).size() == 6);
  pair.slave->store->delete_topic_before("T", end);
  CHECK(pair.slave->store->max_offset("T", 0) == 0);
  CHECK(pair.slave->store->min_offset("T", 1) == 5);
  CHECK(bodies_of(*pair.slave->store, "T", 1) == std::vector<std::string>{"new"});
  // Again, as after a restart that has forgotten that it was done.
  pair.slave->store->delete_topic_before("T", end);
  CHECK(bodies_of(*pair.slave->store, "T", 1) == std::vector<std::string>{"new"});
  pair.send(10, 12);
  CHECK(bodies_of(*pair.slave->store, "T", 1) == std::vector<std::string>{"new", "m11"});
  CHECK(bodies_of(*pair.slave->store, "T", 0) == std::vector<std::string>{"m10"});
}

}  // namespace apogee::store
