// A slave's log that is cut while it runs, and mended where it is damaged.
#include "store/ha/slave_store.h"

#include <fmt/core.h>

#include <fstream>

#include "store/file_names.h"
#include "test/unit/store/ha/copy_bench.h"

namespace apogee::store {

namespace {

constexpr int64_t kFileBytes = 64 * 1024;
constexpr int kMessages = 300;

std::string body(int i, const char* word = "message") {
  std::string text = std::string(word) + " " + std::to_string(i) + " ";
  text.resize(static_cast<size_t>(200 + i * 37 % 900), 'b');
  return text;
}

std::string key(int i) { return "KEYS\x01key" + std::to_string(i) + "\x02"; }

/// A master with messages in three queues, and where each of them begins.
struct Master {
  std::unique_ptr<test::MemoryFileSystem> files;
  Running running;
  std::vector<LogOffset> offsets;

  explicit Master(int messages = kMessages)
      : files(std::make_unique<test::MemoryFileSystem>()), running(memory_options(), *files) {
    write(0, messages, "message");
  }
  /// One that has taken over what a slave had.
  Master(const test::MemoryFileSystem& slave, const char* word, int messages)
      : files(slave.copy(7)), running(memory_options(), *files) {
    write(0, messages, word);
  }
  void write(int from, int to, const char* word) {
    for (int i = from; i < to; ++i)
      offsets.push_back(put(*running.store, "T", i % 3, body(i, word), key(i)).offsets.at(0));
    REQUIRE(test::eventually([&] { return running.store->figures().dispatched_offset == log().end(); }));
  }
  ReplicatedLog& log() { return running.store->replicated_log(); }
};

using Bodies = std::map<int, std::vector<std::string>>;

Bodies all_bodies(MessageStore& store) {
  Bodies bodies;
  for (int queue = 0; queue < 3; ++queue) bodies[queue] = bodies_of(store, "T", queue);
  return bodies;
}

bool has_bodies(MessageStore& store, const Bodies& wanted) {
  return test::eventually([&] { return all_bodies(store) == wanted; });
}

/// With messages of both.
struct Pair {
  Master master;
  test::MemoryFileSystem memory;
  FaultFileSystem files{memory};
  std::optional<Running> slave;
  Bodies wanted;

