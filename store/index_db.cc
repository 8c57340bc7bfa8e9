#include "store/index_db.h"

#include <rocksdb/cache.h>
#include <rocksdb/compaction_filter.h>
#include <rocksdb/db.h>
#include <rocksdb/filter_policy.h>
#include <rocksdb/listener.h>
#include <rocksdb/options.h>
#include <rocksdb/slice_transform.h>
#include <rocksdb/sst_file_writer.h>
#include <rocksdb/table.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <iterator>
#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <thread>
#include <tuple>
#include <utility>

#include "common/base/bytes.h"

namespace apogee::store {

namespace {

constexpr size_t kEntryBytes = 24;
constexpr size_t kHashBytes = 8;
constexpr size_t kGroupKeyBytes = kHashBytes + 8 + 2;
constexpr size_t kGroupEntriesMax = 256;
constexpr size_t kGroupsAtOnce = 256;  // of a table that is written; then others have the processor
// Entries of a table are grouped by so many bits of their hash: by the most that leave some to a group.
constexpr unsigned kGroupBits[] = {15, 12, 9, 6};
constexpr size_t kEntriesPerGroupMin = 4;
// Entries of a key that are looked for in one go, at first and at most.
constexpr size_t kFoundAtOnce = 1'024;
constexpr size_t kFoundAtOnceMax = 65'536;
// What of a table stays in memory: of 6 MiB some 20 KiB of filter, which keeps all but 9 % of the look-ups for groups
// of another number of bits away, and 12 KiB of places of blocks.
constexpr int kFilterBitsPerKey = 5;
constexpr size_t kBlockBytes = 16 << 10;
constexpr uint64_t kTablesBehindMax = 24;  // files that wait for a compaction
constexpr uint64_t kCompactAtLeastEachSeconds = 86'400;
// Not as long as entries, so that they are none whatever the hash; at least as long as a hash, as iterators expect.
constexpr const char* kFormatKey = "index.format";
constexpr const char* kProgressKey = "index.progress";
constexpr const char* kTablesKey = "index.tables";
constexpr const char* kFormat = "2";
constexpr const char* kFormatOfSingles = "1";  // each entry is a key of its own
constexpr const char* kNextTable = "/next.table";

using EntryKey = std::array<char, kEntryBytes>;

void encode(const IndexEntry& entry, char* to) {
  store_be(to, entry.key_hash);
  store_be(to + 8, entry.store_time_ms);
  store_be(to + 16, entry.offset);
}

EntryKey encode(const IndexEntry& entry) {
  EntryKey key;
  encode(entry, key.data());
  return key;
}

IndexEntry decode(const char* key) {
  return {load_be<uint64_t>(key), load_be<int64_t>(key + 8), load_be<int64_t>(key + 16)};
}

rocksdb::Slice slice(const EntryKey& key) { return {key.data(), key.size()}; }

/// Begins the keys of the groups that hold a hash in tables of so many bits.
uint64_t group_prefix(uint64_t key_hash, unsigned bits) { return (key_hash >> (64 - bits) << (64 - bits)) | bits; }

bool is_group(const rocksdb::Slice& key, const rocksdb::Slice& value) {
  return key.size() == kGroupKeyBytes && value.size() % kEntryBytes == 0;
}

unsigned group_bits_for(size_t entries) {
  for (unsigned bits : kGroupBits)
    if (entries >> bits >= kEntriesPerGroupMin) return bits;
  return kGroupBits[std::size(kGroupBits) - 1];
}

// i64 position | i64 time | n times (i64 offset | u64 fingerprint)
std::string encode(const IndexProgress& progress) {
  std::string value;
  append_be(value, progress.position);
  append_be(value, progress.last_time_ms);
  for (const auto& mark : progress.marks) {
    append_be(value, mark.offset);
    append_be(value, mark.fingerprint);
  }
  return value;
}

bool decode(std::string_view value, IndexProgress& progress) {
  if (value.size() < 16 || value.size() % 16 != 0) return false;
  ByteReader reader(value);
  progress.position = reader.read<int64_t>();
  progress.last_time_ms = reader.read<int64_t>();
  while (reader.remaining() > 0) {
    auto offset = reader.read<int64_t>();
    progress.marks.push_back({offset, reader.read<uint64_t>()});
  }
  return progress.position >= 0;
}

Error error_of(const std::string& directory, const rocksdb::Status& status) {
  std::string text = directory + ": " + status.ToString();
  if (status.IsNoSpace()) return {Errc::kDiskFull, std::move(text)};
  if (status.IsIncomplete() || status.IsTryAgain() || status.IsBusy()) return {Errc::kBusy, std::move(text)};
  // A file that the database counts on, and a database that another release or program has left.
  if (status.IsCorruption() || status.IsPathNotFound() || status.IsNotFound() || status.IsInvalidArgument() ||
      status.IsNotSupported())
    return {Errc::kCorrupt, std::move(text)};
  return {Errc::kIo, std::move(text)};
}

class ExpiryFilter final : public rocksdb::CompactionFilter {
 public:
  explicit ExpiryFilter(LogOffset log_begin) : log_begin_(log_begin) {}
  bool Filter(int /*level*/, const rocksdb::Slice& key, const rocksdb::Slice& value, std::string* new_value,
              bool* value_changed) const override {
    if (key.size() == kEntryBytes) return decode(key.data()).offset < log_begin_;
    if (!is_group(key, value)) return false;
    std::string kept;
    for (size_t at = 0; at < value.size(); at += kEntryBytes)
      if (decode(value.data() + at).offset >= log_begin_) kept.append(value.data() + at, kEntryBytes);
    if (kept.empty()) return true;
    *value_changed = kept.size() < value.size();
    if (*value_changed) *new_value = std::move(kept);
    return false;
  }
  const char* Name() const override { return "apogee.index.expiry"; }

