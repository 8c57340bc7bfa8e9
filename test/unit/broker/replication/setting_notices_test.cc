// Topics and groups are with the slaves before their change is acknowledged; what was lost all the same is made again.
#include "broker/replication/setting_notices.h"

#include "broker/topics/lost_topics.h"
#include "test/support/wait.h"
#include "test/unit/broker/support/handler_bench.h"

using namespace apogee;
using namespace apogee::broker;
using namespace apogee::broker::test;
using apogee::test::eventually;
using Table = SettingNotices::Table;

namespace {

store::ReplicationRules sync_rules() {
  store::ReplicationRules rules;
  rules.waits = true;
  return rules;
}

template <typename Options>
Options kept_in(const std::string& file) {
  Options options;
  options.file = file;
  return options;
}

struct Bench {
  Logger quiet;
  TempDir dir;
  TopicTable topics{kept_in<TopicTable::Options>(dir.file("topics.json")), quiet};
  SubscriptionGroups groups{kept_in<SubscriptionGroups::Options>(dir.file("subscriptionGroup.json")), quiet};
  store::ReplicaAcks acks;
  std::mutex mutex;
  std::vector<remoting::ConnectionId> told;  // guarded by mutex
  loop::LoopThread loop{"notices"};
  std::unique_ptr<SettingNotices> notices;

  explicit Bench(store::ReplicationRules rules = sync_rules())
      : acks(
            rules, [] { return store::LogOffset{0}; }, nullptr, quiet) {
    ClientCalls calls;
    calls.send_oneway = [this](remoting::ConnectionId connection, const remoting::Command& request) {
      CHECK(request.request_code() == remoting::RequestCode::kNotifySettingsChanged);
      std::lock_guard lock(mutex);
      told.push_back(connection);
    };
    notices = std::make_unique<SettingNotices>(
        SettingNotices::Parts{topics, groups, acks, loop.loop(), calls, "boot", quiet});
  }
  ~Bench() { loop.stop_and_join(); }
  void has_all(int64_t slave) {
    const remoting::Caller caller{static_cast<remoting::ConnectionId>(slave), "10.0.0.1:1", 0};
    for (auto table : {Table::kTopics, Table::kGroups}) notices->asked(caller, slave, table, notices->version(table));
  }
  void make_topic(const std::string& name) {
    TopicConfig config;
    config.topic_name = name;
    REQUIRE(topics.put(config, TopicTable::Until::kSaved));
  }
  std::shared_ptr<std::atomic<bool>> wait() {
    auto through = std::make_shared<std::atomic<bool>>(false);
    notices->wait([through] { *through = true; });
    return through;
  }
};

}  // namespace

TEST_CASE("A changed setting is acknowledged when the slaves in sync have it", "[broker][replication][notices]") {
  Bench bench;
  CHECK(*bench.wait());  // there is no slave
  bench.acks.connected("10.0.0.1:1", 1, false, 0);
  bench.acks.connected("10.0.0.2:1", 2, false, 0);
  REQUIRE(bench.acks.in_sync() == 3);
  CHECK(*bench.wait());  // none has asked yet
  bench.has_all(1);
  bench.has_all(2);
  CHECK(*bench.wait());
  bench.make_topic("T");
  bench.told.clear();
  auto through = bench.wait();
  CHECK_FALSE(*through);
  CHECK(bench.told == std::vector<remoting::ConnectionId>{1, 2});
  bench.has_all(1);
  CHECK_FALSE(*through);
  // Of an earlier start of this master, or nonsense.
  const remoting::Caller second{2, "10.0.0.2:1", 0};
  for (const char* known : {"", "other-0-0-99", "boot-0-0-", "boot-99"})
    bench.notices->asked(second, 2, Table::kTopics, known);
  bench.has_all(1);
  bench.has_all(2);
  CHECK(*through);

  GroupConfig group;
  group.group_name = "G";
  REQUIRE(bench.groups.put(group));
  through = bench.wait();
  bench.has_all(1);
  CHECK_FALSE(*through);
  bench.notices->connection_closed(2);
  CHECK(*through);
}

TEST_CASE("A changed setting does not wait for long, nor for slaves that are not in sync",
          "[broker][replication][notices]") {
  Bench bench;
  const auto slave = bench.acks.connected("10.0.0.1:1", 1, false, 0);
  bench.has_all(1);
  bench.make_topic("T");
  auto through = bench.wait();
  CHECK_FALSE(*through);
  CHECK(eventually([&] { return through->load(); }));
  bench.make_topic("U");
  through = bench.wait();
  CHECK_FALSE(*through);
  bench.notices->stop();
  CHECK(*through);
  CHECK(*bench.wait());
  bench.acks.disconnected(slave);

  Bench async{{}};
  async.acks.connected("10.0.0.1:1", 1, false, 0);
  async.has_all(1);
  async.make_topic("T");
  async.told.clear();
  CHECK(*async.wait());
  CHECK(async.told == std::vector<remoting::ConnectionId>{1});
}

TEST_CASE("Topics without configuration are made again of their queues", "[broker][replication][notices]") {
  Bench bench;
  FakeStore store;
  for (const auto& [topic, queue] : std::vector<std::pair<std::string, int32_t>>{
           {"Lost", 0}, {"Lost", 6}, {"%RETRY%G", 0}, {"Known", 3}, {"SCHEDULE_TOPIC_XXXX", 1}, {"rmq_sys_x", 0}})
    store.queues[{topic, queue}].times = {1};
  store.queues[{"Gone", 0}].min_offset = 7;  // its messages have expired
  bench.make_topic("Known");
  const auto lost = lost_topics(store, bench.topics);
  REQUIRE(lost.size() == 2);
  REQUIRE(restore_lost_topics(store, bench.topics, bench.quiet));
  REQUIRE(bench.topics.find("Lost"));
  CHECK(bench.topics.find("Lost")->read_queue_nums == 7);
  CHECK(bench.topics.find("Lost")->write_queue_nums == 7);
  CHECK(bench.topics.find("Lost")->perm == 6);
  REQUIRE(bench.topics.find("%RETRY%G"));
  CHECK(bench.topics.find("%RETRY%G")->read_queue_nums == 1);
  CHECK(lost_topics(store, bench.topics).empty());
}