  Pair() {
    start();
    REQUIRE(copy_log(master.log(), log()));
    for (int queue = 0; queue < 3; ++queue) REQUIRE(slave->wait_for("T-" + std::to_string(queue), kMessages / 3));
    wanted = all_bodies(*master.running.store);
  }
  void start() { slave.emplace(memory_options(true), files); }
  void restart() {
    slave.reset();
    start();
  }
  ReplicatedLog& log() { return slave->store->replicated_log(); }
  MessageStore& store() { return *slave->store; }
  [[nodiscard]] std::string path_of(LogOffset at) const {
    return "/store/commitlog/" + file_name_of(at / kFileBytes * kFileBytes);
  }
  /// While the slave is stopped.
  void damage(LogOffset at, std::string_view bytes) {
    auto content = memory.content(path_of(at));
    content.replace(static_cast<size_t>(at % kFileBytes), bytes.size(), bytes);
    memory.set_content(path_of(at), content);
  }
  /// As who replicates does with what damaged() tells.
  Status mend_all() {
    for (int rounds = 0; rounds < 100; ++rounds) {
      auto damaged = log().damaged();
      if (damaged.empty()) return {};
      auto record = master.running.store->record_at(damaged[0].begin);
      if (!record) return Error(Errc::kNotFound, "the master has no record there");
      APOGEE_TRY(log().mend(damaged[0].begin, record->bytes));
    }
    return Error(Errc::kTimeout, "still damaged");
  }
};

}  // namespace

TEST_CASE("A slave reads as its master does, also what follows one another as one part", "[store][ha]") {
  Pair pair;
  for (int i = 0; i < 3; ++i) put(*pair.master.running.store, "T", 1, body(i, "in a row"), key(i));
  REQUIRE(copy_log(pair.master.log(), pair.log()));
  REQUIRE(pair.slave->wait_for("T-1", kMessages / 3 + 3));
  GetLimits limits;
  limits.joined = true;
  GetResult of_master, of_slave;
  of_slave.bytes = 7;  // from a read before
  pair.master.running.store->get_into("T", 1, kMessages / 3, limits, {}, of_master);
  pair.store().get_into("T", 1, kMessages / 3, limits, {}, of_slave);
  REQUIRE(of_slave.records.size() == 1);
  CHECK(of_slave.records[0].bytes == of_master.records.at(0).bytes);
  CHECK(of_slave.messages == 3);
  CHECK(of_slave.bytes == of_master.bytes);
  CHECK(of_slave.last_record == of_master.last_record);
  CHECK(of_slave.last_record.size() < of_slave.records[0].size());
}

TEST_CASE("Truncation: what another master has given instead takes the place of what is cut", "[store][ha][cut]") {
  Pair pair;
  const int kept = GENERATE(150, 60, 299);
  const LogOffset cut = pair.master.offsets[static_cast<size_t>(kept)];
  REQUIRE(pair.log().epochs().append({1, 0}));
  REQUIRE(pair.log().epochs().append({2, cut}));
  REQUIRE(pair.log().truncate(cut));
  CHECK(pair.log().end() == cut);
  CHECK((log_bytes(pair.log()) == log_bytes(pair.master.log()).substr(0, static_cast<size_t>(cut))));
  CHECK(pair.log().epochs().all() == std::vector<Epoch>{{1, 0}});
  for (int queue = 0; queue < 3; ++queue) {
    const int first = (kept - queue + 2) / 3;
    CHECK(pair.store().max_offset("T", queue) == first);
    if (first < 100)
      CHECK(pair.slave->logged(
          fmt::format("queue T-{}: messages {} to 99 are cut off with the end of the log", queue, first)));
  }
  CHECK_FALSE(pair.slave->logged("are lost"));
  CHECK_FALSE(pair.slave->logged("built again"));
  // The other one takes over with what is left, and writes other messages with the same offsets.
  Master other(pair.memory, "another", 400);
  REQUIRE(copy_log(other.log(), pair.log()));
  CHECK((log_bytes(pair.log()) == log_bytes(other.log())));
  const auto wanted = all_bodies(*other.running.store);
  CHECK(has_bodies(pair.store(), wanted));
  REQUIRE(pair.slave->wait_for("T-0", static_cast<QueueOffset>(wanted.at(0).size())));
  pair.restart();
  CHECK(pair.log().end() == other.log().end());
  CHECK((all_bodies(pair.store()) == wanted));
  CHECK_FALSE(pair.slave->logged("error"));
}

TEST_CASE("Truncation: of everything, and the log begins where the next master's does", "[store][ha][cut]") {
  Pair pair;
  REQUIRE(pair.log().truncate(GENERATE(0, -5)));
  CHECK(pair.log().end() == 0);
  CHECK(pair.log().begin() == 0);
  CHECK(pair.log().epochs().all().empty());
  CHECK(pair.store().topics().empty());
  const LogOffset begin = 2 * kFileBytes;
  auto first = pair.master.running.store->record_at(begin);
  REQUIRE(first);
  REQUIRE(append_copy(pair.log(), begin, std::string(first->bytes)));
  REQUIRE(copy_log(pair.master.log(), pair.log()));
  CHECK(pair.log().begin() == begin);
  REQUIRE(pair.slave->wait_for("T-0", 100));
  pair.restart();
  CHECK(pair.log().begin() == begin);
  CHECK(pair.store().max_offset("T", 0) == 100);
  CHECK(pair.store().min_offset("T", 0) > 30);
}

TEST_CASE("Truncation: only at the end of a record, and only of a slave", "[store][ha][cut]") {
  Pair pair;
  const LogOffset end = pair.log().end();
  for (LogOffset at : {pair.master.offsets[100] + 1, pair.master.offsets[101] - 1, end + 1}) {
    auto cut = pair.log().truncate(at);
    REQUIRE_FALSE(cut);
    CHECK(cut.error().code == Errc::kInvalidArgument);
  }
  REQUIRE(pair.log().truncate(end));
  CHECK(pair.log().end() == end);
  CHECK((all_bodies(pair.store()) == pair.wanted));
  auto refused = pair.master.log().truncate(0);
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == Errc::kUnsupported);
  REQUIRE(pair.log().truncate(kFileBytes));  // the end of a file
  CHECK(pair.log().end() == kFileBytes);
  REQUIRE(copy_log(pair.master.log(), pair.log()));
  CHECK(has_bodies(pair.store(), pair.wanted));
}

