#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "store/ha/epoch_file.h"

namespace apogee::store {

/// One side of replication, as far as it decides where two logs part.
struct LogSide {
  LogOffset begin = 0, end = 0;
  std::vector<Epoch> epochs;
  /// Bytes of the slave from here on are known not to be the master's, although an epoch of the same number and begin
  /// says so: each of two copies of a disk may have begun it.
  LogOffset parted_at = INT64_MAX;
};

/// What a slave that is not empty has to do before it can follow.
struct LogAgreement {
  enum class Action : uint8_t { kFollow, kTruncate, kRefuse } action = Action::kRefuse;
  LogOffset end = 0;  ///< up to here both logs are one, if the proof says so
  std::string why;    ///< of a refusal: both ends and the remedy
};

/// By the epochs; bytes in front of all epochs, of a log that a classic master has written, count as one epoch.
/// What a slave has acknowledged may have been acknowledged to a producer, and a master that lost its newest bytes with
/// its machine does not know of it: a slave that is ahead refuses, and is cut with `truncate_ahead` alone. Truncated to
/// its begin a log is empty.
[[nodiscard]] LogAgreement agree(const LogSide& slave, const LogSide& master, bool truncate_ahead);

}  // namespace apogee::store
