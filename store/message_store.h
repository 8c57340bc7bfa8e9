#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "apogee/result.h"
#include "common/base/bytes.h"
#include "common/base/logger.h"

namespace apogee::io {
class FileSystem;
}

namespace apogee::message {
class RecordForm;
struct RecordPart;
}  // namespace apogee::message

namespace apogee::store {

/// Bytes from the start of the log, not of a file.
using LogOffset = int64_t;
/// Number of a message within its queue.
using QueueOffset = int64_t;

/// An IP address and port as a record carries them: 4 or 16 address bytes in network order.
struct HostAddress {
  std::string ip_bytes = std::string(4, '\0');
  int32_t port = 0;
};

class ReplicatedLog;

enum class FlushDiskType : uint8_t { kAsync, kSync };

/// Which files of the log go, and when; defaults as in Apache RocketMQ 5.3.
struct RetentionOptions {
  int64_t reserved_ms = 72LL * 3'600'000;   ///< fileReservedTime
  std::vector<int32_t> delete_hours = {4};  ///< deleteWhen: local hours in which expired files go
  double clean_above = 0.75;                ///< diskMaxUsedSpaceRatio: expired files go at any hour
  double clean_forcibly_above = 0.85;       ///< diskSpaceCleanForciblyRatio: any file may go
  bool clean_forcibly = true;               ///< cleanFileForciblyEnable
  int64_t interval_ms = 10'000;             ///< cleanResourceInterval: between rounds
  int64_t first_after_ms = 60'000;          ///< the first round, after start()
  int64_t file_pause_ms = 100;              ///< deleteCommitLogFilesInterval: between two files
  int32_t files_max = 10;                   ///< deleteFileBatchMax: files of one round
};

/// What may be written where Apache RocketMQ 4.9 and 5.x differ.
enum class StoreCompatibility : uint8_t {
  k5x,
  k49,  ///< nothing that a 4.9 broker could not read
};

/// When a message counts as replicated. The master itself counts as one broker that has it.
struct ReplicationRules {
  bool waits = false;                ///< brokerRole=SYNC_MASTER: answers wait, and readers see what the in-sync set has
  int32_t in_sync_replicas = 2;      ///< inSyncReplicas: so many brokers must have a message; 1: no waiting
  int32_t min_in_sync_replicas = 1;  ///< minInSyncReplicas: with fewer in sync messages are refused
  bool all_in_sync = false;          ///< allAckInSyncStateSet: every member of the set must have a message
  int64_t timeout_ms = 3'000;        ///< slaveTimeout
  int64_t fall_behind_bytes_max = 256LL << 20;  ///< haSlaveFallbehindMax: who lags more is not waited for
  int64_t catch_up_ms_max = 15'000;             ///< haMaxTimeSlaveNotCatchup: who lags longer leaves the in-sync set
};

struct StoreOptions {
  std::string root_dir;                                        ///< storePathRootDir
  std::string commit_log_dir;                                  ///< empty: <root>/commitlog
  int64_t commit_log_file_bytes = 1LL << 30;                   ///< mappedFileSizeCommitLog
  int64_t consume_queue_file_bytes = 6'000'000;                ///< mappedFileSizeConsumeQueue, whole 20-byte entries
  StoreCompatibility compatibility = StoreCompatibility::k5x;  ///< storeCompatibility
  FlushDiskType flush_disk_type = FlushDiskType::kAsync;
  ReplicationRules replication;                 ///< of a master
  bool slave = false;                           ///< brokerRole=SLAVE: the log is copied from a master, and nothing else
  int64_t flush_interval_ms = 500;              ///< flushIntervalCommitLog
  int64_t flush_least_pages = 4;                ///< flushCommitLogLeastPages: fewer wait for the thorough interval
  int64_t flush_thorough_interval_ms = 10'000;  ///< flushCommitLogThoroughInterval
  int64_t sync_flush_timeout_ms = 5'000;        ///< syncFlushTimeout
  int64_t message_bytes_max = 4 * 1024 * 1024;  ///< maxMessageSize
  int64_t page_cache_busy_ms = 1'000;           ///< osPageCacheBusyTimeOutMills; an append waits so long for room
  int64_t log_window_bytes = 16 << 20;          ///< pages made ready ahead of the log's end
  bool warm_log_files = false;                  ///< warmMapedFileEnable: the next file is made ready whole, and locked
  /// diskSpaceWarningLevelRatio: above it writes are refused, reads go on. Writes are taken again when the use is at
  /// or below retention.clean_forcibly_above.
  double disk_used_ratio_max = 0.90;
  RetentionOptions retention;
  int64_t keep_interval_ms = 1'000;   ///< between looks of the store-keeper: disk use, syncs of queues, checkpoint
  std::function<int64_t()> now_ms;    ///< the clock of store times and retention, ms since 1970; empty: the system's
  bool check_crc_on_recover = true;   ///< checkCRCOnRecover
  bool message_index_enabled = true;  ///< messageIndexEnable
  int64_t message_index_cache_bytes = 8 << 20;  ///< messageIndexCacheBytes: blocks of the index kept in memory
  /// messageDelayLevel, from level 1 on. Entries of parked messages carry the time they are due, not a tags code.
  std::vector<int64_t> delay_levels_ms = {1'000,   5'000,   10'000,    30'000,    60'000,    120'000,
                                          180'000, 240'000, 300'000,   360'000,   420'000,   480'000,
                                          540'000, 600'000, 1'200'000, 1'800'000, 3'600'000, 7'200'000};
};

/// A message before it has a place. Views are read during append() only.
struct MessageDraft {
  std::string_view topic;
  int32_t queue_id = 0;
  int32_t flag = 0;
  int32_t sys_flag = 0;
  int64_t born_timestamp_ms = 0;
  HostAddress born_host;
  HostAddress store_host;
  int32_t reconsume_times = 0;
  int64_t prepared_transaction_offset = 0;
  std::string_view body;
  std::string_view properties;  ///< name 0x01 value 0x02 ...
  bool wait_store_ok = true;    ///< WAIT: false means that the reply does not wait for a sync
};

/// Asked before a file of the log goes, which then begins at `new_begin`: false holds it back, and it is asked for
/// again later. Called on the store-keeper's thread; may block for a moment.
using RemovalListener = std::function<bool(LogOffset new_begin)>;

/// As PutMessageStatus in Apache RocketMQ.
enum class PutStatus : uint8_t {
  kOk,
  kFlushDiskTimeout,
  kFlushSlaveTimeout,
  kSlaveNotAvailable,  // stored
  kServiceNotAvailable,
  kMessageIllegal,
  kPropertiesSizeExceeded,
  kPageCacheBusy,
  kCreateFileFailed,
  kUnknownError,
  kInSyncReplicasNotEnough,
};

struct PutResult {
  PutStatus status = PutStatus::kUnknownError;
  std::string detail;              ///< for the remark when not stored
  std::vector<LogOffset> offsets;  ///< one a message
  QueueOffset queue_offset = -1;   ///< of the first message
  int64_t store_timestamp_ms = 0;
  [[nodiscard]] bool stored() const { return status <= PutStatus::kSlaveNotAvailable; }
};
using PutCallback = std::function<void(PutResult)>;

/// As GetMessageStatus in Apache RocketMQ.
enum class Synced : uint8_t { kYes, kTimeout };

/// A queue that messages take the short way to; whoever sends to it keeps this. Thread: one at a time.
struct QuickQueue {
  std::string key;              ///< ConsumeQueues::queue_key() of topic and queue
  QueueOffset* next = nullptr;  ///< the store's own
};
/// Messages of one request that take the short way into the log: they wait for nothing but, under sync flush, the disk.
struct QuickMessages {
  const message::RecordForm& form;
  const message::RecordPart* parts;  ///< one a message
  size_t count = 1;
  size_t body_bytes = 0;  ///< of the request: of a batch all of it
  QuickQueue& queue;
  bool wait_store_ok = true;
};
struct QuickPlace {
  LogOffset end = 0;
  std::vector<LogOffset> offsets;  ///< one a message
  QueueOffset queue_offset = 0;    ///< of the first
  int64_t store_timestamp_ms = 0;
  bool waits = false;  ///< `synced` comes when the answer may go
};

enum class GetStatus : uint8_t {
  kFound,
  kNoMatchedMessage,
  kMessageWasRemoving,
  kOffsetFoundNull,
  kOffsetOverflowBadly,
  kOffsetOverflowOne,
  kOffsetTooSmall,
  kNoMatchedLogicQueue,
  kNoMessageInQueue,
};
const char* to_string(GetStatus status);  ///< "FOUND", "OFFSET_OVERFLOW_ONE", ...

/// Whether a record may be delivered; empty function = all.
using RecordFilter = std::function<bool(std::string_view record)>;

struct GetLimits {
  int32_t count_max = 32;
  int64_t bytes_max = 256 * 1024;   ///< the first message always goes
  RecordFilter record_filter = {};  ///< asked about what the tags filter lets pass; costs a read of the record
  bool only_from_memory = false;    ///< what would wait for the disk is not read: GetResult::on_disk
  bool joined = false;              ///< records that follow one another in memory become one part, which costs less
};
/// Whether an entry with this tags code may be delivered; empty function = all.
using TagsCodeFilter = std::function<bool(int64_t tags_code)>;

struct GetResult {
  GetStatus status = GetStatus::kNoMatchedLogicQueue;
  QueueOffset next_begin_offset = 0;
  QueueOffset min_offset = 0;
  QueueOffset max_offset = 0;
  /// Raw records, each pinned in the mapping for as long as it is held; with GetLimits::joined a part may be several.
  std::vector<SharedBytes> records;
  int32_t messages = 0;          ///< in `records`
  std::string_view last_record;  ///< the last of them
  int64_t bytes = 0;
  bool on_disk = false;  ///< nothing was read, because a record that is wanted is not in memory
};

enum class TimeBoundary : uint8_t { kLower, kUpper };

/// A queue's new end, told by the dispatcher after the entries are readable.
struct Arrival {
  std::string topic;
  int32_t queue_id = 0;
  QueueOffset max_offset = 0;  ///< offset of the next message
  int64_t tags_code = 0;       ///< of the last message
};
/// Called for each batch, by one thread at a time: the dispatcher's, or one that appends. Must not block, and not ask
/// the store to append.
using ArrivalListener = std::function<void(const std::vector<Arrival>& arrivals)>;

struct QueueEntry {
  LogOffset physical_offset = 0;
  int32_t record_bytes = 0;
  int64_t tags_code = 0;

