#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "apogee/message_queue.h"
#include "apogee/result.h"

namespace apogee {

/// How far a consumer has come in each of its queues, in memory, and which of it is not persisted yet. Thread: any.
class OffsetStore {
 public:
  /// increase_only: a smaller offset than the known one is ignored.
  void update(const MessageQueue& queue, int64_t offset, bool increase_only);
  /// An offset that was read from where it is persisted.
  void set_persisted(const MessageQueue& queue, int64_t offset);
  [[nodiscard]] std::optional<int64_t> get(const MessageQueue& queue) const;
  void remove(const MessageQueue& queue);
  [[nodiscard]] std::map<MessageQueue, int64_t> all() const;
  /// Those that changed since they were marked as persisted.
  [[nodiscard]] std::map<MessageQueue, int64_t> unpersisted() const;
  void mark_persisted(const MessageQueue& queue, int64_t offset);

 private:
  struct Entry {
    int64_t offset = 0;
    int64_t persisted = -1;
  };
  mutable std::mutex mutex_;
  std::map<MessageQueue, Entry> entries_;  // guarded by mutex_
};

/// The offsets of a broadcasting consumer in a file, in the format of Java clients. Thread: one at a time.
class OffsetFile {
 public:
  /// directory: empty = $HOME/.rocketmq_offsets. Nothing is touched yet.
  OffsetFile(const std::string& directory, const std::string& client_id, const std::string& group);
  [[nodiscard]] const std::string& path() const { return path_; }

  /// Empty when there is no file. A file that cannot be read as one is replaced by its .bak. Errors: kCorrupt, kIo.
  [[nodiscard]] Result<std::map<MessageQueue, int64_t>> load() const;
  /// Writes a temporary file, syncs it, keeps the present one as .bak and renames. Errors: kIo, kDiskFull.
  [[nodiscard]] Status save(const std::map<MessageQueue, int64_t>& offsets) const;

 private:
  std::string path_;
};

}  // namespace apogee
