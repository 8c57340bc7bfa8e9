#include "store/message_index.h"

#include <fmt/core.h>
#include <pthread.h>
#include <time.h>

#include <algorithm>
#include <utility>

#include "common/base/hash.h"
#include "common/message/sys_flag.h"

namespace apogee::store {

namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t kBatchBytesMax = 4 << 20;
constexpr int64_t kSmallBatchBytes = 1 << 20;
/// More than this behind is a rebuild: paced, told in the log file, not waited for by stop().
constexpr LogOffset kFarBehindBytes = 64 << 20;
constexpr LogOffset kMarkEachBytes = 64 << 20;
constexpr size_t kMarksMax = 32;
constexpr size_t kFingerprintBytes = 64;  // sizes, CRC, offsets, times
constexpr auto kTellInterval = std::chrono::seconds(10);
constexpr auto kPaceMax = std::chrono::milliseconds(50);
constexpr int kFailuresToReopen = 3;
constexpr int kFailuresToRebuild = 6;

int64_t thread_cpu_ns() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return now.tv_sec * 1'000'000'000LL + now.tv_nsec;
}

uint64_t fingerprint_of(std::string_view record) { return fnv1a_64(record.substr(0, kFingerprintBytes)); }

inline uint64_t fnv1a_64_of_8(const char* bytes, uint64_t hash) {
  auto add = [&](int i) { hash = (hash ^ static_cast<unsigned char>(bytes[i])) * 1099511628211ULL; };
  add(0), add(1), add(2), add(3), add(4), add(5), add(6), add(7);
  return hash;
}

template <typename Visit>
void each_key(int32_t sys_flag, std::string_view properties, const Visit& visit) {
  if ((sys_flag & message::sys_flag::kTransactionMask) == message::sys_flag::kTransactionRollback) return;
  const auto known = known_properties(properties);
  if (!known.unique_key.empty()) visit(known.unique_key);
  for (std::string_view rest = known.keys; !rest.empty();) {
    size_t end = std::min(rest.find(' '), rest.size());
    if (end > 0) visit(rest.substr(0, end));
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
}

bool has_key(const message::RecordView& record, std::string_view key) {
  bool found = false;
  visit_keys(record, [&](std::string_view each) { found = found || each == key; });
  return found;
}

}  // namespace

uint64_t index_topic_hash(std::string_view topic) { return fnv1a_64("#", fnv1a_64(topic)); }

uint64_t index_hash(uint64_t topic_hash, std::string_view key) {
  // FNV-1a, eight bytes a turn.
  uint64_t hash = topic_hash;
  for (; key.size() >= 8; key.remove_prefix(8)) hash = fnv1a_64_of_8(key.data(), hash);
  hash = fnv1a_64(key, hash);
  // The finalizer of MurmurHash3: FNV alone leaves the upper bits of similar keys similar.
  hash = (hash ^ (hash >> 33)) * 0xFF51AFD7ED558CCDULL;
  hash = (hash ^ (hash >> 33)) * 0xC4CEB9FE1A85EC53ULL;
  return hash ^ (hash >> 33);
}

void visit_keys(const message::RecordView& record, const std::function<void(std::string_view key)>& visit) {
  each_key(record.sys_flag, record.properties, visit);
}

/// What a part of the log adds.
struct MessageIndex::Batch {
  std::vector<IndexEntry> entries;
  LogOffset end = 0;
  std::optional<IndexMark> last;
  int64_t last_time_ms = 0;
};

MessageIndex::MessageIndex(Log log, Options options, io::FileSystem& files, const Logger& logger)
    : log_(std::move(log)),
      options_(std::move(options)),
      files_(files),
      logger_(logger),
      batch_(std::make_unique<Batch>()) {}

MessageIndex::~MessageIndex() { stop(); }

void MessageIndex::start() {
  // Once more after damage, which is deleted.
  for (int tries = 0; tries < 2; ++tries) {
    auto opened = open();
    if (opened) break;
    handle(opened.error());
  }
  thread_ = std::thread([this] {
    pthread_setname_np(pthread_self(), "index");
    run();
  });
}

