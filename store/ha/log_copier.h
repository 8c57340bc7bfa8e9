#pragma once

#include <functional>
#include <memory>
#include <string_view>
#include <utility>

#include "common/base/logger.h"
#include "common/loop/event_loop.h"
#include "store/ha/record_assembler.h"
#include "store/ha/replicated_log.h"

namespace apogee::store {

/// Appends what a master sends to the log: whole, checked records, one append after another. Memory is bounded by
/// whoever looks at full() before it reads on. Thread: the loop's.
class LogCopier : public std::enable_shared_from_this<LogCopier> {
 public:
  struct Listener {
    std::function<void(LogOffset end)> appended;
    /// The stream is to begin again at the log's end: kCorrupt, no record comes there; else why the log takes none.
    std::function<void(const Error& reason)> failed;
    std::function<void()> idle;  ///< the append that was under way when stopped() was asked for has ended
  };
  LogCopier(ReplicatedLog& log, loop::EventLoop& loop, const Logger& logger, Listener listener);

  /// The stream begins at this offset, the log's end (or anywhere, when the log is empty). Not while busy().
  void begin_at(LogOffset at);
  void add(std::string_view bytes);
  /// As RecordAssembler has them. None (size 0): what comes is to be forgotten.
  [[nodiscard]] std::pair<char*, size_t> room(size_t wanted);
  void received(size_t bytes);
  /// What has come is forgotten; an append under way goes on.
  void halt();
  /// While held nothing is appended.
  void hold(bool held);

  [[nodiscard]] LogOffset received_end() const { return assembler_.received_end(); }
  [[nodiscard]] bool busy() const { return appending_; }
  [[nodiscard]] bool full() const;
  [[nodiscard]] bool has_room() const;  ///< for reading to go on
  [[nodiscard]] int64_t damaged_ranges() const { return damaged_ranges_; }

 private:
  void pump();
  void append(RecordAssembler::Run run);
  void appended(LogOffset end, const Status& result);

  ReplicatedLog& log_;
  loop::EventLoop& loop_;
  const Logger& logger_;
  const Listener listener_;
  RecordAssembler assembler_;
  bool running_ = false, held_ = false, appending_ = false, pumping_ = false;
  int64_t damaged_ranges_ = 0;
};

}  // namespace apogee::store
