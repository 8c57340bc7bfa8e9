#include "store/ha/epoch_file.h"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <iterator>
#include <utility>

#include "common/base/crc32.h"

namespace apogee::store {

namespace {

template <typename Number>
std::optional<Number> number_of(std::string_view text) {
  Number number = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (text.empty() || error != std::errc() || end != text.data() + text.size() || number < 0) return std::nullopt;
  return number;
}

/// The next line, without its end; what is left of `text` begins behind it.
std::string_view take_line(std::string_view& text) {
  const size_t end = std::min(text.find('\n'), text.size());
  auto line = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
  return line;
}

std::string encode(const std::vector<Epoch>& epochs) {
  std::string lines;
  for (const auto& epoch : epochs) lines += fmt::format("{}-{}\n", epoch.number, epoch.begin);
  return fmt::format("{}\n{}\n{}", epochs.size(), crc32_31(lines), lines);
}

bool ascends(const Epoch& from, const Epoch& to) { return to.number > from.number && to.begin > from.begin; }

std::optional<std::vector<Epoch>> decode(std::string_view text) {
  auto count = number_of<int64_t>(take_line(text));
  auto crc = number_of<int32_t>(take_line(text));
  if (!count || !crc || (*crc != 0 && *crc != crc32_31(text))) return std::nullopt;
  std::vector<Epoch> epochs;
  while (!text.empty()) {
    auto line = take_line(text);
    const size_t dash = std::min(line.find('-'), line.size());
    auto number = number_of<int32_t>(line.substr(0, dash));
    auto begin = number_of<int64_t>(line.substr(std::min(dash + 1, line.size())));
    if (!number || !begin || (!epochs.empty() && !ascends(epochs.back(), {*number, *begin}))) return std::nullopt;
    epochs.push_back({*number, *begin});
  }
  if (static_cast<int64_t>(epochs.size()) != *count) return std::nullopt;
  return epochs;
}

Result<std::vector<Epoch>> read(io::FileSystem& files, const std::string& path) {
  APOGEE_TRY_ASSIGN(auto file, files.open(path, io::OpenMode::kExisting));
  APOGEE_TRY_ASSIGN(int64_t bytes, file->size());
  std::string text(static_cast<size_t>(bytes), '\0');
  APOGEE_TRY_ASSIGN(size_t got, file->read_at(0, text.data(), text.size()));
  text.resize(got);
  if (auto epochs = decode(text)) return std::move(*epochs);
  return Error(Errc::kCorrupt, path + " is damaged");
}

}  // namespace

EpochFile::EpochFile(std::string path, io::FileSystem& files, const Logger& logger)
    : path_(std::move(path)), files_(files), logger_(logger) {}

Status EpochFile::load() {
  std::lock_guard changing(change_mutex_);
  std::optional<Error> damaged;
  for (const std::string& path : {path_, path_ + ".bak"}) {
    if (!files_.exists(path)) continue;
    auto epochs = read(files_, path);
    if (epochs) {
      if (damaged) logger_.warn("{}: the epochs are taken from {}", damaged->message, path);
      std::lock_guard lock(mutex_);
      epochs_ = std::move(*epochs);
      return {};
    }
    if (epochs.error().code != Errc::kCorrupt) return epochs.error();
    if (!damaged) damaged = epochs.error();
  }
  if (!damaged) return {};
  return Error(Errc::kCorrupt, damaged->message + ", and so is its .bak: remove both to begin with no epochs");
}

/// The old file becomes the `.bak` while the new one takes its place, so that one of them is always whole.
Status EpochFile::change(std::vector<Epoch> epochs) {
  {
    std::lock_guard lock(mutex_);
    if (epochs == epochs_) return {};
  }
  const std::string temporary = path_ + ".tmp", text = encode(epochs);
  {
    APOGEE_TRY_ASSIGN(auto file, files_.open(temporary, io::OpenMode::kCreate));
    APOGEE_TRY(file->resize(static_cast<int64_t>(text.size())));
    APOGEE_TRY(file->write_at(0, text));
    APOGEE_TRY(file->sync());
  }
  const std::string directory = path_.substr(0, path_.rfind('/'));
  if (files_.exists(path_)) {
    APOGEE_TRY(files_.rename(path_, path_ + ".bak"));
    APOGEE_TRY(files_.sync_directory(directory));
  }
  APOGEE_TRY(files_.rename(temporary, path_));
  APOGEE_TRY(files_.sync_directory(directory));
  std::lock_guard lock(mutex_);
  epochs_ = std::move(epochs);
  return {};
}

Status EpochFile::begin_next(LogOffset end) {
  std::lock_guard changing(change_mutex_);
  auto epochs = all();
  const int32_t number = epochs.empty() ? 1 : epochs.back().number + 1;
  while (!epochs.empty() && epochs.back().begin >= end) epochs.pop_back();
  epochs.push_back({number, end});
  return change(std::move(epochs));
}

Status EpochFile::append(Epoch epoch) {
  std::lock_guard changing(change_mutex_);
  auto epochs = all();
  if (!epochs.empty() && epochs.back() == epoch) return {};
  if (!epochs.empty() && epochs.back().begin == epoch.begin && epochs.back().number < epoch.number) epochs.pop_back();
  if (!epochs.empty() && !ascends(epochs.back(), epoch))
    return Error(Errc::kInvalidArgument,
                 fmt::format("epoch {} from {} on comes after epoch {} from {} on", epoch.number, epoch.begin,
                             epochs.back().number, epochs.back().begin));
  epochs.push_back(epoch);
  return change(std::move(epochs));
}

Status EpochFile::truncate_to(LogOffset end) {
  std::lock_guard changing(change_mutex_);
  auto epochs = all();
  while (!epochs.empty() && epochs.back().begin >= end) epochs.pop_back();
  return change(std::move(epochs));
}

Status EpochFile::forget_before(LogOffset begin) {
  std::lock_guard changing(change_mutex_);
  auto epochs = all();
  size_t gone = 0;
  while (gone + 1 < epochs.size() && epochs[gone + 1].begin <= begin) ++gone;
  epochs.erase(epochs.begin(), epochs.begin() + static_cast<std::ptrdiff_t>(gone));
  return change(std::move(epochs));
}

std::vector<Epoch> EpochFile::all() const {
  std::lock_guard lock(mutex_);
  return epochs_;
}

std::optional<Epoch> EpochFile::last() const {
  std::lock_guard lock(mutex_);
  if (epochs_.empty()) return std::nullopt;
  return epochs_.back();
}

std::optional<Epoch> EpochFile::of(LogOffset offset) const {
  std::lock_guard lock(mutex_);
  auto behind = std::upper_bound(epochs_.begin(), epochs_.end(), offset,
                                 [](LogOffset at, const Epoch& epoch) { return at < epoch.begin; });
  if (behind == epochs_.begin()) return std::nullopt;
  return *std::prev(behind);
}

std::optional<LogOffset> common_end(const std::vector<Epoch>& slave, LogOffset slave_end,
                                    const std::vector<Epoch>& master, LogOffset master_end) {
  auto end_of = [](const std::vector<Epoch>& epochs, size_t i, LogOffset end) {
    return i + 1 < epochs.size() ? std::min(end, epochs[i + 1].begin) : end;
  };
  for (size_t i = slave.size(); i-- > 0;)
    for (size_t k = master.size(); k-- > 0;)
      if (master[k] == slave[i]) return std::min(end_of(slave, i, slave_end), end_of(master, k, master_end));
  return std::nullopt;
}

}  // namespace apogee::store
