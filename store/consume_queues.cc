#include "store/consume_queues.h"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <cstring>

#include "common/base/bytes.h"
#include "store/file_names.h"

namespace apogee::store {

namespace {

constexpr size_t kOpenFilesMax = 512;
constexpr size_t kTailEntries = 64;
constexpr int64_t kReadEntriesMax = 4096;
constexpr int64_t kEntriesOfAPage = 4096 / kQueueEntryBytes;
constexpr int64_t kBlanksAtOnce = 65'536;
/// What damage may have left out of a queue that is built again.
constexpr int64_t kPutBackGapMax = 1'000'000;

QueueEntry decode_entry(const char* raw) {
  return {load_be<int64_t>(raw), load_be<int32_t>(raw + 8), load_be<int64_t>(raw + 12)};
}
bool is_written(const QueueEntry& entry) { return entry.physical_offset >= 0 && entry.record_bytes > 0; }
bool is_blank(const QueueEntry& entry) { return entry.record_bytes == kBlankEntryBytes; }
/// The offset of the record that follows keeps the offsets of a queue ascending, for binary search.
std::vector<QueueEntry> blanks(int64_t count, LogOffset next_record) {
  return std::vector<QueueEntry>(static_cast<size_t>(count), {next_record, kBlankEntryBytes, 0});
}
void raise_to(std::atomic<QueueOffset>& value, QueueOffset least) {
  QueueOffset now = value.load();
  while (now < least && !value.compare_exchange_weak(now, least)) {
  }
}

}  // namespace

ConsumeQueue::ConsumeQueue(std::string directory, int64_t file_bytes, OpenFiles& open_files, io::FileSystem& files)
    : directory_(std::move(directory)),
      entries_per_file_(file_bytes / kQueueEntryBytes),
      open_files_(open_files),
      files_(files) {}

std::string ConsumeQueue::path_of(QueueOffset offset) const {
  QueueOffset begin = offset / entries_per_file_ * entries_per_file_;
  return directory_ + "/" + file_name_of(begin * kQueueEntryBytes);
}

Status ConsumeQueue::load() {
  APOGEE_TRY_ASSIGN(auto names, files_.list(directory_));
  std::vector<QueueOffset> begins;
  for (const auto& name : names) {
    auto begin = offset_of_file_name(name);
    if (!begin) continue;
    std::string path = directory_ + "/" + name;
    APOGEE_TRY_ASSIGN(auto file, open_files_.get(path, io::OpenMode::kExisting));
    APOGEE_TRY_ASSIGN(int64_t bytes, file->size());
    if (bytes == 0) {
      // Made just before a crash: the length comes with the next write.
      APOGEE_TRY(file->resize(entries_per_file_ * kQueueEntryBytes));
    } else if (bytes != entries_per_file_ * kQueueEntryBytes || *begin % bytes != 0) {
      return Error(
          Errc::kCorrupt,
          fmt::format("{} has {} bytes, but mappedFileSizeConsumeQueue is {}: set it to the size that the store "
                      "was written with, or remove the directory consumequeue to have it built again",
                      path, bytes, entries_per_file_ * kQueueEntryBytes));
    }
    begins.push_back(*begin / kQueueEntryBytes);
  }
  directory_made_ = !begins.empty();
  if (begins.empty()) return {};
  // What follows a missing file is built again from the log.
  size_t whole = 1;
  while (whole < begins.size() && begins[whole] == begins[whole - 1] + entries_per_file_) ++whole;
  first_file_ = begins.front();
  // Entries are written one after another, so the written ones are a prefix: the first file from the back that
  // has one tells where it ends.
  for (size_t i = whole; i-- > 0;) {
    QueueOffset low = begins[i], high = begins[i] + entries_per_file_;
    // Most queues are short: one read tells.
    const auto first_ones = read_files(low, std::min(kEntriesOfAPage, entries_per_file_));
    auto written = [&](QueueOffset at) {
      if (auto index = static_cast<size_t>(at - begins[i]); index < first_ones.size())
        return is_written(first_ones[index]);
      auto entry = read_files(at, 1);
      return !entry.empty() && is_written(entry.front());
    };
    if (!written(low)) continue;
    if (!first_ones.empty() && !is_written(first_ones.back())) high = low + static_cast<int64_t>(first_ones.size());
    while (high - low > 1) {
      QueueOffset middle = low + (high - low) / 2;
      (written(middle) ? low : high) = middle;
    }
    next_ = low + 1;
    min_ = first_file_.load();
    APOGEE_TRY_ASSIGN(damaged_, goes_on_behind(low + 1, begins));
    return {};
  }
  next_ = min_ = first_file_.load();
  may_begin_earlier_ = true;
  APOGEE_TRY_ASSIGN(damaged_, goes_on_behind(first_file_, begins));
  return {};
}

/// Whether anything but zeros stands behind the entries that were found: then something between them is damaged.
Result<bool> ConsumeQueue::goes_on_behind(QueueOffset next, const std::vector<QueueOffset>& file_begins) {
  constexpr int64_t kAtOnce = 4096;
  std::string raw;
  for (QueueOffset begin : file_begins) {
    if (begin + entries_per_file_ <= next) continue;
    APOGEE_TRY_ASSIGN(auto file, open_files_.get(path_of(begin), io::OpenMode::kExisting));
    for (int64_t at = std::max<QueueOffset>(0, next - begin) * kQueueEntryBytes;; at += kAtOnce) {
      APOGEE_TRY_ASSIGN(at, file->next_data(at));
      raw.resize(kAtOnce);
      APOGEE_TRY_ASSIGN(size_t bytes, file->read_at(at, raw.data(), raw.size()));
      if (bytes == 0) break;
      raw.resize(bytes);
      if (raw.find_first_not_of('\0') != std::string::npos) return true;
    }
  }
  return false;
}

Status ConsumeQueue::cut_beyond(LogOffset limit, LogOffset log_end, bool after_crash) {
  constexpr int64_t kLookedAtOnce = 512;
  QueueOffset next = max();
  int64_t at_once = 1;  // mostly the last entry is good
  for (bool done = false; next > first_file_ && !done; at_once = kLookedAtOnce) {
    QueueOffset from = std::max(first_file_.load(), next - at_once);
    auto entries = read_files(from, next - from);
    if (entries.empty()) return Error(Errc::kIo, directory_ + ": cannot be read");
    next = from + static_cast<QueueOffset>(entries.size());
    for (; !entries.empty() && !done; entries.pop_back()) {
      const auto& last = entries.back();
      // A blank for damage came with the message behind it: it is no older than that one's entry.
      done = is_written(last) && (is_blank(last) ? last.physical_offset == 0 || last.physical_offset < limit
                                                 : last.physical_offset + last.record_bytes <= limit);
      if (done) continue;
      --next;
      damaged_ = damaged_ || !is_written(last) || last.physical_offset + last.record_bytes > log_end;
    }
  }
  if (!after_crash && next == max()) return {};
  // A crash may have left later entries without those in between.
  APOGEE_TRY_ASSIGN(auto names, files_.list(directory_));
  for (const auto& name : names) {
    auto begin = offset_of_file_name(name);
    if (!begin || *begin / kQueueEntryBytes + entries_per_file_ <= next) continue;
    std::string path = directory_ + "/" + name;
    if (*begin / kQueueEntryBytes >= next) {
      APOGEE_TRY(files_.remove(path));
      open_files_.forget(path);  // its name comes again with the next entries
      continue;
    }
    APOGEE_TRY_ASSIGN(auto file, open_files_.get(path, io::OpenMode::kExisting));
    int64_t position = next * kQueueEntryBytes - *begin;
    if (next == max() && !damaged_) continue;  // load() has seen that there are only zeros
    APOGEE_TRY(file->zero(position, entries_per_file_ * kQueueEntryBytes - position));
    open_files_.mark_dirty(path, false);
  }
  std::lock_guard lock(tail_mutex_);
  tail_.clear();
  next_ = next;
  if (min_ > next) min_ = next;
  // Files in front of those that are left may be what the crash took.
  may_begin_earlier_ = next == first_file_;
  return {};
}

Status ConsumeQueue::set_log_begin(LogOffset log_begin) {
  if (first_record_ >= log_begin) return {};
  if (auto first = read_files(std::max(first_file_.load(), min()), 1); !first.empty() && is_written(first.front()) &&
                                                                       !is_blank(first.front()) &&
                                                                       first.front().physical_offset >= log_begin) {
    first_record_ = first.front().physical_offset;
    return {};
  }
  LogOffset found = -1;
  auto first = find_from(log_begin, found);
  if (!first) return removed_ ? Status() : Status(first.error());
  raise_to(min_, *first);
  if (found >= 0) first_record_ = found;
  return {};
}

Result<QueueOffset> ConsumeQueue::find_from(LogOffset begin, LogOffset& record_there) const {
  QueueOffset low = std::max(first_file_.load(), min()), high = max();
  while (low < high) {
    QueueOffset middle = low + (high - low) / 2;
    auto entry = read_files(middle, 1);
    if (entry.empty()) return Error(Errc::kIo, directory_ + ": cannot be read");
    // In front of the first record of a queue stand blanks with offset 0.
    const LogOffset record = entry.front().physical_offset;
    // A damaged entry does not count as old: messages behind it would be taken for gone.
    if (is_written(entry.front()) && (record < begin || (record == 0 && is_blank(entry.front())))) {
      low = middle + 1;
    } else {
      high = middle;
      record_there = record;
    }
  }
  return low;
}

Result<QueueOffset> ConsumeQueue::first_from(LogOffset end) const {
  LogOffset ignored = -1;
  return find_from(end, ignored);
}

bool ConsumeQueue::close_if_before(LogOffset end) {
  std::lock_guard lock(append_mutex_);
  const auto last = max() > 0 ? read_files(max() - 1, 1) : std::vector<QueueEntry>();
  if (max() == 0 || (!last.empty() && is_written(last.front()) && last.front().physical_offset < end)) closed_ = true;
  return closed_;
}

Status ConsumeQueue::remove_old_files() {
  const QueueOffset next = max();
  if (next == 0 || removed_) return {};
  const QueueOffset keep = std::min(min(), (next - 1) / entries_per_file_ * entries_per_file_);
  while (first_file_ + entries_per_file_ <= keep) {
    if (auto removed = files_.remove(path_of(first_file_)); !removed && removed.error().code != Errc::kNotFound)
      return removed_ ? Status() : removed;
    first_file_ += entries_per_file_;
    open_files_.forget_below(directory_);
    // Before the next one goes: what follows a missing file would be taken for lost.
    auto synced = files_.sync_directory(directory_);
    if (!synced) return synced.error().code == Errc::kNotFound ? Status() : synced;  // removed meanwhile
  }
  return {};
}

bool ConsumeQueue::close_if_expired() {
  std::lock_guard lock(append_mutex_);
  if (expired()) closed_ = true;
  return closed_;
}

Status ConsumeQueue::append(QueueOffset first, const std::vector<QueueEntry>& entries, int64_t gap_max) {
  if (entries.empty()) return {};
  if (first < 0) return Error(Errc::kCorrupt, fmt::format("{}: a record with queue offset {}", directory_, first));
  std::lock_guard appending(append_mutex_);
  if (closed_) return Error(Errc::kClosed, directory_ + ": removed as expired");
  QueueOffset next = max();
  if ((first > next && next == 0) || (first < next && may_begin_earlier_)) {
    // The queue begins after the log was cut at its front. Entries in front of it, within its file, are blank.
    first_file_ = first / entries_per_file_ * entries_per_file_;
    APOGEE_TRY(write(first_file_, blanks(first - first_file_, 0)));
    min_ = first;
    next_ = next = first;
    may_begin_earlier_ = false;
    doubt(first_file_, first + 1);
  } else if (first - next > std::max(entries_per_file_, gap_max) && first > floor_) {
    return Error(Errc::kCorrupt, fmt::format("{}: entry {} comes, but {} is the next one", directory_, first, next));
  } else if (first > next) {
    for (QueueOffset at = next; at < first; at += kBlanksAtOnce)
      APOGEE_TRY(write(at, blanks(std::min(kBlanksAtOnce, first - at), entries.front().physical_offset)));
    doubt(next, first + 1);
    std::lock_guard lock(tail_mutex_);
    tail_.clear();
    next_ = next = first;
  } else if (first < doubtful_to_) {
    APOGEE_TRY(fill_in(first, entries));
  }
  may_begin_earlier_ = false;
  auto skipped = static_cast<size_t>(next - first);
  if (skipped >= entries.size()) return {};
  std::vector<QueueEntry> fresh(entries.begin() + static_cast<std::ptrdiff_t>(skipped), entries.end());
  if (auto written = write(next, fresh); !written) return removed_ ? Status() : written;
  std::lock_guard lock(tail_mutex_);
  tail_.insert(tail_.end(), fresh.begin(), fresh.end());
  while (tail_.size() > kTailEntries) tail_.pop_front();
  last_record_ = fresh.back().physical_offset;
  if (first_record_ < 0 && min_ == next) first_record_ = fresh.front().physical_offset;
  next_.store(next + static_cast<QueueOffset>(fresh.size()), std::memory_order_release);
  return {};
}

void ConsumeQueue::doubt(QueueOffset from, QueueOffset to) {
  doubtful_from_ = doubtful_to_ == 0 ? from : std::min(doubtful_from_, from);
  doubtful_to_ = std::max(doubtful_to_, to);
}

/// A message that came with too high an offset, because its record is damaged where no CRC looks, has left a gap behind
/// it. What belongs there comes later.
Status ConsumeQueue::fill_in(QueueOffset first, const std::vector<QueueEntry>& entries) {
  const QueueOffset from = std::max(first, doubtful_from_);
  const QueueOffset to = std::min({first + static_cast<QueueOffset>(entries.size()), doubtful_to_, max()});
  if (from >= to) return {};
  auto begin = entries.begin() + (from - first);
  APOGEE_TRY(write(from, {begin, begin + (to - from)}));
  std::lock_guard lock(tail_mutex_);
  tail_.clear();
  if (from < min_) min_ = from;
  return {};
}

Status ConsumeQueue::write(QueueOffset first, const std::vector<QueueEntry>& entries) {
  if (removed_) return Error(Errc::kNotFound, directory_ + ": removed");
  if (!directory_made_) {
    APOGEE_TRY(files_.make_directories(directory_));
    directory_made_ = true;
  }
  std::string raw;
  for (size_t i = 0; i < entries.size();) {
    QueueOffset at = first + static_cast<QueueOffset>(i);
    auto room = static_cast<size_t>(entries_per_file_ - at % entries_per_file_);
    size_t end = std::min(entries.size(), i + room);
    raw.clear();
    for (; i < end; ++i) {
      append_be<int64_t>(raw, entries[i].physical_offset);
      append_be<int32_t>(raw, entries[i].record_bytes);
      append_be<int64_t>(raw, entries[i].tags_code);
    }
    std::string path = path_of(at);
    APOGEE_TRY_ASSIGN(auto file, open_files_.get(path, io::OpenMode::kCreate));
    APOGEE_TRY_ASSIGN(int64_t bytes, file->size());
    if (bytes == 0) APOGEE_TRY(file->resize(entries_per_file_ * kQueueEntryBytes));
    APOGEE_TRY(file->write_at(at % entries_per_file_ * kQueueEntryBytes, raw));
    // After the write: marked before, a sync in between would take the mark and miss the bytes.
    open_files_.mark_dirty(path, bytes == 0);
  }
  return {};
}

Status ConsumeQueue::rewrite(QueueOffset first, const std::vector<QueueEntry>& entries) {
  std::lock_guard appending(append_mutex_);
  if (entries.empty() || removed_ || closed_) return {};
  if (first < min() || first + static_cast<QueueOffset>(entries.size()) > max()) return {};
  APOGEE_TRY(write(first, entries));
  std::lock_guard lock(tail_mutex_);
  tail_.clear();
  return {};
}

Status ConsumeQueue::put_back(QueueOffset offset, const QueueEntry& entry) {
  if (offset < 0) return Error(Errc::kCorrupt, fmt::format("{}: a record with queue offset {}", directory_, offset));
  if (offset >= max()) return append(offset, {entry}, kPutBackGapMax);
  std::lock_guard appending(append_mutex_);
  if (removed_ || closed_) return {};
  if (const QueueOffset first = first_file_; offset < first) {
    if (first - offset > kPutBackGapMax)
      return Error(Errc::kCorrupt, fmt::format("{}: entry {} comes, but it begins with {}", directory_, offset, first));
    const QueueOffset begin = offset / entries_per_file_ * entries_per_file_;
    APOGEE_TRY(write(begin, blanks(offset - begin, 0)));
    APOGEE_TRY(write(offset, blanks(first - offset, std::max(entry.physical_offset, first_record_.load()))));
    first_file_ = begin;
  }
  APOGEE_TRY(write(offset, {entry}));
  std::lock_guard lock(tail_mutex_);
  tail_.clear();
  if (offset <= min_) {
    min_ = offset;
    first_record_ = entry.physical_offset;
  }
  return {};
}

QueueFloor ConsumeQueue::floor() const {
  std::lock_guard lock(tail_mutex_);
  return {next_, last_record_, min_, first_record_};
}

std::vector<QueueEntry> ConsumeQueue::read(QueueOffset from, int64_t count) const {
  std::vector<QueueEntry> entries;
  read(from, count, entries);
  return entries;
}

void ConsumeQueue::read(QueueOffset from, int64_t count, std::vector<QueueEntry>& to) const {
  to.clear();
  {
    std::lock_guard lock(tail_mutex_);
    QueueOffset next = next_.load(std::memory_order_relaxed);
    count = std::min({count, next - from, kReadEntriesMax});
    if (count <= 0 || from < min()) return;
    auto tail_first = next - static_cast<QueueOffset>(tail_.size());
    if (from >= tail_first) {
      auto begin = tail_.begin() + (from - tail_first);
      to.assign(begin, begin + count);
      return;
    }
  }
  read_files(from, count, to);
}

std::vector<QueueEntry> ConsumeQueue::read_files(QueueOffset from, int64_t count) const {
  std::vector<QueueEntry> entries;
  read_files(from, count, entries);
  return entries;
}

void ConsumeQueue::read_files(QueueOffset from, int64_t count, std::vector<QueueEntry>& to) const {
  constexpr int64_t kAtOnce = 256;
  char raw[kAtOnce * kQueueEntryBytes];
  to.reserve(to.size() + static_cast<size_t>(std::max<int64_t>(count, 0)));
  while (count > 0) {
    const int64_t part = std::min({count, entries_per_file_ - from % entries_per_file_, kAtOnce});
    auto file = file_to_read(from);
    if (!file) break;
    const auto wanted = static_cast<size_t>(part * kQueueEntryBytes);
    auto bytes = file->read_at(from % entries_per_file_ * kQueueEntryBytes, raw, wanted);
    if (!bytes) break;
    for (size_t at = 0; at + kQueueEntryBytes <= *bytes; at += kQueueEntryBytes) to.push_back(decode_entry(raw + at));
    if (*bytes < wanted) break;
    from += part;
    count -= part;
  }
}

/// Nullptr: it is not there. The name of a file that is open already is not put together.
std::shared_ptr<io::File> ConsumeQueue::file_to_read(QueueOffset offset) const {
  const QueueOffset begin = offset / entries_per_file_ * entries_per_file_;
  {
    std::lock_guard lock(tail_mutex_);
    if (read_file_begin_ == begin)
      if (auto file = read_file_.lock()) return file;
  }
  auto opened = open_files_.get(path_of(offset), io::OpenMode::kExisting);
  if (!opened) return nullptr;
  std::lock_guard lock(tail_mutex_);
  read_file_ = *opened;
  read_file_begin_ = begin;
  return std::move(*opened);
}

ConsumeQueues::ConsumeQueues(std::string directory, std::string trash, int64_t file_bytes, io::FileSystem& files,
                             const Logger& logger)
    : directory_(std::move(directory)),
      trash_(std::move(trash)),
      file_bytes_(file_bytes),
      files_(files),
      logger_(logger),
      open_files_(files, kOpenFilesMax) {}

std::pair<std::string_view, int32_t> ConsumeQueues::parse_key(std::string_view key) {
  const size_t dash = key.rfind('-');
  int32_t queue_id = 0;
  if (dash == std::string_view::npos) return {};
  auto [end, error] = std::from_chars(key.data() + dash + 1, key.data() + key.size(), queue_id);
  if (error != std::errc() || end != key.data() + key.size()) return {};
  return {key.substr(0, dash), queue_id};
}

std::string ConsumeQueues::queue_key(std::string_view topic, int32_t queue_id) {
  return fmt::format("{}-{}", topic, queue_id);
}

Status ConsumeQueues::load(LogOffset log_begin, LogOffset trusted_end, LogOffset log_end, bool after_crash) {
  APOGEE_TRY(files_.make_directories(directory_));
  if (files_.exists(trash_)) APOGEE_TRY(files_.remove_all(trash_));  // a crash came in between
  APOGEE_TRY_ASSIGN(auto topics, files_.list(directory_));
  for (const auto& topic : topics) {
    std::string topic_directory = directory_ + "/" + topic;
    if (!files_.is_directory(topic_directory)) continue;
    APOGEE_TRY_ASSIGN(auto queues, files_.list(topic_directory));
    for (const auto& name : queues) {
      int32_t queue_id = 0;
      auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), queue_id);
      if (error != std::errc() || end != name.data() + name.size() || queue_id < 0) continue;
      auto queue = make(topic, queue_id);
      APOGEE_TRY(queue->load());
      const bool is_empty = queue->max() == 0;  // nothing makes one without an entry that goes there
      APOGEE_TRY(queue->cut_beyond(trusted_end, log_end, after_crash));
      APOGEE_TRY(queue->set_log_begin(log_begin));
      LogOffset goes_to = log_begin;  // its last message ends there
      if (queue->max() > 0) {
        auto last = queue->read(queue->max() - 1, 1);
        if (!last.empty()) {
          queue->set_last_record(last.front().physical_offset);
          goes_to = last.front().physical_offset + (is_blank(last.front()) ? 0 : last.front().record_bytes);
          if (!is_blank(last.front())) dispatched_end_ = std::max(dispatched_end_, goes_to);
        }
      }
      if (is_empty || queue->damaged()) rebuild_from_ = std::min(rebuild_from_, goes_to);
      topics_[topic][queue_id] = std::move(queue);
    }
  }
  return {};
}

