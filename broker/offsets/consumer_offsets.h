#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "apogee/result.h"
#include "common/base/logger.h"

namespace apogee::broker {

/// How far each group has consumed each queue. Reads and commits touch memory only (shards, a lock each);
/// flush() carries what changed to RocksDB, whose write-ahead log keeps it; export_json() writes
/// config/consumerOffset.json in RocketMQ's form. Thread: any; see flush() and the editing calls for disk use.
class ConsumerOffsets {
 public:
  struct Options {
    std::string db_dir;     ///< of the RocksDB; <store root>/offsetsdb
    std::string json_file;  ///< <store root>/config/consumerOffset.json
  };
  using QueueOffsets = std::map<int32_t, int64_t>;    ///< by queue id
  using Table = std::map<std::string, QueueOffsets>;  ///< by "topic@group"
  struct Entry {
    std::string topic, group;
    QueueOffsets offsets;
  };

  /// Loads the database; where that is new, imports the JSON file (or its .bak) of an existing store.
  /// Errors: kIo, kCorrupt, kAlreadyExists (another process holds the database).
  [[nodiscard]] static Result<std::unique_ptr<ConsumerOffsets>> open(Options options, const Logger& logger);
  /// flush() and export_json() are the owner's duty before.
  ~ConsumerOffsets();

  /// nullopt: never committed. A pending reset (see reset()) comes first.
  [[nodiscard]] std::optional<int64_t> query(std::string_view group, std::string_view topic, int32_t queue_id) const;
  /// A lower offset than before is accepted. Ignored while a reset of the queue is pending (false).
  bool commit(std::string_view group, std::string_view topic, int32_t queue_id, int64_t offset);

  /// Of a slave. From then on what is committed is remembered as its own until the master has it, see take_over().
  /// `before`: what was its own before a restart.
  void keep_own(const Table& before);
  [[nodiscard]] Table own() const;  ///< queues whose latest offset was committed here and is not the master's yet
  /// The queue's offset is not its own any more, unless it was committed again meanwhile.
  void give_up_own(std::string_view topic_and_group, int32_t queue_id, int64_t offset);
  /// The table becomes the master's, but for the slave's own offsets that are greater.
  void take_over(const Table& master);
  /// Grows with every change.
  [[nodiscard]] uint64_t changes() const;

  /// Commits unless the offset is known to be greater; false: it is, or a reset is pending.
  bool commit_forward(std::string_view group, std::string_view topic, int32_t queue_id, int64_t offset);

  /// Rewrites an offset for consumers that may not know: commits of this queue are ignored until the group
  /// next pulls it, see take_reset().
  void reset(std::string_view group, std::string_view topic, int32_t queue_id, int64_t offset);
  /// For each pull: a pending reset, which thereby ends; the pull is then answered 21 (PULL_OFFSET_MOVED) with this
  /// nextBeginOffset. Costs one atomic load while no reset is pending anywhere.
  [[nodiscard]] std::optional<int64_t> take_reset(std::string_view group, std::string_view topic, int32_t queue_id);

  [[nodiscard]] QueueOffsets offsets(std::string_view group, std::string_view topic) const;  ///< empty: none
  [[nodiscard]] std::vector<std::string> topics_of_group(std::string_view group) const;      ///< ascending
  [[nodiscard]] std::vector<std::string> groups_of_topic(std::string_view topic) const;      ///< ascending
  [[nodiscard]] std::vector<Entry> all() const;

  /// Copies the offsets of one topic, or of all when `topic` is empty; the destination's queues not in the
  /// source are kept. Returns how many queues were copied.
  size_t clone(std::string_view source_group, std::string_view destination_group, std::string_view topic);
  void remove_group(std::string_view group);
  void remove_topic(std::string_view topic);

  /// Writes what changed to the database. Call often (200 ms) with sync = false, each second and at stop with
  /// sync = true, and after an admin's change before it is acknowledged. Blocks on disk. Errors: kIo.
  [[nodiscard]] Status flush(bool sync);
  /// Every flushConsumerOffsetInterval and at stop. Blocks on disk. Does nothing when nothing changed.
  [[nodiscard]] Status export_json();

 private:
  struct Impl;
  explicit ConsumerOffsets(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace apogee::broker
