#include "store/ha/slave_store.h"

#include <fmt/core.h>
#include <pthread.h>

#include <utility>

namespace apogee::store {

namespace {

constexpr auto kBetweenOpenings = std::chrono::milliseconds(1'000);
constexpr size_t kToldRangesMax = 1'000;

const char* const kNoStore = "the store could not be opened again after its log was cut, which is tried each second";

}  // namespace

SlaveStore::SlaveStore(StoreOptions options, const Logger& logger, io::FileSystem& files)
    : logger_(logger),
      files_(files),
      epochs_(std::make_shared<EpochFile>(options.root_dir + "/epochFileCheckpoint", files, logger)),
      options_(std::move(options)),
      acks_(
          ReplicationRules(), [this] { return log_.end(); }, nullptr, logger) {}

SlaveStore::~SlaveStore() { stop(); }

Status SlaveStore::recover() {
  std::lock_guard changing(change_mutex_);
  std::unique_lock lock(mutex_);
  return reopen_locked();
}

/// With change_mutex_ held too.
Status SlaveStore::reopen_locked() {
  if (cut_) {
    APOGEE_TRY(cut_store(options_, cut_->end, cut_->lost, files_, logger_));
    APOGEE_TRY(epochs_->truncate_to(cut_->end));
    cut_.reset();
  }
  auto store = std::make_unique<FileMessageStore>(options_, logger_, files_, epochs_);
  APOGEE_TRY(store->recover());
  if (started_) {
    store->set_arrival_listener(arrival_listener_);
    store->set_removal_listener(removal_listener_);
    APOGEE_TRY(store->start());
  }
  inner_ = std::move(store);
  closed_ = false;
  return {};
}

/// With change_mutex_ held, and without mutex_: a listener may look at the log.
void SlaveStore::listen() {
  if (inner_) inner_->replicated_log().set_replication_listener(grown_);
}

Status SlaveStore::start() {
  std::lock_guard changing(change_mutex_);
  std::unique_lock lock(mutex_);
  started_ = true;
  if (!inner_) return closed();
  inner_->set_arrival_listener(arrival_listener_);
  inner_->set_removal_listener(removal_listener_);
  return inner_->start();
}

void SlaveStore::stop() {
  {
    std::lock_guard changing(change_mutex_);
    stopped_ = true;
    // Without mutex_: its threads may be in a listener that reads.
    if (inner_) inner_->stop();
  }
  std::thread reopen;
  {
    std::lock_guard lock(reopen_mutex_);
    reopen = std::move(reopen_);
  }
  if (reopen.joinable()) reopen.join();
  acks_.stop();
}

Error SlaveStore::closed() const { return Error(Errc::kClosed, kNoStore); }

Status SlaveStore::truncate(LogOffset end) {
  std::lock_guard changing(change_mutex_);
  if (stopped_) return Error(Errc::kClosed, "the store is stopping");
  if (!inner_) {
    std::unique_lock lock(mutex_);
    APOGEE_TRY(reopen_locked());
  }
  listen();
  // Only this thread changes inner_ now.
  auto& log = inner_->replicated_log();
  const LogOffset begin = log.begin(), log_end = log.end();
  if (end >= log_end)
    return end == log_end
               ? Status()
               : Error(Errc::kInvalidArgument, fmt::format("the log ends at {}, not behind {}", log_end, end));
  const bool everything = end <= begin;
  const auto& files = inner_->log_files();
  if (!everything && !is_record_boundary(files, log_end, end))
    return Error(Errc::kInvalidArgument, fmt::format("no record ends at {}", end));
  // No bytes come from here on, and its threads may still read.
  inner_->stop();
  const auto lost = lost_ranges(files, end, inner_->replicated_log().end());
  int64_t messages = 0;
  size_t told = 0;
  for (const auto& [key, range] : lost) {
    messages += range.messages;
    if (++told <= kToldRangesMax)
      logger_.warn("queue {}: messages {} to {} are cut off with the end of the log", key, range.first, range.last);
  }
  logger_.warn("the log goes from {} to {}: its bytes from {} on, with {} messages of {} queues, are cut off", begin,
               log_end, std::max(begin, end), messages, lost.size());
  cut_ = Cut{everything ? 0 : end, lost};
  known_begin_ = everything ? 0 : begin;
  known_end_ = everything ? 0 : end;
  closed_ = true;
  Status cut;
  {
    std::unique_lock lock(mutex_);
    inner_.reset();
    cut = reopen_locked();
  }
  listen();
  if (!cut) logger_.error("{}: {}", kNoStore, cut.error().message);
  return cut;
}

/// Opens it on a thread of its own, when that was not tried just now.
void SlaveStore::reopen_soon() {
  std::lock_guard lock(reopen_mutex_);
  const auto now = std::chrono::steady_clock::now();
  if (reopening_ || now < next_reopen_) return;
  next_reopen_ = now + kBetweenOpenings;
  if (reopen_.joinable()) reopen_.join();
  reopening_ = true;
  reopen_ = std::thread([this] {
    pthread_setname_np(pthread_self(), "store-reopen");
    {
      std::lock_guard changing(change_mutex_);
      if (!stopped_ && !inner_) {
        std::unique_lock users(mutex_);
        if (auto opened = reopen_locked(); !opened) logger_.error("{}: {}", kNoStore, opened.error().message);
      }
      listen();
    }
    reopening_ = false;
  });
}

void SlaveStore::append(const MessageDraft&, PutCallback done) {
  PutResult refused;
  refused.status = PutStatus::kServiceNotAvailable;
  refused.detail = "this broker is a slave";
  done(std::move(refused));
}

GetResult SlaveStore::get(std::string_view topic, int32_t queue_id, QueueOffset offset, const GetLimits& limits,
                          const TagsCodeFilter& filter) {
  return with(GetResult(), [&](auto& store) { return store.get(topic, queue_id, offset, limits, filter); });
}

void SlaveStore::get_into(std::string_view topic, int32_t queue_id, QueueOffset offset, const GetLimits& limits,
                          const TagsCodeFilter& filter, GetResult& to) {
  const bool open = with(false, [&](auto& store) {
    store.get_into(topic, queue_id, offset, limits, filter, to);
    return true;
  });
  if (!open) to = {};
}

QueueOffset SlaveStore::max_offset(std::string_view topic, int32_t queue_id) {
  return with(QueueOffset{0}, [&](auto& store) { return store.max_offset(topic, queue_id); });
}

QueueOffset SlaveStore::min_offset(std::string_view topic, int32_t queue_id) {
  return with(QueueOffset{0}, [&](auto& store) { return store.min_offset(topic, queue_id); });
}

QueueOffset SlaveStore::offset_by_time(std::string_view topic, int32_t queue_id, int64_t time_ms,
                                       TimeBoundary boundary) {
  return with(QueueOffset{0}, [&](auto& store) { return store.offset_by_time(topic, queue_id, time_ms, boundary); });
}

std::optional<int64_t> SlaveStore::store_time_ms(std::string_view topic, int32_t queue_id, QueueOffset offset) {
  return with(std::optional<int64_t>(), [&](auto& store) { return store.store_time_ms(topic, queue_id, offset); });
}

std::optional<SharedBytes> SlaveStore::record_at(LogOffset offset) {
  return with(std::optional<SharedBytes>(), [&](auto& store) { return store.record_at(offset); });
}

std::optional<SharedBytes> SlaveStore::stored_record_at(LogOffset offset) {
  return with(std::optional<SharedBytes>(), [&](auto& store) { return store.stored_record_at(offset); });
}

LogOffset SlaveStore::next_record(LogOffset from) {
  return with(LogOffset{-1}, [&](auto& store) { return store.next_record(from); });
}

std::vector<QueueEntry> SlaveStore::queue_entries(std::string_view topic, int32_t queue_id, QueueOffset from,
                                                  int32_t count) {
  return with(std::vector<QueueEntry>(),
              [&](auto& store) { return store.queue_entries(topic, queue_id, from, count); });
}

Result<KeyAnswer> SlaveStore::query(const KeyQuery& query) {
  return with(Result<KeyAnswer>(closed()), [&](auto& store) { return store.query(query); });
}

void SlaveStore::delete_topic(std::string_view topic) {
  (void)with(0, [&](auto& store) {
    store.delete_topic(topic);
    return 0;
  });
}

void SlaveStore::delete_topic_before(std::string_view topic, LogOffset end) {
  (void)with(0, [&](auto& store) {
    store.delete_topic_before(topic, end);
    return 0;
  });
}

int32_t SlaveStore::queue_count(std::string_view topic) {
  return with(0, [&](auto& store) { return store.queue_count(topic); });
}

std::vector<std::string> SlaveStore::topics() {
  return with(std::vector<std::string>(), [](auto& store) { return store.topics(); });
}

Result<size_t> SlaveStore::clean_expired_queues() {
  return with(Result<size_t>(closed()), [](auto& store) { return store.clean_expired_queues(); });
}

void SlaveStore::clean_expired_files() {
  (void)with(0, [](auto& store) {
    store.clean_expired_files();
    return 0;
  });
}

void SlaveStore::set_retention(const RetentionOptions& options) {
  std::unique_lock lock(mutex_);
  options_.retention = options;
  if (inner_) inner_->set_retention(options);
}

void SlaveStore::set_message_bytes_max(int64_t bytes) {
  std::unique_lock lock(mutex_);
  options_.message_bytes_max = bytes;
  if (inner_) inner_->set_message_bytes_max(bytes);
}

StoreFigures SlaveStore::figures() {
  return with(StoreFigures(), [](auto& store) { return store.figures(); });
}

bool SlaveStore::writable(std::string* why) {
  if (why != nullptr) *why = kNoStore;
  return with(false, [&](auto& store) {
    if (why != nullptr) why->clear();
    return store.writable(why);
  });
}

LogOffset SlaveStore::Log::begin() const {
  return store_.place(store_.known_begin_, [](auto& store) { return store.replicated_log().begin(); });
}

LogOffset SlaveStore::Log::end() const {
  return store_.place(store_.known_end_, [](auto& store) { return store.replicated_log().end(); });
}

LogOffset SlaveStore::Log::flushed() const {
  return store_.place(store_.known_end_, [](auto& store) { return store.replicated_log().flushed(); });
}

Result<SharedBytes> SlaveStore::Log::read(LogOffset from, int64_t bytes_max) const {
  return store_.with(Result<SharedBytes>(store_.closed()),
                     [&](auto& store) { return store.replicated_log().read(from, bytes_max); });
}

void SlaveStore::Log::set_replication_listener(std::function<void()> grown) {
  std::lock_guard changing(store_.change_mutex_);
  store_.grown_ = std::move(grown);
  store_.listen();
}

void SlaveStore::Log::append_copy(LogOffset at, SharedBytes bytes, std::function<void(Status)> done) {
  {
    std::shared_lock lock(store_.mutex_);
    if (store_.inner_) return store_.inner_->replicated_log().append_copy(at, std::move(bytes), std::move(done));
  }
  store_.reopen_soon();
  done(store_.closed());
}

void SlaveStore::Log::append_damaged(LogOffset at, SharedBytes bytes, std::function<void(Status)> done) {
  {
    std::shared_lock lock(store_.mutex_);
    if (store_.inner_) return store_.inner_->replicated_log().append_damaged(at, std::move(bytes), std::move(done));
  }
  store_.reopen_soon();
  done(store_.closed());
}

std::vector<Damage> SlaveStore::Log::damaged() const {
  return store_.with(std::vector<Damage>(), [](auto& store) { return store.replicated_log().damaged(); });
}

LogOffset SlaveStore::Log::scrub(LogOffset from, int64_t bytes_max) {
  return store_.with(from, [&](auto& store) { return store.replicated_log().scrub(from, bytes_max); });
}

Status SlaveStore::Log::mend(LogOffset at, std::string_view bytes) {
  return store_.with(Status(store_.closed()), [&](auto& store) { return store.replicated_log().mend(at, bytes); });
}

}  // namespace apogee::store
