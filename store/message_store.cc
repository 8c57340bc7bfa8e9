#include "store/message_store.h"

#include <fmt/core.h>
#include <pthread.h>

#include <algorithm>

#include "common/message/message_record.h"
#include "store/file_store.h"
#include "store/ha/slave_store.h"

namespace apogee::store {

namespace {

/// How long the deletion of a topic waits for the dispatcher.
constexpr auto kDispatchWait = std::chrono::milliseconds(5'000);
/// The floor table is saved once in so many looks of the keeper, and before files go.
constexpr int kLooksPerFloors = 10;
/// When so many queues have new entries, each of which costs a file that is opened and written, they are synced once in
/// so many looks, the one that saves the floor table among them: checkpoints move on with that alone.
constexpr size_t kManyQueues = 1'000;
constexpr int kLooksPerSyncOfMany = 5;

}  // namespace

FileMessageStore::FileMessageStore(StoreOptions options, const Logger& logger, io::FileSystem& files,
                                   std::shared_ptr<EpochFile> epochs)
    : options_(std::move(options)),
      message_bytes_max_(options_.message_bytes_max),
      files_(files),
      logger_(logger),
      log_(log_options(options_), files_, logger),
      queues_(options_.root_dir + "/consumequeue", options_.root_dir + "/consumequeue.removed",
              options_.consume_queue_file_bytes, files_, logger),
      dispatcher_(log_, queues_, options_.delay_levels_ms, logger),
      reader_({log_, queues_, logger, options_.consume_queue_file_bytes / kQueueEntryBytes,
               [this](const message::RecordView& record) { return dispatcher_.tags_code_of(record); },
               [this] { look_now(); }, holes_}),
      floors_(path("queueFloors"), files_, logger),
      retention_({log_, files_, logger, log_options(options_).directory, options_.root_dir + "/consumequeue",
                  options_.disk_used_ratio_max, options_.now_ms},
                 options_.retention),
      index_(make_message_index(
          options_, log_, holes_, [this](LogOffset at) { return record_at(at); }, files_, logger)),
      epochs_(epochs ? std::move(epochs) : std::make_shared<EpochFile>(path("epochFileCheckpoint"), files_, logger)),
      replicated_({log_, queues_, dispatcher_, index_.get(), holes_, *epochs_, logger}) {
  queues_.set_floors(floors_);
}

CommitLog::Options FileMessageStore::log_options(const StoreOptions& options) {
  CommitLog::Options log;
  log.directory = options.commit_log_dir.empty() ? options.root_dir + "/commitlog" : options.commit_log_dir;
  log.file_bytes = options.commit_log_file_bytes;
  log.flush.sync_flush = options.flush_disk_type == FlushDiskType::kSync;
  log.flush.interval_ms = options.flush_interval_ms;
  log.flush.least_pages = options.flush_least_pages;
  log.flush.thorough_interval_ms = options.flush_thorough_interval_ms;
  log.flush.timeout_ms = options.sync_flush_timeout_ms;
  log.window_bytes = options.log_window_bytes;
  log.parked_ms_max = options.page_cache_busy_ms;
  log.warm_files = options.warm_log_files;
  log.now_ms = options.now_ms;
  log.replication = options.replication;
  log.slave = options.slave;
  return log;
}

Status FileMessageStore::start() {
  log_.set_growth_listener([this] {
    dispatcher_.append_done();
    if (index_) index_->wake();
  });
  retention_.look_at_disk();
  log_.start();
  dispatcher_.start();
  if (index_) index_->start();
  keeper_ = std::thread([this] {
    pthread_setname_np(pthread_self(), "store-keeper");
    run_keeper();
  });
  started_ = true;
  return {};
}

void FileMessageStore::stop() {
  if (stopped_ || !started_) return;
  stopped_ = true;
  auto synced = log_.stop();
  if (!synced) logger_.error("stop: {}", synced.error().message);
  dispatcher_.stop();
  if (index_) index_->stop();
  {
    std::lock_guard lock(keeper_mutex_);
    stop_keeper_ = true;
    keeper_wanted_.notify_one();
  }
  keeper_.join();
  dispatcher_.sync_queues();
  keep_floors(false);  // what waited for a sync
  keep_floors(true);
  const bool complete = synced && dispatcher_.position() >= log_.end() && dispatcher_.all_synced();
  save_checkpoint(complete);
  if (complete) {
    files_.remove(path("abort")).ignore("then the next start takes the long way");
    logger_.info("store stopped: the log ends at {}", log_.end());
  }
}

void FileMessageStore::run_keeper() {
  const auto interval = std::chrono::milliseconds(options_.keep_interval_ms);
  std::unique_lock lock(keeper_mutex_);
  for (;;) {
    keeper_wanted_.wait_for(lock, interval, [this] { return stop_keeper_ || look_now_; });
    if (stop_keeper_) return;
    look_now_ = false;
    lock.unlock();
    retention_.look_at_disk();
    ++looks_;
    if (queues_.queues_to_flush() < kManyQueues || looks_ % kLooksPerSyncOfMany == 0) dispatcher_.sync_queues();
    keep_floors(looks_ % kLooksPerFloors == 0);
    save_checkpoint();
    clean_log();
    reader_.repair([this] { return stop_keeper_.load(); });
    lock.lock();
  }
}

void FileMessageStore::clean_log() {
  auto pause = [this](int64_t ms) {
    std::unique_lock lock(keeper_mutex_);
    return !keeper_wanted_.wait_for(lock, std::chrono::milliseconds(ms), [this] { return stop_keeper_.load(); });
  };
  auto round = retention_.run(floors_.covered(), pause);
  if (round.removed > 0) log_begins_at(log_.begin());
  if (round.held_back) keep_floors(true);
}

void FileMessageStore::log_begins_at(LogOffset begin) {
  queues_.set_log_begin(begin);
  if (auto forgotten = epochs_->forget_before(begin); !forgotten) logger_.warn("{}", forgotten.error().message);
}

void FileMessageStore::keep_floors(bool now) {
  // In this order: the offsets count all that was dispatched before, and nothing that is not in the log after.
  const LogOffset dispatched = dispatcher_.position();
  if (now && !floors_.proposed() && floors_.covered() < dispatched) {
    place_of_floors_ = dispatcher_.synced_to();
    auto floors = queues_.floors();
    // No floor above what a crash leaves of the queues.
    if (auto flushed = queues_.flush(); !flushed) return;
    floors_.propose(std::move(floors), dispatched, log_.end());
  }
  if (auto saved = floors_.save_proposed(log_.flushed()); !saved) logger_.warn("{}", saved.error().message);
}

void FileMessageStore::delete_topic(std::string_view topic) {
  // What the dispatcher has not seen yet would bring the queues back.
  dispatcher_.wait_for(log_.end(), kDispatchWait);
  floors_.retire(queues_.next_offsets(topic));
  if (auto saved = floors_.save(); !saved)
    logger_.error("topic {}: its next offsets are not saved yet: {}", topic, saved.error().message);
  queues_.remove_topic(topic);
}

void FileMessageStore::delete_topic_before(std::string_view topic, LogOffset end) {
  dispatcher_.wait_for(std::min(end, log_.end()), kDispatchWait);
  floors_.retire(queues_.begin_at(topic, end));
  if (auto saved = floors_.save(); !saved)
    logger_.error("topic {}: its next offsets are not saved yet: {}", topic, saved.error().message);
  queues_.remove_before(topic, end);
}

int32_t FileMessageStore::queue_count(std::string_view topic) {
  int32_t count = 0;
  for (const auto& [key, next] : queues_.next_offsets(topic))
    count = std::max(count, ConsumeQueues::parse_key(key).second + 1);
  return count;
}

Result<size_t> FileMessageStore::clean_expired_queues() {
  auto expired = queues_.expired();
  QueueFloors::Offsets next;
  for (const auto& queue : expired)
    next.emplace_back(ConsumeQueues::queue_key(queue.topic, queue.queue_id), queue.next);
  floors_.retire(next);
  APOGEE_TRY(floors_.save());
  return queues_.remove_expired(expired);
}

void FileMessageStore::clean_expired_files() {
  retention_.clean_now();
  look_now();
}

void FileMessageStore::look_now() {
  std::lock_guard lock(keeper_mutex_);
  look_now_ = true;
  keeper_wanted_.notify_one();
}

void FileMessageStore::save_checkpoint(bool at_clean_stop) {
  Checkpoint now = saved_checkpoint_;
  now.ended_at = -1;
  // Never ahead of the floor table: together they tell a later start whether a queue has lost its end.
  for (const auto& synced : {place_of_floors_, dispatcher_.synced_to()})
    if (synced.last_record < synced.position && synced.position <= floors_.covered()) synced_to_ = synced;
  if (synced_to_.position >= 0 && synced_to_.position <= log_.flushed()) {
    now.log_position = synced_to_.position;
    now.last_record = synced_to_.last_record;
  }
  if (int64_t time = log_.flushed_time_ms(); time != 0) now.log_time_ms = time;
  if (int64_t time = dispatcher_.synced_time_ms(); time != 0) now.queues_time_ms = time;
  if (at_clean_stop && now.log_position == log_.end()) now.ended_at = now.log_position;
  if (now.log_time_ms == 0 || now.queues_time_ms == 0 || now == saved_checkpoint_) return;
  if (auto saved = write_checkpoint(files_, path("checkpoint"), now); !saved) {
    logger_.warn("{}", saved.error().message);
    return;
  }
  saved_checkpoint_ = now;
}

QueueOffset FileMessageStore::max_offset(std::string_view topic, int32_t queue_id) {
  auto queue = queues_.find(topic, queue_id);
  return queue ? queue->max() : 0;
}

QueueOffset FileMessageStore::min_offset(std::string_view topic, int32_t queue_id) {
  auto queue = queues_.find(topic, queue_id);
  return queue ? queue->min() : 0;
}

std::vector<QueueEntry> FileMessageStore::queue_entries(std::string_view topic, int32_t queue_id, QueueOffset from,
                                                        int32_t count) {
  auto queue = queues_.find(topic, queue_id);
  return queue ? queue->read(from, count) : std::vector<QueueEntry>{};
}

StoreFigures FileMessageStore::figures() {
  StoreFigures figures;
  figures.log_min_offset = log_.begin();
  figures.log_max_offset = log_.end();
  figures.flushed_offset = log_.flushed();
  figures.dispatched_offset = dispatcher_.position();
  figures.commit_log_disk_ratio = files_.used_ratio(log_options(options_).directory);
  figures.consume_queue_disk_ratio = files_.used_ratio(options_.root_dir + "/consumequeue");
  for (const auto& hole : holes_.all()) {
    ++figures.holes;
    figures.hole_bytes += hole.end - hole.begin;
  }
  figures.put_messages_total = put_messages_;
  figures.put_bytes_total = put_bytes_;
  figures.put_failed_total = put_failed_;
  if (index_) index_->tell(figures);
  figures.page_cache_lock_ms = log_.append_busy_ms();
  if (auto first = record_at(figures.log_min_offset))
    if (auto record = message::decode_record(first->bytes))
      figures.earliest_message_time_ms = record->store_timestamp_ms;
  return figures;
}

LogOffset FileMessageStore::next_record(LogOffset from) {
  const LogOffset end = log_.readable_end();
  for (LogOffset at = std::max(from, log_.begin()); at < end;) {
    const auto file = log_.files().at(at);
    if (!file) break;
    if (auto found = store::next_record(*file, at, end); found && *found >= 0) return *found;
    at = file->end();
  }
  return -1;
}

Result<std::unique_ptr<MessageStore>> MessageStore::open(StoreOptions options, const Logger& logger) {
  return open(std::move(options), logger, io::posix_file_system());
}

Result<std::unique_ptr<MessageStore>> MessageStore::open(StoreOptions options, const Logger& logger,
                                                         io::FileSystem& files) {
  if (options.root_dir.empty()) return Error(Errc::kInvalidArgument, "storePathRootDir is empty");
  options.consume_queue_file_bytes =
      std::max<int64_t>(1, (options.consume_queue_file_bytes + kQueueEntryBytes - 1) / kQueueEntryBytes) *
      kQueueEntryBytes;
  if (options.slave) {
    auto slave = std::make_unique<SlaveStore>(std::move(options), logger, files);
    APOGEE_TRY(slave->recover());
    return std::unique_ptr<MessageStore>(std::move(slave));
  }
  auto store = std::make_unique<FileMessageStore>(std::move(options), logger, files);
  APOGEE_TRY(store->recover());
  return std::unique_ptr<MessageStore>(std::move(store));
}

const char* to_string(GetStatus status) {
  switch (status) {
    case GetStatus::kFound: return "FOUND";
    case GetStatus::kNoMatchedMessage: return "NO_MATCHED_MESSAGE";
    case GetStatus::kMessageWasRemoving: return "MESSAGE_WAS_REMOVING";
    case GetStatus::kOffsetFoundNull: return "OFFSET_FOUND_NULL";
    case GetStatus::kOffsetOverflowBadly: return "OFFSET_OVERFLOW_BADLY";
    case GetStatus::kOffsetOverflowOne: return "OFFSET_OVERFLOW_ONE";
    case GetStatus::kOffsetTooSmall: return "OFFSET_TOO_SMALL";
    case GetStatus::kNoMatchedLogicQueue: return "NO_MATCHED_LOGIC_QUEUE";
    case GetStatus::kNoMessageInQueue: return "NO_MESSAGE_IN_QUEUE";
  }
  return "UNKNOWN";
}

}  // namespace apogee::store