TEST_CASE("Truncation: deleted topics stay deleted, but for what comes anew", "[store][ha][cut]") {
  Pair pair;
  pair.store().delete_topic("T");
  REQUIRE(pair.log().truncate(pair.master.offsets[150]));
  CHECK(pair.store().topics().empty());
  Master other(pair.memory, "another", 90);
  REQUIRE(copy_log(other.log(), pair.log()));
  REQUIRE(test::eventually([&] { return pair.store().max_offset("T", 0) == 80; }));
  CHECK(pair.store().min_offset("T", 0) == 50);
  CHECK(bodies_of(pair.store(), "T", 0).size() == 30);
}

TEST_CASE("Truncation: readers and listeners go on while it happens", "[store][ha][cut]") {
  Pair pair;
  std::atomic<bool> stop{false};
  std::atomic<int> reads{0};
  std::thread reader([&] {
    while (!stop) {
      (void)pair.store().get("T", 1, 40, {}, nullptr);
      (void)pair.log().end();
      (void)pair.store().figures();
      ++reads;
    }
  });
  std::atomic<int> told{0};
  pair.log().set_replication_listener([&] { ++told; });
  for (int kept : {280, 200, 100}) {
    REQUIRE(pair.log().truncate(pair.master.offsets[static_cast<size_t>(kept)]));
    REQUIRE(copy_log(pair.master.log(), pair.log()));
    CHECK(test::eventually([&] { return told.exchange(0) > 0 && pair.log().end() == pair.master.log().end(); }));
  }
  CHECK(test::eventually([&] { return reads > 3; }));
  stop = true;
  reader.join();
  pair.log().set_replication_listener(nullptr);
  CHECK(has_bodies(pair.store(), pair.wanted));
}

TEST_CASE("Truncation: whatever fails on the disk, it is finished later", "[store][ha][cut]") {
  for (int64_t call = 0; call < 60; call += 3) {
    Pair pair;
    const LogOffset cut = pair.master.offsets[150];
    pair.files.fail_after(call, 1'000'000, Errc::kIo);
    auto done = pair.log().truncate(cut);
    pair.files.allow_all();
    if (!done) {
      // Bytes that come have it opened again.
      auto next = pair.master.running.store->record_at(cut);
      REQUIRE(next);
      CHECK((pair.log().end() == cut || pair.log().end() == pair.master.log().end()));
      REQUIRE(test::eventually([&] {
        if (pair.log().end() != cut) return pair.log().truncate(cut).has_value();
        return append_copy(pair.log(), cut, std::string(next->bytes)).has_value();
      }));
    }
    // Queues that could not be written are tried again, and nothing is taken until then.
    REQUIRE(test::eventually([&] { return copy_log(pair.master.log(), pair.log()).has_value(); }));
    CHECK((log_bytes(pair.log()) == log_bytes(pair.master.log())));
    CHECK(has_bodies(pair.store(), pair.wanted));
    if (done && call > 50) break;
  }
}

TEST_CASE("Truncation: when the power fails in it, the log is the old one or the cut one", "[store][ha][cut]") {
  Pair pair;
  const LogOffset cut = pair.master.offsets[150];
  REQUIRE(test::eventually([&] { return pair.log().flushed() == pair.log().end(); }));
  for (int64_t call = 0; call < 120; call += 5) pair.memory.plan_loss(call, static_cast<uint64_t>(call + 1));
  REQUIRE(pair.log().truncate(cut));
  auto losses = pair.memory.take_losses();
  CHECK(losses.size() > 3);
  for (auto& loss : losses) {
    INFO(loss.before);
    Running again(memory_options(true), *loss.image);
    auto& log = again.store->replicated_log();
    CHECK(log.end() >= cut);
    // What was being zeroed may be half there.
    for (const auto& damage : log.damaged()) CHECK(damage.begin >= cut);
    REQUIRE(log.truncate(cut));
    CHECK(log.damaged().empty());
    CHECK((log_bytes(log) == log_bytes(pair.master.log()).substr(0, static_cast<size_t>(cut))));
    REQUIRE(copy_log(pair.master.log(), log));
    CHECK(has_bodies(*again.store, pair.wanted));
  }
}

