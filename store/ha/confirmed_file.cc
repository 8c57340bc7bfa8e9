#include "store/ha/confirmed_file.h"

#include <fmt/core.h>

#include <charconv>

#include "common/base/crc32.h"

namespace apogee::store {

namespace {
constexpr size_t kFileBytesMax = 64;

std::string line_of(LogOffset confirmed) {
  auto number = std::to_string(confirmed);
  return fmt::format("{} {}\n", number, crc32(number));
}
}  // namespace

std::optional<LogOffset> ConfirmedFile::read() const {
  if (path_.empty() || !files_.exists(path_)) return std::nullopt;
  auto file = files_.open(path_, io::OpenMode::kExisting);
  if (!file) return std::nullopt;
  char raw[kFileBytesMax];
  auto bytes = (*file)->read_at(0, raw, sizeof raw);
  if (!bytes) return std::nullopt;
  std::string_view text(raw, *bytes);
  LogOffset confirmed = -1;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), confirmed);
  if (error != std::errc() || confirmed < 0 || text != line_of(confirmed)) return std::nullopt;
  return confirmed;
}

Status ConfirmedFile::write(LogOffset confirmed) {
  if (path_.empty()) return {};
  const auto directory = path_.substr(0, path_.rfind('/'));
  const auto temporary = path_ + ".tmp";
  const auto line = line_of(confirmed);
  APOGEE_TRY(io::make_durable_directories(files_, directory));
  {
    APOGEE_TRY_ASSIGN(auto file, files_.open(temporary, io::OpenMode::kCreate));
    APOGEE_TRY(file->resize(static_cast<int64_t>(line.size())));
    APOGEE_TRY(file->write_at(0, line));
    APOGEE_TRY(file->sync());
  }
  APOGEE_TRY(files_.rename(temporary, path_));
  return files_.sync_directory(directory);
}

}  // namespace apogee::store
