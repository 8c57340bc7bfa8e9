#include "broker/timers/timer_service.h"

#include <fmt/core.h>
#include <pthread.h>

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <nlohmann/json.hpp>
#include <utility>

#include "common/base/bytes.h"
#include "common/config/properties_file.h"
#include "common/message/properties.h"
#include "common/message/property_names.h"

namespace apogee::broker {

namespace property = message::property;
using std::chrono::milliseconds;

namespace {

constexpr int32_t kEnqueueBatch = 1'024;
constexpr size_t kDeliverBatch = 256, kRemoveBatch = 4'096, kRollBatch = 256;
constexpr int64_t kDeliverBytes = 4 << 20;
/// Longest sleep, so that a clock that was set is noticed.
constexpr auto kSleepMax = milliseconds(500);
constexpr auto kSyncInterval = milliseconds(1'000);
/// How long may_remove() waits on the store-keeper's thread.
constexpr auto kGrantWait = milliseconds(300);
constexpr auto kRetryAtOnce = milliseconds(50), kRetryMax = milliseconds(1'000);
/// What the store refuses for what it is, or what cannot be read, is tried so often.
constexpr int kTriesMax = 3;

}  // namespace

TimerService::TimerService(Options options, Parts parts, std::unique_ptr<TimerDb> db)
    : options_(std::move(options)), parts_(std::move(parts)), db_(std::move(db)) {}

TimerService::~TimerService() { stop(); }

Result<std::unique_ptr<TimerService>> TimerService::open(Options options, Parts parts) {
  APOGEE_TRY_ASSIGN(auto db, TimerDb::open(options.db_dir));
  auto service = std::unique_ptr<TimerService>(new TimerService(std::move(options), std::move(parts), std::move(db)));
  service->load_checkpoint();
  const auto& store_parts = service->parts_;
  APOGEE_TRY_ASSIGN(const size_t again, service->db_->restore(store_parts.store.figures().log_max_offset,
                                                              store_parts.store.max_offset(kTimerTopic, 0)));
  if (again > 0) store_parts.logger.warn("{} delivered timers wait again: the log has lost their messages", again);
  service->begin();
  return service;
}

void TimerService::begin() {
  rebuilding_ = db_->is_new() && db_->queue_progress() == 0;
  deliver_from_ = parts_.store.max_offset(kTimerTopic, 0);
  pending_ = db_->pending();
  progress_ = db_->queue_progress();
  if (rebuilding_ && deliver_from_ > 0)
    parts_.logger.warn("{} is new: timers are read from the log, {} messages", options_.db_dir, deliver_from_);
  else
    parts_.logger.info("{}: {} timers wait", options_.db_dir, db_->pending());
}

// Where nothing here has run yet: what an Apache broker delivered is not delivered again, and what it left waiting is
// taken over. Fields of eight bytes: time read up to, a position, next offset in the timer topic.
void TimerService::load_apache_checkpoint() {
  if (options_.apache_checkpoint_file.empty() || !db_->is_new()) return;
  auto bytes = config::read_whole_file(options_.apache_checkpoint_file);
  if (!bytes || bytes->size() < 3 * sizeof(int64_t)) return;
  delivered_ = {load_be<int64_t>(bytes->data() + 16), load_be<int64_t>(bytes->data())};
  parts_.logger.info("{}: timers up to message {} that were due by {} are delivered", options_.apache_checkpoint_file,
                     delivered_.queue_offset, delivered_.delivered_until_ms);
}

void TimerService::load_checkpoint() {
  if (options_.checkpoint_file.empty()) return;
  auto text = config::read_whole_file(options_.checkpoint_file);
  if (!text) return load_apache_checkpoint();
  auto json = nlohmann::json::parse(*text, nullptr, false);
  if (!json.is_object() || !json.contains("queueOffset") || !json["queueOffset"].is_number_integer() ||
      !json.contains("deliveredUntilMs") || !json["deliveredUntilMs"].is_number_integer()) {
    parts_.logger.warn("{}: it is no checkpoint of timers, and is passed over", options_.checkpoint_file);
    return;
  }
  delivered_ = {json["queueOffset"].get<int64_t>(), json["deliveredUntilMs"].get<int64_t>()};
  saved_ = delivered_;
  published_ = {saved_.queue_offset, saved_.delivered_until_ms};
}

TimerService::Progress TimerService::saved_progress() const {
  std::lock_guard lock(mutex_);
  return published_;
}

Status TimerService::write_checkpoint(const std::string& file, const Progress& progress) {
  const nlohmann::json json = {{"queueOffset", progress.queue_offset},
                               {"deliveredUntilMs", progress.delivered_until_ms}};
  return config::replace_file(file, json.dump() + "\n");
}

void TimerService::start(store::HostAddress store_host) {
  store_host_ = std::move(store_host);
  thread_ = std::thread([this] {
    pthread_setname_np(pthread_self(), "timers");
    run();
  });
}

void TimerService::stop() {
  if (!thread_.joinable()) return;
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    wanted_.notify_one();
    granted_changed_.notify_all();
  }
  thread_.join();
}

void TimerService::on_arrivals(const std::vector<store::Arrival>& arrivals) {
  for (const auto& arrival : arrivals) {
    if (arrival.topic != kTimerTopic) continue;
    arrived_.store(true, std::memory_order_release);
    {
      std::lock_guard lock(mutex_);
      woken_ = true;
    }
    wanted_.notify_one();
    return;
  }
}

bool TimerService::may_remove(store::LogOffset new_begin) {
  std::unique_lock lock(mutex_);
  if (removal_granted_ >= new_begin) return true;
  removal_wanted_ = std::max(removal_wanted_, new_begin);
  woken_ = true;
  wanted_.notify_one();
  return granted_changed_.wait_for(lock, kGrantWait, [&] { return stopping_ || removal_granted_ >= new_begin; }) &&
         removal_granted_ >= new_begin;
}

TimerService::Figures TimerService::figures() const {
  Figures figures;
  figures.pending = pending_.load();
  figures.delivered_total = delivered_total_.load();
  figures.cancelled_total = cancelled_total_.load();
  figures.rolled_total = rolled_total_.load();
  figures.lost_total = lost_total_.load();
  const int64_t due = next_due_ms_.load();
  if (const int64_t now = parts_.now_ms(); due < now) figures.read_behind_ms = now - due;
  figures.offset_behind = std::max<int64_t>(0, parts_.store.max_offset(kTimerTopic, 0) - progress_.load());
  return figures;
}

std::map<std::string, std::string> TimerService::figure_table() const {
  const auto now = figures();
  return {{"timerPending", std::to_string(now.pending)},
          {"timerDeliveredTotal", std::to_string(now.delivered_total)},
          {"timerCancelledTotal", std::to_string(now.cancelled_total)},
          {"timerRolledTotal", std::to_string(now.rolled_total)},
          {"timerLostTotal", std::to_string(now.lost_total)},
          {"timerReadBehind", std::to_string(now.read_behind_ms)},
          {"timerOffsetBehind", std::to_string(now.offset_behind)}};
}

void TimerService::run() {
  bool failing = false;
  for (;;) {
    {
      std::unique_lock lock(mutex_);
      if (stopping_) break;
      woken_ = false;
    }
    idle_ = true;
    if (auto done = turn(); !done) {
      if (!std::exchange(failing, true)) parts_.logger.error("timers: {}", done.error().message);
      if (done.error().code == Errc::kCorrupt)
        if (auto rebuilt = rebuild(); !rebuilt) parts_.logger.error("timers: {}", rebuilt.error().message);
      std::unique_lock lock(mutex_);
      wanted_.wait_for(lock, kRetryMax, [this] { return stopping_; });
      continue;
    }
    if (std::exchange(failing, false)) parts_.logger.info("timers are delivered again");
    pending_ = db_->pending();
    progress_ = db_->queue_progress();
    if (!idle_) continue;
    const auto wait = wait_time();
    std::unique_lock lock(mutex_);
    wanted_.wait_for(lock, wait, [this] { return stopping_ || woken_; });
  }
  next_checkpoint_ = next_second_ = {};
  if (auto saved = each_second(); !saved) parts_.logger.error("timers: {}", saved.error().message);
}

Status TimerService::turn() {
  // What was stored before now is in the database before anything due now goes.
  const int64_t now = parts_.now_ms();
  APOGEE_TRY(enqueue());
  if (db_->queue_progress() >= deliver_from_) {
    rebuilding_ = false;
    APOGEE_TRY(deliver(now));
  }
  if (Clock::now() >= next_second_) APOGEE_TRY(each_second());
  return look_at_removal();
}

TimerService::Clock::duration TimerService::wait_time() {
  Clock::duration wait = kSleepMax;
  const auto now = Clock::now();
  const int64_t due = next_due_ms_.load();
  if (due != INT64_MAX)
    wait = std::min<Clock::duration>(wait, milliseconds(std::max<int64_t>(0, due - parts_.now_ms())));
  if (refused_until_ > now) wait = std::max<Clock::duration>(wait, refused_until_ - now);
  return wait;
}

Result<TimerService::Read> TimerService::read_at(store::LogOffset offset) const {
  auto bytes = parts_.store.record_at(offset);
  if (!bytes) return Error{Errc::kNotFound, fmt::format("no message begins at {} of the log", offset)};
  Read read;
  APOGEE_TRY_ASSIGN(read.copy, StoredCopy::of(std::move(*bytes)));
  if (read.copy.record.topic != kTimerTopic)
    return Error{Errc::kCorrupt, fmt::format("the message at {} of the log is none of {}", offset, kTimerTopic)};
  APOGEE_TRY_ASSIGN(read.waiting, read_waiting(read.copy.record.properties));
  return read;
}

bool TimerService::is_target(store::LogOffset offset, const WaitingMessage& wanted) const {
  auto read = read_at(offset);
  return read && read->waiting.real_topic == wanted.real_topic && read->waiting.unique_key == wanted.unique_key;
}

// As in Apache, where a unit's last millisecond is the multiple of the precision.
int64_t TimerService::unit_begin(int64_t due_ms) const {
  return (due_ms - 1) / options_.precision_ms * options_.precision_ms + 1;
}

Status TimerService::enqueue() {
  if (!arrived_.exchange(false, std::memory_order_acq_rel)) return {};
  TimerDb::Changes changes;
  auto from = std::max(db_->queue_progress(), parts_.store.min_offset(kTimerTopic, 0));
  auto units = parts_.store.queue_entries(kTimerTopic, 0, from, kEnqueueBatch);
  if (units.empty()) return {};
  arrived_ = true;  // until nothing was found
  idle_ = false;
  for (const auto& unit : units) {
    TimerEntry entry;
    entry.queue_offset = from++;
    entry.offset = unit.physical_offset;
    auto read = read_at(unit.physical_offset);
    if (!read) {
      parts_.logger.error("message {} of {} is passed over: {}", entry.queue_offset, kTimerTopic, read.error().message);
      continue;
    }
    entry.due_ms = read->waiting.due_ms;
    entry.cancels = read->waiting.cancels;
    entry.key_hash = timer_key_hash(read->waiting.real_topic, read->waiting.unique_key);
    APOGEE_TRY(enqueue_one(*read, entry, changes));
  }
  changes.queue_progress = from;
  return db_->apply(changes);
}

Status TimerService::enqueue_one(const Read& read, const TimerEntry& entry, TimerDb::Changes& changes) {
  auto removed_already = [&changes](const TimerEntry& other) {
    return std::any_of(changes.removed.begin(), changes.removed.end(),
                       [&](const TimerEntry& gone) { return gone.offset == other.offset; });
  };
  const auto& waiting = read.waiting;
  if (rebuilding_ && entry.queue_offset < delivered_.queue_offset && entry.due_ms <= delivered_.delivered_until_ms)
    return {};
  if (const auto before = waiting.rolled_from; before >= 0) {
    // The copy takes the place of what it is a copy of; what was delivered or cancelled meanwhile stays so.
    auto is_before = [before](const TimerEntry& other) { return other.offset == before; };
    auto fresh = std::find_if(changes.added.begin(), changes.added.end(), is_before);
    if (fresh != changes.added.end()) {
      *fresh = entry;
      return {};
    }
    APOGEE_TRY_ASSIGN(const bool waits, db_->contains(entry.due_ms, before));
    TimerEntry old = entry;
    old.offset = before;
    if (waits && !removed_already(old)) {
      changes.removed.push_back(old);
      changes.added.push_back(entry);
      return {};
    }
    if (before >= parts_.store.figures().log_min_offset) return {};
  }
  if (rebuilding_ && waiting.roll_times > 0 && waiting.rolled_from < 0) {
    // An Apache broker's copy, which does not say of what.
    auto is_original = [&](const TimerEntry& other) {
      return other.key_hash == entry.key_hash && other.due_ms == entry.due_ms && other.cancels == entry.cancels &&
             !removed_already(other) && is_target(other.offset, waiting);
    };
    changes.added.erase(std::remove_if(changes.added.begin(), changes.added.end(), is_original), changes.added.end());
    APOGEE_TRY_ASSIGN(auto originals, db_->with_key(entry.key_hash, entry.due_ms, entry.due_ms + 1));
    std::copy_if(originals.begin(), originals.end(), std::back_inserter(changes.removed), is_original);
  }
  const int64_t begin = unit_begin(entry.due_ms), end = begin + options_.precision_ms;
  auto concerns = [&](const TimerEntry& other) {
    return other.key_hash == entry.key_hash && other.cancels != entry.cancels && other.due_ms >= begin &&
           other.due_ms < end && is_target(other.offset, waiting);
  };
  if (entry.cancels) {
    for (auto it = changes.added.begin(); it != changes.added.end();) {
      const bool found = concerns(*it);
      cancelled_total_ += found ? 1 : 0;
      it = found ? changes.added.erase(it) : std::next(it);
    }
    APOGEE_TRY_ASSIGN(auto targets, db_->with_key(entry.key_hash, begin, end));
    for (const auto& target : targets) {
      if (!concerns(target) || removed_already(target)) continue;
      changes.removed.push_back(target);
      ++cancelled_total_;
    }
  } else {
    bool cancelled = std::any_of(changes.added.begin(), changes.added.end(), concerns);
    if (!cancelled && db_->has_cancellations()) {
      APOGEE_TRY_ASSIGN(auto others, db_->with_key(entry.key_hash, begin, end));
      cancelled = std::any_of(others.begin(), others.end(), concerns);
    }
    if (cancelled) {
      ++cancelled_total_;
      return {};
    }
  }
  changes.added.push_back(entry);
  return {};
}

std::vector<store::PutResult> TimerService::put_all(const std::vector<StoredCopy>& copies) {
  struct Shared {
    std::mutex mutex;
    std::condition_variable finished;
    std::vector<store::PutResult> results;
    size_t open = 0;
  };
  auto shared = std::make_shared<Shared>();
  shared->results.resize(copies.size());
  shared->open = copies.size();
  for (size_t i = 0; i < copies.size(); ++i) {
    parts_.put.deliver(copies[i].draft(store_host_), [shared, i](store::PutResult result) {
      std::lock_guard lock(shared->mutex);
      shared->results[i] = std::move(result);
      if (--shared->open == 0) shared->finished.notify_one();
    });
  }
  std::unique_lock lock(shared->mutex);
  shared->finished.wait(lock, [&] { return shared->open == 0; });
  return std::move(shared->results);
}

// False: it is to be tried again in a while. True: it was tried often enough.
bool TimerService::given_up(const TimerEntry& entry, const std::string& why, const StoredCopy* copy) {
  auto& waits = put_off_[entry.offset];
  const std::string name = copy == nullptr ? "no message can be read" : copy->name();
  if (++waits.times >= kTriesMax) {
    parts_.logger.error("the timer at {} of the log, due at {}, is lost: {}: {}", entry.offset, entry.due_ms, name,
                        why);
    put_off_.erase(entry.offset);
    ++lost_total_;
    return true;
  }
  if (waits.times == 1)
    parts_.logger.error("the timer at {} of the log, due at {}, waits: {}: {}", entry.offset, entry.due_ms, name, why);
  waits.until = Clock::now() + milliseconds(options_.put_off_ms);
  return false;
}

Status TimerService::deliver(int64_t now) {
  const auto clock = Clock::now();
  if (refused_until_ > clock) return {};
  TimerDb::Changes changes;
  std::vector<StoredCopy> copies;
  std::vector<TimerEntry> entries;
  int64_t bytes = 0;
  bool more = true;
  size_t seen = 0;
  auto room = [&] {
    return entries.size() < kDeliverBatch && changes.removed.size() < kRemoveBatch && bytes < kDeliverBytes;
  };
  for (std::optional<TimerEntry> after; more && room();) {
    APOGEE_TRY_ASSIGN(auto found, db_->due(now, kDeliverBatch, after));
    more = found.size() == kDeliverBatch;
    for (const auto& entry : found) {
      after = entry;
      if (!room()) {
        more = true;
        break;
      }
      if (entry.cancels) {
        changes.removed.push_back(entry);
        continue;
      }
      auto held = put_off_.find(entry.offset);
      if (held != put_off_.end() && held->second.until > clock) continue;
      ++seen;
      auto read = read_at(entry.offset);
      if (!read || read->copy.record.queue_offset != entry.queue_offset || read->waiting.due_ms != entry.due_ms) {
        const std::string why = read ? "another message is there" : read.error().message;
        if (given_up(entry, why)) changes.removed.push_back(entry);
        continue;
      }
      StoredCopy& copy = copies.emplace_back(std::move(read->copy));
      copy.topic = std::string(read->waiting.real_topic);
      copy.queue_id = read->waiting.real_queue_id;
      for (auto name : {property::kRealTopic, property::kRealQueueId, property::kTimerRollFrom})
        message::remove_property(copy.properties, name);
      copy.wait_store_ok = true;
      bytes += static_cast<int64_t>(copy.original.size());
      entries.push_back(entry);
    }
  }
  const auto results = put_all(copies);
  bool refused = false;
  for (size_t i = 0; i < results.size(); ++i) {
    const auto& result = results[i];
    if (result.stored()) {
      put_off_.erase(entries[i].offset);
      changes.removed.push_back(entries[i]);
      changes.delivered.entries.push_back(entries[i]);
      changes.delivered.last_copy = std::max(changes.delivered.last_copy, result.offsets.front());
    } else if (refused_for_good(result)) {
      if (given_up(entries[i], result.detail, &copies[i])) changes.removed.push_back(entries[i]);
    } else {
      if (refusals_ == 0 && !refused) parts_.logger.warn("timers that are due wait: {}", result.detail);
      refused = true;
    }
  }
  APOGEE_TRY(db_->apply(changes));
  delivered_total_ += static_cast<int64_t>(changes.delivered.entries.size());
  if (refused) {
    refused_until_ = clock + std::min<Clock::duration>(kRetryMax, kRetryAtOnce * (1 << std::min(refusals_++, 5)));
  } else if (seen > 0) {
    refusals_ = 0;
  }
  if (!changes.removed.empty() || seen > 0) idle_ = refused;
  if (!more && !refused) due_looked_ms_ = now;
  APOGEE_TRY_ASSIGN(const auto next, db_->next_due());
  // What was put off is looked at with every waking.
  const bool only_held = next && *next <= now && idle_ && !refused && !more;
  next_due_ms_ = !next ? INT64_MAX : only_held ? now + kSleepMax.count() : *next;
  return {};
}

Status TimerService::each_second() {
  next_second_ = Clock::now() + kSyncInterval;
  const auto figures = parts_.store.figures();
  APOGEE_TRY(db_->forget_delivered(figures.flushed_offset));
  APOGEE_TRY(db_->sync());
  // A queue that could not be read for a while has no arrivals of its own.
  if (db_->queue_progress() < parts_.store.max_offset(kTimerTopic, 0)) arrived_ = true;
  if (proposed_at_ >= 0 && figures.flushed_offset >= proposed_at_) keep_checkpoint();
  if (Clock::now() < next_checkpoint_ || proposed_at_ >= 0) return {};
  next_checkpoint_ = Clock::now() + milliseconds(options_.checkpoint_interval_ms);
  if (due_looked_ms_ < 0 || db_->queue_progress() < deliver_from_) return {};
  APOGEE_TRY_ASSIGN(const auto next, db_->next_due());
  proposed_ = {db_->queue_progress(), next ? std::min(*next - 1, due_looked_ms_) : due_looked_ms_};
  // The time alone is no reason to write.
  if (proposed_.queue_offset == saved_.queue_offset && delivered_total_ == delivered_at_checkpoint_) return {};
  delivered_at_checkpoint_ = delivered_total_;
  proposed_at_ = figures.log_max_offset;
  if (figures.flushed_offset >= proposed_at_) keep_checkpoint();
  return {};
}

void TimerService::keep_checkpoint() {
  proposed_at_ = -1;
  if (options_.checkpoint_file.empty() || proposed_ == saved_) return;
  const Progress progress{proposed_.queue_offset, proposed_.delivered_until_ms};
  if (auto written = write_checkpoint(options_.checkpoint_file, progress); !written) {
    parts_.logger.warn("{}", written.error().message);
    return;
  }
  saved_ = proposed_;
  std::lock_guard lock(mutex_);
  published_ = progress;
}

Status TimerService::rebuild() {
  parts_.logger.error("{} is damaged: it is built again from the log", options_.db_dir);
  // What the database still knew is better than the file.
  if (due_looked_ms_ >= 0) {
    const int64_t next = next_due_ms_.load();
    delivered_ = {db_->queue_progress(), next == INT64_MAX ? due_looked_ms_ : std::min(next - 1, due_looked_ms_)};
  }
  db_.reset();
  std::error_code error;
  std::filesystem::remove_all(options_.db_dir, error);
  APOGEE_TRY_ASSIGN(db_, TimerDb::open(options_.db_dir));
  begin();
  arrived_ = true;
  return {};
}

Status TimerService::look_at_removal() {
  store::LogOffset wanted = -1;
  {
    std::lock_guard lock(mutex_);
    if (removal_wanted_ <= removal_granted_) return {};
    wanted = removal_wanted_;
  }
  // What was stored before, copies above all, has to be in the database: it would be copied twice, or forgotten.
  if (std::exchange(removal_noted_, wanted) != wanted) removal_from_ = parts_.store.max_offset(kTimerTopic, 0);
  if (db_->queue_progress() < std::max({rolled_to_, deliver_from_, removal_from_})) return {};
  APOGEE_TRY_ASSIGN(auto entries, db_->in_front_of(wanted, kRollBatch));
  if (!entries.empty()) {
    removal_seen_ = flush_wanted_ = -1;
    idle_ = false;
    return roll(entries);
  }
  const auto figures = parts_.store.figures();
  if (removal_seen_ != wanted) {
    removal_seen_ = wanted;
    // Copies of what stood there, again or delivered, have to be on disk before it goes.
    APOGEE_TRY_ASSIGN(flush_wanted_, db_->forget_delivered(figures.flushed_offset));
    if (rolled_total_ > 0) flush_wanted_ = std::max(flush_wanted_, figures.log_max_offset - 1);
  }
  if (flush_wanted_ >= figures.flushed_offset) return {};
  APOGEE_TRY(db_->sync());
  std::lock_guard lock(mutex_);
  removal_granted_ = wanted;
  granted_changed_.notify_all();
  return {};
}

Status TimerService::roll(const std::vector<TimerEntry>& entries) {
  if (refused_until_ > Clock::now()) {
    idle_ = true;
    return {};
  }
  std::vector<StoredCopy> copies;
  std::vector<TimerEntry> rolled;  // as copies
  TimerDb::Changes lost, refused;
  for (const auto& entry : entries) {
    const auto held = put_off_.find(entry.offset);
    if (held != put_off_.end() && held->second.until > Clock::now()) continue;
    auto read = read_at(entry.offset);
    if (!read || read->waiting.due_ms != entry.due_ms) {
      parts_.logger.error("the timer at {} of the log, due at {}, is lost: {}", entry.offset, entry.due_ms,
                          read ? "another message is there" : read.error().message);
      lost.removed.push_back(entry);
      ++lost_total_;
      continue;
    }
    StoredCopy& copy = copies.emplace_back(std::move(read->copy));
    rolled.push_back(entry);
    message::set_property(copy.properties, property::kTimerRollTimes, std::to_string(read->waiting.roll_times + 1));
    message::set_property(copy.properties, property::kTimerRollFrom, std::to_string(entry.offset));
    copy.wait_store_ok = false;
  }
  APOGEE_TRY(db_->apply(lost));
  const auto results = put_all(copies);
  if (results.empty()) idle_ = true;  // until those that were put off have their turn
  for (size_t i = 0; i < results.size(); ++i) {
    const auto& result = results[i];
    if (result.stored()) {
      ++rolled_total_;
      rolled_to_ = std::max(rolled_to_, result.queue_offset + 1);
    } else if (refused_for_good(result)) {
      // Else it would keep its file of the log for ever.
      if (given_up(rolled[i], result.detail, &copies[i])) refused.removed.push_back(rolled[i]);
    } else {
      parts_.logger.warn("a timer in a log file that is to go was not appended again: {}", result.detail);
      refused_until_ = Clock::now() + kRetryMax;
      idle_ = true;
    }
  }
  return db_->apply(refused);
}

}  // namespace apogee::broker
