#include "store/ha/log_copier.h"

#include "common/base/check.h"

namespace apogee::store {

namespace {
// So little that it is in the cache when it is appended, and that the assembler's blocks are never too small.
constexpr int64_t kAppendBytesMax = 1 << 20;
constexpr size_t kFullBytes = 3 << 19;
constexpr size_t kRoomBytes = 1 << 20;
}  // namespace

LogCopier::LogCopier(ReplicatedLog& log, loop::EventLoop& loop, const Logger& logger, Listener listener)
    : log_(log), loop_(loop), logger_(logger), listener_(std::move(listener)), assembler_(log.file_bytes()) {}

void LogCopier::begin_at(LogOffset at) {
  APOGEE_CHECK(!appending_);
  assembler_.begin_at(at);
  running_ = true;
  held_ = false;
}

void LogCopier::halt() {
  running_ = false;
  if (!appending_) assembler_.begin_at(assembler_.at());
}

void LogCopier::hold(bool held) {
  held_ = held;
  pump();
}

void LogCopier::add(std::string_view bytes) {
  if (!running_) return;
  assembler_.add(bytes);
  pump();
}

std::pair<char*, size_t> LogCopier::room(size_t wanted) {
  return running_ ? assembler_.room(wanted) : std::pair<char*, size_t>();
}

void LogCopier::received(size_t bytes) {
  assembler_.received(bytes);
  pump();
}

// A record that is not all there is no reason to stop reading, however long it is.
bool LogCopier::full() const { return (appending_ || held_) && assembler_.buffered() >= kFullBytes; }
bool LogCopier::has_room() const { return !(appending_ || held_) || assembler_.buffered() < kRoomBytes; }

void LogCopier::pump() {
  if (pumping_) return;  // an append that ended at once: the loop below goes on
  pumping_ = true;
  auto self = shared_from_this();
  while (running_ && !held_ && !appending_) {
    auto run = assembler_.take(kAppendBytesMax);
    if (!run) {
      running_ = false;
      listener_.failed(run.error());
      break;
    }
    if (!*run) break;
    append(std::move(**run));
  }
  pumping_ = false;
}

void LogCopier::append(RecordAssembler::Run run) {
  appending_ = true;
  const LogOffset at = run.at, end = run.at + static_cast<LogOffset>(run.bytes.size());
  auto done = [weak = weak_from_this(), &loop = loop_, end](Status result) {
    if (loop.on_loop_thread()) {
      if (auto self = weak.lock()) self->appended(end, result);
      return;
    }
    loop.post([weak, end, result = std::move(result)] {
      if (auto self = weak.lock()) self->appended(end, result);
    });
  };
  if (!run.damaged) return log_.append_copy(at, {std::move(run.owner), run.bytes}, std::move(done));
  ++damaged_ranges_;
  logger_.error(
      "replication: the master's own log is damaged in [{}, {}): the same bytes came twice, and they are no record; "
      "they "
      "are copied as they are",
      at, end);
  log_.append_damaged(at, {std::move(run.owner), run.bytes}, std::move(done));
}

void LogCopier::appended(LogOffset end, const Status& result) {
  appending_ = false;
  assembler_.runs_released();
  if (!running_) {
    assembler_.begin_at(assembler_.at());
    listener_.idle();
    return;
  }
  if (!result) {
    running_ = false;
    listener_.failed(result.error());
    return;
  }
  listener_.appended(end);
  pump();
}

}  // namespace apogee::store
