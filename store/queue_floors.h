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

/// What the floor table has of a queue.
struct QueueFloor {
  QueueOffset next = 0;         ///< its next offset is never below this
  LogOffset last_record = -1;   ///< of the message in front of `next`; -1: not known, or the queue was given up
  QueueOffset min = 0;          ///< its first message
  LogOffset first_record = -1;  ///< of the message at `min`, or of one in front of it; -1 as above
  bool operator==(const QueueFloor&) const = default;
};

/// The floor table: no queue's next offset is ever below what stands here, also when the queue's files and its
/// records are gone. What it knows of their first and last messages tells whether a queue that is shorter than it was
/// can be built again from the log. Kept in the file `queueFloors` (store/formats.md). Thread: any.
class QueueFloors {
 public:
  /// By ConsumeQueues::queue_key().
  using Offsets = std::vector<std::pair<std::string, QueueOffset>>;
  using Floors = std::vector<std::pair<std::string, QueueFloor>>;

  QueueFloors(std::string path, io::FileSystem& files, const Logger& logger)
      : path_(std::move(path)), files_(files), logger_(logger) {}

  /// Reads the file; an absent one is an empty table, a damaged one too, with a warning. Error: kIo.
  [[nodiscard]] Status load();
  /// Whether load() met a damaged file.
  [[nodiscard]] bool damaged() const { return damaged_; }
  /// Whether load() has read a file.
  [[nodiscard]] bool loaded() const { return loaded_; }
  /// 0: not known.
  [[nodiscard]] QueueOffset of(std::string_view key) const;
  /// Messages in front of this offset belong to no queue, although the log may have them: the queue was given up with
  /// them. 0: it was not.
  [[nodiscard]] QueueOffset retired_below(std::string_view key) const;
  /// The given offsets, none below its floor, and the floors of all other queues.
  [[nodiscard]] Offsets joined(const Offsets& offsets) const;

  [[nodiscard]] Floors all() const;
  /// Raises floors at once, of queues that are given up now: nobody misses their messages. Durable after save().
  void retire(const Offsets& offsets);
  /// A slave's log has lost these messages: floors fall to the given offsets, which come again. Those of queues that
  /// were given up too, but no further. Durable after save().
  void lower(const Offsets& offsets);
  /// The log has lost everything: what remains are queues that were given up. Durable after save().
  void keep_retired();
  /// Writes the table if it changed since the last time: temporary file, sync, rename.
  [[nodiscard]] Status save();

  /// Raises floors as soon as the log is on disk up to `needs`: a floor above what a loss of power leaves of the log
  /// would make a gap. `covers`: all records in front of it are counted in these offsets.
  void propose(Floors floors, LogOffset covers, LogOffset needs);
  [[nodiscard]] bool proposed() const;
  /// Raises and saves what was proposed, if the log is on disk far enough.
  [[nodiscard]] Status save_proposed(LogOffset flushed);
  /// Records in front of this may go: the saved table has the next offsets of their queues.
  [[nodiscard]] LogOffset covered() const;

 private:
  struct Proposal {
    Floors floors;
    LogOffset covers = 0, needs = 0;
  };
  void raise_locked(const std::string& key, const QueueFloor& floor);
  [[nodiscard]] std::string encode_locked() const;
  [[nodiscard]] bool decode_locked(std::string_view raw);

  const std::string path_;
  io::FileSystem& files_;
  const Logger& logger_;
  bool damaged_ = false;   // constant after load()
  bool loaded_ = false;    // as damaged_
  std::mutex save_mutex_;  // before mutex_; one save at a time
  mutable std::mutex mutex_;
  std::map<std::string, QueueFloor, std::less<>> floors_;  // guarded by mutex_
  uint64_t changes_ = 0, saved_changes_ = 0;               // guarded by mutex_
  std::optional<Proposal> proposal_;                       // guarded by mutex_
  LogOffset covered_ = 0;                                  // guarded by mutex_
};

}  // namespace apogee::store
