#include "store/index_db.h"

#include <rocksdb/db.h>
#include <rocksdb/filter_policy.h>
#include <rocksdb/options.h>
#include <rocksdb/slice_transform.h>
#include <rocksdb/sst_file_writer.h>
#include <rocksdb/table.h>

#include <random>
#include <set>
#include <tuple>

#include "test/unit/store/store_bench.h"

using namespace apogee;
using namespace apogee::store;

namespace {

std::shared_ptr<std::atomic<LogOffset>> beginning(LogOffset at = 0) {
  return std::make_shared<std::atomic<LogOffset>>(at);
}

std::unique_ptr<IndexDb> opened(const IndexDb::Options& options, LogOffset begin = 0) {
  auto db = IndexDb::open(options, beginning(begin));
  if (!db) FAIL(db.error().message);
  return std::move(*db);
}

IndexProgress up_to(LogOffset position) {
  IndexProgress progress;
  progress.position = position;
  return progress;
}

using Scanned = std::vector<std::pair<int64_t, LogOffset>>;

Scanned scanned(const IndexDb& db, uint64_t hash, int64_t begin_ms, int64_t end_ms, IndexOrder order,
                size_t count = SIZE_MAX) {
  Scanned found;
  REQUIRE(db.scan(hash, begin_ms, end_ms, order, [&](const IndexEntry& entry) {
    REQUIRE(entry.key_hash == hash);
    found.emplace_back(entry.store_time_ms, entry.offset);
    return found.size() < count;
  }));
  return found;
}

/// What a release before has written: each entry a key of its own, format 1.
void write_format_1(const fs::path& directory, const std::vector<IndexEntry>& entries, LogOffset position) {
  rocksdb::Options options;
  options.create_if_missing = true;
  options.compression = rocksdb::kNoCompression;
  options.prefix_extractor.reset(rocksdb::NewFixedPrefixTransform(8));
  rocksdb::BlockBasedTableOptions blocks;
  blocks.filter_policy.reset(rocksdb::NewBloomFilterPolicy(10));
  blocks.whole_key_filtering = false;
  options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(blocks));
  rocksdb::DB* raw = nullptr;
  REQUIRE(rocksdb::DB::Open(options, directory.string(), &raw).ok());
  std::unique_ptr<rocksdb::DB> db(raw);
  std::map<std::string, std::string> keys;
  for (const auto& entry : entries) {
    std::string key;
    append_be(key, entry.key_hash);
    append_be(key, entry.store_time_ms);
    append_be(key, entry.offset);
    keys[key] = "";
  }
  keys["index.format"] = "1";
  std::string progress;
  append_be<int64_t>(progress, position);
  append_be<int64_t>(progress, 0);
  keys["index.progress"] = progress;
  rocksdb::SstFileWriter table(rocksdb::EnvOptions(options), options);
  const auto path = (directory / "next.table").string();
  REQUIRE(table.Open(path).ok());
  for (const auto& [key, value] : keys) REQUIRE(table.Put(key, value).ok());
  REQUIRE(table.Finish().ok());
  rocksdb::IngestExternalFileOptions how;
  how.move_files = true;
  how.write_global_seqno = false;
  REQUIRE(db->IngestExternalFile({path}, how).ok());
}

}  // namespace

TEST_CASE("IndexDb: what is in tables of any size, in a format before and in memory is found in order, once",
          "[store][index]") {
  Directory directory;
  const auto path = directory.path / "indexdb";
  std::mt19937_64 random(3);
  // A hash of many entries, some of few, and many of one.
  const uint64_t popular = random(), few[] = {popular ^ 1, popular ^ (1ULL << 40), 0, UINT64_MAX};
  std::map<uint64_t, std::set<std::pair<int64_t, LogOffset>>> expected;
  LogOffset next = 0;
  auto some = [&](size_t count) {
    std::vector<IndexEntry> entries;
    for (size_t i = 0; i < count; ++i) {
      const uint64_t hash = i % 5 == 0 ? popular : i % 31 == 0 ? few[random() % 4] : random();
      entries.push_back({hash, static_cast<int64_t>(random() % 1'000), next++});
      if (random() % 50 == 0) entries.push_back(entries.back());  // written twice
      expected[hash].insert({entries.back().store_time_ms, entries.back().offset});
    }
    return entries;
  };
  const auto before = some(3'000);
  write_format_1(path, before, next);
  IndexDb::Options options;
  options.directory = path.string();
  auto db = opened(options);
  CHECK(db->progress().position == next);
  auto check = [&] {
    for (uint64_t hash : {popular, few[0], few[1], few[2], few[3], random()}) {
      for (auto order : {IndexOrder::kOldestFirst, IndexOrder::kNewestFirst}) {
        const auto begin_ms = static_cast<int64_t>(random() % 600), end_ms = static_cast<int64_t>(random() % 1'200);
        for (auto [from, to] : {std::pair(INT64_MIN, INT64_MAX), std::pair(begin_ms, end_ms)}) {
          Scanned all;
          for (const auto& each : expected[hash])
            if (each.first >= from && each.first <= to) all.push_back(each);
          if (order == IndexOrder::kNewestFirst) std::reverse(all.begin(), all.end());
          REQUIRE(scanned(*db, hash, from, to, order) == all);
          if (all.empty()) continue;
          all.resize(1 + random() % all.size());
          REQUIRE(scanned(*db, hash, from, to, order, all.size()) == all);
        }
      }
    }
    size_t singles = 0;
    for (auto each = expected.begin(); each != expected.end() && singles < 300; std::advance(each, 1), ++singles)
      REQUIRE(scanned(*db, each->first, 0, INT64_MAX, IndexOrder::kOldestFirst) ==
              Scanned(each->second.begin(), each->second.end()));
  };
  check();
  for (size_t count : {1u, 100u, 2'100u, 20'000u, 140'000u, 700u}) {
    const auto entries = some(count);  // moves `next`
    REQUIRE(db->write(entries, up_to(next)));
    if (count != 700) REQUIRE(db->flush());
    check();
  }
  REQUIRE(db->flush());
  REQUIRE(db->compact());
  check();
  db.reset();
  db = opened(options);
  CHECK(db->progress().position == next);
  check();
}

TEST_CASE("IndexDb: entries that come again leave those of the first time where they are", "[store][index]") {
  Directory directory;
  IndexDb::Options options;
  options.directory = (directory.path / "indexdb").string();
  const std::vector<IndexEntry> one{{7, 1, 10}}, both{{7, 1, 10}, {8, 2, 20}};
  REQUIRE(opened(options)->write(both, up_to(30)));  // lost with the process
  for (int round = 0; round < 3; ++round) {
    auto db = opened(options);
    REQUIRE(db->write(round == 0 ? both : one, up_to(30)));
    REQUIRE(db->flush());
  }
  auto db = opened(options);
  REQUIRE(db->compact());
  CHECK(scanned(*db, 7, 0, 9, IndexOrder::kOldestFirst) == Scanned{{1, 10}});
  CHECK(scanned(*db, 8, 0, 9, IndexOrder::kOldestFirst) == Scanned{{2, 20}});
  auto entries = db->count_entries();
  REQUIRE(entries);
  CHECK(*entries == 4);
}