void MessageIndex::stop() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    wanted_.notify_one();
  }
  if (thread_.joinable()) thread_.join();
  std::unique_lock lock(db_mutex_);
  db_.reset();
}

void MessageIndex::wake() {
  if (!asleep_.load(std::memory_order_seq_cst)) return;
  {
    std::lock_guard lock(mutex_);
    pending_ = true;
  }
  wanted_.notify_one();
}

void MessageIndex::add(LogOffset record) {
  std::lock_guard lock(mutex_);
  mended_.push_back(record);
  pending_ = true;
  wanted_.notify_one();
}

Status MessageIndex::add_mended() {
  std::vector<LogOffset> mended;
  {
    std::lock_guard lock(mutex_);
    mended.swap(mended_);
  }
  std::vector<IndexEntry> entries;
  for (LogOffset at : mended) {
    auto bytes = log_.record_at(at);
    auto record = bytes ? message::decode_record(bytes->bytes) : Error(Errc::kNotFound, "");
    if (!record) continue;
    visit_keys(*record, [&, topic = index_topic_hash(record->topic)](std::string_view key) {
      entries.push_back({options_.hash(topic, key), record->store_timestamp_ms, at});
    });
  }
  if (entries.empty()) return {};
  auto written = db_->write(entries, db_->progress());
  if (written) {
    entries_total_.fetch_add(static_cast<int64_t>(entries.size()), std::memory_order_relaxed);
    return {};
  }
  std::lock_guard lock(mutex_);
  mended_.insert(mended_.end(), mended.begin(), mended.end());
  return written.error().code == Errc::kBusy ? Status() : written;
}

Status MessageIndex::open() {
  log_begin_->store(log_.begin(), std::memory_order_relaxed);
  auto opened = IndexDb::open(options_.db, log_begin_);
  if (!opened) return std::move(opened).error();
  const auto& progress = (*opened)->progress();
  const LogOffset end = log_.readable_end();
  const LogOffset from = resume_position(progress);
  if (from != std::max(progress.position, log_.begin()))
    logger_.warn("message index: it was written up to {}, the log agrees with it up to {}", progress.position, from);
  last_time_ms_ = progress.last_time_ms;
  last_offset_ = progress.marks.empty() ? 0 : progress.marks.back().offset;
  rebuilt_from_ = end - from > kFarBehindBytes || (progress.marks.empty() && end > from) ? from : -1;
  if (rebuilt_from_ >= 0)
    logger_.info("message index: being built from the log, {} to {} ({} MiB)", from, end, (end - from) >> 20);
  gap_ = INT64_MAX;
  flushed_position_ = from;
  flushed_at_ = told_at_ = Clock::now();
  target_ = end;
  std::unique_lock lock(db_mutex_);
  position_.store(from, std::memory_order_release);
  db_ = std::move(*opened);
  return {};
}

// The log may have lost its tail with the power, or another one may lie here now. Then entries may be missing in
// front of the position, and the newest mark that the log confirms is where to go on; what is indexed twice counts
// once.
LogOffset MessageIndex::resume_position(const IndexProgress& progress) const {
  const LogOffset begin = log_.begin(), end = log_.readable_end();
  if (progress.position <= begin) return begin;
  for (size_t i = progress.marks.size(); i-- > 0;) {
    const auto& mark = progress.marks[i];
    auto record = log_.record_at(mark.offset);
    if (!record || fingerprint_of(record->bytes) != mark.fingerprint) continue;
    if (i + 1 == progress.marks.size() && progress.position <= end) return progress.position;
    return mark.offset + static_cast<LogOffset>(record->size());
  }
  return begin;
}