void ConsumeQueues::forget_empty() {
  std::unique_lock lock(mutex_);
  for (auto& [topic, ids] : topics_) {
    for (auto id = ids.begin(); id != ids.end();) {
      if (id->second->max() > 0) {
        ++id;
        continue;
      }
      open_files_.forget_below(id->second->directory());
      if (auto gone = files_.remove_all(id->second->directory()); !gone) logger_.warn("{}", gone.error().message);
      id = ids.erase(id);
    }
  }
}

std::shared_ptr<ConsumeQueue> ConsumeQueues::find(std::string_view topic, int32_t queue_id) const {
  std::shared_lock lock(mutex_);
  auto found = topics_.find(topic);
  if (found == topics_.end()) return nullptr;
  auto queue = found->second.find(queue_id);
  return queue == found->second.end() ? nullptr : queue->second;
}

std::shared_ptr<ConsumeQueue> ConsumeQueues::find_or_create(std::string_view topic, int32_t queue_id) {
  if (auto queue = find(topic, queue_id)) return queue;
  std::unique_lock lock(mutex_);
  auto& queue = topics_[std::string(topic)][queue_id];
  if (!queue) queue = make(topic, queue_id);
  return queue;
}

QueueOffset ConsumeQueues::retired_below(std::string_view topic, int32_t queue_id) const {
  return floors_ == nullptr ? 0 : floors_->retired_below(queue_key(topic, queue_id));
}

