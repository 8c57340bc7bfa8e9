#include "store/message_store.h"

#include <fmt/core.h>
#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "common/message/batch.h"
#include "common/message/message_record.h"
#include "common/message/properties.h"
#include "store/checkpoint.h"
#include "store/commit_log.h"
#include "store/consume_queues.h"
#include "store/dispatcher.h"
#include "store/message_index.h"
#include "store/queue_floors.h"
#include "store/queue_reader.h"
#include "store/recovery.h"
#include "store/retention.h"

namespace apogee::store {

namespace {

constexpr size_t kPropertiesBytesMax = message::kPropertiesBytesMax;
/// How long the deletion of a topic waits for the dispatcher.
constexpr auto kDispatchWait = std::chrono::milliseconds(5'000);
constexpr size_t kTopicBytesV1Max = 127;
constexpr size_t kTopicBytesMax = 255;
/// The floor table is saved once in so many looks of the keeper, and before files go.
constexpr int kLooksPerFloors = 10;

PutResult failed(PutStatus status, std::string why) {
  PutResult result;
  result.status = status;
  result.detail = std::move(why);
  return result;
}

PutStatus put_status_of(Errc error) {
  switch (error) {
    case Errc::kTooLarge: return PutStatus::kMessageIllegal;
    case Errc::kClosed:
    case Errc::kDiskFull: return PutStatus::kServiceNotAvailable;
    case Errc::kBusy: return PutStatus::kPageCacheBusy;
    default: return PutStatus::kCreateFileFailed;
  }
}

message::RecordFields fields_of(const MessageDraft& draft) {
  message::RecordFields fields;
  fields.topic = draft.topic;
  fields.queue_id = draft.queue_id;
  fields.flag = draft.flag;
  fields.sys_flag = draft.sys_flag;
  fields.born_timestamp_ms = draft.born_timestamp_ms;
  fields.born_host = {draft.born_host.ip_bytes, draft.born_host.port};
  fields.store_host = {draft.store_host.ip_bytes, draft.store_host.port};
  fields.reconsume_times = draft.reconsume_times;
  fields.prepared_transaction_offset = draft.prepared_transaction_offset;
  fields.body = draft.body;
  fields.properties = draft.properties;
  return fields;
}

class FileMessageStore final : public MessageStore {
 public:
  FileMessageStore(StoreOptions options, const Logger& logger, io::FileSystem& files)
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
                 [this] { look_now(); }}),
        floors_(path("queueFloors"), files_, logger),
        retention_({log_, files_, logger, log_options(options_).directory, options_.root_dir + "/consumequeue",
                    options_.disk_used_ratio_max, options_.now_ms},
                   options_.retention),
        index_(make_message_index(
            options_, log_, holes_, [this](LogOffset at) { return record_at(at); }, files_, logger)) {
    queues_.set_floors(floors_);
  }
  ~FileMessageStore() override { stop(); }

  Status recover();

  void set_arrival_listener(ArrivalListener listener) override {
    dispatcher_.set_arrival_listener(std::move(listener));
  }
  void set_removal_listener(RemovalListener listener) override { retention_.set_removal_listener(std::move(listener)); }
  Status start() override;
  void stop() override;
  void append(const MessageDraft& draft, PutCallback done) override;
  void append_batch(const MessageDraft& draft, PutCallback done) override;
  GetResult get(std::string_view topic, int32_t queue_id, QueueOffset offset, const GetLimits& limits,
                const TagsCodeFilter& filter) override {
    return reader_.get(topic, queue_id, offset, limits, filter);
  }
  QueueOffset max_offset(std::string_view topic, int32_t queue_id) override;
  QueueOffset min_offset(std::string_view topic, int32_t queue_id) override;
  QueueOffset offset_by_time(std::string_view topic, int32_t queue_id, int64_t time_ms,
                             TimeBoundary boundary) override {
    return reader_.offset_by_time(topic, queue_id, time_ms, boundary);
  }
  std::optional<int64_t> store_time_ms(std::string_view topic, int32_t queue_id, QueueOffset offset) override {
    return reader_.store_time_ms(topic, queue_id, offset);
  }
  std::optional<SharedBytes> record_at(LogOffset offset) override { return reader_.record_at(offset); }
  std::vector<QueueEntry> queue_entries(std::string_view topic, int32_t queue_id, QueueOffset from,
                                        int32_t count) override;
  Result<KeyAnswer> query(const KeyQuery& query) override { return query_index(index_.get(), query); }
  void delete_topic(std::string_view topic) override;
  std::vector<std::string> topics() override { return queues_.topics(); }
  Result<size_t> clean_expired_queues() override;
  void clean_expired_files() override;
  void set_retention(const RetentionOptions& options) override { retention_.set_options(options); }
  void set_message_bytes_max(int64_t bytes) override { message_bytes_max_.store(bytes, std::memory_order_relaxed); }
  StoreFigures figures() override;
  bool writable(std::string* why) override { return log_.writable(why); }

