// What a slave takes over from its master, table by table.
#include "broker/replication/slave_requests.h"
#include "broker/replication/sync_answers.h"
#include "test/unit/broker/support/handler_bench.h"

using namespace apogee;
using namespace apogee::broker;
using namespace apogee::broker::test;

namespace {

struct Bench {
  Logger quiet;
  TempDir dir;
  std::unique_ptr<ConsumerOffsets> offsets = open();
  std::unique_ptr<ConsumerOffsets> open() {
    auto opened = ConsumerOffsets::open({dir.file("offsetsdb"), dir.file("consumerOffset.json")}, quiet);
    REQUIRE(opened);
    return std::move(*opened);
  }
};

}  // namespace

TEST_CASE("A slave's offsets are its master's, but for those committed here that are greater",
          "[broker][replication]") {
  Bench bench;
  auto& offsets = *bench.offsets;
  offsets.keep_own({});
  offsets.take_over({{"T@G", {{0, 10}, {1, 20}}}, {"U@G", {{0, 1}}}});
  CHECK(offsets.query("G", "T", 1) == 20);
  CHECK(offsets.own().empty());

  offsets.commit("G", "T", 0, 15);  // while the master is away
  offsets.commit("G", "T", 1, 20);
  CHECK(offsets.own() == ConsumerOffsets::Table{{"T@G", {{0, 15}}}});
  offsets.take_over({{"T@G", {{0, 12}, {1, 5}}}});
  CHECK(offsets.query("G", "T", 0) == 15);
  CHECK(offsets.query("G", "T", 1) == 5);  // set back at the master
  CHECK_FALSE(offsets.query("G", "U", 0));
  CHECK(offsets.own() == ConsumerOffsets::Table{{"T@G", {{0, 15}}}});

  offsets.give_up_own("T@G", 0, 14);  // it was committed again meanwhile
  CHECK_FALSE(offsets.own().empty());
  offsets.give_up_own("T@G", 0, 15);
  CHECK(offsets.own().empty());
  offsets.commit("G", "T", 0, 16);
  offsets.take_over({{"T@G", {{0, 17}}}});
  CHECK(offsets.query("G", "T", 0) == 17);
  CHECK(offsets.own().empty());

  // What was its own before a restart still is.
  offsets.commit("G", "T", 0, 30);
  const auto own = offsets.own();
  REQUIRE(offsets.flush(true));
  bench.offsets.reset();
  bench.offsets = bench.open();
  bench.offsets->keep_own(own);
  CHECK(bench.offsets->own() == own);
  CHECK(bench.offsets->query("G", "T", 0) == 30);
}

TEST_CASE("A master's offset is never set back by a slave", "[broker][replication]") {
  Bench bench;
  const auto before = bench.offsets->changes();
  CHECK(bench.offsets->commit_forward("G", "T", 0, 10));
  CHECK(bench.offsets->changes() != before);
  CHECK_FALSE(bench.offsets->commit_forward("G", "T", 0, 9));
  CHECK(bench.offsets->query("G", "T", 0) == 10);
  bench.offsets->reset("G", "T", 0, 3);
  CHECK_FALSE(bench.offsets->commit_forward("G", "T", 0, 11));
}

TEST_CASE("A slave's topics and groups are its master's and nobody else's, also after a restart",
          "[broker][replication]") {
  Logger quiet;
  TempDir dir;
  TopicTable::Options topic_options;
  topic_options.file = dir.file("topics.json");
  SubscriptionGroups::Options group_options;
  group_options.file = dir.file("subscriptionGroup.json");
  {
    TopicTable topics(topic_options, quiet);
    REQUIRE(topics.load());
    topics.set_read_only(true);
    TopicConfig made;
    made.topic_name = "Made";
    CHECK(topics.put(made).error().code == Errc::kPermission);
    remoting::TopicConfigSerializeWrapper master;
    master.data_version = {7, 8, 9};
    master.topic_config_table["T"].read_queue_nums = 3;
    REQUIRE(topics.take_over(master));
    CHECK(topics.find("T")->read_queue_nums == 3);
    CHECK(topics.find("BenchmarkTest") == nullptr);
    CHECK(topics.data_version() == master.data_version);

    SubscriptionGroups groups(group_options, quiet);
    REQUIRE(groups.load());
    groups.set_read_only(true);
    GroupConfig group;
    group.group_name = "Made";
    CHECK(groups.put(group).error().code == Errc::kPermission);
    CHECK(groups.find_or_create("ByUse") != nullptr);
    CHECK(groups.find("ByUse") == nullptr);
    remoting::SubscriptionGroupWrapper master_groups;
    master_groups.data_version = {1, 2, 0};
    master_groups.subscription_group_table["G"].group_name = "G";
    master_groups.subscription_group_table["G"].retry_max_times = 3;
    REQUIRE(groups.take_over(master_groups));
    CHECK(groups.find("G")->retry_max_times == 3);
    CHECK(groups.version() == master_groups.data_version);
  }
  TopicTable topics(topic_options, quiet);
  REQUIRE(topics.load());
  REQUIRE(topics.find("T") != nullptr);
  CHECK(topics.find("T")->read_queue_nums == 3);
  SubscriptionGroups groups(group_options, quiet);
  REQUIRE(groups.load());
  REQUIRE(groups.find("G") != nullptr);
  CHECK(groups.find("G")->retry_max_times == 3);
}

TEST_CASE("A slave refuses what would give messages or settings that its master does not know",
          "[broker][replication]") {
  using Code = remoting::RequestCode;
  CHECK(refused_by_slave(Code::kSendMessageV2)->code == remoting::response_code::kServiceNotAvailable);
  CHECK(refused_by_slave(Code::kConsumerSendMsgBack)->code == remoting::response_code::kSystemError);
  CHECK(refused_by_slave(Code::kUpdateAndCreateTopic)->code == remoting::response_code::kSystemError);
  CHECK(refused_by_slave(Code::kDeleteSubscriptiongroup));
  CHECK_FALSE(refused_by_slave(Code::kPullMessage));
  CHECK_FALSE(refused_by_slave(Code::kUpdateConsumerOffset));
  CHECK_FALSE(refused_by_slave(Code::kLockBatchMq));
}

TEST_CASE("Progress of timers as Apache RocketMQ tells its slaves", "[broker][replication]") {
  const auto body = encode_timer_checkpoint({7, 1'700'000'000'000});
  CHECK(body.size() == 56);
  auto progress = decode_timer_checkpoint(body);
  REQUIRE(progress);
  CHECK(progress->queue_offset == 7);
  CHECK(progress->delivered_until_ms == 1'700'000'000'000);
  CHECK_FALSE(decode_timer_checkpoint(body.substr(0, 20)));
}