std::shared_ptr<ConsumeQueue> ConsumeQueues::make(std::string_view topic, int32_t queue_id) {
  auto queue = std::make_shared<ConsumeQueue>(fmt::format("{}/{}/{}", directory_, topic, queue_id), file_bytes_,
                                              open_files_, files_);
  if (floors_ != nullptr) queue->set_floor(floors_->of(queue_key(topic, queue_id)));
  return queue;
}

std::string ConsumeQueues::move_away_locked(const std::string& directory) {
  open_files_.forget_below(directory);
  std::string gone = fmt::format("{}/{}", trash_, removals_.fetch_add(1));
  auto moved = files_.make_directories(trash_);
  if (moved) moved = files_.rename(directory, gone);
  if (moved) return gone;
  if (moved.error().code == Errc::kNotFound) return {};
  logger_.warn("{}", moved.error().message);
  return directory;
}

void ConsumeQueues::remove_topic(std::string_view topic) {
  std::string gone;
  {
    std::unique_lock lock(mutex_);
    auto found = topics_.find(topic);
    if (found == topics_.end()) return;
    for (auto& [id, queue] : found->second) queue->set_removed();
    topics_.erase(found);
    gone = move_away_locked(fmt::format("{}/{}", directory_, topic));
  }
  if (gone.empty()) return;
  if (auto removed = files_.remove_all(gone); !removed) logger_.warn("{}", removed.error().message);
}