 private:
  static CommitLog::Options log_options(const StoreOptions& options) {
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
    return log;
  }
  [[nodiscard]] std::string path(const char* name) const { return options_.root_dir + "/" + name; }
  [[nodiscard]] std::optional<PutResult> refusal(const MessageDraft& draft) const;
  void place(CommitLog::Unit unit, PutCallback done);
  void run_keeper();
  void look_now();  ///< at once, instead of at the keeper's next time
  [[nodiscard]] Result<bool> restart_queues_of_others(LogOffset log_end);
  [[nodiscard]] Result<bool> queues_lack_messages(LogOffset log_end);
  void clean_log();
  void keep_floors(bool now);
  /// The log begins there now: told to every part that holds positions in it.
  void log_begins_at(LogOffset begin) { queues_.set_log_begin(begin); }
  void save_checkpoint();

  const StoreOptions options_;
  std::atomic<int64_t> message_bytes_max_;
  io::FileSystem& files_;
  const Logger& logger_;
  std::unique_ptr<io::DirectoryLock> lock_;
  CommitLog log_;
  ConsumeQueues queues_;
  Dispatcher dispatcher_;
  QueueReader reader_;
  QueueFloors floors_;
  Retention retention_;
  std::unique_ptr<MessageIndex> index_;  // null: messageIndexEnable is false
  bool started_ = false, stopped_ = false;

