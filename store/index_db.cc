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
#include <mutex>
#include <shared_mutex>
#include <tuple>
#include <utility>

#include "common/base/bytes.h"

namespace apogee::store {

namespace {

constexpr size_t kEntryBytes = 24;
constexpr size_t kHashBytes = 8;
constexpr int kFilterBitsPerKey = 10;
constexpr uint64_t kTablesBehindMax = 24;  // files that wait for a compaction
constexpr uint64_t kCompactAtLeastEachSeconds = 86'400;
// Not as long as entries, so that they are none whatever the hash; at least as long as a hash, as iterators expect.
constexpr const char* kFormatKey = "index.format";
constexpr const char* kProgressKey = "index.progress";
constexpr const char* kFormat = "1";
constexpr const char* kNextTable = "/next.table";

using EntryKey = std::array<char, kEntryBytes>;

EntryKey encode(const IndexEntry& entry) {
  EntryKey key;
  store_be(key.data(), entry.key_hash);
  store_be(key.data() + 8, entry.store_time_ms);
  store_be(key.data() + 16, entry.offset);
  return key;
}

IndexEntry decode(const char* key) {
  return {load_be<uint64_t>(key), load_be<int64_t>(key + 8), load_be<int64_t>(key + 16)};
}

rocksdb::Slice slice(const EntryKey& key) { return {key.data(), key.size()}; }

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
  bool Filter(int /*level*/, const rocksdb::Slice& key, const rocksdb::Slice& /*value*/, std::string* /*new_value*/,
              bool* /*value_changed*/) const override {
    return key.size() == kEntryBytes && decode(key.data()).offset < log_begin_;
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
  rocksdb::DB* opened = nullptr;
  if (options.read_only) db_settings.create_if_missing = false;
  auto status = options.read_only ? rocksdb::DB::OpenForReadOnly(db_settings, options.directory, &opened)
                                  : rocksdb::DB::Open(db_settings, options.directory, &opened);
  if (!status.ok()) return error_of(options.directory, status);
  impl->db.reset(opened);
  std::string format, at;
  auto format_read = opened->Get(rocksdb::ReadOptions(), kFormatKey, &format);
  auto progress_read = opened->Get(rocksdb::ReadOptions(), kProgressKey, &at);
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
  } else if (format != kFormat) {
    return Error(Errc::kCorrupt, options.directory + ": its format is \"" + format.substr(0, 20) +
                                     "\", this release reads and writes \"" + kFormat + "\"");
  }
  if (progress_read.ok() && !decode(at, impl->progress))
    return Error(Errc::kCorrupt, options.directory + ": its progress cannot be read");
  return std::unique_ptr<IndexDb>(new IndexDb(std::move(impl)));
}

const IndexProgress& IndexDb::progress() const { return impl_->progress; }

// Sorts what is staged and writes it with format and progress; durable when it returns.
Status IndexDb::Impl::write_table(const std::string& path) {
  auto less = [](const IndexEntry& a, const IndexEntry& b) {
    return std::tie(a.key_hash, a.store_time_ms, a.offset) < std::tie(b.key_hash, b.store_time_ms, b.offset);
  };
  {
    std::lock_guard lock(staged_mutex);
    std::sort(staged.begin(), staged.end(), less);
    staged.erase(std::unique(staged.begin(), staged.end()), staged.end());
  }
  rocksdb::SstFileWriter table(rocksdb::EnvOptions(settings), settings);
  if (auto status = table.Open(path); !status.ok()) return error_of(directory, status);
  const std::pair<rocksdb::Slice, std::string> own[] = {{kFormatKey, kFormat}, {kProgressKey, encode(progress)}};
  size_t own_done = 0;
  for (const auto& entry : staged) {
    auto key = encode(entry);
    for (; own_done < 2 && own[own_done].first.compare(slice(key)) < 0; ++own_done)
      if (auto status = table.Put(own[own_done].first, own[own_done].second); !status.ok())
        return error_of(directory, status);
    if (auto status = table.Put(slice(key), rocksdb::Slice()); !status.ok()) return error_of(directory, status);
  }
  for (; own_done < 2; ++own_done)
    if (auto status = table.Put(own[own_done].first, own[own_done].second); !status.ok())
      return error_of(directory, status);
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

Status IndexDb::scan(uint64_t key_hash, int64_t begin_ms, int64_t end_ms, IndexOrder order,
                     const std::function<bool(const IndexEntry& entry)>& visit) const {
  begin_ms = std::max<int64_t>(begin_ms, 0);
  if (end_ms < begin_ms) return {};
  const bool ascending = order == IndexOrder::kOldestFirst;
  auto before = [ascending](const IndexEntry& a, const IndexEntry& b) {
    auto left = std::tie(a.store_time_ms, a.offset), right = std::tie(b.store_time_ms, b.offset);
    return ascending ? left < right : right < left;
  };
  // First what is staged: it may be in the database a moment later, but not the other way round.
  std::vector<IndexEntry> staged;
  {
    std::shared_lock lock(impl_->staged_mutex);
    std::copy_if(impl_->staged.begin(), impl_->staged.end(), std::back_inserter(staged), [&](const IndexEntry& entry) {
      return entry.key_hash == key_hash && entry.store_time_ms >= begin_ms && entry.store_time_ms <= end_ms;
    });
  }
  std::sort(staged.begin(), staged.end(), before);
  staged.erase(std::unique(staged.begin(), staged.end()), staged.end());
  auto next = staged.begin();

  auto first = encode({key_hash, begin_ms, 0});
  auto last = encode({key_hash, end_ms, INT64_MAX});
  rocksdb::ReadOptions read;
  read.prefix_same_as_start = true;
  std::unique_ptr<rocksdb::Iterator> it(impl_->db->NewIterator(read));
  for (ascending ? it->Seek(slice(first)) : it->SeekForPrev(slice(last)); it->Valid();
       ascending ? it->Next() : it->Prev()) {
    auto key = it->key();
    if (key.compare(slice(first)) < 0 || key.compare(slice(last)) > 0) break;
    if (key.size() != kEntryBytes) continue;
    const auto entry = decode(key.data());
    for (; next != staged.end() && before(*next, entry); ++next)
      if (!visit(*next)) return {};
    if (next != staged.end() && *next == entry) ++next;
    if (!visit(entry)) return {};
  }
  if (!it->status().ok()) return error_of(impl_->directory, it->status());
  for (; next != staged.end(); ++next)
    if (!visit(*next)) return {};
  return {};
}

int64_t IndexDb::entries_estimate() const {
  uint64_t keys = 0;
  impl_->db->GetIntProperty(rocksdb::DB::Properties::kEstimateNumKeys, &keys);
  return static_cast<int64_t>(keys);
}

}  // namespace apogee::store
