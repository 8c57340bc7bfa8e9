#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "apogee/result.h"
#include "common/base/bytes.h"
#include "store/message_store.h"

namespace apogee::store {

class EpochFile;
class ReplicaAcks;

/// A part of the log that is not what it was when it was written.
struct Damage {
  LogOffset begin = 0, end = 0;
  bool operator==(const Damage&) const = default;
};

/// The log as replication sees it: bytes at offsets, whatever they mean. Thread: any, unless said otherwise.
class ReplicatedLog {
 public:
  virtual ~ReplicatedLog() = default;

  [[nodiscard]] virtual LogOffset begin() const = 0;
  [[nodiscard]] virtual LogOffset end() const = 0;      ///< a whole record (or blank) ends here
  [[nodiscard]] virtual LogOffset flushed() const = 0;  ///< on disk up to here
  [[nodiscard]] virtual int64_t file_bytes() const = 0;
  /// At most `bytes_max` bytes from an offset on, pinned in the mapping, never beyond its file nor end(); empty at
  /// end(). Errors: kNotFound in front of begin() or behind end().
  [[nodiscard]] virtual Result<SharedBytes> read(LogOffset from, int64_t bytes_max) const = 0;
  /// Told when end() or flushed() has grown, on the thread that did it; must be cheap, and not ask the log itself.
  /// nullptr: nobody. Thread: any; after it returns the former listener is not called any more.
  virtual void set_replication_listener(std::function<void()> grown) = 0;

  [[nodiscard]] virtual EpochFile& epochs() = 0;
  [[nodiscard]] virtual ReplicaAcks& acks() = 0;  ///< of a master

  // A slave's side.

  /// Appends what its master has at `at`, which must be end(): whole records and blanks, within one file. An empty log
  /// begins at any `at` that is the start of a file or, with a first file that is not there from its start, within one.
  /// `done` comes once, on any thread, when the bytes are in the log (in the page cache, as an append's under
  /// ASYNC_FLUSH). Errors: kInvalidArgument (`at` is not the end), kClosed, kBusy, kDiskFull, kIo.
  virtual void append_copy(LogOffset at, SharedBytes bytes, std::function<void(Status)> done) = 0;
  /// The same for a stretch within one file that is no record in the master's log either; readers and dispatcher pass
  /// over it. A log that does not look at what it takes need not tell them apart.
  virtual void append_damaged(LogOffset at, SharedBytes bytes, std::function<void(Status)> done) {
    append_copy(at, std::move(bytes), std::move(done));
  }
  /// Removes everything from `end` on, in log, queues and index, durably, and logs the lost ranges per queue. Blocks
  /// for as long as a recovery; reads by others wait. Only of a store that was opened as a slave's.
  [[nodiscard]] virtual Status truncate(LogOffset end) = 0;
  /// What recovery, readers and scrub() have found damaged, and nobody has mended yet; ascending.
  [[nodiscard]] virtual std::vector<Damage> damaged() const = 0;
  /// Looks at the CRCs of at most so many bytes (but of one record at least) from a record's begin on, and notes what
  /// is damaged. Returns where to go on; end() when that was all. Blocks; thread: one at a time.
  [[nodiscard]] virtual LogOffset scrub(LogOffset from, int64_t bytes_max) = 0;
  /// Puts the master's bytes, whole records, in place of damaged ones, durably; what the queues lack of them is added.
  /// Blocks. Errors: kInvalidArgument (they are damaged themselves, or nothing there is), kIo, kDiskFull.
  [[nodiscard]] virtual Status mend(LogOffset at, std::string_view bytes) = 0;
};

}  // namespace apogee::store
