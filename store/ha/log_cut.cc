#include "store/ha/log_cut.h"

#include <fmt/core.h>

#include <algorithm>

#include "common/message/message_record.h"
#include "store/consume_queues.h"
#include "store/dispatcher.h"
#include "store/queue_floors.h"
#include "store/recovery.h"

namespace apogee::store {

namespace {

/// Calls with each position of a record or blank in [from, end) that can be told, holes left out. False from `visit`
/// ends it.
template <typename Visit>
void walk(const LogFiles& log, LogOffset from, LogOffset end, Visit visit) {
  for (LogOffset at = from; at < end;) {
    auto file = log.at(at);
    if (!file) return;
    const auto there = look_at(file->bytes_from(at), at, false);
    if (there.kind == LogPosition::Kind::kNothing) {
      auto next = next_record(*file, at + 1);
      at = next && *next > 0 ? *next : file->end();
      continue;
    }
    if (!visit(at, there, *file)) return;
    at += there.bytes;
  }
}

}  // namespace

bool is_record_boundary(const LogFiles& log, LogOffset log_end, LogOffset at) {
  if (at == log_end) return true;
  auto file = log.at(at);
  if (!file || at > log_end) return false;
  bool boundary = true;
  walk(log, std::max(file->begin, log.begin().value_or(0)), at,
       [&](LogOffset record, const LogPosition& there, const LogFile&) {
         if (record + there.bytes > at) boundary = false;
         return boundary;
       });
  return boundary;
}

LostRanges lost_ranges(const LogFiles& log, LogOffset from, LogOffset log_end) {
  LostRanges lost;
  walk(log, std::max(from, log.begin().value_or(0)), log_end,
       [&](LogOffset at, const LogPosition& there, const LogFile& file) {
         auto record = there.kind == LogPosition::Kind::kRecord ? message::decode_record(file.bytes_from(at))
                                                                : Error(Errc::kNotFound, "a blank");
         if (!record || !has_queue_entry(record->sys_flag)) return true;
         auto [entry, added] = lost.try_emplace(ConsumeQueues::queue_key(record->topic, record->queue_id));
         auto& range = entry->second;
         range.first = added ? record->queue_offset : std::min(range.first, record->queue_offset);
         range.last = std::max(range.last, record->queue_offset);
         ++range.messages;
         return true;
       });
  return lost;
}

Status cut_store(const StoreOptions& options, LogOffset end, const LostRanges& lost, io::FileSystem& files,
                 const Logger& logger) {
  const std::string& root = options.root_dir;
  APOGEE_TRY_ASSIGN(auto held, files.lock(root + "/lock"));
  LogFiles log(options.commit_log_dir.empty() ? root + "/commitlog" : options.commit_log_dir,
               options.commit_log_file_bytes, files, logger);
  APOGEE_TRY(log.load());
  const bool everything = end <= log.begin().value_or(0);
  // First what tells how far the store went: without it the next start looks for itself.
  QueueFloors floors(root + "/queueFloors", files, logger);
  APOGEE_TRY(floors.load());
  QueueFloors::Offsets next;
  for (const auto& [key, range] : lost) next.emplace_back(key, range.first);
  floors.lower(next);
  if (everything) floors.keep_retired();
  APOGEE_TRY(floors.save());
  if (files.exists(root + "/checkpoint")) APOGEE_TRY(files.remove(root + "/checkpoint"));
  APOGEE_TRY(files.sync_directory(root));
  if (!everything) {
    APOGEE_TRY_ASSIGN(std::string cut, log.cut(end, end));
    if (!cut.empty()) logger.warn("the log was cut at {}: {}", end, cut);
    return {};
  }
  // The next master's messages may begin anywhere in their queues.
  APOGEE_TRY(log.remove_all());
  APOGEE_TRY(files.remove_all(root + "/consumequeue"));
  logger.warn("the log was emptied");
  return files.sync_directory(root);
}

}  // namespace apogee::store
