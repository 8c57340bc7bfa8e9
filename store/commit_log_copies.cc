// How parts of another broker's log get into this one.
#include <fmt/core.h>

#include <algorithm>
#include <utility>

#include "common/message/message_record.h"
#include "store/commit_log.h"
#include "store/file_names.h"
#include "store/log_copies.h"

namespace apogee::store {

namespace {

constexpr int64_t kBlankBytes = static_cast<int64_t>(message::kBlankBytesMin);
/// A slave is far behind when so many copies came that are so large, none between them that was not.
constexpr int64_t kLargeBytes = 32 << 10;
constexpr int kFarBehind = 4;
/// As many smaller ones less kFarBehind end that.
constexpr int kLargeCopiesMax = 16;

}  // namespace

void CommitLog::append_copy(LogOffset at, SharedBytes bytes, std::function<void(Status)> done) {
  auto copies = look_at_copies(bytes.bytes, at, options_.file_bytes);
  if (!copies) return done(copies.error());
  Unit unit;
  unit.copied = std::move(bytes);
  unit.record_bytes = std::move(copies->piece_bytes);
  unit.copy_at = at;
  unit.copy_store_time_ms = copies->last_store_time_ms;
  unit.wait_for_sync = false;
  append(std::move(unit),
         [done = std::move(done)](Result<Placement> placed) { done(placed ? Status() : Status(placed.error())); });
}

void CommitLog::append_damaged(LogOffset at, SharedBytes bytes, std::function<void(Status)> done) {
  const auto size = static_cast<int64_t>(bytes.size());
  if (size < kBlankBytes || at < 0 || at % options_.file_bytes + size > options_.file_bytes)
    return done(Error(Errc::kInvalidArgument, fmt::format("{} bytes at {} are no part of a file", size, at)));
  Unit unit;
  unit.record_bytes.push_back(static_cast<uint32_t>(size));
  unit.copied = std::move(bytes);
  unit.copy_at = at;
  unit.wait_for_sync = false;
  append(std::move(unit),
         [done = std::move(done)](Result<Placement> placed) { done(placed ? Status() : Status(placed.error())); });
}

/// Whether the copy begins where the log will end when what is parked is placed. An empty log begins with it.
bool CommitLog::goes_on_locked(const Unit& copy) {
  if (!parked_.empty()) {
    const auto& last = parked_.back().unit;
    return last.copy_at >= 0 && last.copy_at + last.size() == copy.copy_at;
  }
  if (end() == copy.copy_at) return true;
  if (tail_file_ || files_.begin()) return false;
  files_.set_data_begin(copy.copy_at);
  ends_.flushed.store(copy.copy_at, std::memory_order_seq_cst);
  ends_.end.store(copy.copy_at, std::memory_order_seq_cst);
  return true;
}

bool CommitLog::far_behind_locked() const { return large_copies_ >= kFarBehind; }

/// What comes to a slave that is far behind fills pages as a whole. To populate them first would cost more than to copy
/// into them: the kernel zeroes each page, and makes it writable in the mapping, for nothing.
bool CommitLog::is_to_be_written_locked(const Unit& copy) {
  if (copy.copy_at < 0 || options_.warm_files) return false;
  const bool large = copy.size() >= kLargeBytes;
  large_copies_ = std::clamp(large_copies_ + (large ? 1 : -1), 0, kLargeCopiesMax);
  return far_behind_locked();
}

/// The file that the first of what is parked goes into; nullptr: it is to be made first.
std::shared_ptr<LogFile> CommitLog::file_for_written_locked() const {
  if (needs_of_next_locked(parked_.front().unit) == 0) return tail_file_;
  if (!spare_.file || spare_.file->begin != next_begin_locked()) return nullptr;
  if (!tail_file_ && spare_.skipped_bytes != end() - spare_.file->begin) return nullptr;
  return spare_.file;
}

/// Writes the first copy that is parked, if it is one to be written; the mapping shows it as the page cache has it.
/// The kernel takes the bytes in their order, so a process that is killed half-way leaves whole records and a part of
/// one, which recovery knows. Returns whether anything was done.
bool CommitLog::write_parked() {
  std::shared_ptr<LogFile> file;
  LogOffset at;
  std::string_view bytes;
  {
    std::lock_guard lock(tail_mutex_);
    if (parked_.empty() || !parked_.front().unit.written) return false;
    file = file_for_written_locked();
    if (!file) return false;
    writing_first_ = true;  // nobody takes it away, and what is parked behind it does not move it
    at = end();
    bytes = parked_.front().unit.all();
  }
  if (auto written = file->file->write_at(at - file->begin, bytes); !written) {
    give_up_written(*file, written.error());
    return true;
  }
  std::optional<Placed> placed;
  {
    std::lock_guard lock(tail_mutex_);
    placed = place_written_locked();
  }
  written_warning_.clear();
  answer(std::move(*placed));
  return true;
}

CommitLog::Placed CommitLog::place_written_locked() {
  writing_first_ = false;
  auto& first = parked_.front();
  const Unit& unit = first.unit;
  if (needs_of_next_locked(unit) > 0) take_next_file_locked();
  last_store_time_ms_ = std::max(last_store_time_ms_, unit.copy_store_time_ms);
  Placed placed;
  placed.placement.store_timestamp_ms = last_store_time_ms_;
  placed.wait_for_sync = unit.wait_for_sync;
  placed.done = std::move(first.done);
  placed.end = end() + unit.size();
  ends_.grow_to(placed.end, last_store_time_ms_);
  unpark_first_locked();
  return placed;
}

/// What was written of it lies behind the end of the log: it must not come back when another record ends in front of
/// it.
void CommitLog::give_up_written(LogFile& file, Error why) {
  Done done;
  LogOffset at;
  int64_t bytes;
  {
    std::lock_guard lock(tail_mutex_);
    at = end();
    bytes = parked_.front().unit.size();
    // The pages go with what is zeroed, so that they are to be had again before anything is copied to them.
    if (tail_file_.get() == &file) populated_to_ = std::min(populated_to_, at);
    if (spare_.file.get() == &file) spare_.populated_bytes = std::min(spare_.populated_bytes, at - file.begin);
  }
  auto cleared = file.file->zero(at - file.begin, bytes);
  if (cleared) cleared = file.file->allocate(options_.file_bytes);
  const std::string name = file_name_of(file.begin);
  if (std::exchange(written_warning_, why.message) != why.message) {
    logger_.warn("file {} of the log: nothing can be written from {} on: {}", name, at - file.begin, why.message);
    if (!cleared) logger_.warn("file {} of the log: {}", name, cleared.error().message);
  }
  {
    std::lock_guard lock(tail_mutex_);
    writing_first_ = false;
    done = std::move(parked_.front().done);
    unpark_first_locked();
  }
  done(std::move(why));
}

void CommitLog::unpark_first_locked() {
  parked_bytes_ -= parked_.front().unit.size();
  parked_.pop_front();
  parked_since_ms_ = parked_.empty() ? 0 : parked_.front().since_ms;
}

}  // namespace apogee::store
