// Transactions over a real store: what its log does not show at once, or not any more.
#include <filesystem>
#include <fstream>
#include <future>

#include "store/ha/replica_acks.h"
#include "store/ha/replicated_log.h"
#include "test/support/wait.h"
#include "test/unit/broker/transactions/transaction_bench.h"

using namespace apogee;
using namespace apogee::broker;
using namespace apogee::broker::test;

namespace {

constexpr int64_t kFileBytes = 64 * 1024;
using Half = TransactionBench::Half;
using Decision = EndTransaction::Decision;

struct Opened {
  FakeClock clock;
  BrokerConfig config;
  Logger quiet;
  std::unique_ptr<ConsumerOffsets> offsets;
  std::unique_ptr<store::MessageStore> store;
  std::unique_ptr<MessagePut> put;
  ProducerGroups producers{clock.now()};
  BrokerStats stats{"DefaultCluster"};
  SentToClients sent;
  std::unique_ptr<Transactions> transactions;

  explicit Opened(const std::string& root, const store::ReplicationRules& rules = {}) {
    config.broker_name = "broker-a";
    config.commit_log_file_bytes = kFileBytes;
    auto opened = ConsumerOffsets::open({root + ".offsetsdb", root + ".json"}, quiet);
    REQUIRE(opened);
    offsets = std::move(*opened);
    store::StoreOptions options;
    options.root_dir = root;
    options.commit_log_file_bytes = kFileBytes;
    options.disk_used_ratio_max = 1.01;
    options.retention.clean_forcibly = false;
    options.message_index_enabled = false;
    options.replication = rules;
    auto made = store::MessageStore::open(options, quiet);
    if (!made) FAIL(made.error().message);
    store = std::move(*made);
    REQUIRE(store->start());
    put = std::make_unique<MessagePut>(*store);
    transactions = std::make_unique<Transactions>(Transactions::Parts{config, *store, *put, *offsets, producers, stats,
                                                                      sent.calls(), host_address_of("127.0.0.1:10911"),
                                                                      quiet, clock.now()});
    REQUIRE(transactions->recover());
  }
  ~Opened() {
    transactions.reset();
    store->stop();
  }
  /// Of topic T, queue 3.
  std::future<Half> prepare(const std::string& key) {
    const std::string properties = "PGROUP\x01g\x02TRAN_MSG\x01true\x02UNIQ_KEY\x01" + key + "\x02";
    store::MessageDraft draft;
    draft.topic = "T";
    draft.queue_id = 3;
    draft.sys_flag = message::sys_flag::kTransactionPrepared;
    draft.born_timestamp_ms = clock.now()();
    draft.body = "body";
    draft.properties = properties;
    auto told = std::make_shared<std::promise<Half>>();
    auto half = told->get_future();
    transactions->prepare(draft, [key, told](const store::PutResult& result) {
      Half prepared;
      prepared.key = key;
      prepared.offset = result.queue_offset;
      prepared.log_offset = result.offsets.at(0);
      told->set_value(prepared);
    });
    return half;
  }
  std::future<int32_t> end(const Half& half, Decision decision) {
    auto told = std::make_shared<std::promise<int32_t>>();
    auto code = told->get_future();
    transactions->end(TransactionBench::request(half, decision),
                      [told](const Transactions::Answer& answer) { told->set_value(answer.code); });
    return code;
  }
};

}  // namespace

TEST_CASE("a half message that not all slaves have yet is neither forgotten nor unknown", "[transactions]") {
  TempDir directory;
  store::ReplicationRules rules;
  rules.waits = true;
  Opened broker(directory.file("store"), rules);
  auto& log = broker.store->replicated_log();
  auto& acks = log.acks();
  const auto quick = acks.connected("10.0.0.1:1", 1, false, log.end());
  const auto slow = acks.connected("10.0.0.2:1", 2, false, log.end());
  REQUIRE(acks.in_sync() == 3);
  const auto acknowledge = [&](store::ReplicaAcks::SlaveId slave) {
    acks.sent(slave, log.end());
    REQUIRE(acks.acknowledged(slave, log.end()));
  };
  const auto acknowledged_by_quick = [&](auto& answer) {
    return apogee::test::eventually([&] {
      acknowledge(quick);
      return answer.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
    });
  };
  auto prepared = broker.prepare("key");
  REQUIRE(acknowledged_by_quick(prepared));
  const Half half = prepared.get();
  CHECK_FALSE(broker.store->record_at(half.log_offset));  // readers wait for the slow one
  broker.clock.advance(7'000);
  broker.transactions->check_round();
  CHECK(broker.transactions->figures().given_up == 0);
  CHECK(broker.transactions->figures().undecided == 1);
  auto committed = broker.end(half, Decision::kCommit);
  REQUIRE(acknowledged_by_quick(committed));
  CHECK(committed.get() == remoting::response_code::kSuccess);
  CHECK(broker.store->max_offset("T", 3) == 0);
  acknowledge(slow);
  CHECK(apogee::test::eventually([&] { return broker.store->max_offset("T", 3) == 1; }));
}

TEST_CASE("a commit behind damage, and behind the end of a file, is found by a start", "[transactions]") {
  namespace fs = std::filesystem;
  TempDir directory;
  const std::string root = directory.file("store"), crashed = directory.file("crashed");
  const bool damage = GENERATE(false, true);
  const bool next_file = GENERATE(false, true);
  CAPTURE(damage, next_file);
  store::LogOffset between = -1;
  Half half;
  {
    Opened broker(root);
    half = broker.prepare("key").get();
    const std::string body(next_file ? 40'000 : 300, 'x');
    for (int i = 0; i < 2; ++i) {
      store::MessageDraft draft;
      draft.topic = "other";
      draft.body = body;
      std::promise<store::LogOffset> placed;
      broker.store->append(draft, [&](const store::PutResult& result) { placed.set_value(result.offsets.at(0)); });
      const auto at = placed.get_future().get();
      if (i == 0) between = at;
    }
    REQUIRE(broker.end(half, Decision::kCommit).get() == remoting::response_code::kSuccess);
    REQUIRE((broker.store->replicated_log().end() > kFileBytes) == next_file);
    fs::copy(root, crashed, fs::copy_options::recursive);  // as it is when the power fails now
  }
  fs::remove(fs::path(crashed) / "lock");
  if (damage) {
    std::fstream file(crashed + "/commitlog/00000000000000000000", std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(between + 150);
    file << "damage";
    REQUIRE(file.good());
  }
  Opened broker(crashed);
  CHECK(broker.store->figures().holes == (damage ? 1 : 0));
  CHECK(broker.store->max_offset("T", 3) == 1);
  CHECK(broker.transactions->figures().undecided == 0);
  CHECK(broker.end(half, Decision::kCommit).get() ==
        remoting::response_code::kIllegalOperation);  // it was decided before
  CHECK(broker.store->max_offset("T", 3) == 1);
}
