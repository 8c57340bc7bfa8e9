#include "test/support/catch.h"
#include "test/unit/store/ha/ha_rig.h"

using namespace apogee;
using namespace apogee::store;
using namespace apogee::test;

TEST_CASE("an empty slave gets the whole log, and what comes later", "[ha]") {
  MemoryLog master_log(4096), slave_log(4096);
  REQUIRE(master_log.epochs().begin_next(0));
  for (int i = 0; i < 300; ++i) master_log.put(std::string(static_cast<size_t>(i % 97), 'x'));
  MasterRig master(master_log);
  SlaveRig slave(slave_log);
  slave.client.follow(master.address(), false);
  CHECK(same_log(master_log, slave_log));
  for (int i = 0; i < 50; ++i) {
    master_log.put("later");
    CHECK(same_log(master_log, slave_log));
  }
  CHECK(eventually([&] {
    auto slaves = master_log.acks().slaves();
    return slaves.size() == 1 && slaves[0].acknowledged == master_log.end() && slaves[0].broker_id == 1;
  }));
  CHECK(slave_log.epochs().all() == master_log.epochs().all());
  CHECK(slave.is(HaClient::State::kTransfer));
  CHECK(slave.client.figures().caught_up_ms_ago >= 0);
}
