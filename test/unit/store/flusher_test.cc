// When the log is synced under ASYNC_FLUSH, and what is asked of the file system for it.
#include "store/flusher.h"

#include <future>

#include "store/commit_log.h"
#include "test/support/wait.h"
#include "test/unit/store/fault_file_system.h"
#include "test/unit/store/store_bench.h"

namespace apogee::store {

namespace {

struct RunningLog {
  Directory directory;
  FaultFileSystem files;
  Logger logger;
  CommitLog log;

  explicit RunningLog(Flusher::Options flush, int64_t file_bytes = 1 << 20)
      : log(options(directory, flush, file_bytes), files, logger) {
    REQUIRE(log.load());
    REQUIRE(log.set_end({}));
    log.start();
  }
  ~RunningLog() { log.stop().ignore("told by the log"); }
  static CommitLog::Options options(const Directory& directory, Flusher::Options flush, int64_t file_bytes) {
    CommitLog::Options options;
    options.directory = (directory.path / "commitlog").string();
    options.file_bytes = file_bytes;
    options.flush = flush;
    return options;
  }
  void append(size_t body_bytes) {
    const std::string body(body_bytes, 'b');
    message::RecordFields fields;
    fields.topic = "T";
    fields.body = body;
    CommitLog::Unit unit;
    unit.bytes = message::encode_record(fields, 0, 0);
    unit.record_bytes.push_back(static_cast<uint32_t>(unit.bytes.size()));
    unit.queue_key = "T-0";
    std::promise<bool> placed;
    log.append(std::move(unit), [&](Result<CommitLog::Placement> placement) { placed.set_value(bool(placement)); });
    REQUIRE(placed.get_future().get());
  }
  bool flushed() {
    return test::eventually([&] { return log.flushed() == log.end(); });
  }
  /// Has its first message on disk; notes where syncs end from then on.
  void begin() {
    files.after_sync_of_range = [this](int64_t offset, int64_t bytes) { synced_to.push_back(offset + bytes); };
    append(10);  // the file is there now
    REQUIRE(flushed());
    synced_to.clear();
  }
  std::vector<LogOffset> synced_to;
};

}  // namespace

TEST_CASE("Flusher: a few dirty pages wait for more, or for the thorough interval", "[store][flusher]") {
  Flusher::Options flush;
  flush.interval_ms = 1;
  flush.least_pages = 4;
  flush.thorough_interval_ms = 3'600'000;
  RunningLog waiting(flush);
  waiting.append(5'000);
  test::pause(std::chrono::milliseconds(50));  // 50 intervals
  CHECK(waiting.log.flushed() == 0);
  waiting.append(12'000);
  CHECK(waiting.flushed());

  flush.thorough_interval_ms = 20;
  RunningLog thorough(flush);
  thorough.append(10);
  CHECK(thorough.flushed());
}

TEST_CASE("Flusher: the tail of a log that grows by much stays writable until the next interval", "[store][flusher]") {
  Flusher::Options flush;
  flush.interval_ms = flush.thorough_interval_ms = 1;
  RunningLog running(flush, 8 << 20);
  running.begin();
  running.files.hold_syncs("commitlog");
  running.append(5'000);
  REQUIRE(running.files.wait_for_held_sync());
  const LogOffset before = running.log.end();
  std::vector<LogOffset> ends;
  for (int i = 0; i < 1'000; ++i) {
    running.append(2'500);
    ends.push_back(running.log.end());
  }
  running.files.release_syncs();
  REQUIRE(running.flushed());
  REQUIRE(running.log.stop());
  const LogOffset end = running.log.end(), piece = end / io::zeros_piece(false) * io::zeros_piece(false);
  // Where a message ends: a slave may acknowledge what it has synced.
  const LogOffset whole = *std::prev(std::upper_bound(ends.begin(), ends.end(), piece));
  CHECK(running.synced_to == std::vector<LogOffset>{before, whole, end});
}

TEST_CASE("Flusher: of one unit that is larger than all before it nothing is left", "[store][flusher]") {
  Flusher::Options flush;
  flush.interval_ms = flush.thorough_interval_ms = 1;
  RunningLog running(flush, 8 << 20);
  running.begin();
  running.append(2'500'000);
  REQUIRE(running.flushed());
  REQUIRE(running.log.stop());
  CHECK(running.synced_to == std::vector<LogOffset>{running.log.end()});
}

TEST_CASE("Flusher: a stop syncs what is left", "[store][flusher]") {
  Flusher::Options flush;
  flush.thorough_interval_ms = flush.interval_ms = 3'600'000;
  RunningLog running(flush);
  running.append(10);
  CHECK(running.log.flushed() == 0);
  REQUIRE(running.log.stop());
  CHECK(running.log.flushed() == running.log.end());
}

TEST_CASE("Flusher: the log is synced across the border of files", "[store][flusher]") {
  Flusher::Options flush;
  flush.sync_flush = true;
  RunningLog running(flush, 64 * 1024);
  for (int i = 0; i < 40; ++i) running.append(5'000);
  CHECK(running.log.end() > 3 * 64 * 1024);
  CHECK(running.log.flushed() == running.log.end());
}

}  // namespace apogee::store