std::vector<std::pair<std::string, QueueOffset>> ConsumeQueues::next_offsets(std::string_view topic) const {
  std::vector<std::pair<std::string, QueueOffset>> offsets;
  std::shared_lock lock(mutex_);
  for (auto& [name, ids] : topics_)
    for (auto& [id, queue] : ids)
      if (topic.empty() || topic == name) offsets.emplace_back(queue_key(name, id), queue->max());
  return offsets;
}

std::vector<std::pair<std::string, QueueFloor>> ConsumeQueues::floors() const {
  std::vector<std::pair<std::string, QueueFloor>> floors;
  std::shared_lock lock(mutex_);
  for (auto& [name, ids] : topics_)
    for (auto& [id, queue] : ids) floors.emplace_back(queue_key(name, id), queue->floor());
  return floors;
}

Status ConsumeQueues::restart(std::string_view topic, int32_t queue_id) {
  std::unique_lock lock(mutex_);
  auto found = topics_.find(topic);
  if (found == topics_.end() || found->second.count(queue_id) == 0) return {};
  auto& queue = found->second[queue_id];
  open_files_.forget_below(queue->directory());
  APOGEE_TRY(files_.remove_all(queue->directory()));
  queue = make(topic, queue_id);
  return {};
}

std::vector<std::pair<std::string, QueueOffset>> ConsumeQueues::begin_at(std::string_view topic, LogOffset end) const {
  std::vector<std::pair<std::string, QueueOffset>> begins;
  std::shared_lock lock(mutex_);
  const auto found = topics_.find(topic);
  if (found == topics_.end()) return begins;
  for (const auto& [id, queue] : found->second)
    if (auto first = queue->first_from(end)) begins.emplace_back(queue_key(topic, id), *first);
  return begins;
}

