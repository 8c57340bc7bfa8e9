#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "apogee/result.h"
#include "common/base/logger.h"
#include "common/io/file_system.h"
#include "store/message_store.h"
#include "store/open_files.h"
#include "store/queue_floors.h"

namespace apogee::store {

/// Bytes of one entry: i64 physical offset | i32 record bytes | i64 tags code.
inline constexpr int64_t kQueueEntryBytes = 20;
/// Record bytes of an entry that stands for no message: its log was deleted before the queue began (then the physical
/// offset is 0, as in Apache RocketMQ), or is damaged (then it is that of the next message that is there).
inline constexpr int32_t kBlankEntryBytes = 0x7FFFFFFF;
[[nodiscard]] inline bool is_blank(const QueueEntry& entry) { return entry.record_bytes == kBlankEntryBytes; }
/// Its queues hold messages that are not due yet.
inline constexpr std::string_view kScheduleTopic = "SCHEDULE_TOPIC_XXXX";

/// One queue of one topic: entries by queue offset, in files of a fixed number of entries. Added to by the
/// dispatcher alone; read by any thread. New entries are held in memory until flush(), so that who adds them never
/// waits for a disk; a crash loses them, and the next start takes them from the log again. Holds no descriptor and no
/// mapping.
class ConsumeQueue {
 public:
  ConsumeQueue(std::string directory, int64_t file_bytes, OpenFiles& open_files, io::FileSystem& files);

  /// Reads how far the files go.
  [[nodiscard]] Status load();
  /// Forgets entries of records that end behind `limit`, and zeroes them and all that follows; after a crash also
  /// what follows when no entry was cut.
  [[nodiscard]] Status cut_beyond(LogOffset limit, LogOffset log_end, bool after_crash);
  /// Raises the minimum to the first entry of a record at or after the log's beginning. Thread: one at a time.
  [[nodiscard]] Status set_log_begin(LogOffset log_begin);
  /// Removes files all of whose entries are below the minimum; never the last one. Thread: as set_log_begin().
  [[nodiscard]] Status remove_old_files();
  /// Offsets up to this may be missing in front of an entry, however many: the floor table has counted them.
  void set_floor(QueueOffset floor) { floor_ = floor; }
  void set_last_record(LogOffset record) { last_record_ = record; }
  /// Whether it has had entries, and all of their records have left the log.
  [[nodiscard]] bool expired() const { return max() > 0 && min() == max(); }
  /// If it is expired, append() answers kClosed from now on. Thread: any.
  [[nodiscard]] bool close_if_expired();
  /// As close_if_expired(), if all of its records begin in front of `end`.
  [[nodiscard]] bool close_if_before(LogOffset end);
  /// The offset of the first entry of a record at or behind `end`; max() when there is none.
  [[nodiscard]] Result<QueueOffset> first_from(LogOffset end) const;

  /// Entries of consecutive offsets from `first` on. Those that are there already are skipped. A gap in front of
  /// them, which only damage leaves, is filled with blank entries, so that the queue goes on; entries that come for the
  /// gap later take their places.
  /// Errors: kCorrupt when the gap is wider than a file and than `gap_max`, and ends behind the floor: no log has lost
  /// that much; kClosed: another object stands for the queue now; kIo, kDiskFull: to be tried again, which is harmless.
  /// What continues the queue is held in memory; the rest waits for the disk.
  [[nodiscard]] Status append(QueueOffset first, const std::vector<QueueEntry>& entries, int64_t gap_max = 0);
  /// Writes what is held in memory alone to the files, not durably. Thread: any. Errors: kIo, kDiskFull: to be tried
  /// again.
  [[nodiscard]] Status flush();
  /// True once after append() has begun to hold entries in memory: flush() is to be called.
  [[nodiscard]] bool take_flush_wanted() { return flush_wanted_.exchange(false, std::memory_order_relaxed); }
  /// Up to `count` entries from an offset within [min, max).
  [[nodiscard]] std::vector<QueueEntry> read(QueueOffset from, int64_t count) const;
  /// The same into a vector that is used again and again.
  void read(QueueOffset from, int64_t count, std::vector<QueueEntry>& to) const;
  /// Its files are gone or going; a late append() writes nothing.
  void set_removed() { removed_ = true; }

  [[nodiscard]] QueueOffset max() const { return next_.load(std::memory_order_acquire); }
  [[nodiscard]] QueueOffset min() const { return min_.load(std::memory_order_acquire); }
  /// Takes in the entry of a message that was damaged when its neighbours got theirs. Thread: any. Errors: as append().
  [[nodiscard]] Status put_back(QueueOffset offset, const QueueEntry& entry);
  /// Overwrites entries that are there; for repair. Error: kIo, kDiskFull.
  [[nodiscard]] Status rewrite(QueueOffset first, const std::vector<QueueEntry>& entries);
  /// Its ends, for the floor table.
  [[nodiscard]] QueueFloor floor() const;
  [[nodiscard]] const std::string& directory() const { return directory_; }
  /// Whether load() or cut_beyond() has met entries that were not written so: more of its messages may be in the log.
  [[nodiscard]] bool damaged() const { return damaged_; }

