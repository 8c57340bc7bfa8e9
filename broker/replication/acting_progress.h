#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "apogee/result.h"

namespace apogee::broker {

/// How far what waits in a log was delivered, by a master or by a slave that acts for it. It only grows.
struct ActingProgress {
  std::map<int32_t, int64_t> delay_offsets;  ///< level to the queue offset of the next message
  int64_t half_offset = 0;                   ///< half messages in front of it are decided, or are with another master
  int64_t timer_queue_offset = 0;            ///< timers in front of it ...
  int64_t timers_until_ms = -1;              ///< ... that were due at or before this time are delivered or cancelled

  /// Takes what is further.
  void merge(const ActingProgress& other);
  bool operator==(const ActingProgress& other) const {
    return delay_offsets == other.delay_offsets && half_offset == other.half_offset &&
           timer_queue_offset == other.timer_queue_offset && timers_until_ms == other.timers_until_ms;
  }
};
[[nodiscard]] std::string encode(const ActingProgress& progress);
/// Error: kCorrupt.
[[nodiscard]] Result<ActingProgress> decode_acting_progress(std::string_view json);

/// What delayOffset.json and timersCheckpoint.json say; what is missing or unreadable counts as nothing.
[[nodiscard]] ActingProgress read_progress_files(const std::string& delay_file, const std::string& timers_file);
/// Writes both files; durable. Errors: kIo, kDiskFull.
[[nodiscard]] Status write_progress_files(const ActingProgress& progress, const std::string& delay_file,
                                          const std::string& timers_file);

}  // namespace apogee::broker
