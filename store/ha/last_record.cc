#include "store/ha/last_record.h"

#include <algorithm>

#include "store/recovery.h"

namespace apogee::store {

namespace {

Result<std::optional<LastRecord>> last_record_in(const ReplicatedLog& log, LogOffset from, LogOffset to) {
  std::optional<LastRecord> found;
  APOGEE_TRY_ASSIGN(auto held, log.read(from, to - from));
  const auto bytes = held.bytes;
  size_t at = 0;
  while (at < bytes.size()) {
    auto rest = bytes.substr(at);
    const auto offset = from + static_cast<LogOffset>(at);
    auto position = look_at(rest, offset, false);
    if (position.kind == LogPosition::Kind::kRecord)
      found = LastRecord{offset, std::string(rest.substr(0, static_cast<size_t>(position.bytes)))};
    // Damage is passed over byte by byte, which happens about never.
    at += position.kind == LogPosition::Kind::kNothing ? 1 : static_cast<size_t>(position.bytes);
  }
  return found;
}

}  // namespace

Result<std::optional<LastRecord>> last_record(const ReplicatedLog& log) {
  LogOffset to = log.end();
  for (int files = 0; files < 2 && to > log.begin(); ++files) {
    const LogOffset from = std::max(log.begin(), (to - 1) - (to - 1) % log.file_bytes());
    APOGEE_TRY_ASSIGN(auto found, last_record_in(log, from, to));
    if (found) return found;
    to = from;
  }
  return std::optional<LastRecord>();
}

}  // namespace apogee::store
