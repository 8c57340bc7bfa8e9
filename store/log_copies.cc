#include "store/log_copies.h"

#include <fmt/core.h>

#include <algorithm>

#include "common/base/bytes.h"
#include "common/message/message_record.h"

namespace apogee::store {

namespace {
constexpr size_t kFrontBytes = 2 * sizeof(int32_t);  // length and magic
}  // namespace

Result<LogCopies> look_at_copies(std::string_view bytes, LogOffset at, int64_t file_bytes) {
  if (bytes.empty() || at < 0) return Error(Errc::kInvalidArgument, "a copy of nothing");
  const LogOffset end = at + static_cast<LogOffset>(bytes.size());
  const LogOffset file_end = (at / file_bytes + 1) * file_bytes;
  if (end > file_end)
    return Error(Errc::kInvalidArgument, fmt::format("a copy from {} to {} goes beyond its file", at, end));
  LogCopies copies;
  while (!bytes.empty()) {
    // Only the front of each is read: its sender has looked at the rest.
    const auto size = bytes.size() < kFrontBytes ? 0 : load_be<int32_t>(bytes.data());
    const auto magic = size == 0 ? 0 : load_be<int32_t>(bytes.data() + sizeof(int32_t));
    const bool fits = size > 0 && static_cast<size_t>(size) <= bytes.size();
    // A blank is as long as what is left here; that must be all of its file.
    const bool blank = magic == message::kBlankMagic && fits && at + size == file_end;
    const bool record = (magic == message::kRecordMagicV1 || magic == message::kRecordMagicV2) && fits &&
                        static_cast<size_t>(size) >= message::kRecordBytesMin &&
                        load_be<int64_t>(bytes.data() + message::kPhysicalOffsetPosition) == at;
    if (!blank && !record)
      return Error(Errc::kInvalidArgument, fmt::format("what is to be copied to {} is no whole record", at));
    if (record) copies.last_store_time_ms = std::max(copies.last_store_time_ms, message::store_timestamp_of(bytes));
    copies.piece_bytes.push_back(static_cast<uint32_t>(size));
    bytes.remove_prefix(static_cast<size_t>(size));
    at += size;
  }
  return copies;
}

}  // namespace apogee::store