 private:
  const LogOffset log_begin_;
};

class ExpiryFilterFactory final : public rocksdb::CompactionFilterFactory {
 public:
  explicit ExpiryFilterFactory(std::shared_ptr<const std::atomic<LogOffset>> log_begin)
      : log_begin_(std::move(log_begin)) {}
  std::unique_ptr<rocksdb::CompactionFilter> CreateCompactionFilter(
      const rocksdb::CompactionFilter::Context& /*context*/) override {
    return std::make_unique<ExpiryFilter>(log_begin_->load(std::memory_order_relaxed));
  }
  const char* Name() const override { return "apogee.index.expiry"; }

 private:
  const std::shared_ptr<const std::atomic<LogOffset>> log_begin_;
};

/// Keeps the first error that RocksDB has met in the background. Thread: any.
class BackgroundErrors final : public rocksdb::EventListener {
 public:
  void OnBackgroundError(rocksdb::BackgroundErrorReason /*reason*/, rocksdb::Status* status) override {
    std::lock_guard lock(mutex_);
    if (first_.ok()) first_ = *status;
  }
  [[nodiscard]] rocksdb::Status first() const {
    std::lock_guard lock(mutex_);
    return first_;
  }

 private:
  mutable std::mutex mutex_;
  rocksdb::Status first_;  // guarded by mutex_
};

rocksdb::Options db_options(const IndexDb::Options& options) {
  rocksdb::Options db;
  if (options.env != nullptr) db.env = options.env;
  db.create_if_missing = true;
  db.write_buffer_size = 64 << 10;  // nothing goes through it
  db.max_write_buffer_number = 2;
  db.target_file_size_base = 32 << 20;
  db.max_bytes_for_level_base = 64 << 20;
  db.max_background_jobs = 2;
  // No resuming behind our back: see IndexDb::background_error().
  db.max_bgerror_resume_count = 0;
  db.max_open_files = 256;
  db.max_file_opening_threads = 1;           // sixteen at most are opened ahead; threads cost more to start
  db.compression = rocksdb::kNoCompression;  // hashes do not compress
  db.periodic_compaction_seconds = kCompactAtLeastEachSeconds;
  db.prefix_extractor.reset(rocksdb::NewFixedPrefixTransform(kHashBytes));
  db.keep_log_file_num = 2;
  db.max_log_file_size = 1 << 20;
  db.info_log_level = rocksdb::InfoLogLevel::WARN_LEVEL;
  db.stats_dump_period_sec = 0;
  db.stats_persist_period_sec = 0;
  rocksdb::BlockBasedTableOptions table;
  table.block_cache = rocksdb::NewLRUCache(options.cache_bytes);
  table.filter_policy.reset(rocksdb::NewBloomFilterPolicy(kFilterBitsPerKey));
  table.whole_key_filtering = false;
  table.block_size = kBlockBytes;
  table.cache_index_and_filter_blocks = true;
  db.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  return db;
}

}  // namespace

struct IndexDb::Impl {
  Status write_table(const std::string& path);
  Status add_table();

