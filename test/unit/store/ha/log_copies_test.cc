// A slave's log is its master's, byte for byte, and its queues follow from it.
#include "store/log_copies.h"

#include <future>
#include <set>

#include "store/file_names.h"
#include "test/unit/store/ha/copy_bench.h"

namespace apogee::store {

namespace {

constexpr int64_t kFileBytes = 64 * 1024;

std::string body(int i) {
  std::string text = "message " + std::to_string(i) + " ";
  text.resize(static_cast<size_t>(200 + i * 37 % 900), 'b');
  return text;
}

void put_some(MessageStore& store, int from, int to) {
  for (int i = from; i < to; ++i) REQUIRE(put(store, "T", i % 3, body(i)).status == PutStatus::kOk);
}

struct Pair {
  test::MemoryFileSystem master_files, slave_files;
  Running master{memory_options(), master_files};
  std::optional<Running> slave;
  Pair() { slave.emplace(memory_options(true), slave_files); }
  ReplicatedLog& from() { return master.store->replicated_log(); }
  ReplicatedLog& to() { return slave->store->replicated_log(); }
  /// Stops the slave and starts it again, on what it has left.
  void restart() {
    slave.reset();
    slave.emplace(memory_options(true), slave_files);
  }
};

}  // namespace

TEST_CASE("Copies: logs and queues are the same, over files and a restart", "[store][ha][copy]") {
  Pair pair;
  put_some(*pair.master.store, 0, 300);
  REQUIRE(pair.from().end() > 2 * kFileBytes);
  REQUIRE(copy_log(pair.from(), pair.to()));
  CHECK(pair.to().end() == pair.from().end());
  CHECK((log_bytes(pair.to()) == log_bytes(pair.from())));
  REQUIRE(pair.slave->wait_for("T-2", 100));
  for (int queue = 0; queue < 3; ++queue)
    CHECK(bodies_of(*pair.slave->store, "T", queue) == bodies_of(*pair.master.store, "T", queue));
  auto refused = put(*pair.slave->store, "T", 0, "no");
  CHECK(refused.status == PutStatus::kServiceNotAvailable);
  CHECK(refused.detail == "this broker is a slave");
  pair.restart();
  CHECK(pair.to().end() == pair.from().end());
  CHECK_FALSE(pair.slave->logged("damaged"));
  put_some(*pair.master.store, 300, 600);
  REQUIRE(copy_log(pair.from(), pair.to()));
  CHECK((log_bytes(pair.to()) == log_bytes(pair.from())));
  REQUIRE(pair.slave->wait_for("T-2", 200));
  CHECK(pair.slave->store->max_offset("T", 0) == 200);
}

TEST_CASE("Copies: a log may end with its file, and goes on in the next", "[store][ha][copy]") {
  Pair pair;
  while (pair.from().end() < kFileBytes) put_some(*pair.master.store, 0, 1);
  REQUIRE(copy_log(pair.from(), pair.to(), kFileBytes));  // with the blank
  CHECK(pair.to().end() == kFileBytes);
  if (GENERATE(false, true)) pair.restart();
  CHECK(pair.to().end() == kFileBytes);
  REQUIRE(copy_log(pair.from(), pair.to()));
  CHECK((log_bytes(pair.to()) == log_bytes(pair.from())));
}

TEST_CASE("Copies: what is no copy of the next records is refused, and changes nothing", "[store][ha][copy]") {
  Pair pair;
  put_some(*pair.master.store, 0, 20);
  auto all = log_bytes(pair.from());
  auto first = pair.master.store->record_at(0);
  REQUIRE(first);
  const auto first_bytes = static_cast<LogOffset>(first->size());
  REQUIRE(append_copy(pair.to(), 0, std::string(first->bytes)));
  auto refused = [&](LogOffset at, std::string bytes) {
    auto status = append_copy(pair.to(), at, std::move(bytes));
    return !status && status.error().code == Errc::kInvalidArgument && pair.to().end() == first_bytes;
  };
  CHECK(refused(0, std::string(first->bytes)));                                        // again
  CHECK(refused(first_bytes, std::string(first->bytes)));                              // of another place
  CHECK(refused(first_bytes, all.substr(static_cast<size_t>(first_bytes), 100)));      // half a record
  CHECK(refused(first_bytes, all.substr(static_cast<size_t>(first_bytes)) + "tail"));  // and more
  CHECK(refused(first_bytes, ""));
  CHECK(refused(first_bytes, std::string(200, '\0')));
  CHECK(refused(-1, all));
  std::string blank("\0\0\x10\0\xCB\xD4\x31\x94", 8);
  blank.resize(4'096);
  CHECK(refused(first_bytes, blank));  // does not go to the end of the file
  REQUIRE(append_copy(pair.to(), first_bytes, all.substr(static_cast<size_t>(first_bytes))));
  CHECK(log_bytes(pair.to()) == all);
}

TEST_CASE("Copies: an empty log begins where its master's does", "[store][ha][copy]") {
  Pair pair;
  put_some(*pair.master.store, 0, 300);
  // At a file's start, or within one.
  LogOffset begin = 2 * kFileBytes;
  if (GENERATE(false, true)) {
    auto first = pair.master.store->record_at(begin);
    REQUIRE(first);
    begin += static_cast<LogOffset>(first->size());
  }
  CHECK(pair.slave_files.list("/store/commitlog")->empty());
  auto next = pair.master.store->record_at(begin);
  REQUIRE(next);
  REQUIRE(append_copy(pair.to(), begin, std::string(next->bytes)));
  CHECK(pair.to().begin() == begin);
  REQUIRE(copy_log(pair.from(), pair.to()));
  CHECK(log_bytes(pair.to()) == log_bytes(pair.from()).substr(static_cast<size_t>(begin)));
  auto tell = [&] {
    std::map<int, std::vector<std::string>> bodies;
    for (int queue = 0; queue < 3; ++queue) bodies[queue] = bodies_of(*pair.slave->store, "T", queue);
    return bodies;
  };
  REQUIRE(pair.slave->wait_for("T-2", 100));
  REQUIRE(pair.slave->wait_for("T-0", 100));
  REQUIRE(pair.slave->wait_for("T-1", 100));
  const auto before = tell();
  CHECK(before.at(0).size() > 10);
  CHECK(before.at(0).size() < 100);
  const bool crash = GENERATE(false, true);
  const bool no_queues = GENERATE(false, true);
  pair.slave.reset();
  if (crash) pair.slave_files.set_content("/store/abort", "1");
  if (crash) REQUIRE(pair.slave_files.remove("/store/checkpoint"));
  if (no_queues) REQUIRE(pair.slave_files.remove_all("/store/consumequeue"));
  pair.slave.emplace(memory_options(true), pair.slave_files);
  CHECK(pair.to().begin() == begin);
  CHECK(pair.to().end() == pair.from().end());
  CHECK(pair.slave->store->figures().holes == 0);
  CHECK_FALSE(pair.slave->logged("damaged"));
  CHECK(pair.slave->store->record_at(begin));
  CHECK_FALSE(pair.to().read(begin - 1, 1));
  CHECK(tell() == before);
  put_some(*pair.master.store, 300, 330);
  REQUIRE(copy_log(pair.from(), pair.to()));
  REQUIRE(pair.slave->wait_for("T-2", 110));
  CHECK(pair.slave->store->max_offset("T", 0) == 110);
}

TEST_CASE("Copies: an empty log that was to begin elsewhere begins anew", "[store][ha][copy]") {
  test::MemoryFileSystem memory;
  FaultFileSystem files(memory);
  test::MemoryFileSystem master_files;
  Running master(memory_options(), master_files);
  put_some(*master.store, 0, 300);
  auto& from = master.store->replicated_log();
  Running slave(memory_options(true), files);
  auto& to = slave.store->replicated_log();
  auto first = master.store->record_at(0), later = master.store->record_at(2 * kFileBytes);
  REQUIRE(first);
  REQUIRE(later);
  // The file is made, but its pages cannot be had.
  files.fail(FileCall::kPopulate, file_name_of(2 * kFileBytes), Errc::kDiskFull);
  auto refused = append_copy(to, 2 * kFileBytes, std::string(later->bytes));
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == Errc::kDiskFull);
  files.allow_all();
  REQUIRE(test::eventually([&] { return slave.store->writable(nullptr); }));
  const bool elsewhere = GENERATE(false, true);
  if (elsewhere) {
    REQUIRE(append_copy(to, 0, std::string(first->bytes)));
    CHECK(to.begin() == 0);
    CHECK(memory.list("/store/commitlog")->front() == file_name_of(0));
  } else {
    REQUIRE(append_copy(to, 2 * kFileBytes, std::string(later->bytes)));
    CHECK(to.begin() == 2 * kFileBytes);
  }
  REQUIRE(copy_log(from, to));
  CHECK(log_bytes(to) == log_bytes(from).substr(static_cast<size_t>(to.begin())));
  slave.store->stop();
  slave.store.reset();
  Running again(memory_options(true), files);
  CHECK(again.store->replicated_log().end() == from.end());
}

TEST_CASE("Copies: a full disk stops them, and they go on", "[store][ha][copy]") {
  test::MemoryFileSystem master_files, memory;
  FaultFileSystem files(memory);
  Running master(memory_options(), master_files);
  put_some(*master.store, 0, 300);
  Running slave(memory_options(true), files);
  auto& from = master.store->replicated_log();
  auto& to = slave.store->replicated_log();
  files.fail(FileCall::kAllocate, file_name_of(kFileBytes), Errc::kDiskFull);
  auto copied = copy_log(from, to);
  REQUIRE_FALSE(copied);
  CHECK(copied.error().code == Errc::kDiskFull);
  const LogOffset stopped_at = to.end();
  CHECK(log_bytes(to) == log_bytes(from).substr(0, static_cast<size_t>(stopped_at)));
  files.allow_all();
  REQUIRE(test::eventually([&] { return slave.store->writable(nullptr); }));
  REQUIRE(copy_log(from, to));
  CHECK((log_bytes(to) == log_bytes(from)));
}

TEST_CASE("Copies: a slave that dies in the middle has whole records, and goes on", "[store][ha][copy]") {
  Pair pair;
  put_some(*pair.master.store, 0, 300);
  const auto all = log_bytes(pair.from());
  std::vector<LogOffset> ends;  // of whole records and blanks
  for (LogOffset at = 0; at < pair.from().end();) {
    auto record = pair.master.store->record_at(at);
    at = record ? at + static_cast<LogOffset>(record->size()) : (at / kFileBytes + 1) * kFileBytes;
    ends.push_back(at);
  }
  const bool power = GENERATE(false, true);
  for (uint64_t seed = 1; seed <= 8; ++seed) {
    for (size_t i = 0; i < 30; ++i) {
      const auto next = std::upper_bound(ends.begin(), ends.end(), pair.to().end());
      if (next == ends.end()) break;
      const LogOffset at = pair.to().end();
      REQUIRE(append_copy(pair.to(), at, all.substr(static_cast<size_t>(at), static_cast<size_t>(*next - at))));
    }
    const LogOffset had = pair.to().end();
    auto left = power ? pair.slave_files.lose_power(seed) : pair.slave_files.copy(seed);
    Running again(memory_options(true), *left);
    auto& log = again.store->replicated_log();
    CHECK(log.end() <= had);
    if (!power) CHECK(log.end() == had);
    CHECK((log.end() == 0 || std::binary_search(ends.begin(), ends.end(), log.end())));
    REQUIRE(copy_log(pair.from(), log));
    CHECK(log.end() == pair.from().end());
    // The power may have taken records in front of others that are there.
    if (again.store->figures().holes > 0) continue;
    CHECK((log_bytes(log) == all));
    for (int queue = 0; queue < 3; ++queue) {
      REQUIRE(again.wait_for("T-" + std::to_string(queue), 100));
      CHECK(bodies_of(*again.store, "T", queue).size() == 100);
    }
  }
}

TEST_CASE("Copies: the stream is told of appends and of syncs", "[store][ha][copy]") {
  auto options = memory_options();
  const bool sync = GENERATE(false, true);
  options.flush_disk_type = sync ? FlushDiskType::kSync : FlushDiskType::kAsync;
  test::MemoryFileSystem files;
  Running master(options, files);
  auto& log = master.store->replicated_log();
  std::atomic<LogOffset> told_end{0}, told_flushed{0};
  log.set_replication_listener([&] {
    told_end = log.end();
    told_flushed = log.flushed();
  });
  put_some(*master.store, 0, 3);
  CHECK(told_end == log.end());
  if (sync) CHECK(test::eventually([&] { return told_flushed == log.end(); }));
  log.set_replication_listener(nullptr);
  const LogOffset before = told_end;
  put_some(*master.store, 3, 4);
  CHECK(told_end == before);
}

TEST_CASE("Sync master: answers wait for a slave, and readers see what it has", "[store][ha][acks]") {
  auto options = memory_options();
  options.replication.waits = true;
  options.replication.timeout_ms = 100;
  const bool sync_flush = GENERATE(false, true);
  options.flush_disk_type = sync_flush ? FlushDiskType::kSync : FlushDiskType::kAsync;
  test::MemoryFileSystem files;
  Running master(options, files);
  auto& log = master.store->replicated_log();
  CHECK(put(*master.store, "T", 0, "alone").status == PutStatus::kSlaveNotAvailable);
  REQUIRE(master.wait_for("T-0", 1));
  auto& acks = log.acks();
  auto slave = acks.connected("127.0.0.1:5", 1, false, log.end());
  REQUIRE(acks.in_sync() == 2);
  // The slave that says nothing: stored, told as such, and not to be read yet.
  auto late = put(*master.store, "T", 0, "late");
  CHECK(late.status == PutStatus::kFlushSlaveTimeout);
  CHECK(late.offsets.size() == 1);
  CHECK(master.store->max_offset("T", 0) == 1);
  CHECK_FALSE(master.store->record_at(late.offsets[0]));
  log.set_replication_listener([&] { acks.sent(slave, log.end()); });
  acks.sent(slave, log.end());
  REQUIRE(acks.acknowledged(slave, log.end()));
  REQUIRE(master.wait_for("T-0", 2));
  // And one that answers at once.
  std::atomic<bool> stop{false};
  std::thread slave_thread([&] {
    while (!stop) {
      acks.sent(slave, log.end());
      acks.acknowledged(slave, acks.slaves().at(0).sent).ignore("a test thread");
      test::pause(std::chrono::milliseconds(1));
    }
  });
  for (int i = 0; i < 20; ++i) CHECK(put(*master.store, "T", 0, body(i)).status == PutStatus::kOk);
  REQUIRE(master.wait_for("T-0", 22));
  stop = true;
  slave_thread.join();
  // A stop does not leave the unconfirmed tail for a long recovery.
  MessageDraft draft;
  draft.topic = "T";
  draft.wait_store_ok = false;
  std::optional<PutStatus> status;
  master.store->append(draft, [&](PutResult result) { status = result.status; });
  CHECK(status == PutStatus::kOk);
  log.set_replication_listener(nullptr);
  master.store->stop();
  CHECK_FALSE(files.exists("/store/abort"));
}

TEST_CASE("Sync master: a slave that acknowledges parts of records lets readers see the whole ones",
          "[store][ha][acks]") {
  auto options = memory_options();
  options.replication.waits = true;
  test::MemoryFileSystem files;
  Running master(options, files);
  auto& log = master.store->replicated_log();
  auto& acks = log.acks();
  const auto slave = acks.connected("127.0.0.1:5", 1, true, log.end());
  REQUIRE(acks.in_sync() == 2);
  std::vector<LogOffset> offsets, ends;
  for (int i = 0; i < 200; ++i) {
    const auto text = body(i);
    MessageDraft draft;
    draft.topic = "T";
    draft.body = text;
    draft.wait_store_ok = false;
    std::promise<LogOffset> placed;
    master.store->append(draft, [&](const PutResult& result) { placed.set_value(result.offsets.at(0)); });
    offsets.push_back(placed.get_future().get());
    auto length = log.read(offsets.back(), 4);
    REQUIRE(length);
    ends.push_back(offsets.back() + load_be<int32_t>(length->bytes.data()));
  }
  REQUIRE(log.end() > 2 * kFileBytes);  // over blanks
  acks.sent(slave, log.end());
  const std::set<LogOffset> places(offsets.begin(), offsets.end());
  for (LogOffset at = 0; at < log.end(); at = std::min(at + 101, log.end())) {
    REQUIRE(acks.acknowledged(slave, at));
    const auto whole = std::upper_bound(ends.begin(), ends.end(), at) - ends.begin();
    CAPTURE(at, whole);
    REQUIRE(test::eventually([&] { return master.store->max_offset("T", 0) >= whole; }));
    REQUIRE(master.store->max_offset("T", 0) == whole);
    REQUIRE(
        (places.count(acks.confirmed()) == 1 || log.read(acks.confirmed(), 8)->bytes.substr(4) == "\xCB\xD4\x31\x94"));
  }
  REQUIRE(acks.acknowledged(slave, log.end()));
  REQUIRE(master.wait_for("T-0", 200));
  for (int i = 0; i < 200; ++i) {
    auto record = master.store->record_at(offsets[static_cast<size_t>(i)]);
    REQUIRE(record);
    CHECK(body_of(*record) == body(i));
  }
  CHECK_FALSE(master.logged("skipped"));
}

TEST_CASE("Sync master: with too few brokers in sync nothing is stored", "[store][ha][acks]") {
  auto options = memory_options();
  options.replication.waits = true;
  options.replication.min_in_sync_replicas = 2;
  test::MemoryFileSystem files;
  Running master(options, files);
  auto result = put(*master.store, "T", 0, "alone");
  CHECK(result.status == PutStatus::kInSyncReplicasNotEnough);
  CHECK_FALSE(result.stored());
  CHECK(result.detail == "1 brokers are in sync, minInSyncReplicas is 2");
  CHECK(master.store->replicated_log().end() == 0);
}

TEST_CASE("Epochs: each start of a master begins one, a slave's none", "[store][ha][epoch]") {
  test::MemoryFileSystem files;
  LogOffset end = 0;
  {
    Running master(memory_options(), files);
    put_some(*master.store, 0, 3);
    end = master.store->replicated_log().end();
    CHECK(master.store->replicated_log().epochs().all() == std::vector<Epoch>{{1, 0}});
  }
  for (bool slave : {false, true}) {
    Running again(memory_options(slave), files);
    CHECK(again.store->replicated_log().epochs().all() == std::vector<Epoch>{{1, 0}, {2, end}});
  }
}

}  // namespace apogee::store
