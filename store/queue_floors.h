#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/base/logger.h"
#include "common/io/file_system.h"
#include "store/message_store.h"

namespace apogee::store {

/// The floor table: no queue's next offset is ever below what stands here, also when the queue's files and its
/// records are gone. Kept in the file `queueFloors` (store/formats.md). Thread: any.
class QueueFloors {
 public:
  /// By ConsumeQueues::queue_key().
  using Offsets = std::vector<std::pair<std::string, QueueOffset>>;

  QueueFloors(std::string path, io::FileSystem& files, const Logger& logger)
      : path_(std::move(path)), files_(files), logger_(logger) {}

  /// Reads the file; an absent one is an empty table, a damaged one too, with a warning. Error: kIo.
  [[nodiscard]] Status load();
  /// 0: not known.
  [[nodiscard]] QueueOffset of(std::string_view key) const;
  /// The given offsets, none below its floor, and the floors of all other queues.
  [[nodiscard]] Offsets joined(const Offsets& offsets) const;

  /// Raises floors at once. Durable after save().
  void raise(const Offsets& offsets);
  /// Writes the table if it changed since the last time: temporary file, sync, rename.
  [[nodiscard]] Status save();

  /// Raises floors as soon as the log is on disk up to `needs`: a floor above what a loss of power leaves of the log
  /// would make a gap. `covers`: all records in front of it are counted in these offsets.
  void propose(Offsets offsets, LogOffset covers, LogOffset needs);
  [[nodiscard]] bool proposed() const;
  /// Raises and saves what was proposed, if the log is on disk far enough.
  [[nodiscard]] Status save_proposed(LogOffset flushed);
  /// Records in front of this may go: the saved table has the next offsets of their queues.
  [[nodiscard]] LogOffset covered() const;

 private:
  struct Proposal {
    Offsets offsets;
    LogOffset covers = 0, needs = 0;
  };
  [[nodiscard]] std::string encode_locked() const;
  [[nodiscard]] bool decode_locked(std::string_view raw);

  const std::string path_;
  io::FileSystem& files_;
  const Logger& logger_;
  std::mutex save_mutex_;  // before mutex_; one save at a time
  mutable std::mutex mutex_;
  std::map<std::string, QueueOffset, std::less<>> floors_;  // guarded by mutex_
  uint64_t changes_ = 0, saved_changes_ = 0;                // guarded by mutex_
  std::optional<Proposal> proposal_;                        // guarded by mutex_
  LogOffset covered_ = 0;                                   // guarded by mutex_
};

}  // namespace apogee::store
