#include "store/ha/file_replicated_log.h"

#include <fmt/core.h>

#include <algorithm>

namespace apogee::store {

Result<SharedBytes> FileReplicatedLog::read(LogOffset from, int64_t bytes_max) const {
  const LogOffset end = log_.end();
  if (from < log_.begin() || from > end)
    return Error(Errc::kNotFound,
                 fmt::format("the log goes from {} to {}, and has nothing at {}", log_.begin(), end, from));
  if (from == end) return SharedBytes();
  auto bytes = log_.read_up_to(from, std::min(end, from + bytes_max));
  if (!bytes) return Error(Errc::kNotFound, fmt::format("the log has nothing at {} any more", from));
  return std::move(*bytes);
}

Status FileReplicatedLog::truncate(LogOffset) {
  return Error(Errc::kUnsupported, "only the log of a slave is truncated");
}

std::vector<Damage> FileReplicatedLog::damaged() const { return {}; }

LogOffset FileReplicatedLog::scrub(LogOffset, int64_t) { return log_.end(); }

Status FileReplicatedLog::mend(LogOffset, std::string_view) { return Error(Errc::kUnsupported, "not mended yet"); }

}  // namespace apogee::store
