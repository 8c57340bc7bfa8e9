#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "common/base/logger.h"
#include "common/io/file_system.h"
#include "store/log_files.h"
#include "store/message_store.h"

namespace apogee::store {

/// What a queue loses with the end of its log.
struct LostRange {
  QueueOffset first = 0, last = 0;
  int64_t messages = 0;
};
/// By ConsumeQueues::queue_key().
using LostRanges = std::map<std::string, LostRange>;

/// Whether a record begins or the log ends there, as seen from the begin of its file.
[[nodiscard]] bool is_record_boundary(const LogFiles& log, LogOffset log_end, LogOffset at);
/// What the queues have of the records in [from, log_end).
[[nodiscard]] LostRanges lost_ranges(const LogFiles& log, LogOffset from, LogOffset log_end);

/// Cuts the store in a directory that nobody works on: the log ends at `end` after that, or is empty where it began no
/// earlier; the next opening makes the queues agree. The floors of what is lost fall, because another master may give
/// these offsets again; the topics that were deleted stay so. A crash in between, or a failure, leaves a store that
/// opens, and may be cut again. Errors: kIo, kDiskFull, kCorrupt.
[[nodiscard]] Status cut_store(const StoreOptions& options, LogOffset end, const LostRanges& lost,
                               io::FileSystem& files, const Logger& logger);

}  // namespace apogee::store