  rocksdb::Options settings;
  std::string directory;
  size_t staged_max = 0;
  std::shared_ptr<BackgroundErrors> errors;
  std::unique_ptr<rocksdb::DB> db;
  uint64_t tables = 0;  // the number of the last one that was written
  IndexProgress progress;
  bool changed = false;            // the progress is not that on disk
  std::shared_mutex staged_mutex;  // readers hold it while they look; the writer, who alone changes it, when it does
  std::vector<IndexEntry> staged;  // guarded by staged_mutex
};

IndexDb::IndexDb(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
IndexDb::~IndexDb() = default;

Result<std::unique_ptr<IndexDb>> IndexDb::open(const Options& options,
                                               std::shared_ptr<const std::atomic<LogOffset>> log_begin) {
  auto db_settings = db_options(options);
  db_settings.compaction_filter_factory = std::make_shared<ExpiryFilterFactory>(std::move(log_begin));
  auto impl = std::make_unique<Impl>();
  impl->errors = std::make_shared<BackgroundErrors>();
  db_settings.listeners.push_back(impl->errors);
  impl->settings = db_settings;
  impl->directory = options.directory;
  impl->staged_max = std::max<size_t>(1, options.staged_bytes / kEntryBytes);
  if (!options.read_only) impl->staged.reserve(impl->staged_max);  // the system gives what is used of it
  rocksdb::DB* opened = nullptr;
  if (options.read_only) db_settings.create_if_missing = false;
  auto status = options.read_only ? rocksdb::DB::OpenForReadOnly(db_settings, options.directory, &opened)
                                  : rocksdb::DB::Open(db_settings, options.directory, &opened);
  if (!status.ok()) return error_of(options.directory, status);
  impl->db.reset(opened);
  std::string format, at, tables;
  auto format_read = opened->Get(rocksdb::ReadOptions(), kFormatKey, &format);
  auto progress_read = opened->Get(rocksdb::ReadOptions(), kProgressKey, &at);
  auto tables_read = opened->Get(rocksdb::ReadOptions(), kTablesKey, &tables);
  if (!tables_read.ok() && !tables_read.IsNotFound()) return error_of(options.directory, tables_read);
  if (!format_read.ok() && !format_read.IsNotFound()) return error_of(options.directory, format_read);
  if (!progress_read.ok() && !progress_read.IsNotFound()) return error_of(options.directory, progress_read);
  if (format_read.IsNotFound()) {
    std::unique_ptr<rocksdb::Iterator> any(opened->NewIterator([] {
      rocksdb::ReadOptions read;
      read.total_order_seek = true;
      return read;
    }()));
    any->SeekToFirst();
    if (any->Valid()) return Error(Errc::kCorrupt, options.directory + ": it is no index, its format is not told");
    if (!any->status().ok()) return error_of(options.directory, any->status());
  } else if (format != kFormat && format != kFormatOfSingles) {
    return Error(Errc::kCorrupt, options.directory + ": its format is \"" + format.substr(0, 20) +
                                     "\", this release reads and writes \"" + kFormat + "\"");
  }
  if (tables.size() == sizeof impl->tables) impl->tables = load_be<uint64_t>(tables.data());
  if (progress_read.ok() && !decode(at, impl->progress))
    return Error(Errc::kCorrupt, options.directory + ": its progress cannot be read");
  return std::unique_ptr<IndexDb>(new IndexDb(std::move(impl)));
}

const IndexProgress& IndexDb::progress() const { return impl_->progress; }

// Writes what is staged, in groups, with format and progress; durable when it returns.
Status IndexDb::Impl::write_table(const std::string& path) {
  // The writer alone changes what is staged, so it reads without the lock.
  const unsigned bits = group_bits_for(staged.size());
  auto group_of = [bits](const IndexEntry& entry) { return static_cast<size_t>(entry.key_hash >> (64 - bits)); };
  std::vector<uint32_t> ends((size_t{1} << bits) + 1);  // of the groups, in entries; first their numbers
  for (const auto& entry : staged) ++ends[group_of(entry) + 1];
  for (size_t i = 1; i < ends.size(); ++i) ends[i] += ends[i - 1];
  std::vector<uint32_t> in_groups(staged.size());  // their numbers, one group behind the other
  for (uint32_t i = 0; i < staged.size(); ++i) in_groups[ends[group_of(staged[i])]++] = i;

  rocksdb::SstFileWriter table(rocksdb::EnvOptions(settings), settings);
  if (auto status = table.Open(path); !status.ok()) return error_of(directory, status);
  // No other table has groups of this number, also when it has the same entries.
  std::string number;
  append_be(number, ++tables);
  const std::pair<rocksdb::Slice, std::string> own[] = {
      {kFormatKey, kFormat}, {kProgressKey, encode(progress)}, {kTablesKey, number}};
  auto own_next = std::begin(own);
  auto put_own_before = [&](const rocksdb::Slice* key) {
    for (; own_next != std::end(own) && (key == nullptr || own_next->first.compare(*key) < 0); ++own_next)
      if (auto status = table.Put(own_next->first, own_next->second); !status.ok()) return status;
    return rocksdb::Status::OK();
  };
  std::array<char, kGroupKeyBytes> key;
  store_be(key.data() + kHashBytes, tables);
  const rocksdb::Slice key_slice(key.data(), key.size());
  std::array<char, kGroupEntriesMax * kEntryBytes> value;
  for (size_t group = 0, at = 0; group + 1 < ends.size(); ++group) {
    if (group % kGroupsAtOnce == 0) std::this_thread::yield();
    uint16_t part = 0;
    store_be(key.data(), (static_cast<uint64_t>(group) << (64 - bits)) | bits);
    for (const size_t end = ends[group]; at < end; ++part) {
      const size_t count = std::min(end - at, kGroupEntriesMax);
      store_be(key.data() + kHashBytes + 8, part);
      if (auto status = put_own_before(&key_slice); !status.ok()) return error_of(directory, status);
      for (size_t i = 0; i < count; ++i) encode(staged[in_groups[at++]], value.data() + i * kEntryBytes);
      const rocksdb::Slice entries(value.data(), count * kEntryBytes);
      if (auto status = table.Put(key_slice, entries); !status.ok()) return error_of(directory, status);
    }
  }
  if (auto status = put_own_before(nullptr); !status.ok()) return error_of(directory, status);
  if (auto status = table.Finish(); !status.ok()) return error_of(directory, status);
  return {};
}

Status IndexDb::Impl::add_table() {
  if (auto status = errors->first(); !status.ok()) return error_of(directory, status);
  uint64_t behind = 0;
  std::string text;
  if (db->GetProperty(rocksdb::DB::Properties::kNumFilesAtLevelPrefix + "0", &text))
    std::from_chars(text.data(), text.data() + text.size(), behind);
  if (behind > kTablesBehindMax) return Error(Errc::kBusy, directory + ": compactions are behind");
  const std::string path = directory + kNextTable;
  APOGEE_TRY(write_table(path));
  rocksdb::IngestExternalFileOptions how;
  how.move_files = true;
  how.write_global_seqno = false;
  if (auto status = db->IngestExternalFile({path}, how); !status.ok()) return error_of(directory, status);
  std::lock_guard lock(staged_mutex);
  staged.clear();
  changed = false;
  return {};
}

Status IndexDb::write(const std::vector<IndexEntry>& entries, IndexProgress progress) {
  if (impl_->staged.size() + entries.size() > impl_->staged_max && !impl_->staged.empty())
    APOGEE_TRY(impl_->add_table());
  std::lock_guard lock(impl_->staged_mutex);
  impl_->staged.insert(impl_->staged.end(), entries.begin(), entries.end());
  impl_->progress = std::move(progress);
  impl_->changed = true;
  return {};
}

Status IndexDb::flush() {
  if (!impl_->changed) return {};
  return impl_->add_table();
}

Status IndexDb::background_error() const {
  if (auto status = impl_->errors->first(); !status.ok()) return error_of(impl_->directory, status);
  return {};
}

Status IndexDb::try_disk() { return impl_->write_table(impl_->directory + kNextTable); }

Status IndexDb::compact() {
  rocksdb::CompactRangeOptions all;
  all.bottommost_level_compaction = rocksdb::BottommostLevelCompaction::kForce;
  if (auto status = impl_->db->CompactRange(all, nullptr, nullptr); !status.ok())
    return error_of(impl_->directory, status);
  return {};
}

namespace {

/// Of the entries of a key that are offered, the first so many of those that come behind the last one visited.
class FirstEntries {
 public:
  FirstEntries(uint64_t key_hash, int64_t begin_ms, int64_t end_ms, IndexOrder order)
      : key_hash_(key_hash), begin_ms_(begin_ms), end_ms_(end_ms), ascending_(order == IndexOrder::kOldestFirst) {}

  [[nodiscard]] bool before(const IndexEntry& a, const IndexEntry& b) const {
    auto left = std::tie(a.store_time_ms, a.offset), right = std::tie(b.store_time_ms, b.offset);
    return ascending_ ? left < right : right < left;
  }
  /// False: there are as many in front of it as are wanted.
  bool offer(const IndexEntry& entry) {
    if (entry.key_hash != key_hash_ || entry.store_time_ms < begin_ms_ || entry.store_time_ms > end_ms_) return true;
    if (last_ && !before(*last_, entry)) return true;
    auto worse = [this](const IndexEntry& a, const IndexEntry& b) { return before(a, b); };
    if (found_.size() == count_) {
      if (!before(entry, found_.front())) return false;
      std::pop_heap(found_.begin(), found_.end(), worse);
      found_.back() = entry;
    } else {
      found_.push_back(entry);
    }
    std::push_heap(found_.begin(), found_.end(), worse);
    return true;
  }
  void offer_group(std::string_view entries) {
    for (size_t at = 0; at < entries.size(); at += kEntryBytes)
      if (load_be<uint64_t>(entries.data() + at) == key_hash_) offer(decode(entries.data() + at));
  }
  /// False: that was all, or `visit` has had enough. Else what comes behind is to be offered.
  bool visit(const std::function<bool(const IndexEntry& entry)>& visit) {
    const bool full = found_.size() == count_;
    std::sort(found_.begin(), found_.end(), [this](const auto& a, const auto& b) { return before(a, b); });
    found_.erase(std::unique(found_.begin(), found_.end()), found_.end());
    for (const auto& entry : found_)
      if (!visit(entry)) return false;
    if (!full) return false;
    last_ = found_.back();
    found_.clear();
    count_ = std::min(count_ * 4, kFoundAtOnceMax);
    return true;
  }
  /// Where entries that are to be offered can begin and end.
  [[nodiscard]] EntryKey first() const {
    return encode(ascending_ && last_ ? *last_ : IndexEntry{key_hash_, begin_ms_, 0});
  }
  [[nodiscard]] EntryKey last() const {
    return encode(!ascending_ && last_ ? *last_ : IndexEntry{key_hash_, end_ms_, INT64_MAX});
  }

 private:
  const uint64_t key_hash_;
  const int64_t begin_ms_, end_ms_;
  const bool ascending_;
  size_t count_ = kFoundAtOnce;
  std::vector<IndexEntry> found_;  // a heap, the last one in front
  std::optional<IndexEntry> last_;
};

}  // namespace

Status IndexDb::scan(uint64_t key_hash, int64_t begin_ms, int64_t end_ms, IndexOrder order,
                     const std::function<bool(const IndexEntry& entry)>& visit) const {
  begin_ms = std::max<int64_t>(begin_ms, 0);
  if (end_ms < begin_ms) return {};
  FirstEntries wanted(key_hash, begin_ms, end_ms, order);
  do {
    // First what is staged: it may be in the database a moment later, but not the other way round.
    {
      std::shared_lock lock(impl_->staged_mutex);
      for (const auto& entry : impl_->staged) wanted.offer(entry);
    }
    rocksdb::ReadOptions read;
    read.prefix_same_as_start = true;
    std::unique_ptr<rocksdb::Iterator> it(impl_->db->NewIterator(read));
    for (unsigned bits : kGroupBits) {
      char prefix[kHashBytes];
      store_be(prefix, group_prefix(key_hash, bits));
      const rocksdb::Slice begin(prefix, sizeof prefix);
      for (it->Seek(begin); it->Valid() && it->key().starts_with(begin); it->Next())
        if (is_group(it->key(), it->value())) wanted.offer_group(it->value().ToStringView());
      if (!it->status().ok()) return error_of(impl_->directory, it->status());
    }
    // What a release before has left: in order, so that the first one too many ends it.
    const auto first = wanted.first(), last = wanted.last();
    const bool ascending = order == IndexOrder::kOldestFirst;
    for (ascending ? it->Seek(slice(first)) : it->SeekForPrev(slice(last)); it->Valid();
         ascending ? it->Next() : it->Prev()) {
      auto key = it->key();
      if (key.compare(slice(first)) < 0 || key.compare(slice(last)) > 0) break;
      if (key.size() == kEntryBytes && !wanted.offer(decode(key.data()))) break;
    }
    if (!it->status().ok()) return error_of(impl_->directory, it->status());
  } while (wanted.visit(visit));
  return {};
}

Result<int64_t> IndexDb::count_entries() const {
  rocksdb::ReadOptions read;
  read.total_order_seek = true;
  std::unique_ptr<rocksdb::Iterator> it(impl_->db->NewIterator(read));
  int64_t entries = 0;
  for (it->SeekToFirst(); it->Valid(); it->Next()) {
    if (it->key().size() == kEntryBytes) ++entries;
    if (is_group(it->key(), it->value())) entries += static_cast<int64_t>(it->value().size() / kEntryBytes);
  }
  if (!it->status().ok()) return error_of(impl_->directory, it->status());
  return entries;
}

}  // namespace apogee::store
