#include "broker/replication/acting_master.h"

#include <fstream>
#include <future>
#include <set>

#include "broker/handlers/send_operation.h"
#include "broker/schedule/delay_levels.h"
#include "broker/timers/timer_rule.h"
#include "common/message/properties.h"
#include "common/message/sys_flag.h"
#include "common/remoting/bodies/route_bodies.h"
#include "test/support/wait.h"
#include "test/unit/broker/support/handler_bench.h"
#include "test/unit/broker/support/topic_bench.h"

using namespace apogee;
using namespace apogee::broker;
using namespace apogee::broker::test;
using apogee::test::eventually;
using remoting::Command;
using remoting::RequestCode;

namespace {

const std::vector<int64_t> kDelays{1, 3'600'000};
constexpr const char* kOwnAddress = "127.0.0.1:10911";

/// A server that answers as it is told and keeps what it was asked.
struct Scripted {
  using Answer = std::function<Command(const Command& request)>;
  explicit Scripted(Answer a) : answer(std::move(a)) {
    remoting::RemotingServer::Options options;
    options.bind_address = "127.0.0.1";
    options.ports = {0};
    options.io_threads = 1;
    server = std::make_unique<remoting::RemotingServer>(options, quiet);
    server->set_handler([this](const remoting::Caller&, const Command& request, const remoting::Responder& respond) {
      std::lock_guard lock(mutex);
      seen.push_back(request);
      respond(answer(request));
    });
    REQUIRE(server->start());
  }
  ~Scripted() { server->stop(); }
  [[nodiscard]] std::string address() const { return "127.0.0.1:" + std::to_string(server->port()); }
  std::vector<Command> of(RequestCode code) {
    std::lock_guard lock(mutex);
    std::vector<Command> found;
    for (const auto& request : seen)
      if (request.request_code() == code) found.push_back(request);
    return found;
  }

  Logger quiet;
  Answer answer;
  std::mutex mutex;
  std::vector<Command> seen;
  std::unique_ptr<remoting::RemotingServer> server;
};

Command with_body(const Command& request, std::string body) {
  auto reply = Command::response_to(request, 0);
  reply.body = SharedBytes::from(std::move(body));
  return reply;
}

/// A slave of broker-a whose log has what waits, another master, broker-b, and a NameServer.
struct ActingBench {
  ActingBench()
      : other([this](const Command& request) { return Command::response_to(request, refuse.load() ? 14 : 0, "no"); }),
        name_server([this](const Command& request) { return name_server_says(request); }) {
    config.broker_name = "broker-a";
    config.broker_id = 1;
    config.role = BrokerRole::kSlave;
    config.store_root = dir.file("store");
    config.namesrv_addr.set(name_server.address());
    config.slave_acting_master = config.remote_escape = true;
    config.member_group_ms = 20;
    config.broker_not_active_ms = 100;
    std::filesystem::create_directories(dir.file("store/config"));
    REQUIRE(groups.load());
    topics.add("T", 4);
    store::StoreOptions options;
    options.root_dir = dir.file("store");
    options.commit_log_file_bytes = 1 << 20;
    options.delay_levels_ms = kDelays;
    options.flush_interval_ms = 5;
    options.flush_least_pages = 0;
    auto opened = store::MessageStore::open(options, quiet);
    REQUIRE(opened);
    store = std::move(*opened);
    auto offsets_opened = ConsumerOffsets::open({dir.file("offsetsdb"), dir.file("consumerOffset.json")}, quiet);
    REQUIRE(offsets_opened);
    offsets = std::move(*offsets_opened);
    REQUIRE(store->start());
    fill();
  }
  ~ActingBench() {
    acting.reset();
    client.shutdown();
    loop.stop_and_join();
    store->stop();
  }

  Command name_server_says(const Command& request) {
    if (request.request_code() == RequestCode::kGetBrokerMemberGroup) {
      remoting::BrokerMemberGroup group;
      group.broker_name = "broker-a";
      group.broker_addrs = members;
      return with_body(request, remoting::encode(group));
    }
    const remoting::BrokerData b{"DefaultCluster", "broker-b", {{0, other.address()}}};
    if (request.request_code() == RequestCode::kGetBrokerClusterInfo) {
      remoting::ClusterInfo info;
      info.broker_addr_table["broker-b"] = b;
      info.broker_addr_table["broker-a"] = {"DefaultCluster", "broker-a", {{1, kOwnAddress}}};
      return with_body(request, remoting::encode(info));
    }
    if (request.ext.get("topic") != "T") return Command::response_to(request, 17, "unknown");
    remoting::TopicRouteData route;
    route.queue_datas = {{"broker-a", 4, 4, 4, 0}, {"broker-b", 2, 2, 6, 0}};
    route.broker_datas = {{"DefaultCluster", "broker-a", {{0, kOwnAddress}}}, b};
    return with_body(request, remoting::encode(route));
  }
  void set_members(std::map<int64_t, std::string> now) {
    std::lock_guard lock(name_server.mutex);
    members = std::move(now);
  }