void ConsumeQueues::remove_before(std::string_view topic, LogOffset end) {
  std::lock_guard beginning(begin_mutex_);
  std::vector<std::string> gone;
  std::vector<std::shared_ptr<ConsumeQueue>> left;
  {
    // As in remove_expired().
    std::unique_lock lock(mutex_);
    auto found = topics_.find(topic);
    if (found == topics_.end()) return;
    auto& ids = found->second;
    for (auto each = ids.begin(); each != ids.end();) {
      if (!each->second->close_if_before(end)) {
        left.push_back(each->second);
        ++each;
        continue;
      }
      gone.push_back(move_away_locked(each->second->directory()));
      each = ids.erase(each);
    }
    if (ids.empty()) {
      topics_.erase(found);
      gone.push_back(move_away_locked(fmt::format("{}/{}", directory_, topic)));
    }
  }
  for (const auto& queue : left) {
    auto done = queue->set_log_begin(end);
    if (done) done = queue->remove_old_files();
    if (!done) logger_.warn("{}", done.error().message);
  }
  remove_closed(gone);
}

void ConsumeQueues::remove_closed(const std::vector<std::string>& gone) {
  for (const auto& directory : gone)
    if (!directory.empty())
      if (auto done = files_.remove_all(directory); !done) logger_.warn("{}", done.error().message);
}

