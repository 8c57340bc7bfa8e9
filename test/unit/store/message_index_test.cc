#include "store/message_index.h"

#include <rocksdb/db.h>
#include <rocksdb/env.h>
#include <rocksdb/file_system.h>

#include <fstream>
#include <map>
#include <random>

#include "common/message/properties.h"
#include "common/message/sys_flag.h"
#include "test/support/wait.h"
#include "test/unit/store/store_bench.h"

using namespace apogee;
using namespace apogee::store;
using apogee::test::eventually;

namespace {

struct Keyed {
  std::string topic = "T", keys, unique;
  int64_t time_ms = 1'000;
  int32_t sys_flag = 0;
  std::string body = "b";
};

/// A log in memory, of one file, that grows as told. Thread: one that adds, any that read.
struct FakeLog {
  std::mutex mutex;
  std::shared_ptr<std::string> bytes = std::make_shared<std::string>();  // guarded by mutex; never moves
  std::atomic<LogOffset> begin{0}, end{0};

  FakeLog() { bytes->resize(4 << 20); }
  LogOffset add(const Keyed& message) {
    std::lock_guard lock(mutex);
    std::string properties;
    message::append_property(properties, "UNIQ_KEY", message.unique);
    message::append_property(properties, "KEYS", message.keys);
    message::RecordFields fields;
    fields.topic = message.topic;
    fields.sys_flag = message.sys_flag;
    fields.born_timestamp_ms = fields.store_timestamp_ms = message.time_ms;
    fields.born_host = fields.store_host = {std::string_view("\x7f\0\0\1", 4), 1};
    fields.body = message.body;
    fields.properties = properties;
    LogOffset at = end;
    REQUIRE(at + static_cast<LogOffset>(message::record_bytes(fields)) < static_cast<LogOffset>(bytes->size()));
    message::encode_record(fields, 0, at, bytes->data() + at);
    end = at + static_cast<LogOffset>(message::record_bytes(fields));
    return at;
  }
  std::optional<SharedBytes> read(LogOffset from, LogOffset to) {
    if (from < begin || from >= to || to > end) return std::nullopt;
    return SharedBytes{bytes,
                       std::string_view(*bytes).substr(static_cast<size_t>(from), static_cast<size_t>(to - from))};
  }
  MessageIndex::Log reader() {
    MessageIndex::Log log;
    log.begin = [this] { return begin.load(); };
    log.readable_end = [this] { return end.load(); };
    log.read_up_to = [this](LogOffset from, LogOffset to) { return read(from, to); };
    log.record_at = [this](LogOffset offset) -> std::optional<SharedBytes> {
      auto rest = read(offset, end);
      if (!rest) return std::nullopt;
      auto there = look_at(rest->bytes, offset, false);
      if (there.kind != LogPosition::Kind::kRecord) return std::nullopt;
      return SharedBytes{rest->owner, rest->bytes.substr(0, static_cast<size_t>(there.bytes))};
    };
    log.end_of_hole = [](LogOffset) -> LogOffset { return -1; };
    log.next_record = [this](LogOffset from) -> LogOffset {
      for (LogOffset at = from; at < end; ++at)
        if (look_at(read(at, end)->bytes, at, true).kind == LogPosition::Kind::kRecord) return at;
      return -1;
    };
    return log;
  }
};

struct Bench {
  FakeLog& log;
  std::vector<std::string> lines;  // guarded by mutex
  std::mutex mutex;
  Logger logger;
  std::unique_ptr<MessageIndex> index;