 private:
  [[nodiscard]] std::string path_of(QueueOffset offset) const;
  [[nodiscard]] Result<bool> goes_on_behind(QueueOffset next, const std::vector<QueueOffset>& file_begins);
  [[nodiscard]] bool append_in_memory_locked(QueueOffset first, const std::vector<QueueEntry>& entries);
  [[nodiscard]] Status append_locked(QueueOffset first, const std::vector<QueueEntry>& entries, int64_t gap_max);
  [[nodiscard]] Status flush_locked();
  void close_locked();
  void trim_tail_locked();
  [[nodiscard]] Status write(QueueOffset first, const std::vector<QueueEntry>& entries);
  void doubt(QueueOffset from, QueueOffset to);
  [[nodiscard]] Result<QueueOffset> find_from(LogOffset begin, LogOffset& record_there) const;
  [[nodiscard]] Status fill_in(QueueOffset first, const std::vector<QueueEntry>& entries);
  [[nodiscard]] std::vector<QueueEntry> read_files(QueueOffset from, int64_t count) const;
  void read_files(QueueOffset from, int64_t count, std::vector<QueueEntry>& to) const;
  void read_with_what_follows(QueueOffset from, int64_t count, QueueOffset written_end, uint64_t writes,
                              std::vector<QueueEntry>& to) const;
  [[nodiscard]] std::vector<QueueEntry> read_one(QueueOffset offset) const;
  [[nodiscard]] std::shared_ptr<io::File> file_to_read(QueueOffset offset) const;

  const std::string directory_;
  const int64_t entries_per_file_;
  OpenFiles& open_files_;
  io::FileSystem& files_;
  const uint64_t number_;                   // of no other queue of this process
  std::atomic<uint64_t> writes_{0};         // to its files, so far
  std::atomic<QueueOffset> first_file_{0};  // raised by set_log_begin's thread, set by the first append
  QueueOffset floor_ = 0;                   // constant once others see the queue
  std::mutex write_mutex_;                  // held by who writes to the files; before append_mutex_
  bool directory_made_ = false;             // guarded by write_mutex_
  bool damaged_ = false;                    // constant once others see the queue
  std::mutex append_mutex_;
  bool may_begin_earlier_ =
      false;             // guarded by append_mutex_: no entry is left, and next_ is only where the files begin
  bool closed_ = false;  // guarded by append_mutex_
  QueueOffset doubtful_from_ = 0, doubtful_to_ = 0;  // guarded by append_mutex_: gaps, and what came behind them
  std::atomic<LogOffset> first_record_{-1};          // of the entry at min_ or before it, if known
  std::atomic<LogOffset> last_record_{-1};           // of the entry in front of next_, if known
  std::atomic<QueueOffset> next_{0}, min_{0};
  std::atomic<bool> removed_{false};
  mutable std::mutex tail_mutex_;
  std::deque<QueueEntry> tail_;  // guarded by tail_mutex_: the entries just below next_
  size_t unwritten_ = 0;         // guarded by tail_mutex_: so many at the end of tail_ are in no file yet
  std::atomic<bool> flush_wanted_{false};
  // Guarded by tail_mutex_: the file that was read last, as long as it is open, and where it begins.
  mutable std::weak_ptr<io::File> read_file_;
  mutable QueueOffset read_file_begin_ = -1;
};

struct ExpiredQueue {
  std::string topic;
  int32_t queue_id = 0;
  QueueOffset next = 0;
};

/// All queues. Thread: any for find and next_offsets; the dispatcher for the rest, unless said otherwise.
class ConsumeQueues {
 public:
  /// trash: where directories go before their files are removed; beside `directory`.
  ConsumeQueues(std::string directory, std::string trash, int64_t file_bytes, io::FileSystem& files,
                const Logger& logger);
  /// For ConsumeQueue::set_floor(); before load(). `floors` outlives the queues.
  void set_floors(const QueueFloors& floors) { floors_ = &floors; }
  /// See QueueFloors::retired_below().
  [[nodiscard]] QueueOffset retired_below(std::string_view topic, int32_t queue_id) const;

