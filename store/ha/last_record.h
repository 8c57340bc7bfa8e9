#pragma once

#include <optional>
#include <string>

#include "store/ha/replicated_log.h"

namespace apogee::store {

struct LastRecord {
  LogOffset at = 0;
  std::string bytes;
};

/// The last whole record of the log; nullopt when its last two files have none. Walks a file from its start, so it may
/// take as long as the disk needs for that. Errors: as ReplicatedLog::read.
[[nodiscard]] Result<std::optional<LastRecord>> last_record(const ReplicatedLog& log);

}  // namespace apogee::store