TEST_CASE("Mending: a hole that recovery finds", "[store][ha][mend]") {
  Pair pair;
  const bool no_queues = GENERATE(false, true);
  const size_t first = GENERATE(100, 0, 297);
  pair.slave.reset();
  // Three messages, one of each queue; the last ones of the queues, or the first, or some in between.
  pair.damage(pair.master.offsets[first] + 4, std::string(60, 'x'));
  pair.damage(pair.master.offsets[first + 1] + 4, std::string(60, 'x'));
  if (first != 297) pair.damage(pair.master.offsets[first + 2] + 150, "damage");
  pair.memory.set_content("/store/abort", "1");
  REQUIRE(pair.memory.remove("/store/checkpoint"));
  if (no_queues) REQUIRE(pair.memory.remove_all("/store/consumequeue"));
  if (no_queues) REQUIRE(pair.memory.remove("/store/queueFloors"));
  pair.start();
  REQUIRE(pair.log().end() == pair.master.log().end());
  const LogOffset behind = first == 297 ? pair.master.offsets[299] : pair.master.offsets[first + 3];
  CHECK(pair.log().damaged() == std::vector<Damage>{{pair.master.offsets[first], behind}});
  CHECK((all_bodies(pair.store()) != pair.wanted));
  REQUIRE(pair.mend_all());
  CHECK(pair.store().figures().holes == 0);
  CHECK((log_bytes(pair.log()) == log_bytes(pair.master.log())));
  CHECK((all_bodies(pair.store()) == pair.wanted));
  CHECK(pair.store().record_at(pair.master.offsets[first]));
  pair.restart();
  CHECK(pair.log().damaged().empty());
  CHECK((all_bodies(pair.store()) == pair.wanted));
  pair.master.write(0, 9, "later");
  REQUIRE(copy_log(pair.master.log(), pair.log()));
  CHECK(has_bodies(pair.store(), all_bodies(*pair.master.running.store)));
}

