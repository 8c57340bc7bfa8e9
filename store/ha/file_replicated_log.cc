#include "store/ha/file_replicated_log.h"

#include <fmt/core.h>

#include <algorithm>

#include "common/message/message_record.h"
#include "store/log_copies.h"
#include "store/recovery.h"

namespace apogee::store {

Result<SharedBytes> FileReplicatedLog::read(LogOffset from, int64_t bytes_max) const {
  const LogOffset end = parts_.log.end();
  if (from < parts_.log.begin() || from > end)
    return Error(Errc::kNotFound,
                 fmt::format("the log goes from {} to {}, and has nothing at {}", parts_.log.begin(), end, from));
  if (from == end) return SharedBytes();
  auto bytes = parts_.log.read_up_to(from, bytes_max < end - from ? from + bytes_max : end);
  if (!bytes) return Error(Errc::kNotFound, fmt::format("the log has nothing at {} any more", from));
  return std::move(*bytes);
}

void FileReplicatedLog::append_damaged(LogOffset at, SharedBytes bytes, std::function<void(Status)> done) {
  const LogOffset end = at + static_cast<LogOffset>(bytes.size());
  parts_.log.append_damaged(at, std::move(bytes), [this, at, end, done = std::move(done)](Status status) {
    if (status) {
      parts_.holes.add(at, end);
      parts_.logger.error("the log is damaged from {} to {}, as its master's is", at, end);
    }
    done(std::move(status));
  });
}

Status FileReplicatedLog::truncate(LogOffset) {
  return Error(Errc::kUnsupported, "only the log of a slave is truncated");
}

std::vector<Damage> FileReplicatedLog::damaged() const {
  std::vector<Damage> damaged;
  for (const auto& hole : parts_.holes.all())
    if (hole.end > begin()) damaged.push_back({hole.begin, hole.end});
  return damaged;
}

LogOffset FileReplicatedLog::scrub(LogOffset from, int64_t bytes_max) {
  LogOffset at = std::max(from, begin());
  const LogOffset end = parts_.log.end(), stop = bytes_max < end - at ? at + bytes_max : end;
  while (at < stop) {
    auto file = parts_.log.files().at(at);
    if (!file) return parts_.log.end();
    const auto there = look_at(file->bytes_from(at), at, true);
    if (there.kind != LogPosition::Kind::kNothing) {
      at += there.bytes;
      continue;
    }
    auto next = next_record(*file, at + 1, parts_.log.end());
    const LogOffset damaged_to = std::min(next && *next > 0 ? *next : file->end(), end);
    if (!parts_.holes.overlaps(at, damaged_to)) parts_.logger.error("the log is damaged from {} to {}", at, damaged_to);
    parts_.holes.add(at, damaged_to);
    at = damaged_to;
  }
  return std::min(at, end);
}

/// Whether the bytes are whole, and something there is not.
Status FileReplicatedLog::check_mend(LogOffset at, std::string_view bytes) const {
  APOGEE_TRY_ASSIGN(auto copies, look_at_copies(bytes, at, file_bytes()));
  const LogOffset end = at + static_cast<LogOffset>(bytes.size());
  if (at < begin() || end > parts_.log.end())
    return Error(Errc::kInvalidArgument, fmt::format("{} to {} is not in the log", at, end));
  LogOffset record = at;
  auto file = parts_.log.files().at(at);
  if (!file) return Error(Errc::kInvalidArgument, fmt::format("the log has nothing at {}", at));
  bool damaged = parts_.holes.overlaps(at, end);
  for (uint32_t piece : copies.piece_bytes) {
    const auto given = bytes.substr(static_cast<size_t>(record - at));
    if (look_at(given, record, true).kind == LogPosition::Kind::kNothing)
      return Error(Errc::kInvalidArgument, fmt::format("what is to mend {} is damaged itself", record));
    const auto there = look_at(file->bytes_from(record), record, true);
    damaged = damaged || there.kind == LogPosition::Kind::kNothing;
    record += piece;
  }
  if (!damaged) return Error(Errc::kInvalidArgument, fmt::format("nothing is damaged from {} to {}", at, end));
  return {};
}

Status FileReplicatedLog::mend(LogOffset at, std::string_view bytes) {
  APOGEE_TRY(check_mend(at, bytes));
  auto file = parts_.log.files().at(at);
  const LogOffset end = at + static_cast<LogOffset>(bytes.size());
  APOGEE_TRY(file->file->write_at(at - file->begin, bytes));
  APOGEE_TRY(file->file->sync_range(at - file->begin, end - at));
  parts_.holes.remove(at, end);
  parts_.logger.info("the log was damaged from {} to {}, and is whole there again", at, end);
  auto taken = take_in(at, bytes);
  if (taken) taken = take_in_whole_behind(*file, end);
  // Tried again as a whole by whoever mends.
  if (!taken) parts_.holes.add(at, end);
  return taken;
}

/// Puts records into queues and index that the dispatcher has passed over.
Status FileReplicatedLog::take_in(LogOffset at, std::string_view bytes) {
  while (!bytes.empty()) {
    const auto there = look_at(bytes, at, false);
    if (there.kind == LogPosition::Kind::kNothing) break;
    if (there.kind == LogPosition::Kind::kRecord && at < parts_.dispatcher.position()) {
      APOGEE_TRY(put_into_queue(at, bytes));
      if (parts_.index != nullptr) parts_.index->add(at);
    }
    at += there.bytes;
    bytes.remove_prefix(static_cast<size_t>(there.bytes));
  }
  return {};
}

/// A damaged length hides what is whole behind it: the blank of a file, for one.
Status FileReplicatedLog::take_in_whole_behind(const LogFile& file, LogOffset at) {
  while (at < file.end() && parts_.holes.end_at(at) >= 0) {
    const auto rest = file.bytes_from(at);
    const auto there = look_at(rest, at, true);
    if (there.kind == LogPosition::Kind::kNothing) break;
    parts_.holes.remove(at, at + there.bytes);
    APOGEE_TRY(take_in(at, rest.substr(0, static_cast<size_t>(there.bytes))));
    at += there.bytes;
  }
  return {};
}

Status FileReplicatedLog::put_into_queue(LogOffset at, std::string_view bytes) {
  auto record = message::decode_record(bytes);
  if (!record || !has_queue_entry(record->sys_flag)) return {};
  const QueueEntry entry{at, static_cast<int32_t>(record->bytes.size()), parts_.dispatcher.tags_code_of(*record)};
  auto queue = parts_.queues.find(record->topic, record->queue_id);
  // A deleted topic does not come back.
  if (!queue && record->queue_offset < parts_.queues.retired_below(record->topic, record->queue_id)) return {};
  if (!queue) queue = parts_.queues.find_or_create(record->topic, record->queue_id);
  auto put = queue->put_back(record->queue_offset, entry);
  return put || put.error().code == Errc::kClosed ? Status() : put;
}

}  // namespace apogee::store
