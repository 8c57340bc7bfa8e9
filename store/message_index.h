#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "apogee/result.h"
#include "common/base/bytes.h"
#include "common/base/logger.h"
#include "common/io/file_system.h"
#include "common/message/message_record.h"
#include "store/commit_log.h"
#include "store/hole_list.h"
#include "store/index_db.h"
#include "store/message_store.h"
#include "store/record_sketch.h"
#include "store/recovery.h"

namespace apogee::store {

/// What the topic of a key gives for index_hash() of them both.
[[nodiscard]] uint64_t index_topic_hash(std::string_view topic);
/// Of topic and key, as in the entries on disk.
[[nodiscard]] uint64_t index_hash(uint64_t topic_hash, std::string_view key);
[[nodiscard]] inline uint64_t index_hash(std::string_view topic, std::string_view key) {
  return index_hash(index_topic_hash(topic), key);
}
/// Calls `visit` with each key that the record is found by: its UNIQ_KEY and the words of KEYS. None for rollbacks.
void visit_keys(const message::RecordView& record, const std::function<void(std::string_view key)>& visit);

/// Finds messages by key. A thread of its own follows the log up to its readable end, from a position of its own:
/// whatever happens to the index - it is new, deleted, damaged, behind, or its disk is full - appends and queues do
/// not wait for it, and it goes on from its own checkpoint (IndexDb) by itself. The same walk that keeps it
/// up to date therefore builds it anew.
class MessageIndex {
 public:
  /// What it reads of the log; as the members of CommitLog and MessageStore with these names.
  struct Log {
    std::function<LogOffset()> begin, readable_end;
    std::function<std::optional<SharedBytes>(LogOffset from, LogOffset end)> read_up_to;
    std::function<std::optional<SharedBytes>(LogOffset offset)> record_at;
    /// Where the hole ends that holds the offset; -1: it is in none.
    std::function<LogOffset(LogOffset offset)> end_of_hole;
    /// The first record at or behind an offset, in its file; -1: there is none.
    std::function<LogOffset(LogOffset from)> next_record;
  };
  struct Options {
    IndexDb::Options db;
    uint64_t (*hash)(uint64_t topic_hash, std::string_view key) = index_hash;
    std::chrono::milliseconds batch_interval{5};  ///< least time between small batches
    std::chrono::milliseconds retry_interval{1'000};
    std::chrono::milliseconds flush_interval{300'000};  ///< what a crash has to index again
    int64_t flush_bytes = 512 << 20;                    ///< of the log; as above
  };

  MessageIndex(Log log, Options options, io::FileSystem& files, const Logger& logger);
  ~MessageIndex();

  /// Opens the database and starts the thread. Never fails: what cannot be opened is built anew or tried again.
  void start();
  /// Indexes what is there, unless that is much, and writes it to disk.
  void stop();
  /// The log has grown. Cheap; thread: any.
  void wake();

  /// Adds a record that was damaged when the walk came by, soon. Thread: any.
  void add(LogOffset record);
  /// Thread: any. See MessageStore::query.
  [[nodiscard]] Result<KeyAnswer> query(const KeyQuery& query);
  /// Everything in front of it is in the index (in memory at least). Thread: any.
  [[nodiscard]] LogOffset position() const { return position_.load(std::memory_order_acquire); }
  [[nodiscard]] int64_t entries_total() const { return entries_total_.load(std::memory_order_relaxed); }
  void tell(StoreFigures& figures) const;  ///< what there is to tell of the index; thread: any

 private:
  struct Batch;
  void run();
  [[nodiscard]] Status open();
  [[nodiscard]] LogOffset resume_position(const IndexProgress& progress) const;
  /// Indexes one batch; `more` tells whether there is more to do at once.
  [[nodiscard]] Status step(bool& more);
  void collect(std::string_view bytes, LogOffset at, Batch& batch);
  [[nodiscard]] Status add_mended();
  [[nodiscard]] IndexProgress progress_after(const Batch& batch) const;
  [[nodiscard]] Status flush_now_and_then();
  void handle(const Error& error);
  void tell_progress();
  void pause(std::chrono::steady_clock::duration time);
  void set_failure(std::string why);
  [[nodiscard]] std::string incomplete() const;

  const Log log_;
  const Options options_;
  io::FileSystem& files_;
  const Logger& logger_;
  std::shared_ptr<std::atomic<LogOffset>> log_begin_ = std::make_shared<std::atomic<LogOffset>>(0);

  mutable std::shared_mutex db_mutex_;   // readers hold it while they scan
  std::unique_ptr<IndexDb> db_;          // replaced under db_mutex_; null: cannot be opened
  std::atomic<bool> unreadable_{false};  // a reader has met damage
  std::atomic<LogOffset> position_{0}, target_{0};
  std::atomic<int64_t> last_time_ms_{0}, entries_total_{0}, cpu_ns_{0};
  std::atomic<LogOffset> last_offset_{0};

  // The thread's.
  int failures_ = 0;              // in a row
  std::unique_ptr<Batch> batch_;  // used again and again
  RecordSketcher sketcher_;
  uint64_t topic_hash_ = 0;  // of the sketcher's last topic
  LogOffset rebuilt_from_ = -1, flushed_position_ = 0, gap_ = 0;
  std::chrono::steady_clock::time_point flushed_at_, told_at_;

  mutable std::mutex mutex_;
  std::condition_variable wanted_;
  std::string failure_;                      // guarded by mutex_
  std::vector<LogOffset> mended_;            // guarded by mutex_: records that are to be added
  bool pending_ = false, stopping_ = false;  // guarded by mutex_
  std::atomic<bool> asleep_{false};
  std::thread thread_;
};

/// Of a store: with its settings, in ROOT/indexdb. Null when messageIndexEnable is false. What it is given must outlive
/// it; the holes are read from start() on.
[[nodiscard]] std::unique_ptr<MessageIndex> make_message_index(
    const StoreOptions& options, const CommitLog& log, const HoleList& holes,
    std::function<std::optional<SharedBytes>(LogOffset offset)> record_at, io::FileSystem& files, const Logger& logger);
/// Asks the index, if there is one; see MessageStore::query.
[[nodiscard]] Result<KeyAnswer> query_index(MessageIndex* index, const KeyQuery& query);

}  // namespace apogee::store