TEST_CASE("Mending: what a reader or a scrub finds", "[store][ha][mend]") {
  Pair pair;
  pair.slave.reset();  // stops well: the next start does not walk the log
  const LogOffset damaged = pair.master.offsets[120];
  pair.damage(damaged + 150, "damage");
  pair.start();
  CHECK(pair.log().damaged().empty());
  if (GENERATE(false, true)) {
    auto read_damaged = [&] {
      (void)bodies_of(pair.store(), "T", 0);
      return !pair.log().damaged().empty();
    };
    REQUIRE(test::eventually(read_damaged));
    // It is left out.
    CHECK(test::eventually([&] { return bodies_of(pair.store(), "T", 0).size() == 99; }));
  } else {
    LogOffset at = pair.log().begin();
    int steps = 0;
    while (at < pair.log().end()) {
      const LogOffset next = pair.log().scrub(at, 10'000);
      REQUIRE(next > at);
      at = next;
      ++steps;
    }
    CHECK(at == pair.log().end());
    CHECK(steps > 5);
  }
  CHECK(pair.log().damaged() == std::vector<Damage>{{damaged, pair.master.offsets[121]}});
  auto refuse = [&](LogOffset at, std::string bytes) {
    auto mended = pair.log().mend(at, bytes);
    return !mended && mended.error().code == Errc::kInvalidArgument && !pair.log().damaged().empty();
  };
  auto right = pair.master.running.store->record_at(damaged);
  REQUIRE(right);
  std::string wrong(right->bytes);
  wrong[150] ^= 1;
  CHECK(refuse(damaged, wrong));
  CHECK(refuse(damaged, wrong.substr(0, 100)));
  CHECK(refuse(damaged + 1, std::string(right->bytes)));
  CHECK(refuse(pair.log().end(), std::string(right->bytes)));
  auto whole = pair.master.running.store->record_at(pair.master.offsets[10]);
  REQUIRE(whole);
  CHECK(refuse(pair.master.offsets[10], std::string(whole->bytes)));
  // A disk that does not take it keeps it among the damaged.
  pair.files.fail(FileCall::kSync, pair.path_of(damaged), Errc::kIo);
  CHECK_FALSE(pair.log().mend(damaged, right->bytes));
  CHECK(pair.log().damaged().size() == 1);
  pair.files.allow_all();
  REQUIRE(pair.log().mend(damaged, right->bytes));
  CHECK(pair.log().damaged().empty());
  CHECK(has_bodies(pair.store(), pair.wanted));
}

TEST_CASE("Mending: the last record of a file, with only a blank behind it", "[store][ha][mend]") {
  Pair pair;
  const auto behind = std::upper_bound(pair.master.offsets.begin(), pair.master.offsets.end(), kFileBytes - 1);
  const LogOffset last = *std::prev(behind);
  REQUIRE(*behind == kFileBytes);
  pair.slave.reset();
  pair.damage(last + 4, std::string(40, 'x'));
  pair.memory.set_content("/store/abort", "1");
  REQUIRE(pair.memory.remove("/store/checkpoint"));
  pair.start();
  CHECK(pair.log().damaged() == std::vector<Damage>{{last, kFileBytes}});
  REQUIRE(pair.mend_all());
  CHECK((log_bytes(pair.log()) == log_bytes(pair.master.log())));
  CHECK((all_bodies(pair.store()) == pair.wanted));
  pair.restart();
  CHECK(pair.log().damaged().empty());
}

TEST_CASE("Mending: damage of the master's own is copied, passed over, and listed", "[store][ha][mend]") {
  Pair pair;
  REQUIRE(pair.log().truncate(pair.master.offsets[150]));
  const LogOffset at = pair.master.offsets[150], next = pair.master.offsets[151];
  auto bytes = pair.master.log().read(at, next - at);
  REQUIRE(bytes);
  std::string damaged(bytes->bytes);
  damaged.replace(4, 40, std::string(40, 'x'));
  CHECK_FALSE(append_copy(pair.log(), at, damaged));
  struct Answer {
    std::mutex mutex;
    std::optional<bool> done;  // guarded by mutex
  };
  auto answer = std::make_shared<Answer>();
  pair.log().append_damaged(at, SharedBytes::from(damaged), [answer](Status status) {
    std::lock_guard lock(answer->mutex);
    answer->done = status.has_value();
  });
  REQUIRE(test::eventually([&] {
    std::lock_guard lock(answer->mutex);
    return answer->done.has_value();
  }));
  CHECK(*answer->done);
  CHECK(pair.log().end() == next);
  REQUIRE(copy_log(pair.master.log(), pair.log()));
  CHECK(pair.log().damaged() == std::vector<Damage>{{at, next}});
  REQUIRE(test::eventually([&] { return pair.store().max_offset("T", 2) == 100; }));
  CHECK(test::eventually([&] { return bodies_of(pair.store(), "T", 0).size() == 99; }));
  pair.restart();
  CHECK(pair.store().max_offset("T", 0) == 100);
  CHECK(pair.log().scrub(0, INT64_MAX) == pair.log().end());
  CHECK(pair.log().damaged() == std::vector<Damage>{{at, next}});
  REQUIRE(pair.mend_all());
  CHECK(has_bodies(pair.store(), pair.wanted));
}

TEST_CASE("Slave's index: what is cut is found no more, what is mended is found", "[store][ha][mend]") {
  Directory directory;
  Master master;
  auto options = small_options(directory.path / "slave");
  options.slave = true;
  auto finds = [](MessageStore& store, int i, const char* word = "message") {
    const std::string name = "key" + std::to_string(i);
    auto answer = store.query({"T", name});
    return answer && answer->records.size() == 1 && body_of(answer->records[0]) == body(i, word);
  };
  auto none = [](MessageStore& store, int i) {
    const std::string name = "key" + std::to_string(i);
    auto answer = store.query({"T", name});
    return answer && answer->records.empty() && answer->incomplete.empty();
  };
  const LogOffset damaged = master.offsets[20];
  {
    Running slave(options);
    auto& log = slave.store->replicated_log();
    REQUIRE(copy_log(master.log(), log));
    REQUIRE(test::eventually([&] { return finds(*slave.store, 299); }));
    REQUIRE(log.truncate(master.offsets[200]));
    CHECK(test::eventually([&] { return none(*slave.store, 299) && finds(*slave.store, 199); }));
    REQUIRE(copy_log(master.log(), log));
    CHECK(test::eventually([&] { return finds(*slave.store, 299); }));
  }
  fs::remove_all(directory.path / "slave" / "indexdb");
  {
    std::fstream file(directory.path / "slave" / "commitlog" / file_name_of(0),
                      std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(damaged + 4);
    file << std::string(40, 'x');
  }
  Running slave(options);
  REQUIRE(test::eventually([&] { return finds(*slave.store, 299); }));
  CHECK(none(*slave.store, 20));
  auto& log = slave.store->replicated_log();
  CHECK(log.scrub(0, INT64_MAX) == log.end());
  REQUIRE(log.damaged().size() == 1);
  auto record = master.running.store->record_at(damaged);
  REQUIRE(record);
  REQUIRE(log.mend(damaged, record->bytes));
  CHECK(test::eventually([&] { return finds(*slave.store, 20); }));
}

}  // namespace apogee::store