  /// Behind the record. A damaged entry may say anything: what would overflow is the end of all offsets.
  [[nodiscard]] LogOffset end() const {
    LogOffset sum = 0;
    return __builtin_add_overflow(physical_offset, LogOffset{record_bytes}, &sum)
               ? std::numeric_limits<LogOffset>::max()
               : sum;
  }
};

enum class IndexOrder : uint8_t { kNewestFirst, kOldestFirst };

/// Asks for the messages of a topic that have a key: as UNIQ_KEY, or as one of the words in KEYS.
struct KeyQuery {
  std::string_view topic, key;
  int32_t count_max = 32;
  int64_t bytes_max = 8 << 20;  ///< the first message always goes
  int64_t begin_ms = 0;         ///< store time, inclusive
  int64_t end_ms = INT64_MAX;   ///< inclusive
  IndexOrder order = IndexOrder::kNewestFirst;
};

struct KeyAnswer {
  /// Raw records in the order asked for, each pinned in the mapping for as long as it is held. Messages that were
  /// stored twice are there twice.
  std::vector<SharedBytes> records;
  bool truncated = false;  ///< there are more than count_max or bytes_max allow
  /// Empty, or why messages may be missing: the index is being built, or cannot be written.
  std::string incomplete;
  int64_t last_update_ms = 0;        ///< store time of the last message in the index
  LogOffset last_update_offset = 0;  ///< where it begins
};

struct StoreFigures {
  LogOffset log_min_offset = 0, log_max_offset = 0, flushed_offset = 0, dispatched_offset = 0;
  /// Damaged parts of the log that recovery and readers have found and leave out, and their bytes.
  int64_t holes = 0, hole_bytes = 0;
  double commit_log_disk_ratio = 0, consume_queue_disk_ratio = 0;
  int64_t put_messages_total = 0, put_bytes_total = 0, put_failed_total = 0;
  int64_t page_cache_lock_ms = 0;
  int64_t earliest_message_time_ms = -1;
  LogOffset indexed_offset = -1;  ///< everything in front is in the index; -1: no index
  int64_t index_entries_total = 0;
  int64_t index_cpu_ns = 0;  ///< of the thread that fills it; flushes and compactions come on top
};

/// The log, its queues and the threads that keep them. Knows nothing of requests or connections.
/// Thread: any, unless said otherwise.
class MessageStore {
 public:
  /// Opens or creates the directory and recovers what is in it; nothing is served before that.
  /// Errors: kAlreadyExists (another process holds the directory; the message names it), kUnsupported (a
  /// layout that cannot be read as it is; the message says which and the remedy), kCorrupt, kIo, kDiskFull.
  [[nodiscard]] static Result<std::unique_ptr<MessageStore>> open(StoreOptions options, const Logger& logger);
  /// On another file system, which must outlive the store.
  [[nodiscard]] static Result<std::unique_ptr<MessageStore>> open(StoreOptions options, const Logger& logger,
                                                                  io::FileSystem& files);
  virtual ~MessageStore() = default;

