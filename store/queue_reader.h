#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "common/base/logger.h"
#include "common/message/message_record.h"
#include "store/commit_log.h"
#include "store/consume_queues.h"
#include "store/hole_list.h"
#include "store/message_store.h"
#include "store/recovery.h"

namespace apogee::store {

/// Answers reads by queue and offset. An entry is followed only to the message that it stands for; one that leads
/// elsewhere is handed to repair(), and readers wait in front of it for that. Thread: any, unless said otherwise.
class QueueReader {
 public:
  struct Parts {
    const CommitLog& log;
    ConsumeQueues& queues;
    const Logger& logger;
    int64_t entries_per_file = 0;
    /// The tags code that a record's entry carries.
    std::function<int64_t(const message::RecordView& record)> tags_code_of;
    /// Told when there is something to repair; must be cheap.
    std::function<void()> wake_repair;
    HoleList& holes;  ///< nothing is read out of them; damage that is found is added
  };
  explicit QueueReader(Parts parts) : parts_(std::move(parts)) {}

  /// Records in front of this were there at the start: what the disk gives for them is checked with its CRC when it is
  /// read. Before start.
  void set_recovered(LogOffset log_end) { checked_below_ = log_end; }

  /// The answer takes the place of what `to` held.
  void get(std::string_view topic, int32_t queue_id, QueueOffset offset, const GetLimits& limits,
           const TagsCodeFilter& filter, GetResult& to);
  [[nodiscard]] QueueOffset offset_by_time(std::string_view topic, int32_t queue_id, int64_t time_ms,
                                           TimeBoundary boundary) const;
  [[nodiscard]] std::optional<int64_t> store_time_ms(std::string_view topic, int32_t queue_id,
                                                     QueueOffset offset) const;
  [[nodiscard]] std::optional<SharedBytes> record_at(LogOffset offset, LogOffset end) const;

  /// Looks in the log, between their neighbours, for the messages of entries that were found to be wrong, and writes
  /// these entries again; what is not in the log is lost and becomes blank. Thread: one at a time, may read much of the
  /// log. stopping: asked now and then.
  void repair(const std::function<bool()>& stopping);

 private:
  using Place = std::tuple<std::string, int32_t, QueueOffset>;
  enum class Found : uint8_t { kMessage, kGone, kWrong };
  /// What one get() keeps between records: the file that the last one lay in.
  struct Cursor {
    std::shared_ptr<LogFile> file;
    const char* data = nullptr;    ///< of the file's mapping
    LogOffset begin = 0, end = 0;  ///< of the file
    LogOffset readable_end = 0;
    LogOffset present_from = 0, present_to = 0;  ///< known to be in memory
  };
  [[nodiscard]] Found look_up(Cursor& cursor, const QueueEntry& entry, std::string_view topic, int32_t queue_id,
                              QueueOffset offset, std::string_view& record) const;
  /// The bytes of an entry's record; empty when the log does not have them.
  [[nodiscard]] std::string_view bytes_of(Cursor& cursor, const QueueEntry& entry) const;
  static void prefetch(const Cursor& cursor, const QueueEntry& entry);
  [[nodiscard]] bool in_memory(Cursor& cursor, const QueueEntry& entry, bool load) const;
  [[nodiscard]] bool suspect(std::string_view topic, int32_t queue_id, QueueOffset offset);
  void note_damage(const QueueEntry& entry, const std::string& topic, int32_t queue_id, QueueOffset offset) const;
  void repair_run(const Place& place, const std::function<bool()>& stopping);
  [[nodiscard]] std::optional<int64_t> time_of(const QueueEntry& entry) const;

  const Parts parts_;
  LogOffset checked_below_ = 0;
  std::mutex mutex_;
  std::set<Place> suspects_;  // guarded by mutex_
  std::set<Place> given_up_;  // guarded by mutex_: neither repaired nor made blank
};

}  // namespace apogee::store
