// Which files of the log go, when, and what is left of what stood in them.
#include "store/retention.h"

#include <atomic>
#include <ctime>
#include <fstream>
#include <future>
#include <thread>

#include "store/consume_queues.h"
#include "store/file_names.h"
#include "store/queue_floors.h"
#include "test/support/wait.h"
#include "test/unit/store/fault_file_system.h"
#include "test/unit/store/store_bench.h"

namespace apogee::store {
namespace {

constexpr int64_t kHourMs = 3'600'000;
constexpr int64_t kFileBytes = 64 * 1024;
constexpr LogOffset kNoLimit = INT64_MAX;

int64_t wall_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch())
      .count();
}

int32_t hour_at(int64_t ms) {
  const auto seconds = static_cast<std::time_t>(ms / 1'000);
  std::tm local{};
  localtime_r(&seconds, &local);
  return local.tm_hour;
}

/// Rounds follow each other at once, and no hour is one of deletion.
RetentionOptions quick_retention() {
  RetentionOptions options;
  options.delete_hours = {};
  options.interval_ms = 0;
  options.first_after_ms = 0;
  options.file_pause_ms = 0;
  return options;
}

/// A store with a clock and a disk of its own, in which looks and rounds follow each other at once.
struct Bench {
  Directory directory;
  FaultFileSystem files;
  std::atomic<int64_t> now{wall_ms()};
  std::unique_ptr<Running> running;

  StoreOptions options() {
    auto options = small_options(directory.path);
    options.keep_interval_ms = 5;
    options.flush_interval_ms = 5;
    options.retention = quick_retention();
    options.retention.interval_ms = 5;
    options.now_ms = [this] { return now.load(); };
    return options;
  }
  void start() { running = std::make_unique<Running>(options(), files); }
  void restart() {
    running.reset();
    start();
  }
  MessageStore& store() { return *running->store; }

  /// Fills so many files with messages of a topic; returns how many messages the topic has then.
  QueueOffset fill(const std::string& topic, int count) {
    const LogOffset until = (store().figures().log_max_offset / kFileBytes + count) * kFileBytes;
    QueueOffset next = 0;
    while (store().figures().log_max_offset < until) {
      auto result = put(store(), topic, 0, topic + std::string(1'000, 'b'));
      REQUIRE(result.status == PutStatus::kOk);
      next = result.queue_offset + 1;
    }
    REQUIRE(running->wait_for(topic + "-0", next));
    return next;
  }
  /// Removes every file that is full.
  void expire_all() {
    now = wall_ms() + 100 * kHourMs;
    const LogOffset last = (store().figures().log_max_offset - 1) / kFileBytes * kFileBytes;
    store().clean_expired_files();
    REQUIRE(test::eventually([&] { return store().figures().log_min_offset == last; }));
    now = wall_ms();
  }
  size_t log_files() const {
    return static_cast<size_t>(std::distance(fs::directory_iterator(directory.path / "commitlog"), {}));
  }
};

/// A log without a store, and retention whose rounds the test calls for.
struct LogBench {
  Directory directory;
  FaultFileSystem files;
  Logger logger;
  int64_t now = wall_ms();
  int pauses = 0;
  std::function<void()> on_pause;
  std::unique_ptr<CommitLog> log;
  std::unique_ptr<Retention> retention;

  explicit LogBench(RetentionOptions options = quick_retention()) {
    CommitLog::Options log_options;
    log_options.directory = (directory.path / "commitlog").string();
    log_options.file_bytes = kFileBytes;
    log_options.flush.interval_ms = 5;
    log_options.flush.least_pages = 0;
    log = std::make_unique<CommitLog>(log_options, files, logger);
    REQUIRE(log->load());
    REQUIRE(log->set_end({}));
    log->start();
    retention = std::make_unique<Retention>(Retention::Parts{*log, files, logger, log_options.directory,
                                                             log_options.directory, 0.9, [this] { return now; }},
                                            std::move(options));
  }
  ~LogBench() { REQUIRE(log->stop()); }

  void fill(int count) {
    message::RecordFields fields;
    const std::string body(1'000, 'b');
    fields.topic = "T";
    fields.body = body;
    const LogOffset until = (log->end() / kFileBytes + count) * kFileBytes;
    while (log->end() < until) {
      CommitLog::Unit unit;
      unit.bytes.resize(message::record_bytes(fields));
      message::encode_record(fields, 0, 0, unit.bytes.data());
      unit.record_bytes.push_back(static_cast<uint32_t>(unit.bytes.size()));
      unit.queue_key = "T-0";
      std::promise<bool> placed;
      log->append(std::move(unit), [&](Result<CommitLog::Placement> placement) { placed.set_value(bool(placement)); });
      REQUIRE(placed.get_future().get());
    }
    REQUIRE(test::eventually([&] { return log->flushed() == log->end(); }));
    now = wall_ms();
  }
  Retention::Round run(LogOffset removable = kNoLimit) {
    return retention->run(removable, [this](int64_t) {
      ++pauses;
      if (on_pause) on_pause();
      return true;
    });
  }
};

}  // namespace

TEST_CASE("Retention: what may go by hour, disk use and request", "[store][retention]") {
  RetentionOptions options;
  const int64_t now = wall_ms();
  options.delete_hours = {(hour_at(now) + 1) % 24};
  CHECK(clean_reason(options, now, 0.75, false) == CleanReason::kNone);
  CHECK(clean_reason(options, now, -1, false) == CleanReason::kNone);
  CHECK(clean_reason(options, now + kHourMs, 0.1, false) == CleanReason::kHour);
  CHECK(clean_reason(options, now, 0.76, false) == CleanReason::kDiskUse);
  CHECK(clean_reason(options, now, 0.85, false) == CleanReason::kDiskUse);
  CHECK(clean_reason(options, now, 0.86, false) == CleanReason::kForced);
  CHECK(clean_reason(options, now, 0.1, true) == CleanReason::kManual);
  options.clean_forcibly = false;
  CHECK(clean_reason(options, now, 0.99, false) == CleanReason::kDiskUse);
  options.delete_hours = {3, hour_at(now), 7};
  CHECK(clean_reason(options, now, 0.1, false) == CleanReason::kHour);
}

TEST_CASE("Retention: writes are refused above the warning level, and taken again at the lower one",
          "[store][retention]") {
  const RetentionOptions options;
  CHECK(!writes_refused(options, 0.9, 0.90, false));
  CHECK(writes_refused(options, 0.9, 0.91, false));
  CHECK(writes_refused(options, 0.9, 0.86, true));
  CHECK(!writes_refused(options, 0.9, 0.86, false));
  CHECK(!writes_refused(options, 0.9, 0.85, true));
  CHECK(!writes_refused(options, 0.5, 0.5, true));  // a warning level below the other one
  CHECK(writes_refused(options, 0.5, 0.51, true));
  CHECK(!writes_refused(options, 0.9, -1, true));
}

TEST_CASE("Retention: expired files go at the hour; nothing younger, and never the last", "[store][retention]") {
  LogBench bench;
  bench.fill(3);
  const int64_t full = bench.now;
  auto options = quick_retention();
  options.delete_hours = {hour_at(full + 71 * kHourMs), hour_at(full + 73 * kHourMs)};
  bench.retention->set_options(options);
  bench.now = full + 71 * kHourMs;  // the hour, but too young
  CHECK(bench.run().removed == 0);
  bench.now = full + 74 * kHourMs;  // old enough, but not the hour
  CHECK(bench.run().removed == 0);
  bench.now = full + 73 * kHourMs;
  CHECK(bench.run().removed == 3);
  CHECK(bench.log->begin() == 3 * kFileBytes);
  CHECK(bench.pauses == 2);
  CHECK(!fs::exists(bench.directory.path / "commitlog" / file_name_of(2 * kFileBytes)));
  CHECK(fs::exists(bench.directory.path / "commitlog" / file_name_of(3 * kFileBytes)));
  CHECK(bench.run().removed == 0);
}

TEST_CASE("Retention: above diskMaxUsedSpaceRatio only expired files go", "[store][retention]") {
  LogBench bench;
  bench.fill(3);
  bench.files.set_used_ratio(0.8);
  CHECK(bench.run().removed == 0);
  bench.now += 73 * kHourMs;
  CHECK(bench.run().removed == 3);
}

TEST_CASE("Retention: forced cleaning takes the oldest files, and no more than make room", "[store][retention]") {
  LogBench bench;
  bench.fill(5);
  bench.files.set_used_ratio(0.88);
  bench.on_pause = [&] {
    if (bench.pauses == 2) bench.files.set_used_ratio(0.84);
  };
  CHECK(bench.run().removed == 3);  // the use is looked at before the pause
  CHECK(bench.log->begin() == 3 * kFileBytes);
  CHECK(bench.run().removed == 0);
}

TEST_CASE("Retention: without cleanFileForciblyEnable nothing young goes on a full disk", "[store][retention]") {
  auto options = quick_retention();
  options.clean_forcibly = false;
  LogBench bench(options);
  bench.fill(2);
  bench.files.set_used_ratio(0.99);
  CHECK(bench.run().removed == 0);
}

TEST_CASE("Retention: a round is limited, and a request is good for 20 rounds", "[store][retention]") {
  auto options = quick_retention();
  options.files_max = 2;
  options.reserved_ms = 0;
  LogBench bench(options);
  bench.fill(5);
  CHECK(bench.run().removed == 0);
  bench.retention->clean_now();
  CHECK(bench.run().removed == 2);
  CHECK(bench.run().removed == 2);
  CHECK(bench.run().removed == 1);
  for (int round = 3; round < 20; ++round) CHECK(bench.run().removed == 0);
  bench.fill(1);
  CHECK(bench.run().removed == 0);
  bench.retention->clean_now();
  CHECK(bench.run().removed == 1);
}

TEST_CASE("Retention: files that the rest of the store has not passed are held back", "[store][retention]") {
  auto options = quick_retention();
  options.reserved_ms = 0;
  LogBench bench(options);
  bench.fill(3);
  bench.retention->clean_now();
  auto round = bench.run(kFileBytes);
  CHECK(round.removed == 1);
  CHECK(round.held_back);
  CHECK(bench.run(2 * kFileBytes - 1).removed == 0);
  CHECK(bench.run().removed == 2);
}

TEST_CASE("Retention: what is held of a file stays readable after it has gone", "[store][retention]") {
  LogBench bench;
  bench.fill(2);
  auto held = bench.log->read(0, 500);
  REQUIRE(held);
  const std::string before(held->bytes);
  std::weak_ptr<LogFile> file = bench.log->files().list().front();
  REQUIRE(bench.log->remove_files_before(kFileBytes));
  CHECK(!bench.log->read(0, 500));
  CHECK(file.expired());  // its descriptor, too
  CHECK(held->bytes == before);
}

TEST_CASE("Retention: a file that cannot be removed stays, and goes later", "[store][retention]") {
  LogBench bench;
  bench.fill(2);
  bench.now += 100 * kHourMs;
  bench.files.set_used_ratio(0.8);
  bench.files.fail(FileCall::kRemove, "commitlog", Errc::kIo);
  CHECK(bench.run().removed == 0);
  CHECK(bench.log->read(0, 500));
  bench.files.allow(FileCall::kRemove);
  CHECK(bench.run().removed == 2);
}

TEST_CASE("Retention: queues follow the log, and a restart finds the same", "[store][retention]") {
  Bench bench;
  bench.start();
  bench.fill("A", 3);
  const QueueOffset next = bench.fill("B", 3);
  put(bench.store(), "A", 0, "last");
  auto held = bench.store().get("B", 0, 0, {}, nullptr);
  REQUIRE(held.status == GetStatus::kFound);
  bench.expire_all();
  REQUIRE(test::eventually([&] { return bench.store().min_offset("B", 0) > 100; }));
  auto check = [&] {
    const QueueOffset min = bench.store().min_offset("B", 0);
    CHECK(min < next);
    CHECK(bench.store().max_offset("B", 0) == next);
    auto got = bench.store().get("B", 0, 0, {}, nullptr);
    CHECK(got.status == GetStatus::kOffsetTooSmall);
    CHECK(got.next_begin_offset == min);
    got = bench.store().get("B", 0, min, {}, nullptr);
    CHECK(got.status == GetStatus::kFound);
    CHECK(static_cast<QueueOffset>(got.records.size()) == std::min<QueueOffset>(32, next - min));
    const auto entry = bench.store().queue_entries("B", 0, min, 1).front();
    CHECK(entry.physical_offset >= bench.store().figures().log_min_offset);
    CHECK(bench.store().offset_by_time("B", 0, 0, TimeBoundary::kLower) == min);
    // 100 entries a file: only the one with the minimum and later ones are there.
    CHECK(!fs::exists(bench.directory.path / "consumequeue/B/0" / file_name_of(0)));
    CHECK(fs::exists(bench.directory.path / "consumequeue/B/0" / file_name_of(min / 100 * 2'000)));
    return min;
  };
  const QueueOffset min = check();
  CHECK(body_of(held.records.front()).front() == 'B');
  bench.restart();
  CHECK(check() == min);
  CHECK(put(bench.store(), "B", 0, "more").queue_offset == next);
}

TEST_CASE("Retention: a queue whose records have all expired goes on with its next offset", "[store][retention]") {
  Bench bench;
  bench.start();
  const QueueOffset next = bench.fill("Gone", 2);
  bench.fill("Other", 2);
  bench.expire_all();
  REQUIRE(test::eventually([&] { return bench.store().min_offset("Gone", 0) == next; }));
  CHECK(bench.store().max_offset("Gone", 0) == next);
  CHECK(bench.store().get("Gone", 0, 0, {}, nullptr).status == GetStatus::kOffsetTooSmall);
  const bool removed = GENERATE(false, true);
  if (removed) {
    auto count = bench.store().clean_expired_queues();
    REQUIRE(count);
    CHECK(*count == 1);
    CHECK(!fs::exists(bench.directory.path / "consumequeue/Gone"));
    CHECK(bench.store().topics() == std::vector<std::string>{"Other"});
  }
  const bool restarted = GENERATE(false, true);
  if (restarted) bench.restart();
  CHECK(put(bench.store(), "Gone", 0, "again").queue_offset == next);
  REQUIRE(bench.running->wait_for("Gone-0", next + 1));
  auto got = bench.store().get("Gone", 0, next, {}, nullptr);
  REQUIRE(got.records.size() == 1);
  CHECK(body_of(got.records[0]) == "again");
  CHECK(bench.store().min_offset("Gone", 0) == next);
}

TEST_CASE("Retention: files of queues that an administrator removed do not take the next offsets along",
          "[store][retention]") {
  Bench bench;
  bench.start();
  const QueueOffset next = bench.fill("Gone", 2);
  bench.fill("Other", 2);
  bench.expire_all();
  bench.running.reset();
  fs::remove_all(bench.directory.path / "consumequeue");
  bench.start();
  CHECK(put(bench.store(), "Gone", 0, "again").queue_offset == next);
}

TEST_CASE("Deleted topics: later messages go on with the next offsets, also after a crash", "[store][retention]") {
  Bench bench;
  bench.start();
  for (int i = 0; i < 7; ++i) put(bench.store(), "D", 0, "x");
  put(bench.store(), "Other", 0, "x");
  REQUIRE(bench.running->wait_for("D-0", 7));
  REQUIRE(bench.running->wait_for("Other-0", 1));
  bench.store().delete_topic("D");
  const bool crashed = GENERATE(false, true);
  Directory copies;
  if (crashed) {
    fs::copy(bench.directory.path, copies.path / "copy", fs::copy_options::recursive);
    Running again(small_options(copies.path / "copy"));
    CHECK(put(*again.store, "D", 0, "y").queue_offset == 7);
    return;
  }
  bench.restart();
  CHECK(bench.store().max_offset("D", 0) == 0);
  CHECK(put(bench.store(), "D", 0, "y").queue_offset == 7);
}

TEST_CASE("Retention: a crash before each removal leaves a store that starts and goes on", "[store][retention]") {
  Bench bench;
  Directory copies;
  std::atomic<int> crashes{0};
  bench.files.before_remove = [&](const std::string& path) {
    if (path.find("/commitlog/") == std::string::npos && path.find("/consumequeue/") == std::string::npos) return;
    fs::copy(bench.directory.path, copies.path / std::to_string(crashes), fs::copy_options::recursive);
    ++crashes;
  };
  bench.start();
  const QueueOffset gone = bench.fill("Gone", 2);
  const QueueOffset next = bench.fill("Stays", 3);
  bench.expire_all();
  REQUIRE(test::eventually([&] { return bench.store().min_offset("Stays", 0) > 100; }));
  bench.running.reset();
  REQUIRE(crashes >= 5);
  for (int i = 0; i < crashes; ++i) {
    INFO("crash " << i);
    Running again(small_options(copies.path / std::to_string(i)));
    const QueueOffset min = again.store->min_offset("Stays", 0);
    QueueOffset at = min;
    while (at < next) {
      auto got = again.store->get("Stays", 0, at, {}, nullptr);
      REQUIRE(got.status == GetStatus::kFound);
      at += static_cast<QueueOffset>(got.records.size());
      REQUIRE(got.next_begin_offset == at);
    }
    CHECK(put(*again.store, "Stays", 0, "x").queue_offset == next);
    CHECK(put(*again.store, "Gone", 0, "x").queue_offset == gone);
  }
}

TEST_CASE("Full disk: forced cleaning makes room, and writes are taken again by themselves", "[store][retention]") {
  Bench bench;
  auto options = bench.options();
  options.disk_used_ratio_max = 0.9;
  options.retention.clean_forcibly = false;
  bench.running = std::make_unique<Running>(options, bench.files);
  bench.fill("F", 4);
  // Each file is 3 % of the disk.
  bench.files.before_remove = [&](const std::string& path) {
    if (path.find("/commitlog/") != std::string::npos) bench.files.set_used_ratio(bench.files.used_ratio("") - 0.03);
  };
  bench.files.set_used_ratio(0.92);
  REQUIRE(test::eventually([&] { return !bench.store().writable(); }));
  CHECK(bench.running->logged("the disk is full: 92 % used, writes are taken again at 85 %"));
  CHECK(put(bench.store(), "F", 0, "x").status == PutStatus::kServiceNotAvailable);
  CHECK(bench.store().get("F", 0, 0, {}, nullptr).status == GetStatus::kFound);
  options.retention.clean_forcibly = true;
  bench.store().set_retention(options.retention);
  REQUIRE(test::eventually([&] { return bench.running->logged("there is room on the disk again"); }));
  CHECK(bench.store().figures().log_min_offset == 3 * kFileBytes);
  CHECK(put(bench.store(), "F", 0, "x").status == PutStatus::kOk);
}

TEST_CASE("Floor table: offsets that damage took from the end of a queue are not given again", "[store][retention]") {
  Bench bench;
  LogOffset lost = 0, end = 0;
  bench.start();
  for (int i = 0; i < 20; ++i) {
    if (i == 15) lost = bench.store().figures().log_max_offset;
    put(bench.store(), "L", 0, std::to_string(i));
  }
  REQUIRE(bench.running->wait_for("L-0", 20));
  end = bench.store().figures().log_max_offset;
  bench.running.reset();
  {
    std::fstream log(bench.directory.path / "commitlog" / file_name_of(0),
                     std::ios::in | std::ios::out | std::ios::binary);
    log.seekp(lost);
    log << std::string(static_cast<size_t>(end - lost), '\0');
    std::ofstream(bench.directory.path / "abort") << 1;
  }
  bench.start();
  CHECK(bench.running->logged("queue L-0: messages 15 to 19 are lost; the next one is 20"));
  CHECK(bench.store().max_offset("L", 0) == 15);
  CHECK(put(bench.store(), "L", 0, "20").queue_offset == 20);
  REQUIRE(bench.running->wait_for("L-0", 21));
  auto check = [&] {
    auto got = bench.store().get("L", 0, 15, {}, nullptr);
    REQUIRE(got.records.size() == 1);
    CHECK(body_of(got.records[0]) == "20");
    CHECK(got.next_begin_offset == 21);
    CHECK(bench.store().get("L", 0, 0, {}, nullptr).records.size() == 15);
    CHECK(bench.store().min_offset("L", 0) == 0);
  };
  check();
  bench.restart();
  check();
}

TEST_CASE("Retention: while files and queues go, nothing that is there is missed", "[store][retention]") {
  Bench bench;
  auto options = bench.options();
  options.retention.reserved_ms = 0;
  options.now_ms = nullptr;
  options.keep_interval_ms = 1;
  options.retention.interval_ms = 0;
  bench.running = std::make_unique<Running>(options, bench.files);
  auto& store = bench.store();
  constexpr int kCount = 2'000;
  std::atomic<bool> written{false}, refused{false};
  std::thread writer([&] {
    const std::string body(1'000, 'b');
    for (int i = 0; i < kCount; ++i) {
      auto result = put_if_answered(store, "W", 0, std::to_string(i) + ":" + body);
      if (!result || result->queue_offset != i) {
        refused = true;
        break;
      }
      // One message in a queue of its own, which expires again and again.
      if (i % 100 == 0) put_if_answered(store, "Rare", 0, std::to_string(i / 100));
    }
    written = true;
  });
  std::thread cleaner([&] {
    while (!written) {
      store.clean_expired_files();
      store.clean_expired_queues().ignore("the next one");
    }
  });
  QueueOffset at = 0;
  int64_t damaged = 0, skipped = 0;
  while (at < kCount && !refused) {
    auto got = store.get("W", 0, at, {}, nullptr);
    for (const auto& record : got.records) {
      auto decoded = message::decode_record(record.bytes);
      damaged += !decoded || decoded->body.substr(0, decoded->body.find(':')) != std::to_string(decoded->queue_offset);
    }
    if (got.status == GetStatus::kOffsetTooSmall) skipped += got.next_begin_offset - at;
    if (got.status == GetStatus::kFound || got.status == GetStatus::kOffsetTooSmall ||
        got.status == GetStatus::kMessageWasRemoving)
      at = got.next_begin_offset;
  }
  writer.join();
  cleaner.join();
  CHECK(damaged == 0);
  CHECK(skipped < kCount);
  REQUIRE(bench.running->wait_for("Rare-0", kCount / 100));
  CHECK(store.max_offset("W", 0) == kCount);
  REQUIRE(test::eventually([&] { return store.figures().log_min_offset > 0; }));
  // What has not expired is there, entry for entry; a round may still be going on.
  CHECK(test::eventually([&] {
    QueueOffset left = store.min_offset("W", 0);
    while (left < kCount) {
      auto got = store.get("W", 0, left, {}, nullptr);
      if (got.status != GetStatus::kFound) return false;
      left = got.next_begin_offset;
    }
    return true;
  }));
}

TEST_CASE("Expired queues: an entry that comes while its queue goes is not lost", "[store][retention]") {
  Directory directory;
  Logger logger;
  auto& files = io::posix_file_system();
  ConsumeQueues queues(directory.path / "consumequeue", directory.path / "trash", 200, files, logger);
  REQUIRE(queues.load(0, 0, 0, false));
  auto queue = queues.find_or_create("T", 0);
  REQUIRE(queue->append(0, {{0, 50, 1}, {50, 50, 1}}));
  queues.set_log_begin(100);
  auto expired = queues.expired();
  REQUIRE(expired.size() == 1);
  CHECK(expired[0].next == 2);
  REQUIRE(queue->append(2, {{100, 50, 1}}));  // in between
  CHECK(queues.remove_expired(expired) == 0);
  CHECK(queues.find("T", 0) == queue);
  queues.set_log_begin(150);
  CHECK(queues.remove_expired(queues.expired()) == 1);
  CHECK(!queues.find("T", 0));
  auto late = queue->append(3, {{150, 50, 1}});
  REQUIRE(!late);
  CHECK(late.error().code == Errc::kClosed);
  REQUIRE(queues.find_or_create("T", 0)->append(3, {{150, 50, 1}}));
  CHECK(queues.find("T", 0)->min() == 3);
  CHECK(queues.find("T", 0)->max() == 4);
}

TEST_CASE("Floor table: never falls, survives damage, and waits for the log", "[store][retention]") {
  Directory directory;
  Logger logger;
  auto& files = io::posix_file_system();
  const std::string path = directory.path / "queueFloors";
  {
    QueueFloors floors(path, files, logger);
    REQUIRE(floors.load());
    floors.retire({{"T-0", 5}, {"T-1", 9}, {"Empty-0", 0}});
    floors.retire({{"T-0", 3}});
    REQUIRE(floors.save());
    floors.propose({{"T-0", {8, 700, 2, 100}}}, 1'000, 1'500);
    REQUIRE(floors.save_proposed(1'499));
    CHECK(floors.covered() == 0);
    CHECK(floors.of("T-0") == 5);
    REQUIRE(floors.save_proposed(1'500));
    CHECK(floors.covered() == 1'000);
  }
  QueueFloors again(path, files, logger);
  REQUIRE(again.load());
  CHECK(again.of("T-0") == 8);
  CHECK(again.of("T-1") == 9);
  CHECK(again.all() == QueueFloors::Floors{{"T-0", {8, 700, 2, 100}}, {"T-1", {9, -1, 9, -1}}});
  CHECK(again.joined({{"T-0", 10}, {"T-1", 2}, {"New-0", 0}}) ==
        QueueFloors::Offsets{{"New-0", 0}, {"T-0", 10}, {"T-1", 9}});
  fs::resize_file(path, fs::file_size(path) - 1);
  QueueFloors damaged(path, files, logger);
  REQUIRE(damaged.load());
  CHECK(damaged.of("T-0") == 0);
}

}  // namespace apogee::store
