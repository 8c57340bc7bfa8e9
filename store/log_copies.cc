#include "store/log_copies.h"

#include <fmt/core.h>

#include <algorithm>

#include "common/message/message_record.h"
#include "store/recovery.h"

namespace apogee::store {

Result<LogCopies> look_at_copies(std::string_view bytes, LogOffset at, int64_t file_bytes) {
  if (bytes.empty() || at < 0) return Error(Errc::kInvalidArgument, "a copy of nothing");
  const LogOffset end = at + static_cast<LogOffset>(bytes.size());
  const LogOffset file_end = (at / file_bytes + 1) * file_bytes;
  if (end > file_end)
    return Error(Errc::kInvalidArgument, fmt::format("a copy from {} to {} goes beyond its file", at, end));
  LogCopies copies;
  while (!bytes.empty()) {
    const auto there = look_at(bytes, at, false);
    // A blank is as long as what is left here; that must be all of its file.
    const bool whole =
        there.kind == LogPosition::Kind::kRecord || (there.kind == LogPosition::Kind::kBlank && end == file_end);
    if (!whole) return Error(Errc::kInvalidArgument, fmt::format("what is to be copied to {} is no whole record", at));
    if (there.kind == LogPosition::Kind::kRecord)
      if (auto record = message::decode_record(bytes))
        copies.last_store_time_ms = std::max(copies.last_store_time_ms, record->store_timestamp_ms);
    copies.piece_bytes.push_back(static_cast<uint32_t>(there.bytes));
    bytes.remove_prefix(static_cast<size_t>(there.bytes));
    at += there.bytes;
  }
  return copies;
}

}  // namespace apogee::store
