#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>

#include "common/base/bytes.h"
#include "store/consume_queues.h"
#include "store/file_names.h"

namespace apogee::store {

namespace {

constexpr size_t kTailEntries = 64;
constexpr int64_t kReadEntriesMax = 4096;
constexpr int64_t kEntriesOfAPage = 4096 / kQueueEntryBytes;
constexpr int64_t kBlanksAtOnce = 65'536;
/// Reads of so many entries at most are read ahead for, so many at once.
constexpr int64_t kReadAheadFor = 64, kReadAhead = 256;
constexpr size_t kQueuesReadAhead = 32;
std::atomic<uint64_t> queues_made{0};
/// What damage may have left out of a queue that is built again.
constexpr int64_t kPutBackGapMax = 1'000'000;

QueueEntry decode_entry(const char* raw) {
  return {load_be<int64_t>(raw), load_be<int32_t>(raw + 8), load_be<int64_t>(raw + 12)};
}
bool is_written(const QueueEntry& entry) { return entry.physical_offset >= 0 && entry.record_bytes > 0; }
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
      files_(files),
      number_(queues_made.fetch_add(1, std::memory_order_relaxed) + 1) {}

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
      done = is_written(last) &&
             (is_blank(last) ? last.physical_offset == 0 || last.physical_offset < limit : last.end() <= limit);
      if (done) continue;
      --next;
      damaged_ = damaged_ || !is_written(last) || last.end() > log_end;
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
  writes_.fetch_add(1, std::memory_order_release);
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
  if (auto first = read_one(std::max(first_file_.load(), min())); !first.empty() && is_written(first.front()) &&
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
    auto entry = read_one(middle);
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
  std::lock_guard writing(write_mutex_);
  std::lock_guard lock(append_mutex_);
  const auto last = max() > 0 ? read_one(max() - 1) : std::vector<QueueEntry>();
  if (max() == 0 || (!last.empty() && is_written(last.front()) && last.front().physical_offset < end)) close_locked();
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

/// With write_mutex_ and append_mutex_ held: what is in memory alone is given up with the rest.
void ConsumeQueue::close_locked() {
  closed_ = true;
  std::lock_guard tail(tail_mutex_);
  unwritten_ = 0;
}

bool ConsumeQueue::close_if_expired() {
  std::lock_guard writing(write_mutex_);
  std::lock_guard lock(append_mutex_);
  if (expired()) close_locked();
  return closed_;
}

Status ConsumeQueue::append(QueueOffset first, const std::vector<QueueEntry>& entries, int64_t gap_max) {
  if (entries.empty()) return {};
  if (first < 0) return Error(Errc::kCorrupt, fmt::format("{}: a record with queue offset {}", directory_, first));
  auto closed = [this] { return Error(Errc::kClosed, directory_ + ": removed as expired"); };
  {
    std::lock_guard appending(append_mutex_);
    if (closed_) return closed();
    if (append_in_memory_locked(first, entries)) return {};
  }
  std::lock_guard writing(write_mutex_);
  std::lock_guard appending(append_mutex_);
  if (closed_) return closed();
  if (auto flushed = flush_locked(); !flushed) return removed_ ? Status() : flushed;
  return append_locked(first, entries, gap_max);
}

/// False: the entries do not just continue the queue.
bool ConsumeQueue::append_in_memory_locked(QueueOffset first, const std::vector<QueueEntry>& entries) {
  const QueueOffset next = max();
  if (first != next || may_begin_earlier_ || first < doubtful_to_ || removed_) return false;
  std::lock_guard lock(tail_mutex_);
  if (unwritten_ == 0) flush_wanted_.store(true, std::memory_order_relaxed);
  for (const auto& entry : entries) tail_.push_back(entry);
  unwritten_ += entries.size();
  trim_tail_locked();
  last_record_ = entries.back().physical_offset;
  if (first_record_ < 0 && min_ == next) first_record_ = entries.front().physical_offset;
  next_.store(next + static_cast<QueueOffset>(entries.size()), std::memory_order_release);
  return true;
}

void ConsumeQueue::trim_tail_locked() {
  const size_t kept = std::max(kTailEntries, unwritten_);
  if (tail_.size() == kept + 1)
    tail_.pop_front();
  else if (tail_.size() > kept)
    tail_.erase(tail_.begin(), tail_.end() - static_cast<std::ptrdiff_t>(kept));
}

/// With write_mutex_ and append_mutex_ held.
Status ConsumeQueue::append_locked(QueueOffset first, const std::vector<QueueEntry>& entries, int64_t gap_max) {
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
  trim_tail_locked();
  last_record_ = fresh.back().physical_offset;
  if (first_record_ < 0 && min_ == next) first_record_ = fresh.front().physical_offset;
  next_.store(next + static_cast<QueueOffset>(fresh.size()), std::memory_order_release);
  return {};
}

Status ConsumeQueue::flush() {
  std::lock_guard writing(write_mutex_);
  for (bool more = true; more;) {
    APOGEE_TRY(flush_locked());
    std::lock_guard lock(tail_mutex_);
    more = unwritten_ > 0;
  }
  return {};
}

/// With write_mutex_ held; append() goes on meanwhile, unless append_mutex_ is held too.
Status ConsumeQueue::flush_locked() {
  std::vector<QueueEntry> entries;
  QueueOffset first;
  {
    std::lock_guard lock(tail_mutex_);
    if (unwritten_ == 0) return {};
    if (removed_) {
      unwritten_ = 0;
      return {};
    }
    entries.assign(tail_.end() - static_cast<std::ptrdiff_t>(unwritten_), tail_.end());
    first = next_.load(std::memory_order_relaxed) - static_cast<QueueOffset>(unwritten_);
  }
  if (auto written = write(first, entries); !written) {
    flush_wanted_.store(true, std::memory_order_relaxed);
    return removed_ ? Status() : written;
  }
  std::lock_guard lock(tail_mutex_);
  unwritten_ -= entries.size();
  trim_tail_locked();
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
  static thread_local std::string raw;
  // Whatever becomes of it: what readers have kept is not what is there any more.
  struct Told {
    std::atomic<uint64_t>& writes;
    ~Told() { writes.fetch_add(1, std::memory_order_release); }
  } const told{writes_};
  for (size_t i = 0; i < entries.size();) {
    QueueOffset at = first + static_cast<QueueOffset>(i);
    auto room = static_cast<size_t>(entries_per_file_ - at % entries_per_file_);
    size_t end = std::min(entries.size(), i + room);
    raw.resize((end - i) * kQueueEntryBytes);
    for (char* to = raw.data(); i < end; ++i, to += kQueueEntryBytes) {
      store_be<int64_t>(to, entries[i].physical_offset);
      store_be<int32_t>(to + 8, entries[i].record_bytes);
      store_be<int64_t>(to + 12, entries[i].tags_code);
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
  std::lock_guard writing(write_mutex_);
  std::lock_guard appending(append_mutex_);
  if (entries.empty() || removed_ || closed_) return {};
  APOGEE_TRY(flush_locked());
  if (first < min() || first + static_cast<QueueOffset>(entries.size()) > max()) return {};
  APOGEE_TRY(write(first, entries));
  std::lock_guard lock(tail_mutex_);
  tail_.clear();
  return {};
}

Status ConsumeQueue::put_back(QueueOffset offset, const QueueEntry& entry) {
  if (offset < 0) return Error(Errc::kCorrupt, fmt::format("{}: a record with queue offset {}", directory_, offset));
  if (offset >= max()) {
    APOGEE_TRY(append(offset, {entry}, kPutBackGapMax));
    return flush();
  }
  std::lock_guard writing(write_mutex_);
  std::lock_guard appending(append_mutex_);
  if (removed_ || closed_) return {};
  APOGEE_TRY(flush_locked());
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
  const uint64_t writes = writes_.load(std::memory_order_acquire);
  QueueOffset written_end = 0;
  std::vector<QueueEntry> unwritten;  // of what is asked for, in no file
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
    const QueueOffset written = next - static_cast<QueueOffset>(unwritten_), end = from + count;
    written_end = written;
    if (end > written) {
      unwritten.assign(tail_.begin() + (written - tail_first), tail_.begin() + (end - tail_first));
      count = written - from;
    }
  }
  if (count > kReadAheadFor) {
    read_files(from, count, to);
  } else {
    read_with_what_follows(from, count, written_end, writes, to);
  }
  if (to.size() == static_cast<size_t>(count)) to.insert(to.end(), unwritten.begin(), unwritten.end());
}

/// Who reads a queue from one end to the other in small steps does so mostly without asking the file: a thread keeps
/// what follows of the queues that it read last. It holds until anything is written to the queue's files.
void ConsumeQueue::read_with_what_follows(QueueOffset from, int64_t count, QueueOffset written_end, uint64_t writes,
                                          std::vector<QueueEntry>& to) const {
  struct Ahead {
    uint64_t queue = 0, writes = 0;
    QueueOffset from = 0, next = 0;  ///< next: where the last read ended
    std::vector<QueueEntry> entries;
  };
  static thread_local std::array<Ahead, kQueuesReadAhead> all_ahead;
  Ahead& ahead = all_ahead[number_ % kQueuesReadAhead];
  const bool goes_on = ahead.queue == number_ && ahead.writes == writes && ahead.next == from;
  if (!goes_on) {
    ahead.entries.clear();
    read_files(from, count, to);
  } else {
    const auto kept_end = ahead.from + static_cast<QueueOffset>(ahead.entries.size());
    if (from < ahead.from || from + count > kept_end) {
      ahead.entries.clear();
      ahead.from = from;
      read_files(from, std::clamp(written_end - from, count, kReadAhead), ahead.entries);
    }
    const auto begin = ahead.entries.begin() + (from - ahead.from);
    to.assign(begin, begin + std::min<std::ptrdiff_t>(count, ahead.entries.end() - begin));
  }
  ahead.queue = number_;
  ahead.writes = writes;
  ahead.next = from + static_cast<QueueOffset>(to.size());
}

/// Also of what is below the minimum.
std::vector<QueueEntry> ConsumeQueue::read_one(QueueOffset offset) const {
  {
    std::lock_guard lock(tail_mutex_);
    const auto tail_first = next_.load(std::memory_order_relaxed) - static_cast<QueueOffset>(tail_.size());
    const QueueOffset index = offset - tail_first;
    if (index >= 0 && index < static_cast<QueueOffset>(tail_.size())) return {tail_[static_cast<size_t>(index)]};
  }
  return read_files(offset, 1);
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

}  // namespace apogee::store