  std::mutex keeper_mutex_;
  std::condition_variable keeper_wanted_;
  std::atomic<bool> stop_keeper_{false};  // set under keeper_mutex_
  bool look_now_ = false;                 // guarded by keeper_mutex_
  std::thread keeper_;                    // syncs of queues, checkpoint and disk space
  Checkpoint saved_checkpoint_;           // the keeper's
  int looks_ = 0;                         // the keeper's
  std::vector<Hole> holes_;               // constant after recover()
  Dispatcher::SyncedTo synced_to_;        // the keeper's: the last place that a checkpoint may name
  Dispatcher::SyncedTo place_of_floors_;  // the keeper's: that of the floors proposed last
  std::atomic<int64_t> put_messages_{0}, put_bytes_{0}, put_failed_{0};
};

Status FileMessageStore::recover() {
  APOGEE_TRY(io::make_durable_directories(files_, options_.root_dir));
  APOGEE_TRY_ASSIGN(lock_, files_.lock(path("lock")));
  APOGEE_TRY(check_layout(files_, options_.root_dir));
  APOGEE_TRY(log_.load());
  APOGEE_TRY_ASSIGN(auto checkpoint, read_checkpoint(files_, path("checkpoint")));
  saved_checkpoint_ = checkpoint;
  const bool clean = !files_.exists(path("abort"));
  APOGEE_TRY_ASSIGN(auto recovered,
                    recover_log(log_.files(), clean, checkpoint, options_.check_crc_on_recover, logger_));
  CommitLog::RecoveredEnd end{recovered.end, clean ? recovered.end : recovered.walked_from,
                              recovered.last_store_time_ms};
  APOGEE_TRY_ASSIGN(std::string cut, log_.set_end(end));
  if (!cut.empty()) logger_.warn("the log was cut at {}: {}", recovered.end, cut);
  APOGEE_TRY(floors_.load());
  APOGEE_TRY(queues_.load(log_.begin(), clean ? recovered.end : recovered.walked_from, recovered.end, !clean));
  // Before this place every record is in its queue: where the walk began, if that is told by a checkpoint of ours and
  // the floors tell whether a queue is missing; else after a clean stop where the queues end, after a crash whichever
  // comes first.
  LogOffset from = recovered.from_checkpoint && floors_.loaded() ? recovered.walked_from
                   : clean                                       ? queues_.dispatched_end()
                           : std::min(recovered.walked_from, queues_.dispatched_end());
  APOGEE_TRY_ASSIGN(bool exchanged, restart_queues_of_others(recovered.end));
  APOGEE_TRY_ASSIGN(bool lacking, queues_lack_messages(recovered.end));
  // Without the floors nothing else tells how far the queues went.
  from = std::min(from, exchanged || lacking || floors_.damaged() ? log_.begin() : queues_.rebuild_from());
  dispatcher_.set_position(std::clamp(from, log_.begin(), recovered.end));
  holes_ = std::move(recovered.holes);
  dispatcher_.set_recovered(recovered.end, holes_);
  reader_.set_recovered(recovered.end, &holes_);
  if (auto done = dispatcher_.catch_up(true); !done) {
    if (done.error().code != Errc::kCorrupt) return done;
    logger_.error("{}: all queues are completed from the log", done.error().message);
    dispatcher_.set_position(log_.begin());
    APOGEE_TRY(dispatcher_.catch_up());
  }
  queues_.forget_empty();
  for (auto& [key, next] : queues_.next_offsets())
    if (next > 0 && next < floors_.of(key))
      logger_.error("queue {}: messages {} to {} are lost; the next one is {}", key, next, floors_.of(key) - 1,
                    floors_.of(key));
  for (auto& [key, next] : floors_.joined(queues_.next_offsets())) log_.set_next_offset(key, next);

  APOGEE_TRY_ASSIGN(auto abort, files_.open(path("abort"), io::OpenMode::kCreate));
  APOGEE_TRY(abort->resize(0));
  APOGEE_TRY(abort->write_at(0, std::to_string(::getpid())));
  return files_.sync_directory(options_.root_dir);
}

/// Removes queues whose last entry leads to a message of another queue: their files are not theirs, and tell nothing of
/// how far they went. Whether there are any; they are to be built from the log's begin. Costs one read of the log a
/// queue that does not end as the floor table says, which all do after a clean stop.
Result<bool> FileMessageStore::restart_queues_of_others(LogOffset log_end) {
  bool any = false;
  for (const auto& [key, next] : queues_.next_offsets()) {
    auto [topic, queue_id] = ConsumeQueues::parse_key(key);
    if (next == floors_.of(key)) continue;
    auto queue = queues_.find(topic, queue_id);
    auto last = next > queue->min() ? queue->read(next - 1, 1) : std::vector<QueueEntry>();
    if (last.empty() || last[0].record_bytes == kBlankEntryBytes) continue;
    const LogOffset at = last[0].physical_offset;
    if (at < log_.begin() || at >= log_end) continue;
    auto bytes = log_.read_up_to(at, log_end);
    auto record = bytes ? message::decode_record(bytes->bytes) : Error(Errc::kNotFound, "");
    if (!record || record->physical_offset != at) continue;  // damage of the log, which proves nothing here
    if (record->topic == topic && record->queue_id == queue_id && record->queue_offset == next - 1) continue;
    any = true;
    logger_.error("queue {}: its entry {} leads to message {} of {}, queue {}: it is built again from the log", key,
                  next - 1, record->queue_offset, record->topic, record->queue_id);
    APOGEE_TRY(queues_.restart(topic, queue_id));
  }
  return any;
}

/// Whether a queue is shorter than it was at the last checkpoint of the floor table, at either end, although the log
/// has its messages: files of it are missing or damaged. What begins too late is removed, to be built from its start.
Result<bool> FileMessageStore::queues_lack_messages(LogOffset log_end) {
  auto stands_at = [&](LogOffset at, std::string_view topic, int32_t queue_id, QueueOffset offset) {
    if (at < log_.begin() || at >= log_end) return false;
    auto bytes = log_.read_up_to(at, log_end);
    auto record = bytes ? message::decode_record(bytes->bytes) : Error(Errc::kNotFound, "");
    return record && record->physical_offset == at && record->topic == topic && record->queue_id == queue_id &&
           record->queue_offset <= offset;
  };
  bool lacking = false;
  for (const auto& [key, floor] : floors_.all()) {
    auto [topic, queue_id] = ConsumeQueues::parse_key(key);
    auto queue = queues_.find(topic, queue_id);
    const QueueOffset min = queue ? queue->min() : 0, max = queue ? queue->max() : 0;
    // Its first record may be damaged as well, and still tell that the log does not begin behind it.
    const bool front = queue && min > floor.min && floor.first_record >= log_.begin() && floor.first_record < log_end;
    const bool back = max < floor.next && stands_at(floor.last_record, topic, queue_id, floor.next - 1);
    if (!front && !back) continue;
    lacking = true;
    logger_.error("queue {} goes from {} to {}, but went from {} to {}: it is built again from the log", key, min, max,
                  floor.min, floor.next);
    if (front) APOGEE_TRY(queues_.restart(topic, queue_id));
  }
  return lacking;
}

Status FileMessageStore::start() {
  log_.set_growth_listener([this] {
    dispatcher_.wake();
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
  save_checkpoint();
  bool complete = synced && dispatcher_.position() >= log_.end() && dispatcher_.all_synced();
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
    dispatcher_.sync_queues();
    keep_floors(++looks_ % kLooksPerFloors == 0);
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

void FileMessageStore::keep_floors(bool now) {
  // In this order: the offsets count all that was dispatched before, and nothing that is not in the log after.
  const LogOffset dispatched = dispatcher_.position();
  if (now && !floors_.proposed() && floors_.covered() < dispatched) {
    place_of_floors_ = dispatcher_.synced_to();
    auto floors = queues_.floors();
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

void FileMessageStore::save_checkpoint() {
  Checkpoint now = saved_checkpoint_;
  // Never ahead of the floor table: together they tell a later start whether a queue has lost its end.
  for (const auto& synced : {place_of_floors_, dispatcher_.synced_to()})
    if (synced.last_record < synced.position && synced.position <= floors_.covered()) synced_to_ = synced;
  if (synced_to_.position >= 0 && synced_to_.position <= log_.flushed()) {
    now.log_position = synced_to_.position;
    now.last_record = synced_to_.last_record;
  }
  if (int64_t time = log_.flushed_time_ms(); time != 0) now.log_time_ms = time;
  if (int64_t time = dispatcher_.synced_time_ms(); time != 0) now.queues_time_ms = time;
  if (now.log_time_ms == 0 || now.queues_time_ms == 0 || now == saved_checkpoint_) return;
  if (auto saved = write_checkpoint(files_, path("checkpoint"), now); !saved) {
    logger_.warn("{}", saved.error().message);
    return;
  }
  saved_checkpoint_ = now;
}

std::optional<PutResult> FileMessageStore::refusal(const MessageDraft& draft) const {
  if (std::string why; !log_.writable(&why)) return failed(PutStatus::kServiceNotAvailable, why);
  if (draft.topic.empty() || draft.topic.size() > kTopicBytesMax)
    return failed(PutStatus::kMessageIllegal,
                  fmt::format("topic: {} bytes, allowed are 1 to {}", draft.topic.size(), kTopicBytesMax));
  if (!is_topic_text(draft.topic)) return failed(PutStatus::kMessageIllegal, "topic: a character that none may have");
  if (draft.topic.size() > kTopicBytesV1Max && options_.compatibility == StoreCompatibility::k49)
    return failed(PutStatus::kMessageIllegal,
                  fmt::format("topic: {} bytes, with storeCompatibility=4.9 allowed are 1 to {}", draft.topic.size(),
                              kTopicBytesV1Max));
  if (draft.properties.size() > kPropertiesBytesMax)
    return failed(PutStatus::kPropertiesSizeExceeded,
                  fmt::format("properties: {} bytes, the limit is {}", draft.properties.size(), kPropertiesBytesMax));
  if (const int64_t most = message_bytes_max_.load(std::memory_order_relaxed);
      static_cast<int64_t>(draft.body.size()) > most)
    return failed(PutStatus::kMessageIllegal,
                  fmt::format("body: {} bytes, maxMessageSize is {}", draft.body.size(), most));
  if (log_.append_busy_ms() > options_.page_cache_busy_ms)
    return failed(PutStatus::kPageCacheBusy, "an append has been waiting for the disk too long");
  return std::nullopt;
}

void FileMessageStore::append(const MessageDraft& draft, PutCallback done) {
  if (auto refused = refusal(draft)) {
    ++put_failed_;
    return done(std::move(*refused));
  }
  CommitLog::Unit unit;
  auto fields = fields_of(draft);
  unit.bytes.resize(message::record_bytes(fields));
  message::encode_record(fields, 0, 0, unit.bytes.data());
  unit.record_bytes.push_back(static_cast<uint32_t>(unit.bytes.size()));
  unit.takes_queue_offset = has_queue_entry(draft.sys_flag);
  unit.queue_key = ConsumeQueues::queue_key(draft.topic, draft.queue_id);
  unit.wait_for_sync = draft.wait_store_ok;
  place(std::move(unit), std::move(done));
}

void FileMessageStore::append_batch(const MessageDraft& draft, PutCallback done) {
  auto refuse = [&](PutResult refused) {
    ++put_failed_;
    done(std::move(refused));
  };
  if (auto refused = refusal(draft)) return refuse(std::move(*refused));
  if (draft.topic.size() > kTopicBytesV1Max)
    return refuse(failed(PutStatus::kMessageIllegal, fmt::format("topic of a batch: {} bytes, the limit is {}",
                                                                 draft.topic.size(), kTopicBytesV1Max)));
  auto messages = message::decode_batch(draft.body);
  if (!messages) return refuse(failed(PutStatus::kMessageIllegal, messages.error().message));
  CommitLog::Unit unit;
  auto fields = fields_of(draft);
  std::string properties;
  for (const auto& each : *messages) {
    properties.assign(each.properties);
    message::append_properties(properties, draft.properties);
    if (properties.size() > kPropertiesBytesMax)
      return refuse(failed(PutStatus::kPropertiesSizeExceeded,
                           fmt::format("properties of a message in the batch: {} bytes, the limit is {}",
                                       properties.size(), kPropertiesBytesMax)));
    fields.flag = each.flag;
    fields.body = each.body;
    fields.properties = properties;
    size_t begin = unit.bytes.size();
    unit.bytes.resize(begin + message::record_bytes(fields));
    message::encode_record(fields, 0, 0, unit.bytes.data() + begin);
    unit.record_bytes.push_back(static_cast<uint32_t>(unit.bytes.size() - begin));
  }
  unit.queue_key = ConsumeQueues::queue_key(draft.topic, draft.queue_id);
  unit.wait_for_sync = draft.wait_store_ok;
  place(std::move(unit), std::move(done));
}

void FileMessageStore::place(CommitLog::Unit unit, PutCallback done) {
  auto messages = static_cast<int64_t>(unit.record_bytes.size());
  auto bytes = static_cast<int64_t>(unit.bytes.size());
  log_.append(std::move(unit), [this, messages, bytes, done = std::move(done)](Result<CommitLog::Placement> placed) {
    if (!placed) {
      ++put_failed_;
      return done(failed(put_status_of(placed.error().code), placed.error().message));
    }
    put_messages_.fetch_add(messages, std::memory_order_relaxed);
    put_bytes_.fetch_add(bytes, std::memory_order_relaxed);
    PutResult result;
    result.status = placed->synced == Synced::kYes ? PutStatus::kOk : PutStatus::kFlushDiskTimeout;
    result.offsets = std::move(placed->offsets);
    result.queue_offset = placed->queue_offset;
    result.store_timestamp_ms = placed->store_timestamp_ms;
    done(std::move(result));
  });
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
  figures.holes = static_cast<int64_t>(holes_.size());
  for (const auto& hole : holes_) figures.hole_bytes += hole.end - hole.begin;
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

}  // namespace

Result<std::unique_ptr<MessageStore>> MessageStore::open(StoreOptions options, const Logger& logger) {
  return open(std::move(options), logger, io::posix_file_system());
}

Result<std::unique_ptr<MessageStore>> MessageStore::open(StoreOptions options, const Logger& logger,
                                                         io::FileSystem& files) {
  if (options.root_dir.empty()) return Error(Errc::kInvalidArgument, "storePathRootDir is empty");
  options.consume_queue_file_bytes =
      std::max<int64_t>(1, (options.consume_queue_file_bytes + kQueueEntryBytes - 1) / kQueueEntryBytes) *
      kQueueEntryBytes;
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