void MessageIndex::run() {
  auto stopping = [this] {
    std::lock_guard lock(mutex_);
    return stopping_;
  };
  while (!stopping() || (db_ && failures_ == 0 && log_.readable_end() - position() <= kFarBehindBytes)) {
    bool more = false;
    const auto began = Clock::now();
    const LogOffset before = position();
    auto done = db_ ? step(more) : open();
    cpu_ns_.store(thread_cpu_ns(), std::memory_order_relaxed);
    if (!done) {
      handle(done.error());
      if (done.error().code != Errc::kCorrupt) pause(options_.retry_interval);
      continue;
    }
    if (failures_ > 0) {
      logger_.info("message index: it can be written again, {} of the log are to be indexed",
                   log_.readable_end() - position());
      set_failure({});
    }
    failures_ = 0;
    if (stopping()) {
      if (!more) break;
      continue;
    }
    tell_progress();
    if (rebuilt_from_ >= 0) {
      // Half of the time, unless the log grows faster than that.
      const LogOffset gap = log_.readable_end() - position();
      if (gap < gap_) pause(std::min<Clock::duration>(Clock::now() - began, kPaceMax));
      gap_ = gap;
    } else if (more && position() - before < kSmallBatchBytes) {
      pause(options_.batch_interval);
    }
    if (more) continue;
    std::unique_lock lock(mutex_);
    // Sleep is announced before the last look at the log: an append after that look sees it and wakes us.
    asleep_.store(true, std::memory_order_seq_cst);
    if (position() >= log_.readable_end() && !unreadable_ && mended_.empty())
      wanted_.wait_for(lock, options_.flush_interval, [this] { return pending_ || stopping_; });
    asleep_.store(false, std::memory_order_seq_cst);
    pending_ = false;
    if (stopping_) continue;
    // A burst makes one batch of many messages.
    wanted_.wait_for(lock, options_.batch_interval, [this] { return stopping_; });
  }
  if (!db_) return;
  if (auto flushed = db_->flush(); !flushed)
    logger_.warn("message index: {}; the next start goes on from its last checkpoint", flushed.error().message);
}

void MessageIndex::collect(std::string_view bytes, LogOffset at, Batch& batch) {
  batch.entries.clear();
  batch.last.reset();
  const LogOffset from = at;
  RecordSketch record, last;
  LogOffset last_at = -1;
  while (!bytes.empty() && at - from < kBatchBytesMax) {
    const LogOffset hole_end = log_.end_of_hole(at);
    auto there = hole_end < 0 ? sketcher_.look_at(bytes, at, record) : LogPosition{};
    if (there.kind == LogPosition::Kind::kNothing) {
      const LogOffset next = hole_end < 0 ? log_.next_record(at + 1) : hole_end;
      there.bytes = static_cast<int64_t>(bytes.size());
      if (next > at) there.bytes = std::min(there.bytes, next - at);
      if (hole_end < 0) logger_.warn("message index: no message at {}, {} bytes skipped", at, there.bytes);
    }
    if (there.kind == LogPosition::Kind::kRecord) {
      if (!record.topic_as_before) topic_hash_ = index_topic_hash(record.topic);
      each_key(record.sys_flag, record.properties, [&](std::string_view key) {
        batch.entries.push_back({options_.hash(topic_hash_, key), record.store_timestamp_ms, at});
      });
      last = record;
      last_at = at;
    }
    at += there.bytes;
    bytes.remove_prefix(static_cast<size_t>(there.bytes));
  }
  batch.end = at;
  if (last_at < 0) return;
  batch.last = IndexMark{last_at, fingerprint_of(last.bytes)};
  batch.last_time_ms = last.store_timestamp_ms;
}

IndexProgress MessageIndex::progress_after(const Batch& batch) const {
  auto progress = db_->progress();
  progress.position = batch.end;
  if (!batch.last) return progress;
  progress.last_time_ms = batch.last_time_ms;
  auto& marks = progress.marks;
  // After a step back the marks ahead are not ours.
  while (!marks.empty() && marks.back().offset >= batch.last->offset) marks.pop_back();
  // The last one moves on until it is far enough from the one in front.
  if (marks.size() > 1 && marks.back().offset - marks[marks.size() - 2].offset < kMarkEachBytes) marks.pop_back();
  marks.push_back(*batch.last);
  if (marks.size() > kMarksMax) marks.erase(marks.begin());
  return progress;
}

