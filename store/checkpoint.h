#pragma once

#include <cstdint>
#include <string>

#include "apogee/result.h"
#include "common/io/file_system.h"

namespace apogee::store {

/// The file `checkpoint`: how far the parts were on disk, as store times of messages in ms.
/// Layout (4096 bytes, big-endian): i64 log | i64 queues | i64 index | zeros, as StoreCheckpoint in Apache RocketMQ;
/// and, where that writes nothing, at 2048: "ApogeeCp" | i64 position | i64 last record | i32 CRC-32 of these 24 bytes;
/// at 2560: "ApogeeEn" | i64 end | the three times once more | i32 CRC-32 of these 40 bytes.
struct Checkpoint {
  int64_t log_time_ms = 0;
  int64_t queues_time_ms = 0;
  int64_t index_time_ms = 0;
  /// A record begins here or the log ends here, and everything in front is on disk, in the log and in the queues. -1:
  /// not known, the store comes from Apache RocketMQ. It may lie behind what that has written since then.
  int64_t log_position = -1;
  int64_t last_record = -1;  ///< where the record (or blank) begins that ends at log_position: what proves it

  /// Where the log ended when our last stop was clean, with nothing but zeros behind; -1: it was not, or somebody else
  /// has written the file since then.
  int64_t ended_at = -1;

  /// Messages stored up to here are in the log and in their queues on disk; 3 s earlier than noted, as there.
  [[nodiscard]] int64_t safe_time_ms() const;
  bool operator==(const Checkpoint&) const = default;
};

/// An absent or short file is a checkpoint of zeros.
[[nodiscard]] Result<Checkpoint> read_checkpoint(io::FileSystem& files, const std::string& path);
[[nodiscard]] Status write_checkpoint(io::FileSystem& files, const std::string& path, const Checkpoint& checkpoint);

}  // namespace apogee::store
