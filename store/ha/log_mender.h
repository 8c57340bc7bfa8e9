#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "common/base/logger.h"
#include "store/ha/replicated_log.h"

namespace apogee::store {

/// Mends a slave's log: what recovery, readers or a slow look at every record find damaged is fetched from the master
/// by its place, checked, and written where it was. Thread: the loop's; what blocks runs elsewhere.
class LogMender : public std::enable_shared_from_this<LogMender> {
 public:
  struct Options {
    int64_t scrub_bytes_per_round = 0;                         ///< 0: only what others find is mended
    std::chrono::milliseconds retry{std::chrono::minutes(1)};  ///< of what the master could not give
    std::function<void(LogOffset at, std::function<void(Result<std::string> record)>)> ask_record;
    /// Runs the work on a thread that may block, and `then` on the loop; neither of them once the owner has stopped.
    std::function<void(std::function<Status()> work, std::function<void(Status)> then)> elsewhere;
  };

  LogMender(Options options, ReplicatedLog& log, const Logger& logger)
      : options_(std::move(options)), log_(log), logger_(logger) {}

  /// One round, told each second or so; nothing while the last one is not through.
  void round();
  /// The log's end has been cut: what was looked at behind it is looked at again.
  void truncated(LogOffset end) { scrubbed_to_ = std::min(scrubbed_to_, end); }
  [[nodiscard]] int64_t damaged_ranges() const { return static_cast<int64_t>(damaged_.size()); }  ///< now
  [[nodiscard]] int64_t mended_ranges() const { return mended_; }
  [[nodiscard]] bool scrubbed() const { return scrubbed_; }  ///< every record that was there at the start

 private:
  using Clock = std::chrono::steady_clock;
  void mend_next();
  void mend(LogOffset at, Damage damage);
  void give_up(const Damage& damage, const std::string& why);

  const Options options_;
  ReplicatedLog& log_;
  const Logger& logger_;
  bool busy_ = false, begun_ = false, scrubbed_ = false;
  LogOffset scrubbed_to_ = 0, scrub_end_ = 0;
  std::vector<Damage> damaged_;
  std::map<LogOffset, Clock::time_point> not_before_;  ///< by the begin of what could not be mended
  int64_t mended_ = 0;
};

}  // namespace apogee::store