void ConsumeQueues::set_log_begin(LogOffset log_begin) {
  std::lock_guard beginning(begin_mutex_);
  std::vector<std::shared_ptr<ConsumeQueue>> all;
  {
    std::shared_lock lock(mutex_);
    for (auto& [topic, ids] : topics_)
      for (auto& [id, queue] : ids) all.push_back(queue);
  }
  for (auto& queue : all) {
    auto done = queue->set_log_begin(log_begin);
    if (done) done = queue->remove_old_files();
    if (!done) logger_.warn("{}", done.error().message);  // done again when the next file of the log goes
  }
}

std::vector<ExpiredQueue> ConsumeQueues::expired() const {
  std::vector<ExpiredQueue> queues;
  std::shared_lock lock(mutex_);
  for (auto& [topic, ids] : topics_) {
    if (topic == kScheduleTopic) continue;  // the delay service keeps offsets of its own; as in Apache RocketMQ
    for (auto& [id, queue] : ids)
      if (queue->expired()) queues.push_back({topic, id, queue->max()});
  }
  return queues;
}

size_t ConsumeQueues::remove_expired(const std::vector<ExpiredQueue>& queues) {
  std::vector<std::string> gone;
  size_t removed = 0;
  for (const auto& each : queues) {
    // The dispatcher finds its queue under this lock, so an entry that comes now goes to a queue that begins anew.
    std::unique_lock lock(mutex_);
    auto topic = topics_.find(each.topic);
    if (topic == topics_.end()) continue;
    auto queue = topic->second.find(each.queue_id);
    if (queue == topic->second.end() || !queue->second->close_if_expired()) continue;
    std::string directory = queue->second->directory();
    topic->second.erase(queue);
    if (topic->second.empty()) {
      directory.resize(directory.rfind('/'));
      topics_.erase(topic);
    }
    gone.push_back(move_away_locked(directory));
    ++removed;
    logger_.info("queue {} of topic {} removed: all of its {} messages have expired", each.queue_id, each.topic,
                 each.next);
  }
  remove_closed(gone);
  return removed;
}

std::vector<std::string> ConsumeQueues::topics() const {
  std::vector<std::string> names;
  std::shared_lock lock(mutex_);
  for (auto& each : topics_) names.push_back(each.first);
  return names;
}

}  // namespace apogee::store