  virtual void set_arrival_listener(ArrivalListener listener) = 0;  ///< before start()
  /// Asked by appends, on any thread, and must be cheap: while somebody waits for messages, appends add theirs to the
  /// queues at once, instead of leaving that to the dispatcher. Before start().
  virtual void set_waiting(std::function<bool()> waiting) { (void)waiting; }
  /// Has what was appended so far in its queues, if that is little to do: for who reads. Thread: any.
  virtual void dispatch_appended() {}
  virtual void set_removal_listener(RemovalListener listener) = 0;  ///< before start()
  /// Starts dispatcher, flusher and allocator.
  [[nodiscard]] virtual Status start() = 0;
  /// Refuses new appends, dispatches and syncs what is there, writes the checkpoint, removes `abort`.
  virtual void stop() = 0;

  /// Appends one message. `done` is called exactly once: on the calling thread before append returns when
  /// nothing is to be waited for, else on a thread of the store's (flusher, allocator).
  virtual void append(const MessageDraft& draft, PutCallback done) = 0;
  /// Appends a client batch as one unit. `draft.body` holds the batch as in SEND_BATCH_MESSAGE (checked
  /// here; wild lengths give kMessageIllegal); draft.properties are appended to each message's own.
  virtual void append_batch(const MessageDraft& draft, PutCallback done) = 0;
  /// append() or append_batch() without memory of its own, for messages of a queue that are stored as they are. False:
  /// nothing was done, and those are to have them, because one is refused, or has to wait for room or for slaves.
  /// `synced` comes once where `place` says so: later, on the calling loop or the flusher's thread, or before this
  /// returns, with `place` filled.
  [[nodiscard]] virtual bool append_quickly(const QuickMessages& messages, QuickPlace& place,
                                            std::function<void(Synced)> synced) {
    (void)messages, (void)place, (void)synced;
    return false;
  }