  static MessageIndex::Options options_for(const fs::path& directory) {
    MessageIndex::Options options;
    options.db.directory = directory.string();
    options.batch_interval = options.retry_interval = std::chrono::milliseconds(1);
    return options;
  }
  Bench(FakeLog& l, MessageIndex::Options options)
      : log(l), logger([this](LogLevel, std::string_view line) {
          std::lock_guard lock(mutex);
          lines.emplace_back(line);
        }) {
    index = std::make_unique<MessageIndex>(log.reader(), std::move(options), io::posix_file_system(), logger);
    index->start();
  }
  void settle() {
    index->wake();
    REQUIRE(eventually([this] {
      index->wake();
      return index->position() == log.end;
    }));
  }
  bool logged(std::string_view part) {
    std::lock_guard lock(mutex);
    return std::any_of(lines.begin(), lines.end(), [&](const auto& line) { return line.find(part) != line.npos; });
  }
  KeyAnswer ask(KeyQuery query) {
    auto answer = index->query(query);
    if (!answer) FAIL(answer.error().message);
    return std::move(*answer);
  }
  std::vector<LogOffset> offsets(const KeyQuery& query) {
    std::vector<LogOffset> found;
    for (const auto& record : ask(query).records)
      found.push_back(message::decode_record(record.bytes)->physical_offset);
    return found;
  }
};

KeyQuery by(std::string_view key, std::string_view topic = "T") {
  KeyQuery query;
  query.topic = topic;
  query.key = key;
  return query;
}

uint64_t one_hash(uint64_t, std::string_view) { return 42; }

std::map<std::string, uintmax_t> sizes_in(const fs::path& directory) {
  std::map<std::string, uintmax_t> sizes;
  std::error_code gone;
  for (const auto& entry : fs::directory_iterator(directory))
    sizes[entry.path().filename().string()] = fs::file_size(entry.path(), gone);
  return sizes;
}

/// Copies what a kill -9 right now would leave; again, when the database has changed its files meanwhile.
void copy_live(const fs::path& from, const fs::path& to) {
  REQUIRE(eventually([&] {
    fs::remove_all(to);
    fs::create_directories(to);
    auto before = sizes_in(from);
    for (const auto& [name, size] : before) {
      std::error_code gone;
      if (name != "LOCK") fs::copy_file(from / name, to / name, gone);
      if (gone) return false;
    }
    return sizes_in(from) == before && sizes_in(to).size() + 1 == before.size();
  }));
}

}  // namespace

