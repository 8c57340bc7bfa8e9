#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "store/message_store.h"
#include "store/recovery.h"

namespace apogee::store {

/// What queues and index need of a record. Views into the record.
struct RecordSketch {
  std::string_view bytes;  ///< the whole record
  int32_t queue_id = 0;
  int32_t sys_flag = 0;
  QueueOffset queue_offset = 0;
  int64_t store_timestamp_ms = 0;
  std::string_view topic, properties;
  bool topic_as_before = false;  ///< that of the sketch before, so what was found out of it holds
};

/// Walks records one after another: as look_at() without a CRC, with the same verdicts, for a fraction of its cost.
/// Thread: one at a time.
class RecordSketcher {
 public:
  /// What stands there, in the bytes up to the end of its file or of what may be read. The sketch counts when it is a
  /// record.
  [[nodiscard]] LogPosition look_at(std::string_view rest_of_file, LogOffset offset, RecordSketch& sketch);

 private:
  std::array<char, 255> topic_{};  ///< of the last record; names of topics with more bytes are looked at each time
  size_t topic_bytes_ = 0;
};

/// Up to where, at most `to`, the log has whole records and blanks, when one of them ends at `from`. Damage counts up
/// to the next whole record. Nothing at or behind `log_end`, where the last record ends, is read.
[[nodiscard]] LogOffset whole_records_end(const LogFiles& log, LogOffset from, LogOffset to, LogOffset log_end);

/// The properties that queues and index look at; as message::find_property() finds each, but in one pass. Empty: it is
/// not there.
struct KnownProperties {
  std::string_view tags, keys, unique_key, delay_level;
};
[[nodiscard]] KnownProperties known_properties(std::string_view properties);

}  // namespace apogee::store
