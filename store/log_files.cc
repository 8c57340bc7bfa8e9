#include "store/log_files.h"

#include <fmt/core.h>

#include <algorithm>
#include <mutex>

#include "common/base/crc32.h"
#include "store/file_names.h"

namespace apogee::store {

namespace {

constexpr std::string_view kBeginMark = "ApogeeLB";
constexpr size_t kBeginMarkBytes = 20;  // no record is so short

std::string begin_mark(LogOffset data_begin) {
  std::string mark(kBeginMark);
  append_be<int64_t>(mark, data_begin);
  append_be<uint32_t>(mark, crc32(mark));
  return mark;
}

/// Where the log begins within its first file.
LogOffset data_begin_of(const LogFile& first) {
  auto mark = first.bytes().substr(0, kBeginMarkBytes);
  if (!mark.starts_with(kBeginMark)) return first.begin;
  const auto begin = load_be<int64_t>(mark.data() + kBeginMark.size());
  return mark == begin_mark(begin) && begin > first.begin && begin < first.end() ? begin : first.begin;
}

/// How far behind `from` the file holds anything but zeros; `from` when nowhere.
Result<LogOffset> end_of_bytes(const LogFile& file, LogOffset from) {
  constexpr int64_t kStep = 1 << 20;
  // All is asked for before any of it is read: reading ahead brings pages of zeros into memory behind what is read, and
  // such pages count as data too, so that the whole file would be gone through.
  std::vector<LogOffset> steps;
  for (LogOffset at = from; at < file.end(); at += kStep) {
    APOGEE_TRY_ASSIGN(int64_t data, file.file->next_data(at - file.begin));
    at = std::max(at, file.begin + data);
    if (at < file.end()) steps.push_back(at);
  }
  LogOffset end = from;
  for (LogOffset at : steps) {
    auto part = file.bytes_from(at).substr(0, kStep);
    if (auto last = part.find_last_not_of('\0'); last != std::string_view::npos)
      end = at + static_cast<LogOffset>(last) + 1;
  }
  return end;
}

}  // namespace

Status LogFiles::load() {
  APOGEE_TRY(io::make_durable_directories(files_, directory_));
  APOGEE_TRY_ASSIGN(auto names, files_.list(directory_));
  std::unique_lock lock(mutex_);
  LogOffset expected = -1;
  for (size_t i = 0; i < names.size(); ++i) {
    std::string path = directory_ + "/" + names[i];
    auto begin = offset_of_file_name(names[i]);
    if (!begin) {
      logger_.warn("{}: not a file of the log, left alone", path);
      continue;
    }
    APOGEE_TRY_ASSIGN(auto file, files_.open(path, io::OpenMode::kExisting));
    APOGEE_TRY_ASSIGN(int64_t bytes, file->size());
    if (bytes == 0 && i + 1 == names.size()) {
      logger_.warn("{}: empty last file removed", path);
      APOGEE_TRY(files_.remove(path));
      continue;
    }
    if (bytes != file_bytes_)
      return Error(Errc::kCorrupt,
                   fmt::format("{} has {} bytes, but mappedFileSizeCommitLog is {}: set it to the size that "
                               "the store was written with, or restore the file",
                               path, bytes, file_bytes_));
    if (expected >= 0 && *begin != expected)
      return Error(Errc::kCorrupt, fmt::format("{}: the log goes on at {}, but a file for {} is missing; restore it",
                                               path, *begin, expected));
    if (*begin % file_bytes_ != 0)
      return Error(Errc::kCorrupt,
                   fmt::format("{}: its name is no multiple of mappedFileSizeCommitLog {}", path, file_bytes_));
    expected = *begin + file_bytes_;
    auto log_file = std::make_shared<LogFile>();
    log_file->begin = *begin;
    APOGEE_TRY_ASSIGN(log_file->map, file->map(static_cast<size_t>(file_bytes_)));
    log_file->file = std::move(file);
    list_.push_back(std::move(log_file));
  }
  data_begin_ = list_.empty() ? 0 : data_begin_of(*list_.front());
  return {};
}

Result<std::shared_ptr<LogFile>> LogFiles::make(LogOffset begin, LogOffset data_begin) {
  std::string path = directory_ + "/" + file_name_of(begin);
  auto made = [&]() -> Result<std::shared_ptr<LogFile>> {
    auto file = std::make_shared<LogFile>();
    file->begin = begin;
    APOGEE_TRY_ASSIGN(file->file, files_.open(path, io::OpenMode::kCreate));
    APOGEE_TRY(file->file->allocate(file_bytes_));
    if (data_begin > begin) APOGEE_TRY(file->file->write_at(0, begin_mark(data_begin)));
    APOGEE_TRY(file->file->sync());
    APOGEE_TRY(files_.sync_directory(directory_));
    APOGEE_TRY_ASSIGN(file->map, file->file->map(static_cast<size_t>(file_bytes_)));
    return file;
  }();
  // A file of another length would stop the next start.
  if (!made) files_.remove(path).ignore("it may not have come into being");
  return made;
}

void LogFiles::push_back(std::shared_ptr<LogFile> file) {
  std::unique_lock lock(mutex_);
  list_.push_back(std::move(file));
}

Status LogFiles::discard(const LogFile& made) {
  APOGEE_TRY(files_.remove(directory_ + "/" + file_name_of(made.begin)));
  return files_.sync_directory(directory_);
}

Result<std::string> LogFiles::cut(LogOffset end, LogOffset maybe_unsynced_from, bool only_zeros_behind) {
  auto end_of_bytes_from = [&](const LogFile& file, LogOffset from) -> Result<LogOffset> {
    if (only_zeros_behind) return from;
    return end_of_bytes(file, from);
  };
  std::unique_lock lock(mutex_);
  std::string cut;
  while (!list_.empty() && list_.back()->begin >= end && list_.back()->begin > list_.front()->begin) {
    auto last = list_.back();
    std::string name = file_name_of(last->begin);
    // The file made ahead of need holds only zeros; one with anything in it is part of what is cut.
    APOGEE_TRY_ASSIGN(LogOffset dirty_to, end_of_bytes_from(*last, last->begin));
    if (dirty_to > last->begin) cut += fmt::format("; file {} removed", name);
    list_.pop_back();
    APOGEE_TRY(files_.remove(directory_ + "/" + name));
  }
  if (!list_.empty() && end < list_.back()->end()) {
    auto& last = *list_.back();
    APOGEE_TRY_ASSIGN(LogOffset dirty_to, end_of_bytes_from(last, end));
    if (dirty_to > end) {
      // Otherwise a later record that happens to end where an old one begins would bring that one back.
      cut = fmt::format("; {} bytes of no whole record in file {} zeroed", dirty_to - end, file_name_of(last.begin)) +
            cut;
      APOGEE_TRY(last.file->zero(end - last.begin, last.end() - end));
      APOGEE_TRY(last.file->allocate(file_bytes_));
    }
  }
  for (const auto& file : list_)
    if (file->end() > maybe_unsynced_from) APOGEE_TRY(file->file->sync());
  APOGEE_TRY(files_.sync_directory(directory_));
  return cut.empty() ? cut : cut.substr(2);
}

Status LogFiles::remove_all() {
  std::unique_lock lock(mutex_);
  while (!list_.empty()) {
    APOGEE_TRY(files_.remove(directory_ + "/" + file_name_of(list_.back()->begin)));
    list_.pop_back();
  }
  data_begin_ = 0;
  return files_.sync_directory(directory_);
}

Result<int> LogFiles::remove_before(LogOffset offset) {
  int removed = 0;
  for (;;) {
    std::shared_ptr<LogFile> first;
    {
      std::shared_lock lock(mutex_);
      if (list_.size() < 2 || list_.front()->end() > offset) return removed;
      first = list_.front();
    }
    APOGEE_TRY(files_.remove(directory_ + "/" + file_name_of(first->begin)));
    {
      std::unique_lock lock(mutex_);
      list_.erase(list_.begin());
    }
    ++removed;
    // Before the next one goes: a log with a file missing in the middle would not start.
    APOGEE_TRY(files_.sync_directory(directory_));
  }
}

std::vector<std::shared_ptr<LogFile>> LogFiles::list() const {
  std::shared_lock lock(mutex_);
  return list_;
}

std::shared_ptr<LogFile> LogFiles::at(LogOffset offset) const {
  std::shared_lock lock(mutex_);
  if (list_.empty() || offset < list_.front()->begin) return nullptr;
  auto index = static_cast<size_t>((offset - list_.front()->begin) / file_bytes_);
  return index < list_.size() ? list_[index] : nullptr;
}

std::shared_ptr<LogFile> LogFiles::last() const {
  std::shared_lock lock(mutex_);
  return list_.empty() ? nullptr : list_.back();
}

std::optional<LogOffset> LogFiles::begin() const {
  std::shared_lock lock(mutex_);
  if (list_.empty()) return std::nullopt;
  return std::max(list_.front()->begin, data_begin_);
}

void LogFiles::set_data_begin(LogOffset offset) {
  std::unique_lock lock(mutex_);
  data_begin_ = offset;
}

std::optional<SharedBytes> LogFiles::slice(LogOffset from, LogOffset to) const {
  if (from < 0 || to < from) return std::nullopt;
  auto file = at(from);
  if (!file || to > file->end()) return std::nullopt;
  return SharedBytes(file->map, file->bytes_from(from).substr(0, static_cast<size_t>(to - from)));
}

std::optional<SharedBytes> LogFiles::slice_up_to(LogOffset from, LogOffset end) const {
  std::shared_lock lock(mutex_);
  if (list_.empty() || from < list_.front()->begin || from >= end) return std::nullopt;
  const auto index = static_cast<size_t>((from - list_.front()->begin) / file_bytes_);
  if (index >= list_.size()) return std::nullopt;
  const auto& file = *list_[index];
  const LogOffset to = std::min(end, file.end());
  return std::make_optional<SharedBytes>(file.map, file.bytes_from(from).substr(0, static_cast<size_t>(to - from)));
}

Status LogFiles::sync(LogOffset from, LogOffset to) const {
  while (from < to) {
    LogOffset next = std::min(to, (from / file_bytes_ + 1) * file_bytes_);
    if (auto file = at(from)) APOGEE_TRY(file->file->sync_range(from - file->begin, next - from));
    from = next;
  }
  return {};
}

Status LogFile::make_room(LogOffset from, LogOffset to, bool on_disk) const {
  APOGEE_TRY(file->write_zeros(from - begin, to - from, on_disk));
  if (map->populate(static_cast<size_t>(from - begin), static_cast<size_t>(to - from))) return {};
  return Error(Errc::kDiskFull, file_name_of(begin) + ": its pages cannot be had");
}

void LogFiles::start_write_back(LogOffset from, LogOffset to) const {
  while (from < to) {
    LogOffset next = std::min(to, (from / file_bytes_ + 1) * file_bytes_);
    if (auto file = at(from)) file->file->start_write_back(from - file->begin, next - from);
    from = next;
  }
}

}  // namespace apogee::store