TEST_CASE("MessageIndex: finds messages by unique id and by each word of KEYS, within their topic", "[store][index]") {
  Directory directory;
  FakeLog log;
  auto first = log.add({"T", "order-1 order-2", "U1"});
  auto second = log.add({"T", "  order-2   x ", "U2", 1'001});
  log.add({"Other", "order-2", "U1"});
  log.add({"T", "", ""});
  Bench bench(log, Bench::options_for(directory.path / "indexdb"));
  bench.settle();
  using Offsets = std::vector<LogOffset>;
  CHECK(bench.offsets(by("U1")) == Offsets{first});
  CHECK(bench.offsets(by("order-1")) == Offsets{first});
  CHECK(bench.offsets(by("order-2")) == Offsets{second, first});
  CHECK(bench.offsets(by("x")) == Offsets{second});
  CHECK(bench.offsets(by("order-2", "Other")).size() == 1);
  for (std::string_view none : {"order-", "order-1 order-2", "", " ", "u1", "U3"})
    CHECK(bench.offsets(by(none)).empty());
  auto answer = bench.ask(by("x"));
  CHECK(answer.incomplete.empty());
  CHECK_FALSE(answer.truncated);
  CHECK(answer.last_update_ms == 1'000);
  CHECK(answer.last_update_offset > second);
  CHECK(bench.index->entries_total() == 8);
}

TEST_CASE("MessageIndex: half messages and commits are found, rollbacks are not", "[store][index]") {
  Directory directory;
  FakeLog log;
  log.add({"T", "k", "U", 1, message::sys_flag::kTransactionPrepared});
  log.add({"T", "k", "U", 2, message::sys_flag::kTransactionCommit});
  log.add({"T", "k", "U", 3, message::sys_flag::kTransactionRollback});
  Bench bench(log, Bench::options_for(directory.path / "indexdb"));
  bench.settle();
  CHECK(bench.offsets(by("k")).size() == 2);
}

TEST_CASE("MessageIndex: time range, both orders, duplicates, count and bytes, as a plain list has them",
          "[store][index]") {
  Directory directory;
  FakeLog log;
  struct Stored {
    std::string key;
    int64_t time_ms;
    LogOffset offset;
  };
  std::vector<Stored> stored;
  std::mt19937 random(7);
  int64_t time_ms = 1'000;
  for (int i = 0; i < 3'000; ++i) {
    if (random() % 3 == 0) time_ms += random() % 3;
    auto key = "k" + std::to_string(random() % 20);
    stored.push_back({key, time_ms, log.add({"T", key + " all", "U" + std::to_string(i % 1'500), time_ms})});
  }
  auto options = Bench::options_for(directory.path / "indexdb");
  // Half of the runs with every key in one hash: what does not belong is told apart by the record.
  if (GENERATE(false, true)) options.hash = one_hash;
  Bench bench(log, options);
  bench.settle();
  for (int round = 0; round < 200; ++round) {
    auto query = by("all");
    std::string key = "k" + std::to_string(random() % 22);
    if (round % 4 != 0) query.key = key;
    query.begin_ms = 990 + random() % (time_ms - 980);
    query.end_ms = query.begin_ms + random() % 200 - 5;
    if (round % 5 == 0) query.begin_ms = INT64_MIN, query.end_ms = INT64_MAX;
    query.count_max = static_cast<int32_t>(random() % 70);
    query.order = round % 2 == 0 ? IndexOrder::kNewestFirst : IndexOrder::kOldestFirst;
    std::vector<LogOffset> expected;
    for (const auto& each : stored)
      if ((query.key == "all" || query.key == each.key) && each.time_ms >= query.begin_ms &&
          each.time_ms <= query.end_ms)
        expected.push_back(each.offset);
    if (query.order == IndexOrder::kNewestFirst) std::reverse(expected.begin(), expected.end());
    const bool more = static_cast<int32_t>(expected.size()) > query.count_max;
    if (more) expected.resize(static_cast<size_t>(query.count_max));
    INFO("round " << round);
    REQUIRE(bench.offsets(query) == expected);
    if (query.count_max > 0) REQUIRE(bench.ask(query).truncated == more);
  }
  CHECK(bench.offsets(by("U7")).size() == 2);  // sent twice
  auto few = by("all");
  few.count_max = 1'000;
  few.bytes_max = 1'000;
  auto answer = bench.ask(few);
  CHECK(answer.truncated);
  CHECK(answer.records.size() > 2);
  CHECK(answer.records.size() < 10);
  few.bytes_max = 1;
  CHECK(bench.ask(few).records.size() == 1);
}

TEST_CASE("MessageIndex: what a kill leaves is never ahead of its entries, and is made whole again", "[store][index]") {
  Directory directory;
  FakeLog log;
  const auto live = directory.path / "indexdb";
  auto options = Bench::options_for(live);
  options.flush_interval = std::chrono::milliseconds(GENERATE(0, 1, 20, 3'600'000));
  options.db.staged_bytes = 4 << 10;
  Bench bench(log, options);
  std::mt19937 random(11);
  int sent = 0;
  for (int round = 0; round < 4; ++round) {
    for (int i = 0; i < 400; ++i) {
      log.add({"T", "k" + std::to_string(sent % 7), "U" + std::to_string(sent), 1'000 + sent});
      ++sent;
      if (random() % 8 == 0) bench.index->wake();
    }
    if (round % 2 == 0) bench.settle();
    const auto left = directory.path / ("left" + std::to_string(round));
    copy_live(live, left);
    LogOffset found = -1;
    {
      // What the copy claims, it has.
      auto begin = std::make_shared<std::atomic<LogOffset>>(0);
      IndexDb::Options copied;
      copied.directory = left.string();
      auto db = IndexDb::open(copied, begin);
      if (!db) FAIL(db.error().message);
      found = (*db)->progress().position;
      REQUIRE(found <= log.end);
      for (int i = 0; i < sent; ++i) {
        int entries = 0;
        LogOffset at = -1;
        auto visit = [&](const IndexEntry& entry) { return ++entries, at = entry.offset, true; };
        REQUIRE((*db)->scan(index_hash("T", "U" + std::to_string(i)), 0, INT64_MAX, IndexOrder::kOldestFirst, visit));
        if (entries > 0) REQUIRE(at < found);
        if (i == 0 && found > 0) REQUIRE(entries == 1);
        if (entries == 0) {
          // Nothing behind the first one that is missing, and the position is not either.
          REQUIRE(bench.offsets(by("U" + std::to_string(i))).size() <= 1);
          auto missing = bench.index->query(by("U" + std::to_string(i)));
          REQUIRE(missing);
          if (!missing->records.empty())
            REQUIRE(message::decode_record(missing->records[0].bytes)->physical_offset >= found);
        }
      }
    }
    Bench again(log, Bench::options_for(left));
    again.settle();
    for (int i = 0; i < sent; ++i) REQUIRE(again.offsets(by("U" + std::to_string(i))).size() == 1);
  }
}

TEST_CASE("MessageIndex: a log that lost its tail is indexed again from where both agree", "[store][index]") {
  Directory directory;
  FakeLog log;
  auto options = Bench::options_for(directory.path / "indexdb");
  log.add({"T", "k", "U0", 1'000});
  { Bench(log, options).settle(); }
  auto kept = log.add({"T", "k", "U1", 1'001});
  LogOffset cut = log.end;
  log.add({"T", "k", "lost", 1'002});
  { Bench(log, options).settle(); }
  log.end = cut;
  // The same place, the same key, another message.
  auto other = log.add({"T", "k", "here", 1'009});
  Bench bench(log, options);
  bench.settle();
  CHECK(bench.logged("the log agrees with it up to"));
  CHECK(bench.offsets(by("lost")).empty());
  CHECK(bench.offsets(by("here")) == std::vector<LogOffset>{other});
  CHECK(bench.offsets(by("k")) == std::vector<LogOffset>{other, kept, 0});
}

TEST_CASE("MessageIndex: deleted, damaged and foreign databases are built anew", "[store][index]") {
  Directory directory;
  FakeLog log;
  const auto path = directory.path / "indexdb";
  auto options = Bench::options_for(path);
  for (int i = 0; i < 500; ++i) log.add({"T", "k", "U" + std::to_string(i), 1'000 + i});
  { Bench(log, options).settle(); }
  auto overwrite = [&](const std::string& extension, std::streamoff from) {
    for (const auto& entry : fs::directory_iterator(path)) {
      auto name = entry.path().filename().string();
      if (name.find(extension) == std::string::npos) continue;
      std::fstream file(entry.path(), std::ios::in | std::ios::out | std::ios::binary);
      file.seekp(from);
      file << "this is no longer what it was";
    }
  };
  bool told = true;
  SECTION("deleted") { told = false, fs::remove_all(path); }
  SECTION("CURRENT damaged") { overwrite("CURRENT", 0); }
  SECTION("manifest damaged") { overwrite("MANIFEST", 3); }
  SECTION("blocks damaged") { overwrite(".sst", 5); }
  SECTION("tables deleted") {
    for (const auto& entry : fs::directory_iterator(path))
      if (entry.path().extension() == ".sst") fs::remove(entry.path());
  }
  SECTION("a file in its place") {
    fs::remove_all(path);
    std::ofstream(path) << "x";
  }
  SECTION("another format") {
    rocksdb::DB* db = nullptr;
    REQUIRE(rocksdb::DB::Open({}, path.string(), &db).ok());
    REQUIRE(db->Put({}, "index.format", "0").ok());
    delete db;
  }
  SECTION("another database") {
    fs::remove_all(path);
    rocksdb::Options create;
    create.create_if_missing = true;
    rocksdb::DB* db = nullptr;
    REQUIRE(rocksdb::DB::Open(create, path.string(), &db).ok());
    REQUIRE(db->Put({}, "something", "else").ok());
    delete db;
  }
  Bench bench(log, options);
  auto all_found = [&] {
    for (int i = 0; i < 500; ++i) {
      auto answer = bench.index->query(by("U" + std::to_string(i)));
      if (!answer || answer->records.size() != 1) return false;
    }
    return true;
  };
  CHECK(eventually(all_found));
  CHECK(bench.logged(told ? "built anew" : "being built from the log"));
  CHECK(eventually([&] { return bench.ask(by("U1")).incomplete.empty(); }));
}

TEST_CASE("MessageIndex: entries disappear with their log files", "[store][index]") {
  Directory directory;
  FakeLog log;
  std::vector<LogOffset> offsets;
  for (int i = 0; i < 1'000; ++i) offsets.push_back(log.add({"T", "k", "U" + std::to_string(i), 1'000 + i}));
  auto options = Bench::options_for(directory.path / "indexdb");
  {
    Bench bench(log, options);
    bench.settle();
    log.begin = offsets[600];
    CHECK(bench.offsets(by("U599")).empty());
    CHECK(bench.offsets(by("U600")).size() == 1);
    auto all = by("k");
    all.count_max = 5'000;
    CHECK(bench.offsets(all).size() == 400);
  }
  auto begin = std::make_shared<std::atomic<LogOffset>>(offsets[600]);
  auto db = IndexDb::open(options.db, begin);
  REQUIRE(db);
  const auto position = (*db)->progress().position;
  REQUIRE((*db)->compact());
  int left = 0;
  REQUIRE((*db)->scan(index_hash("T", "k"), 0, INT64_MAX, IndexOrder::kOldestFirst,
                      [&](const IndexEntry& entry) { return ++left, entry.offset >= offsets[600]; }));
  CHECK(left == 400);
  CHECK((*db)->progress().position == position);
  // The log has gone on without the index.
  db->reset();
  log.begin = log.end.load();
  auto late = log.add({"T", "k", "late", 9'000});
  Bench bench(log, options);
  bench.settle();
  CHECK(bench.offsets(by("k")) == std::vector<LogOffset>{late});
}

TEST_CASE("MessageIndex: what is no message in the log is passed over", "[store][index]") {
  Directory directory;
  FakeLog log;
  log.add({"T", "k", "U0"});
  auto bad = log.add({"T", "k", "U1"});
  log.add({"T", "k", "U2"});
  log.bytes->replace(static_cast<size_t>(bad), 80, 80, 'x');
  Bench bench(log, Bench::options_for(directory.path / "indexdb"));
  bench.settle();
  CHECK(bench.offsets(by("U0")).size() == 1);
  CHECK(bench.offsets(by("U1")).empty());
  CHECK(bench.offsets(by("U2")).size() == 1);
  CHECK(bench.logged("no message at"));
}

namespace {

/// A disk that takes nothing more for a while. Thread: any.
class FullDisk final : public rocksdb::FileSystemWrapper {
 public:
  FullDisk() : FileSystemWrapper(rocksdb::FileSystem::Default()) {}
  const char* Name() const override { return "FullDisk"; }
  std::atomic<bool> full{false}, broken{false};

  [[nodiscard]] rocksdb::IOStatus state() const {
    if (full) return rocksdb::IOStatus::NoSpace("injected");
    if (broken) return rocksdb::IOStatus::IOError("injected");
    return rocksdb::IOStatus::OK();
  }
  rocksdb::IOStatus NewWritableFile(const std::string& name, const rocksdb::FileOptions& options,
                                    std::unique_ptr<rocksdb::FSWritableFile>* file,
                                    rocksdb::IODebugContext* context) override {
    if (auto now = state(); !now.ok()) return now;
    std::unique_ptr<rocksdb::FSWritableFile> opened;
    auto status = FileSystemWrapper::NewWritableFile(name, options, &opened, context);
    if (status.ok()) *file = std::make_unique<Writable>(std::move(opened), *this);
    return status;
  }

 private:
  class Writable final : public rocksdb::FSWritableFileOwnerWrapper {
   public:
    Writable(std::unique_ptr<rocksdb::FSWritableFile> file, const FullDisk& disk)
        : FSWritableFileOwnerWrapper(std::move(file)), disk_(disk) {}
    rocksdb::IOStatus Append(const rocksdb::Slice& data, const rocksdb::IOOptions& options,
                             rocksdb::IODebugContext* context) override {
      auto now = disk_.state();
      return now.ok() ? FSWritableFileOwnerWrapper::Append(data, options, context) : now;
    }
    rocksdb::IOStatus Append(const rocksdb::Slice& data, const rocksdb::IOOptions& options,
                             const rocksdb::DataVerificationInfo& /*info*/, rocksdb::IODebugContext* context) override {
      return Append(data, options, context);
    }
    rocksdb::IOStatus Sync(const rocksdb::IOOptions& options, rocksdb::IODebugContext* context) override {
      auto now = disk_.state();
      return now.ok() ? FSWritableFileOwnerWrapper::Sync(options, context) : now;
    }

   private:
    const FullDisk& disk_;
  };
};

}  // namespace

TEST_CASE("MessageIndex: a disk that is full or fails is waited for, and nothing is lost from it", "[store][index]") {
  Directory directory;
  FakeLog log;
  auto disk = std::make_shared<FullDisk>();
  auto env = rocksdb::NewCompositeEnv(disk);
  auto options = Bench::options_for(directory.path / "indexdb");
  options.db.env = env.get();
  options.db.staged_bytes = 4 << 10;
  options.flush_interval = std::chrono::milliseconds(5);
  const bool full = GENERATE(true, false), stop_meanwhile = GENERATE(false, true),
             from_the_start = GENERATE(false, true);
  auto& failing = full ? disk->full : disk->broken;
  failing = from_the_start;
  auto bench = std::make_unique<Bench>(log, options);
  int sent = 0;
  auto send = [&](int count) {
    for (; count > 0; --count, ++sent) {
      log.add({"T", "k", "U" + std::to_string(sent), 1'000 + sent});
      if (sent % 10 == 0) bench->index->wake();
    }
  };
  send(500);
  if (!from_the_start) bench->settle();
  failing = true;
  send(3'000);
  REQUIRE(eventually([&] {
    bench->index->wake();
    return bench->logged(full ? "No space left" : "injected");
  }));
  auto meanwhile = bench->index->query(by("U1"));
  if (meanwhile && !from_the_start) CHECK(meanwhile->records.size() == 1);
  CHECK((!meanwhile || !meanwhile->incomplete.empty()));
  if (stop_meanwhile) {
    bench.reset();
    failing = false;
    bench = std::make_unique<Bench>(log, options);
  }
  failing = false;
  // It may be opened once more meanwhile, and go back to its checkpoint for that.
  auto found = [&](int number) {
    bench->index->wake();
    auto answer = bench->index->query(by("U" + std::to_string(number)));
    return answer && answer->incomplete.empty() && answer->records.size() == 1;
  };
  for (int i = 0; i < sent; ++i) REQUIRE(eventually([&] { return found(i); }));
  send(10);
  CHECK(eventually([&] { return found(sent - 1); }));
  bench.reset();
}

TEST_CASE("MessageIndex: while it is built, queries give what is there and say that more may come", "[store][index]") {
  Directory directory;
  FakeLog log;
  for (int i = 0; i < 100; ++i) log.add({"T", "k", "U" + std::to_string(i), 1'000 + i});
  auto reader = log.reader();
  std::atomic<bool> open{false};
  auto read = reader.read_up_to;
  // The disk gives a little, and no more until it is told to.
  reader.read_up_to = [&](LogOffset from, LogOffset end) -> std::optional<SharedBytes> {
    if (from == 0) return read(0, end / 100);
    while (!open) std::this_thread::yield();
    return read(from, end);
  };
  Logger quiet;
  MessageIndex index(reader, Bench::options_for(directory.path / "indexdb"), io::posix_file_system(), quiet);
  index.start();
  REQUIRE(eventually([&] { return index.position() > 0; }));
  auto some = index.query(by("k"));
  open = true;
  REQUIRE(some);
  CHECK(some->records.size() == 1);
  CHECK(some->incomplete.find("being built from the log") != std::string::npos);
  REQUIRE(eventually([&] { return index.position() == log.end; }));
  auto all = index.query(by("U99"));
  REQUIRE(all);
  CHECK(all->records.size() == 1);
  CHECK(all->incomplete.empty());
}
