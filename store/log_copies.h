#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "apogee/result.h"
#include "store/message_store.h"

namespace apogee::store {

/// What a part of another broker's log is made of.
struct LogCopies {
  std::vector<uint32_t> piece_bytes;  ///< of each record, and of the blank at the end
  int64_t last_store_time_ms = 0;
};

/// Looks whether the bytes are whole records, each of which says itself that it stands there, and at the end maybe a
/// blank that goes to the end of its file; all within one file. Lengths and places are looked at, not what
/// the records hold. Error: kInvalidArgument.
[[nodiscard]] Result<LogCopies> look_at_copies(std::string_view bytes, LogOffset at, int64_t file_bytes);

}  // namespace apogee::store
