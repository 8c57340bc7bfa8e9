#pragma once

#include <functional>
#include <string>

#include "apogee/result.h"
#include "store/checkpoint.h"
#include "store/commit_log.h"

namespace apogee::store {

/// What stands at a position of the log.
struct LogPosition {
  enum class Kind : uint8_t { kRecord, kBlank, kNothing } kind = Kind::kNothing;
  int64_t bytes = 0;  ///< of the record, or up to the end of the file for a blank
};

/// Looks at a position within one file's mapping. A record counts only when its magic, lengths and stored
/// physical offset agree and, with `check_crc`, its body is the one it was written with.
[[nodiscard]] LogPosition look_at(std::string_view rest_of_file, LogOffset offset, bool check_crc);

struct RecoveredLog {
  LogOffset end = 0;
  LogOffset walked_from = 0;  ///< after a crash, records from here on may not be on disk, nor in their queues
  int64_t last_store_time_ms = 0;
};

/// Walks the loaded log from a position that is known to be on disk to its end: after a clean stop from the
/// third last file, else from the newest file that began before the checkpoint's safe time.
/// Error: kCorrupt when good records lie behind a bad place, so that cutting there would lose them.
[[nodiscard]] Result<RecoveredLog> recover_log(const CommitLog& log, bool clean, const Checkpoint& checkpoint,
                                               bool check_crc, const Logger& logger);

/// Refuses directories that hold messages in a form that is not read here. Error: kUnsupported, naming what and the
/// remedy.
[[nodiscard]] Status check_layout(io::FileSystem& files, const std::string& root);

}  // namespace apogee::store