  store::PutResult append(MessagePut& put, const std::string& body, const std::string& properties,
                          const std::string& topic = "T") const {
    store::MessageDraft draft;
    draft.topic = topic;
    draft.queue_id = 3;
    draft.body = body;
    draft.properties = properties;
    draft.born_timestamp_ms = 77;
    draft.reconsume_times = 2;
    std::promise<store::PutResult> done;
    put.put(draft, [&done](store::PutResult result) { done.set_value(std::move(result)); });
    return done.get_future().get();
  }
  // Three delayed, two timed and two half messages are to go; one of each kind is not due or decided.
  void fill() {
    MessagePut put(*store);
    put.add_rule(timer_rule([] { return TimerLimits{}; }, system_now_ms));
    put.add_rule(delay_rule(kDelays.size()));
    for (int i = 0; i < 3; ++i)
      REQUIRE(append(put, "delayed",
                     "DELAY\x01"
                     "1\x02KEYS\x01k\x02")
                  .stored());
    REQUIRE(append(put, "delayed later",
                   "DELAY\x01"
                   "2\x02")
                .stored());
    REQUIRE(append(put, "new topic",
                   "DELAY\x01"
                   "1\x02",
                   "%RETRY%g")
                .stored());
    const int64_t now = system_now_ms();
    for (int i = 0; i < 2; ++i)
      REQUIRE(
          append(put, "timed",
                 "TIMER_DELIVER_MS\x01" + std::to_string(now + 100) + "\x02UNIQ_KEY\x01t" + std::to_string(i) + "\x02")
              .stored());
    REQUIRE(append(put, "timed later", "TIMER_DELIVER_MS\x01" + std::to_string(now + 3'600'000) + "\x02").stored());
    Transactions transactions(
        {config, *store, put, *offsets, producers, stats, {}, host_address_of(kOwnAddress), quiet});
    for (const char* body : {"half 0", "half 1", "half 2"}) {
      store::MessageDraft draft;
      draft.topic = "T";
      draft.queue_id = 3;
      draft.sys_flag = message::sys_flag::kTransactionPrepared;
      draft.born_timestamp_ms = system_now_ms();
      draft.body = body;
      const std::string properties = std::string("PGROUP\x01pg\x02TRAN_MSG\x01true\x02UNIQ_KEY\x01") + body + "\x02";
      draft.properties = properties;
      std::promise<store::PutResult> done;
      transactions.prepare(draft, [&done](store::PutResult result) { done.set_value(std::move(result)); });
      const auto stored = done.get_future().get();
      REQUIRE(stored.stored());
      if (draft.body != "half 1") continue;
      EndTransaction end;
      end.group = "pg";
      end.half_offset = stored.queue_offset;
      end.log_offset = stored.offsets.front();
      end.decision = EndTransaction::Decision::kCommit;
      std::promise<int32_t> ended;
      transactions.end(end, [&ended](const Transactions::Answer& answer) { ended.set_value(answer.code); });
      REQUIRE(ended.get_future().get() == 0);
    }
    transactions.tick(true);
  }
  void start() {
    acting = std::make_unique<ActingMaster>(ActingMaster::Parts{config, *store, topics.table, groups, *offsets,
                                                                producers, stats, loop.loop(), client, kDelays,
                                                                kOwnAddress, [this] { return follows.load(); }, quiet});
    acting->start();
  }
  std::multiset<std::string> bodies() {
    std::multiset<std::string> all;
    for (const auto& sent : other.of(RequestCode::kSendMessageV2)) all.insert(std::string(sent.body.bytes));
    return all;
  }

  TempDir dir;
  Logger quiet;
  BrokerConfig config;
  std::atomic<bool> refuse{false}, follows{false};
  std::map<int64_t, std::string> members{{1, kOwnAddress}, {2, "127.0.0.1:2"}};
  Scripted other, name_server;
  loop::LoopThread loop{"acting-test"};
  remoting::RpcClient client{loop.loop(), {}, quiet};
  TopicBench topics;
  SubscriptionGroups groups{{"", true}, quiet};
  ProducerGroups producers;
  BrokerStats stats{"DefaultCluster"};
  std::unique_ptr<store::MessageStore> store;
  std::unique_ptr<ConsumerOffsets> offsets;
  std::unique_ptr<ActingMaster> acting;
};

const std::multiset<std::string> kAll{"delayed", "delayed", "delayed", "new topic",
                                      "timed",   "timed",   "half 0",  "half 2"};

}  // namespace

