#pragma once

#include <functional>
#include <string>
#include <vector>

#include "apogee/result.h"
#include "common/base/bytes.h"
#include "common/base/logger.h"
#include "common/message/message_record.h"
#include "store/checkpoint.h"
#include "store/log_files.h"

namespace apogee::store {

/// What stands at a position of the log.
struct LogPosition {
  enum class Kind : uint8_t { kRecord, kBlank, kNothing } kind = Kind::kNothing;
  int64_t bytes = 0;  ///< of the record, or up to the end of the file for a blank
};

/// Whether a topic could have this name: visible ASCII without slashes, and not dots alone, because it names a
/// directory. The store takes no others, so a record with another one is damaged.
[[nodiscard]] bool is_topic_text(std::string_view topic);

/// Whether recovery could take properties for a text of which the disk has a part only, wherever they lie: they begin
/// or end with a zero, or have a sector's worth of zeros. The store takes none of those.
[[nodiscard]] bool could_look_lost(std::string_view properties);

/// Looks at a position within one file's mapping. A record counts only when its magic, lengths and stored
/// physical offset agree and, with `check_crc`, its body is the one it was written with.
/// What is decoded of a record on the way goes to `*record`, when there is one and it counts.
[[nodiscard]] LogPosition look_at(std::string_view rest_of_file, LogOffset offset, bool check_crc,
                                  message::RecordView* record = nullptr);

/// Whether these are the bytes of a whole record that lies here and says that it belongs there. Reads one cache line.
[[nodiscard]] inline bool is_placed(std::string_view bytes, LogOffset offset, int32_t queue_id,
                                    QueueOffset queue_offset) {
  return bytes.size() >= message::kRecordBytesMin && load_be<uint32_t>(bytes.data()) == bytes.size() &&
         load_be<int32_t>(bytes.data() + message::kQueueIdPosition) == queue_id &&
         load_be<int64_t>(bytes.data() + message::kQueueOffsetPosition) == queue_offset &&
         load_be<int64_t>(bytes.data() + message::kPhysicalOffsetPosition) == offset;
}
/// Whether they are that record of that queue, and its body the one it was written with. Reads all of it.
[[nodiscard]] bool is_record_of(std::string_view bytes, LogOffset offset, std::string_view topic, int32_t queue_id,
                                QueueOffset queue_offset);

/// The first position in [from, end), within the file, where a whole record stands: magic, stored physical offset and
/// CRC agree. Nothing at or behind `end` is read: it may be written to. -1: there is none. Error: kIo.
[[nodiscard]] Result<LogOffset> next_record(const LogFile& file, LogOffset from, LogOffset end = INT64_MAX);

/// Bytes of the log that hold no message any more, with whole records behind them.
struct Hole {
  LogOffset begin = 0, end = 0;
  bool operator==(const Hole&) const = default;
};
/// The end of the hole that holds the offset; -1: it is in none. The holes ascend.
[[nodiscard]] LogOffset end_of_hole(const std::vector<Hole>& holes, LogOffset offset);

struct RecoveredLog {
  LogOffset end = 0;
  LogOffset walked_from = 0;       ///< records from here on may not be on disk, nor in their queues
  bool from_checkpoint = false;    ///< walked_from is the checkpoint's position
  bool only_zeros_behind = false;  ///< known of the log behind its end, because our last stop was clean
  int64_t last_store_time_ms = 0;
  std::vector<Hole> holes;  ///< ascending, disjoint
};

/// After a clean stop of ours the log ends where that says. Else walks the log from a position that is known to be on
/// disk, with its queues, to its end: from the checkpoint's position when it has one that holds (our own stores); else
/// (stores of Apache RocketMQ) after a clean stop from the third last file, after a crash from the newest file that
/// began before the checkpoint's safe time. Files are walked in parallel. What is no whole record is a hole when a
/// whole one follows anywhere, else the torn tail, where the log ends. Logs progress each few seconds, and each hole
/// with its bounds. Error: kIo.
[[nodiscard]] Result<RecoveredLog> recover_log(const LogFiles& log, bool clean, const Checkpoint& checkpoint,
                                               bool check_crc, const Logger& logger);

/// Refuses directories that hold messages in a form that is not read here. Error: kUnsupported, naming what and the
/// remedy.
[[nodiscard]] Status check_layout(io::FileSystem& files, const std::string& root);

}  // namespace apogee::store
