#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "apogee/result.h"
#include "store/message_store.h"

namespace rocksdb {
class Env;
}

namespace apogee::store {

/// One key of one message: 24 bytes big-endian, in this order. Times are not negative.
struct IndexEntry {
  uint64_t key_hash = 0;
  int64_t store_time_ms = 0;
  LogOffset offset = 0;
  bool operator==(const IndexEntry&) const = default;
};

/// A record that was indexed, and enough of it to tell later whether the log still has it there.
struct IndexMark {
  LogOffset offset = 0;
  uint64_t fingerprint = 0;
  bool operator==(const IndexMark&) const = default;
};

/// How far the log is indexed. Written with the entries, in one batch.
struct IndexProgress {
  LogOffset position = 0;        ///< everything in front of it is indexed
  int64_t last_time_ms = 0;      ///< store time of the last record
  std::vector<IndexMark> marks;  ///< some of the records in front, ascending; the last one last
};

/// The RocksDB in indexdb/ (store/formats.md) and what is not there yet. Entries are staged in memory; so many that
/// they are worth it are sorted into groups by the first bits of their hash, written as a table with the progress in
/// it, and added to the database in one step: there is no write-ahead log, and the progress that a later open finds is
/// never ahead of the entries. (What RocksDB does for a key costs ten times as much CPU as what we do for an entry, so
/// keys are groups.) Thread: any; one writer at a time.
class IndexDb {
 public:
  struct Options {
    std::string directory;
    size_t staged_bytes = 6 << 20;  ///< of entries in memory, 24 each
    size_t cache_bytes = 8 << 20;   ///< of blocks, filters and file indexes
    bool read_only = false;         ///< nothing in the directory is changed; write() must not be called
    rocksdb::Env* env = nullptr;    ///< for tests; null: the real one. Outlives the database.
  };
  /// Entries of records in front of `log_begin` disappear with compactions.
  /// Errors: kCorrupt (another format or damaged: to be deleted and built anew), kDiskFull, kIo (may pass).
  [[nodiscard]] static Result<std::unique_ptr<IndexDb>> open(const Options& options,
                                                             std::shared_ptr<const std::atomic<LogOffset>> log_begin);
  /// flush() is the owner's duty before.
  ~IndexDb();

  /// As found by open(), then as last written. Thread: the writer.
  [[nodiscard]] const IndexProgress& progress() const;
  /// Adds entries. After an error nothing was added. Errors, when what is staged must go to disk first: kBusy
  /// (compactions are behind, try again), kCorrupt (see open()), kDiskFull and kIo (see background_error()).
  [[nodiscard]] Status write(const std::vector<IndexEntry>& entries, IndexProgress progress);
  /// Returns when everything written is durable. Errors: as write().
  [[nodiscard]] Status flush();
  /// Why nothing can be added any more: RocksDB stops after an error in the background, such as a compaction on a full
  /// disk. Reads go on. To go on, close and open; progress() then tells from where. (RocksDB could resume by itself,
  /// but 7.8 takes no error for an error then while it is still stopped, and ends the process when a table is added.)
  [[nodiscard]] Status background_error() const;
  /// Whether a table can be written now: writes what is staged, and keeps nothing of it. Errors: as write().
  [[nodiscard]] Status try_disk();
  /// Drops expired entries now. Takes long.
  [[nodiscard]] Status compact();

  /// Visits the entries of a key with begin_ms <= store time <= end_ms until `visit` returns false.
  [[nodiscard]] Status scan(uint64_t key_hash, int64_t begin_ms, int64_t end_ms, IndexOrder order,
                            const std::function<bool(const IndexEntry& entry)>& visit) const;
  /// How many are on disk, those of gone records and those written twice included. Reads all of it.
  [[nodiscard]] Result<int64_t> count_entries() const;

 private:
  struct Impl;
  explicit IndexDb(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace apogee::store
