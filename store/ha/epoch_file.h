#pragma once

#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "apogee/result.h"
#include "common/base/logger.h"
#include "common/io/file_system.h"
#include "store/message_store.h"

namespace apogee::store {

/// A stretch of the log that one master has written without a break.
struct Epoch {
  int32_t number = 0;
  LogOffset begin = 0;
  bool operator==(const Epoch& other) const { return number == other.number && begin == other.begin; }
};

/// The file `epochFileCheckpoint` (+ `.bak`) as Apache RocketMQ 5 writes it: count, CRC-32 of the lines that follow
/// (its lower 31 bits; 0: not checked), a line `number-begin` per epoch, ascending. An epoch ends where the next one
/// begins. Every change is durable when it returns; one that fails changes nothing. Thread: any.
class EpochFile {
 public:
  EpochFile(std::string path, io::FileSystem& files, const Logger& logger);

  /// From the file, or from `.bak` where that is damaged; absent: empty. Errors: kIo, kCorrupt (neither can be read).
  [[nodiscard]] Status load();
  /// A master begins to write at `end`: appends the next number. A last epoch that has no bytes is replaced.
  [[nodiscard]] Status begin_next(LogOffset end);
  /// A slave takes an epoch over when its first bytes come. The last one again changes nothing; a last one that has no
  /// bytes is replaced. Error: kInvalidArgument when it does not ascend.
  [[nodiscard]] Status append(Epoch epoch);
  [[nodiscard]] Status truncate_to(LogOffset end);  ///< epochs that begin at or behind `end` go
  /// Epochs that end at or before the log's begin go; the one that it lies in keeps its own begin.
  [[nodiscard]] Status forget_before(LogOffset begin);

  [[nodiscard]] std::vector<Epoch> all() const;
  [[nodiscard]] std::optional<Epoch> last() const;
  [[nodiscard]] std::optional<Epoch> of(LogOffset offset) const;  ///< the epoch that an offset lies in

 private:
  [[nodiscard]] Status change(std::vector<Epoch> epochs);

  const std::string path_;
  io::FileSystem& files_;
  const Logger& logger_;
  std::mutex change_mutex_;  // before mutex_; one change at a time
  mutable std::mutex mutex_;
  std::vector<Epoch> epochs_;  // guarded by mutex_
};

/// Where two logs part by their epochs: from the newest epoch of the slave backward, the first that both have with the
/// same number and begin; the smaller of its two ends. nullopt: they have none in common.
[[nodiscard]] std::optional<LogOffset> common_end(const std::vector<Epoch>& slave, LogOffset slave_end,
                                                  const std::vector<Epoch>& master, LogOffset master_end);

}  // namespace apogee::store
