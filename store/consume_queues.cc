#include "store/consume_queues.h"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <set>

#include "common/base/bytes.h"
#include "store/file_names.h"

namespace apogee::store {

namespace {

constexpr size_t kOpenFilesMax = 512;
constexpr size_t kTailEntries = 64;
constexpr size_t kSyncsMax = 64;
constexpr int64_t kReadEntriesMax = 4096;

QueueEntry decode_entry(const char* raw) {
  return {load_be<int64_t>(raw), load_be<int32_t>(raw + 8), load_be<int64_t>(raw + 12)};
}
bool is_written(const QueueEntry& entry) { return entry.physical_offset >= 0 && entry.record_bytes > 0; }
bool is_blank(const QueueEntry& entry) { return entry.record_bytes == kBlankEntryBytes; }
std::vector<QueueEntry> blanks(int64_t count) {
  return std::vector<QueueEntry>(static_cast<size_t>(count), {0, kBlankEntryBytes, 0});
}

}  // namespace

Result<std::shared_ptr<io::File>> OpenFiles::get(const std::string& path, io::OpenMode mode) {
  std::lock_guard lock(mutex_);
  if (auto found = by_path_.find(path); found != by_path_.end()) {
    order_.splice(order_.begin(), order_, found->second);
    return found->second->second;
  }
  APOGEE_TRY_ASSIGN(auto opened, files_.open(path, mode));
  std::shared_ptr<io::File> file = std::move(opened);
  order_.emplace_front(path, file);
  by_path_[path] = order_.begin();
  if (order_.size() > limit_) {
    by_path_.erase(order_.back().first);
    order_.pop_back();
  }
  return file;
}

void OpenFiles::forget_below(const std::string& directory) {
  std::string prefix = directory + "/";
  std::lock_guard lock(mutex_);
  for (auto it = order_.begin(); it != order_.end();) {
    if (it->first.compare(0, prefix.size(), prefix) == 0) {
      by_path_.erase(it->first);
      it = order_.erase(it);
    } else {
      ++it;
    }
  }
}

void OpenFiles::mark_dirty(const std::string& path, bool made) {
  std::lock_guard lock(mutex_);
  bool& dirty_and_made = dirty_[path];
  dirty_and_made = dirty_and_made || made;
}

Status OpenFiles::sync_dirty(const std::string& directory) {
  std::unordered_map<std::string, bool> dirty;
  {
    std::lock_guard lock(mutex_);
    dirty.swap(dirty_);
  }
  if (dirty.size() > kSyncsMax) return files_.sync_everything(directory);
  std::set<std::string> directories;
  for (const auto& [path, made] : dirty) {
    auto file = get(path, io::OpenMode::kExisting);
    if (!file && file.error().code == Errc::kNotFound) continue;
    if (!file) return file.error();
    APOGEE_TRY((*file)->sync());
    if (!made) continue;
    std::string above = path;
    for (int level = 0; level < 3; ++level) {  // queue, topic, all queues
      above.resize(above.rfind('/'));
      directories.insert(above);
    }
  }
  for (const auto& made : directories) {
    auto synced = files_.sync_directory(made);
    if (!synced && synced.error().code != Errc::kNotFound) return synced;
  }
  return {};
}

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
    auto written = [this](QueueOffset at) {
      auto entry = read_files(at, 1);
      return !entry.empty() && is_written(entry.front());
    };
    if (!written(low)) continue;
    while (high - low > 1) {
      QueueOffset middle = low + (high - low) / 2;
      (written(middle) ? low : high) = middle;
    }
    next_ = low + 1;
    min_ = first_file_;
    return {};
  }
  return {};
}

Status ConsumeQueue::cut_beyond(LogOffset limit, bool after_crash) {
  constexpr int64_t kLookedAtOnce = 512;
  QueueOffset next = max();
  for (bool done = false; next > first_file_ && !done;) {
    QueueOffset from = std::max(first_file_, next - kLookedAtOnce);
    auto entries = read_files(from, next - from);
    if (entries.empty()) return Error(Errc::kIo, directory_ + ": cannot be read");
    next = from + static_cast<QueueOffset>(entries.size());
    for (; !entries.empty() && !done; entries.pop_back()) {
      const auto& last = entries.back();
      done = is_written(last) && (is_blank(last) || last.physical_offset + last.record_bytes <= limit);
      if (!done) --next;
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
      continue;
    }
    APOGEE_TRY_ASSIGN(auto file, open_files_.get(path, io::OpenMode::kExisting));
    int64_t position = next * kQueueEntryBytes - *begin;
    APOGEE_TRY(file->zero(position, entries_per_file_ * kQueueEntryBytes - position));
    open_files_.mark_dirty(path, false);
  }
  open_files_.forget_below(directory_);
  std::lock_guard lock(tail_mutex_);
  tail_.clear();
  next_ = next;
  if (min_ > next) min_ = next;
  return {};
}