Status MessageIndex::step(bool& more) {
  if (unreadable_.exchange(false)) return Error(Errc::kCorrupt, "a query has found it damaged");
  APOGEE_TRY(add_mended());
  const LogOffset begin = log_.begin(), end = log_.readable_end();
  log_begin_->store(begin, std::memory_order_relaxed);
  const LogOffset at = std::max(position(), begin);
  if (at >= end) return flush_now_and_then();
  auto bytes = log_.read_up_to(at, end);
  if (!bytes) {
    // Deleted meanwhile, or a gap; neither has messages.
    const LogOffset next = std::max(at, log_.begin());
    logger_.error("message index: the log has nothing at {}, going on at {}", at, next == at ? end : next);
    position_.store(next == at ? end : next, std::memory_order_release);
    more = true;
    return {};
  }
  auto& batch = *batch_;
  collect(bytes->bytes, at, batch);
  const auto entries = static_cast<int64_t>(batch.entries.size());
  if (auto written = db_->write(batch.entries, progress_after(batch)); !written) {
    if (written.error().code != Errc::kBusy) return written;
    pause(options_.batch_interval);
    return {};
  }
  entries_total_.fetch_add(entries, std::memory_order_relaxed);
  if (batch.last) {
    last_time_ms_ = batch.last_time_ms;
    last_offset_ = batch.last->offset;
  }
  // First, for those who wait for the position and then look what it has cost.
  cpu_ns_.store(thread_cpu_ns(), std::memory_order_relaxed);
  position_.store(batch.end, std::memory_order_release);
  more = batch.end < log_.readable_end();
  return flush_now_and_then();
}

Status MessageIndex::flush_now_and_then() {
  const auto now = Clock::now();
  const LogOffset unflushed = position() - flushed_position_;
  const bool due = unflushed >= options_.flush_bytes || now - flushed_at_ >= options_.flush_interval || failures_ > 0;
  if (unflushed == 0 || !due) return {};
  flushed_at_ = now;
  APOGEE_TRY(db_->flush());
  flushed_position_ = position();
  return {};
}

void MessageIndex::handle(const Error& error) {
  ++failures_;
  if (failures_ == 1 || error.code == Errc::kCorrupt) logger_.error("message index: {}", error.message);
  const bool full = error.code == Errc::kDiskFull;
  const bool rebuild = error.code == Errc::kCorrupt || (!full && failures_ >= kFailuresToRebuild);
  set_failure("the index cannot be written: " + error.message);
  if (db_ && !rebuild) {
    // The next write tries again, unless RocksDB has stopped. While the disk is full it would not open again; readers
    // keep what they have.
    if (db_->background_error() && failures_ % kFailuresToReopen != 0) return;
    if (auto tried = db_->try_disk(); !tried) return logger_.debug("message index: {}", tried.error().message);
  }
  {
    std::unique_lock lock(db_mutex_);
    db_.reset();
  }
  if (!rebuild) return;
  logger_.warn("message index: it is deleted and built anew from the log");
  if (auto removed = files_.remove_all(options_.db.directory); !removed)
    logger_.error("message index: {}", removed.error().message);
}

void MessageIndex::tell_progress() {
  if (rebuilt_from_ < 0) return;
  const LogOffset at = position(), target = target_;
  if (at >= target) {
    logger_.info("message index: built up to {}, {} entries", at, entries_total());
    rebuilt_from_ = -1;
    return;
  }
  if (Clock::now() - told_at_ < kTellInterval) return;
  told_at_ = Clock::now();
  logger_.info("message index: built up to {}, {} % of the log", at,
               (at - rebuilt_from_) * 100 / std::max<LogOffset>(1, target - rebuilt_from_));
}

void MessageIndex::pause(Clock::duration time) {
  std::unique_lock lock(mutex_);
  wanted_.wait_for(lock, time, [this] { return stopping_; });
}

