#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "apogee/result.h"
#include "common/message/message_record.h"
#include "store/log_files.h"
#include "store/message_store.h"
#include "store/recovery.h"

namespace mqstore {

/// A store directory that no broker works on, opened for reading alone: nothing in it is changed, and only one file of
/// the log is mapped at a time.
class StoreDirectory {
 public:
  struct File {
    std::string path;
    int64_t begin = 0;  ///< from its name, in bytes
    int64_t bytes = 0;
  };
  struct Queue {
    std::string topic;
    int32_t queue_id = 0;
    std::vector<File> files;
  };
  struct Options {
    std::string root;
    std::string commit_log_dir;    ///< empty: ROOT/commitlog
    int64_t log_file_bytes = 0;    ///< 0: as the first file is
    int64_t queue_file_bytes = 0;  ///< 0: as most files are
  };

  /// Errors: kNotFound (no store there), kAlreadyExists (a broker works on it; names its process), kIo.
  [[nodiscard]] static apogee::Result<StoreDirectory> open(Options options);

  [[nodiscard]] const std::string& root() const { return options_.root; }
  [[nodiscard]] const std::string& commit_log_dir() const { return options_.commit_log_dir; }
  [[nodiscard]] const std::vector<File>& log_files() const { return log_files_; }
  [[nodiscard]] const std::vector<Queue>& queues() const { return queues_; }
  [[nodiscard]] int64_t log_file_bytes() const { return options_.log_file_bytes; }
  [[nodiscard]] int64_t queue_file_bytes() const { return options_.queue_file_bytes; }
  [[nodiscard]] int64_t log_bytes() const;

  /// Maps a file of the log for reading. Error: kIo.
  [[nodiscard]] static apogee::Result<apogee::store::LogFile> map(const File& file);
  /// The bytes of the log at a place, from a map that is kept for the next call. nullopt: no file has them.
  [[nodiscard]] std::optional<std::string_view> log_bytes_from(int64_t offset);

 private:
  Options options_;
  std::vector<File> log_files_;
  std::vector<Queue> queues_;
  std::optional<apogee::store::LogFile> mapped_;
};

/// A file's content up to its last data: zeros at the end of a sparse file may be left out. Errors: kNotFound, kIo.
[[nodiscard]] apogee::Result<std::string> read_file(const std::string& path);

/// What stands in the log between two places.
struct Span {
  enum class Kind : uint8_t {
    kRecord,
    kBlank,  ///< end of a file
    kHole,   ///< no whole record, but one behind it
    kTail,   ///< no whole record, and none behind it; all of it, to the end of the last file
  } kind = Kind::kRecord;
  int64_t begin = 0, end = 0;
  apogee::message::RecordView record;  ///< of kRecord; valid during the visit
  bool dirty = false;                  ///< of kTail: it is not all zeros
};
/// Walks the log from its beginning; CRCs are checked. `visit` answers false to end the walk. Error: kIo.
[[nodiscard]] apogee::Status walk_log(const StoreDirectory& store, const std::function<bool(const Span& span)>& visit);

}  // namespace mqstore