Status ConsumeQueue::set_log_begin(LogOffset log_begin) {
  QueueOffset low = first_file_, high = max();
  while (low < high) {
    QueueOffset middle = low + (high - low) / 2;
    auto entry = read_files(middle, 1);
    if (entry.empty()) return Error(Errc::kIo, directory_ + ": cannot be read");
    bool before = is_blank(entry.front()) || entry.front().physical_offset < log_begin;
    if (before) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  min_ = std::max(min(), low);
  return {};
}

Status ConsumeQueue::append(QueueOffset first, const std::vector<QueueEntry>& entries) {
  if (first < 0) return Error(Errc::kCorrupt, fmt::format("{}: a record with queue offset {}", directory_, first));
  QueueOffset next = max();
  if (first > next && next == 0) {
    // The queue begins after the log was cut at its front. Entries in front of it, within its file, are blank.
    first_file_ = first / entries_per_file_ * entries_per_file_;
    APOGEE_TRY(write(first_file_, blanks(first - first_file_)));
    min_ = first;
    next_ = next = first;
  } else if (first - next > entries_per_file_) {
    return Error(Errc::kCorrupt, fmt::format("{}: entry {} comes, but {} is the next one", directory_, first, next));
  } else if (first > next) {
    APOGEE_TRY(write(next, blanks(first - next)));
    std::lock_guard lock(tail_mutex_);
    tail_.clear();
    next_ = next = first;
  }
  auto skipped = static_cast<size_t>(next - first);
  if (skipped >= entries.size()) return {};
  std::vector<QueueEntry> fresh(entries.begin() + static_cast<std::ptrdiff_t>(skipped), entries.end());
  if (auto written = write(next, fresh); !written) return removed_ ? Status() : written;
  std::lock_guard lock(tail_mutex_);
  tail_.insert(tail_.end(), fresh.begin(), fresh.end());
  while (tail_.size() > kTailEntries) tail_.pop_front();
  next_.store(next + static_cast<QueueOffset>(fresh.size()), std::memory_order_release);
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

std::vector<QueueEntry> ConsumeQueue::read(QueueOffset from, int64_t count) const {
  {
    std::lock_guard lock(tail_mutex_);
    QueueOffset next = next_.load(std::memory_order_relaxed);
    count = std::min({count, next - from, kReadEntriesMax});
    if (count <= 0 || from < min()) return {};
    auto tail_first = next - static_cast<QueueOffset>(tail_.size());
    if (from >= tail_first) {
      auto begin = tail_.begin() + (from - tail_first);
      return {begin, begin + count};
    }
  }
  return read_files(from, count);
}

std::vector<QueueEntry> ConsumeQueue::read_files(QueueOffset from, int64_t count) const {
  std::vector<QueueEntry> entries;
  std::string raw;
  while (count > 0) {
    int64_t part = std::min(count, entries_per_file_ - from % entries_per_file_);
    auto file = open_files_.get(path_of(from), io::OpenMode::kExisting);
    if (!file) break;
    raw.resize(static_cast<size_t>(part * kQueueEntryBytes));
    auto bytes = (*file)->read_at(from % entries_per_file_ * kQueueEntryBytes, raw.data(), raw.size());
    if (!bytes) break;
    for (size_t at = 0; at + kQueueEntryBytes <= *bytes; at += kQueueEntryBytes)
      entries.push_back(decode_entry(raw.data() + at));
    if (*bytes < raw.size()) break;
    from += part;
    count -= part;
  }
  return entries;
}

ConsumeQueues::ConsumeQueues(std::string directory, std::string trash, int64_t file_bytes, io::FileSystem& files,
                             const Logger& logger)
    : directory_(std::move(directory)),
      trash_(std::move(trash)),
      file_bytes_(file_bytes),
      files_(files),
      logger_(logger),
      open_files_(files, kOpenFilesMax) {}

std::string ConsumeQueues::queue_key(std::string_view topic, int32_t queue_id) {
  return fmt::format("{}-{}", topic, queue_id);
}

Status ConsumeQueues::load(LogOffset log_begin, LogOffset trusted_end, bool after_crash) {
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
      auto queue = std::make_shared<ConsumeQueue>(topic_directory + "/" + name, file_bytes_, open_files_, files_);
      APOGEE_TRY(queue->load());
      APOGEE_TRY(queue->cut_beyond(trusted_end, after_crash));
      APOGEE_TRY(queue->set_log_begin(log_begin));
      if (queue->max() > 0) {
        auto last = queue->read(queue->max() - 1, 1);
        if (!last.empty() && !is_blank(last.front()))
          dispatched_end_ = std::max(dispatched_end_, last.front().physical_offset + last.front().record_bytes);
      }
      topics_[topic][queue_id] = std::move(queue);
    }
  }
  return {};
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
  if (!queue)
    queue = std::make_shared<ConsumeQueue>(fmt::format("{}/{}/{}", directory_, topic, queue_id), file_bytes_,
                                           open_files_, files_);
  return queue;
}

void ConsumeQueues::remove_topic(std::string_view topic) {
  std::string topic_directory = fmt::format("{}/{}", directory_, topic);
  std::string gone = fmt::format("{}/{}", trash_, removals_.fetch_add(1));
  {
    std::unique_lock lock(mutex_);
    auto found = topics_.find(topic);
    if (found == topics_.end()) return;
    for (auto& [id, queue] : found->second) queue->set_removed();
    topics_.erase(found);
    open_files_.forget_below(topic_directory);
    // Renamed under the lock, because the topic may come again at once; the files go outside of it.
    auto moved = files_.make_directories(trash_);
    if (moved) moved = files_.rename(topic_directory, gone);
    if (!moved && moved.error().code == Errc::kNotFound) return;
    if (!moved) {
      logger_.warn("{}", moved.error().message);
      gone = topic_directory;
    }
  }
  if (auto removed = files_.remove_all(gone); !removed) logger_.warn("{}", removed.error().message);
}

std::vector<std::pair<std::string, QueueOffset>> ConsumeQueues::next_offsets() const {
  std::vector<std::pair<std::string, QueueOffset>> offsets;
  std::shared_lock lock(mutex_);
  for (auto& [topic, ids] : topics_)
    for (auto& [id, queue] : ids) offsets.emplace_back(queue_key(topic, id), queue->max());
  return offsets;
}

}  // namespace apogee::store
