#pragma once

#include <memory>
#include <optional>
#include <shared_mutex>
#include <string>
#include <vector>

#include "apogee/result.h"
#include "common/base/bytes.h"
#include "common/base/logger.h"
#include "common/io/file_system.h"
#include "store/message_store.h"

namespace apogee::store {

/// One file of the log. Slices of the mapping keep it mapped after the file has gone from the list.
struct LogFile {
  LogOffset begin = 0;
  std::unique_ptr<io::File> file;
  std::shared_ptr<io::MappedRegion> map;

  [[nodiscard]] std::string_view bytes() const { return {map->data(), map->size()}; }
  /// The bytes from an offset within the file to its end.
  [[nodiscard]] std::string_view bytes_from(LogOffset offset) const {
    return bytes().substr(static_cast<size_t>(offset - begin));
  }
  [[nodiscard]] LogOffset end() const { return begin + static_cast<LogOffset>(map->size()); }
  /// Makes pages of zeros present and writable for what is appended in [from, to) through the mapping: nothing may be
  /// there yet, and nobody may write there meanwhile. `on_disk`: as of io::File::write_zeros(). Errors: kDiskFull, kIo.
  [[nodiscard]] Status make_room(LogOffset from, LogOffset to, bool on_disk) const;
};

/// The files that the log is made of: all of one size, mapped whole, ascending and without gaps.
/// Thread: any; pushing and cutting one at a time.
class LogFiles {
 public:
  LogFiles(std::string directory, int64_t file_bytes, io::FileSystem& files, const Logger& logger)
      : directory_(std::move(directory)), file_bytes_(file_bytes), files_(files), logger_(logger) {}

  /// Maps the files that are there. Errors: kCorrupt (a file of another size, a gap), kIo.
  [[nodiscard]] Status load();
  /// Makes and maps a durable file of zeros; it is not in the list yet. With a `data_begin` within it, it is the first
  /// file of a log that begins there, which a mark at its front tells (store/formats.md). Errors: kDiskFull, kIo; then
  /// there is none.
  [[nodiscard]] Result<std::shared_ptr<LogFile>> make(LogOffset begin, LogOffset data_begin = 0);
  void push_back(std::shared_ptr<LogFile> file);
  /// Removes a file that make() has made and that is not in the list. Error: kIo.
  [[nodiscard]] Status discard(const LogFile& made);
  /// Removes the files that begin at or behind `end`, but the first one, and zeroes what lies behind `end` in its
  /// own; syncs. Returns what was cut, in words; "" when nothing was. With `only_zeros_behind` that is known of all
  /// that lies behind the end.
  [[nodiscard]] Result<std::string> cut(LogOffset end, LogOffset maybe_unsynced_from, bool only_zeros_behind = false);

  /// Removes all files, of a log in which there is nothing. Error: kIo.
  [[nodiscard]] Status remove_all();
  /// Removes files that end at or before the offset, never the last one. Returns how many went. Error: kIo.
  [[nodiscard]] Result<int> remove_before(LogOffset offset);

  [[nodiscard]] int64_t file_bytes() const { return file_bytes_; }
  [[nodiscard]] std::vector<std::shared_ptr<LogFile>> list() const;
  [[nodiscard]] std::shared_ptr<LogFile> at(LogOffset offset) const;  ///< nullptr: outside of the log's files
  [[nodiscard]] std::shared_ptr<LogFile> last() const;
  /// Where the first record begins; nullopt: there is no file.
  [[nodiscard]] std::optional<LogOffset> begin() const;
  /// The first file has nothing in front of this: a slave's log may begin where its master's did.
  void set_data_begin(LogOffset offset);
  /// Bytes [from, to) within one file, pinned; nullopt when a file has not all of them.
  [[nodiscard]] std::optional<SharedBytes> slice(LogOffset from, LogOffset to) const;
  /// Bytes from `from` to `end` or to the end of the file, whichever comes first; nullopt when there are none.
  [[nodiscard]] std::optional<SharedBytes> slice_up_to(LogOffset from, LogOffset end) const;

  /// Makes [from, to) durable; files that have gone need nothing.
  [[nodiscard]] Status sync(LogOffset from, LogOffset to) const;
  void start_write_back(LogOffset from, LogOffset to) const;

 private:
  const std::string directory_;
  const int64_t file_bytes_;
  io::FileSystem& files_;
  const Logger& logger_;
  mutable std::shared_mutex mutex_;
  std::vector<std::shared_ptr<LogFile>> list_;  // guarded by mutex_
  LogOffset data_begin_ = 0;                    // guarded by mutex_: counts when it lies in the first file
};

}  // namespace apogee::store