  [[nodiscard]] virtual GetResult get(std::string_view topic, int32_t queue_id, QueueOffset offset,
                                      const GetLimits& limits, const TagsCodeFilter& filter) = 0;
  /// The same in place of what `to` held, whose room is used again.
  virtual void get_into(std::string_view topic, int32_t queue_id, QueueOffset offset, const GetLimits& limits,
                        const TagsCodeFilter& filter, GetResult& to) {
    to = get(topic, queue_id, offset, limits, filter);
    to.messages = static_cast<int32_t>(to.records.size());
    if (!to.records.empty()) to.last_record = to.records.back().bytes;
  }

  /// The next offset to be written as readers see it (0: empty or unknown).
  [[nodiscard]] virtual QueueOffset max_offset(std::string_view topic, int32_t queue_id) = 0;
  [[nodiscard]] virtual QueueOffset min_offset(std::string_view topic, int32_t queue_id) = 0;  ///< 0: unknown
  /// First offset whose store time is >= time_ms (kLower; max offset if none), or last one <= time_ms
  /// (kUpper), within [min, max].
  [[nodiscard]] virtual QueueOffset offset_by_time(std::string_view topic, int32_t queue_id, int64_t time_ms,
                                                   TimeBoundary boundary) = 0;
  /// Store time of the message at a queue offset; nullopt when there is none.
  [[nodiscard]] virtual std::optional<int64_t> store_time_ms(std::string_view topic, int32_t queue_id,
                                                             QueueOffset offset) = 0;
  /// The raw record at a physical offset; nullopt when no record begins there.
  [[nodiscard]] virtual std::optional<SharedBytes> record_at(LogOffset offset) = 0;
  /// The same, also of what readers do not see yet: a slave, or the disk under SYNC_FLUSH, has not got it.
  [[nodiscard]] virtual std::optional<SharedBytes> stored_record_at(LogOffset offset) { return record_at(offset); }
  /// Where the first record that can be read begins, at this place or behind it, over blanks and damage; -1: there is
  /// none. May read much of the log.
  [[nodiscard]] virtual LogOffset next_record(LogOffset from) = 0;
  [[nodiscard]] virtual std::vector<QueueEntry> queue_entries(std::string_view topic, int32_t queue_id,
                                                              QueueOffset from, int32_t count) = 0;
  /// Looks messages up by key, soon after they were stored (some ms behind their queues). May touch the disk.
  /// Errors: kUnsupported (messageIndexEnable is false), kIo, kDiskFull and kCorrupt (the index cannot be read now; it
  /// is tried again or built anew in the background).
  [[nodiscard]] virtual Result<KeyAnswer> query(const KeyQuery& query) = 0;
  /// Forgets the queues of a topic and deletes their files; the log keeps the records. Messages that come for the
  /// topic later go on with the next offsets, also after a restart, so that no offset is ever given twice.
  virtual void delete_topic(std::string_view topic) = 0;
  /// The same of the messages in front of this place in the log; later ones stay in their queues. For a slave, whose
  /// master deleted the topic when its log ended there, and may have made it again.
  virtual void delete_topic_before(std::string_view topic, LogOffset end) = 0;
  /// Topics that have queues.
  [[nodiscard]] virtual std::vector<std::string> topics() = 0;
  /// The greatest id of its queues, and one; 0: it has none.
  [[nodiscard]] virtual int32_t queue_count(std::string_view topic) = 0;
  /// Removes queues all of whose records have left the log, and their files; later messages go on with the next
  /// offsets. Returns how many. Errors: kIo, kDiskFull when the next offsets could not be saved; then nothing went.
  [[nodiscard]] virtual Result<size_t> clean_expired_queues() = 0;
  /// Lets the next 20 rounds of retention remove expired files at any hour; the first one begins at once.
  virtual void clean_expired_files() = 0;
  /// From the next round on.
  virtual void set_retention(const RetentionOptions& options) = 0;
  /// Of bodies, in bytes; from the next append on.
  virtual void set_message_bytes_max(int64_t bytes) = 0;
  [[nodiscard]] virtual StoreFigures figures() = 0;
  /// StoreFigures::log_max_offset alone, which is cheap.
  [[nodiscard]] virtual LogOffset log_end() { return figures().log_max_offset; }
  /// False while writes are refused (disk full, I/O error, stopping); why, for a remark.
  [[nodiscard]] virtual bool writable(std::string* why = nullptr) = 0;
  /// The log as replication sees it; lives as long as the store.
  [[nodiscard]] virtual ReplicatedLog& replicated_log() = 0;
};

}  // namespace apogee::store