TEST_CASE("ActingMaster: what is due goes to another master, and the returning master learns it", "[acting_master]") {
  ActingBench bench;
  bench.start();
  REQUIRE(eventually([&] { return bench.bodies() == kAll; }));
  for (const auto& sent : bench.other.of(RequestCode::kSendMessageV2)) {
    const std::string properties(sent.ext.get("i").value_or(""));
    const std::string body(sent.body.bytes);
    CHECK(sent.ext.get("n") == "broker-b");
    CHECK_FALSE(message::find_property(properties, "DELAY"));
    CHECK(sent.ext.get("b") == (body == "new topic" ? "%RETRY%g" : "T"));
    if (body != "new topic") CHECK(sent.ext.get("e") == "1");  // of two queues
    const bool half = body.rfind("half", 0) == 0;
    CHECK(message::find_property(properties, "TRAN_MSG").has_value() == half);
    CHECK(sent.ext.get("f") == (half ? "4" : "0"));
    if (half) CHECK(sent.ext.get("a") == "pg");
    if (half) continue;
    CHECK(sent.ext.get("g") == "77");
    CHECK(sent.ext.get("j") == "2");
  }
  CHECK(bench.acting->texts().at("actingMaster") == "true");
  REQUIRE(eventually([&] { return bench.acting->figures().escaped_timers == 2; }));
  REQUIRE(eventually([&] { return bench.acting->figures().escaped_half == 2; }));
  CHECK(bench.acting->figures().escaped_delayed == 4);

  const int64_t before = bench.store->max_offset("T", 3);
  const ActingProgress told = bench.acting->hand_over();
  CHECK(told.delay_offsets == std::map<int32_t, int64_t>{{1, 4}});
  CHECK(told.half_offset == bench.store->max_offset(kHalfTopic, 0));
  CHECK(told.timer_queue_offset == 3);
  CHECK(told.timers_until_ms > system_now_ms() - 60'000);
  CHECK(decode_acting_progress(encode(told)).value() == told);
  CHECK_FALSE(bench.acting->figures().acting);
  CHECK(bench.store->max_offset("T", 3) == before);  // nothing was written here
  CHECK(bench.acting->hand_over() == told);          // a master that asks again

  // It does not begin again while the master starts; when it was there and is gone it does, with nothing left to do.
  bench.set_members({{0, "127.0.0.1:1"}, {1, kOwnAddress}});
  const auto asked = bench.name_server.of(RequestCode::kGetBrokerMemberGroup).size();
  REQUIRE(eventually([&] { return bench.name_server.of(RequestCode::kGetBrokerMemberGroup).size() > asked + 2; }));
  CHECK_FALSE(std::filesystem::exists(bench.config.config_file("actingMaster.json")));
  CHECK(bench.acting->figures().terms == 1);
}

TEST_CASE("ActingMaster: what no other master takes waits, and a restart sends nothing twice", "[acting_master]") {
  ActingBench bench;
  bench.refuse = true;
  bench.start();
  REQUIRE(eventually([&] { return bench.acting->figures().refused > 3; }));
  CHECK(bench.acting->figures().escaped_delayed == 0);
  {
    std::lock_guard lock(bench.other.mutex);
    bench.other.seen.clear();
    bench.refuse = false;
  }
  REQUIRE(eventually([&] {
    const auto figures = bench.acting->figures();
    return figures.escaped_delayed == 4 && figures.escaped_timers == 2 && figures.escaped_half == 2;
  }));
  CHECK(bench.bodies() == kAll);
  bench.acting->stop();
  bench.start();
  REQUIRE(eventually([&] { return bench.acting->figures().acting; }));
  const auto asked = bench.name_server.of(RequestCode::kGetBrokerMemberGroup).size();
  REQUIRE(eventually([&] { return bench.name_server.of(RequestCode::kGetBrokerMemberGroup).size() > asked + 5; }));
  CHECK(bench.bodies() == kAll);
  CHECK(bench.acting->hand_over().delay_offsets.at(1) == 4);
}

TEST_CASE("ActingMaster: who acts, and until when", "[acting_master]") {
  ActingBench bench;
  auto looks = [&] {
    const auto asked = bench.name_server.of(RequestCode::kGetBrokerMemberGroup).size();
    REQUIRE(eventually([&] { return bench.name_server.of(RequestCode::kGetBrokerMemberGroup).size() > asked + 4; }));
  };
  SECTION("not beside a master") { bench.set_members({{0, "127.0.0.1:1"}, {1, kOwnAddress}}); }
  SECTION("not with a greater id") {
    bench.config.broker_id = 2;
    bench.set_members({{1, "127.0.0.1:1"}, {2, kOwnAddress}});
  }
  SECTION("not when it is not listed") { bench.set_members({{1, "127.0.0.1:1"}}); }
  SECTION("not while a master's log comes in") { bench.follows = true; }
  bench.start();
  looks();
  CHECK(bench.acting->figures().terms == 0);
  CHECK(bench.bodies().empty());

  bench.follows = false;
  bench.set_members({{bench.config.broker_id, kOwnAddress}});
  REQUIRE(eventually([&] { return bench.acting->figures().acting; }));
  bench.name_server.server->stop();
  REQUIRE(eventually([&] { return !bench.acting->figures().acting; }));
}

TEST_CASE("ActingMaster: without enableRemoteEscape it acts, and what is due waits", "[acting_master]") {
  ActingBench bench;
  bench.config.remote_escape = false;
  bench.start();
  REQUIRE(eventually([&] { return bench.acting->figures().acting; }));
  const auto asked = bench.name_server.of(RequestCode::kGetBrokerMemberGroup).size();
  REQUIRE(eventually([&] { return bench.name_server.of(RequestCode::kGetBrokerMemberGroup).size() > asked + 4; }));
  CHECK(bench.bodies().empty());
  CHECK(bench.acting->hand_over() == ActingProgress{});
}

TEST_CASE("ActingMaster: a returning master takes over what a slave did", "[acting_master]") {
  ActingBench bench;  // its store is the master's here
  ActingProgress theirs;
  theirs.delay_offsets = {{1, 4}, {2, 99}};
  theirs.half_offset = 2;
  theirs.timer_queue_offset = 3;
  theirs.timers_until_ms = 5'000;
  QueueLocks its_locks({}), locks({});
  const MessageQueue queue{"T", "broker-a", 0};
  REQUIRE(its_locks.lock("G", "member", {queue}).size() == 1);
  int calls = 0;
  Scripted slave([&](const Command& request) {
    if (request.request_code() == RequestCode::kGetAllQueueLocks) return with_body(request, its_locks.to_json());
    if (++calls == 1) return Command::response_to(request, 1, "the broker is starting");
    return with_body(request, encode(theirs));
  });
  bench.config.role = BrokerRole::kAsyncMaster;
  bench.config.broker_id = 0;
  bench.set_members({{1, slave.address()}});
  ActingProgress own;
  own.delay_offsets = {{1, 2}};
  own.timers_until_ms = 4'000;
  own.timer_queue_offset = 3;
  const auto delay_file = bench.config.config_file("delayOffset.json");
  const auto timers_file = bench.config.config_file("timersCheckpoint.json");
  REQUIRE(write_progress_files(own, delay_file, timers_file));
  std::filesystem::create_directories(bench.dir.file("store/timersdb"));
  REQUIRE(take_over({bench.config, *bench.store, *bench.offsets, locks, bench.quiet}));
  const auto taken = read_progress_files(delay_file, timers_file);
  CHECK(taken.delay_offsets == std::map<int32_t, int64_t>{{1, 4}, {2, 1}});  // not beyond what the log has
  CHECK(taken.timers_until_ms == 5'000);
  CHECK_FALSE(std::filesystem::exists(bench.dir.file("store/timersdb")));
  CHECK(bench.offsets->query(kTransactionGroup, kHalfTopic, 0) == 2);
  CHECK(calls == 2);
  CHECK(locks.owner("G", queue) == "member");
  const auto asked = slave.of(RequestCode::kExchangeBrokerHaInfo);
  REQUIRE(asked.size() == 2);
  CHECK(asked[1].ext.get(kTakeOverField) == "true");

  // A slave that did nothing changes nothing.
  theirs = {};
  std::filesystem::create_directories(bench.dir.file("store/timersdb"));
  REQUIRE(take_over({bench.config, *bench.store, *bench.offsets, locks, bench.quiet}));
  CHECK(read_progress_files(delay_file, timers_file) == taken);
  CHECK(std::filesystem::exists(bench.dir.file("store/timersdb")));
}