void MessageIndex::set_failure(std::string why) {
  std::lock_guard lock(mutex_);
  failure_ = std::move(why);
}

std::string MessageIndex::incomplete() const {
  const LogOffset at = position(), target = target_;
  if (at < target)
    return fmt::format("the index is being built from the log, {} of {} MiB are to come", (target - at + 0xFFFFF) >> 20,
                       (target - log_.begin() + 0xFFFFF) >> 20);
  std::lock_guard lock(mutex_);
  return failure_;
}

Result<KeyAnswer> MessageIndex::query(const KeyQuery& query) {
  KeyAnswer answer;
  answer.incomplete = incomplete();
  std::shared_lock lock(db_mutex_);
  if (!db_) return Error(Errc::kIo, answer.incomplete.empty() ? "the index is closed" : answer.incomplete);
  answer.last_update_ms = last_time_ms_;
  answer.last_update_offset = last_offset_;
  if (query.count_max <= 0) return answer;
  int64_t bytes = 0;
  const LogOffset begin = log_.begin();
  auto visit = [&](const IndexEntry& entry) {
    if (entry.offset < begin) return true;
    auto record = log_.record_at(entry.offset);
    if (!record) return true;
    auto fields = message::decode_record(record->bytes);
    // Another message may have the hash, and another one may be there since the log lost its tail.
    if (!fields || fields->store_timestamp_ms != entry.store_time_ms || fields->topic != query.topic ||
        !has_key(*fields, query.key))
      return true;
    bytes += static_cast<int64_t>(record->size());
    if (static_cast<int32_t>(answer.records.size()) >= query.count_max ||
        (!answer.records.empty() && bytes > query.bytes_max)) {
      answer.truncated = true;
      return false;
    }
    answer.records.push_back(std::move(*record));
    return true;
  };
  const uint64_t hash = options_.hash(index_topic_hash(query.topic), query.key);
  auto scanned = db_->scan(hash, query.begin_ms, query.end_ms, query.order, visit);
  if (!scanned) {
    if (scanned.error().code == Errc::kCorrupt) {
      unreadable_ = true;
      lock.unlock();
      wake();
    }
    return scanned.error();
  }
  return answer;
}

void MessageIndex::tell(StoreFigures& figures) const {
  figures.indexed_offset = position();
  figures.index_entries_total = entries_total();
  figures.index_cpu_ns = cpu_ns_.load(std::memory_order_relaxed);
}

std::unique_ptr<MessageIndex> make_message_index(const StoreOptions& options, const CommitLog& log,
                                                 const HoleList& holes,
                                                 std::function<std::optional<SharedBytes>(LogOffset offset)> record_at,
                                                 io::FileSystem& files, const Logger& logger) {
  if (!options.message_index_enabled) return nullptr;
  MessageIndex::Log reader;
  reader.begin = [&log] { return log.begin(); };
  reader.readable_end = [&log] { return log.readable_end(); };
  reader.read_up_to = [&log](LogOffset from, LogOffset end) { return log.read_up_to(from, end); };
  reader.record_at = std::move(record_at);
  reader.end_of_hole = [&holes](LogOffset offset) { return holes.end_at(offset); };
  reader.next_record = [&log](LogOffset from) -> LogOffset {
    auto file = log.files().at(from);
    return file ? next_record(*file, from, log.readable_end()).value_or(-1) : -1;
  };
  MessageIndex::Options index;
  index.db.directory = options.root_dir + "/indexdb";
  index.db.cache_bytes = static_cast<size_t>(options.message_index_cache_bytes);
  return std::make_unique<MessageIndex>(std::move(reader), std::move(index), files, logger);
}

Result<KeyAnswer> query_index(MessageIndex* index, const KeyQuery& query) {
  if (index == nullptr)
    return Error(Errc::kUnsupported, "messageIndexEnable is false: messages cannot be found by key");
  return index->query(query);
}

}  // namespace apogee::store