  /// Entries of records that end behind `trusted_end` are cut: the log does not have them, or a crash may have
  /// torn them and they are dispatched again.
  [[nodiscard]] Status load(LogOffset log_begin, LogOffset trusted_end, LogOffset log_end, bool after_crash);
  [[nodiscard]] std::shared_ptr<ConsumeQueue> find(std::string_view topic, int32_t queue_id) const;
  [[nodiscard]] std::shared_ptr<ConsumeQueue> find_or_create(std::string_view topic, int32_t queue_id);
  /// Grows whenever a queue that find() has given may stand for its topic and id no more. Thread: any.
  [[nodiscard]] int64_t removals() const { return removals_.load(std::memory_order_acquire); }
  /// Thread: any.
  void remove_topic(std::string_view topic);
  /// What a topic's queues have in front of `end` is to be given up: where the rest of each begins, keyed as
  /// queue_key(). Thread: any.
  [[nodiscard]] std::vector<std::pair<std::string, QueueOffset>> begin_at(std::string_view topic, LogOffset end) const;
  /// Gives it up; queues of which nothing is left are removed. Thread: any.
  void remove_before(std::string_view topic, LogOffset end);
  /// See ConsumeQueue::take_flush_wanted(). Thread: any.
  void flush_later(std::shared_ptr<ConsumeQueue> queue);
  /// Writes what queues hold in memory alone to their files. Thread: any. Errors: kIo, kDiskFull: to be tried again.
  [[nodiscard]] Status flush();
  [[nodiscard]] size_t queues_to_flush() const { return queues_to_flush_.load(std::memory_order_relaxed); }
  /// Makes durable what was written before the call. Thread: any, one at a time.
  [[nodiscard]] Status sync() { return open_files_.sync_dirty(directory_); }
  /// Physical end of the last record that any queue has an entry of; 0 when there is none.
  [[nodiscard]] LogOffset dispatched_end() const { return dispatched_end_; }
  /// Where the entries of damaged queues go on in the log; the greatest number when load() has met none.
  [[nodiscard]] LogOffset rebuild_from() const { return rebuild_from_; }
  /// Removes queues that have no entries, after the log was gone through for them.
  void forget_empty();
  /// Every queue with its next offset, keyed as queue_key(); of one topic, or of all.
  [[nodiscard]] std::vector<std::pair<std::string, QueueOffset>> next_offsets(std::string_view topic = {}) const;
  /// The ends of every queue, keyed as queue_key().
  [[nodiscard]] std::vector<std::pair<std::string, QueueFloor>> floors() const;
  /// Removes the files of a queue, which is to be built again from its first message on. Before start.
  [[nodiscard]] Status restart(std::string_view topic, int32_t queue_id);
  /// The log begins there now: minimum offsets rise, and files below them go. Thread: any, one at a time.
  void set_log_begin(LogOffset log_begin);
  /// Queues that are expired now, but for those of delayed messages, with their next offsets. Thread: any.
  [[nodiscard]] std::vector<ExpiredQueue> expired() const;
  /// Removes those that still are. Returns how many. Thread: any.
  size_t remove_expired(const std::vector<ExpiredQueue>& queues);
  [[nodiscard]] std::vector<std::string> topics() const;
  static std::string queue_key(std::string_view topic, int32_t queue_id);
  /// The topic and queue id of a key. Empty topic: it is none.
  static std::pair<std::string_view, int32_t> parse_key(std::string_view key);

 private:
  [[nodiscard]] std::shared_ptr<ConsumeQueue> make(std::string_view topic, int32_t queue_id);
  /// Renames a directory into the trash, because its name may come again at once; the answer is to be removed, and
  /// empty when there was nothing.
  [[nodiscard]] std::string move_away_locked(const std::string& directory);

  void remove_closed(const std::vector<std::string>& gone);

  const std::string directory_, trash_;
  const int64_t file_bytes_;
  io::FileSystem& files_;
  const Logger& logger_;
  OpenFiles open_files_;
  std::mutex begin_mutex_;  // before mutex_; one change of minimum offsets at a time
  mutable std::shared_mutex mutex_;
  std::map<std::string, std::map<int32_t, std::shared_ptr<ConsumeQueue>>, std::less<>> topics_;  // guarded by mutex_
  LogOffset dispatched_end_ = 0;
  LogOffset rebuild_from_ = std::numeric_limits<LogOffset>::max();
  std::atomic<int64_t> removals_{0};  // changed under mutex_
  std::atomic<int64_t> moved_away_{0};
  const QueueFloors* floors_ = nullptr;
  std::mutex flush_mutex_;  // one flush() at a time
  mutable std::mutex unwritten_mutex_;
  std::vector<std::shared_ptr<ConsumeQueue>> unwritten_;  // guarded by unwritten_mutex_: to be flushed
  std::atomic<size_t> queues_to_flush_{0};                // so many; set under unwritten_mutex_
};

}  // namespace apogee::store
