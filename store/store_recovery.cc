// How a store finds its end again, and makes its queues agree with its log.
#include <unistd.h>

#include <algorithm>

#include "common/message/message_record.h"
#include "store/file_store.h"

namespace apogee::store {

Status FileMessageStore::recover() {
  APOGEE_TRY(io::make_durable_directories(files_, options_.root_dir));
  APOGEE_TRY_ASSIGN(lock_, files_.lock(path("lock")));
  APOGEE_TRY(check_layout(files_, options_.root_dir));
  APOGEE_TRY(log_.load());
  APOGEE_TRY(epochs_->load());
  APOGEE_TRY_ASSIGN(auto checkpoint, read_checkpoint(files_, path("checkpoint")));
  saved_checkpoint_ = checkpoint;
  const bool clean = !files_.exists(path("abort"));
  APOGEE_TRY_ASSIGN(auto recovered,
                    recover_log(log_.files(), clean, checkpoint, options_.check_crc_on_recover, logger_));
  CommitLog::RecoveredEnd end{recovered.end, clean ? recovered.end : recovered.walked_from,
                              recovered.last_store_time_ms, recovered.only_zeros_behind};
  APOGEE_TRY_ASSIGN(std::string cut, log_.set_end(end));
  if (!cut.empty()) logger_.warn("the log was cut at {}: {}", recovered.end, cut);
  recovered.end = log_.end();  // an empty log of a slave begins anew
  recovered.walked_from = std::min(recovered.walked_from, recovered.end);
  APOGEE_TRY(floors_.load());
  APOGEE_TRY(queues_.load(log_.begin(), clean ? recovered.end : recovered.walked_from, recovered.end, !clean));
  // Before this place every record is in its queue: where the walk began, if that is told by a checkpoint of ours and
  // the floors tell whether a queue is missing; else after a clean stop where the queues end, after a crash whichever
  // comes first.
  LogOffset from = recovered.from_checkpoint && floors_.loaded() ? recovered.walked_from
                   : clean                                       ? queues_.dispatched_end()
                           : std::min(recovered.walked_from, queues_.dispatched_end());
  APOGEE_TRY_ASSIGN(bool exchanged, restart_queues_of_others(recovered.end));
  APOGEE_TRY_ASSIGN(bool lacking, queues_lack_messages(recovered.end));
  // Without the floors nothing else tells how far the queues went.
  from = std::min(from, exchanged || lacking || floors_.damaged() ? log_.begin() : queues_.rebuild_from());
  dispatcher_.set_position(std::clamp(from, log_.begin(), recovered.end));
  for (const auto& hole : recovered.holes) holes_.add(hole.begin, hole.end);
  dispatcher_.set_recovered(recovered.end, std::move(recovered.holes));
  reader_.set_recovered(recovered.end);
  if (auto done = dispatcher_.catch_up(true); !done) {
    if (done.error().code != Errc::kCorrupt) return done;
    logger_.error("{}: all queues are completed from the log", done.error().message);
    dispatcher_.set_position(log_.begin());
    APOGEE_TRY(dispatcher_.catch_up());
  }
  queues_.forget_empty();
  for (auto& [key, next] : queues_.next_offsets())
    if (next > 0 && next < floors_.of(key))
      logger_.error("queue {}: messages {} to {} are lost; the next one is {}", key, next, floors_.of(key) - 1,
                    floors_.of(key));
  for (auto& [key, next] : floors_.joined(queues_.next_offsets())) log_.set_next_offset(key, next);

  if (!options_.slave) {
    // What was written before there were epochs is one.
    if (!epochs_->last() && recovered.end > log_.begin()) APOGEE_TRY(epochs_->append({1, log_.begin()}));
    APOGEE_TRY(epochs_->begin_next(recovered.end));
  }
  APOGEE_TRY_ASSIGN(auto abort, files_.open(path("abort"), io::OpenMode::kCreate));
  APOGEE_TRY(abort->resize(0));
  APOGEE_TRY(abort->write_at(0, std::to_string(::getpid())));
  return files_.sync_directory(options_.root_dir);
}

/// Removes queues whose last entry leads to a message of another queue: their files are not theirs, and tell nothing of
/// how far they went. Whether there are any; they are to be built from the log's begin. Costs one read of the log a
/// queue that does not end as the floor table says, which all do after a clean stop.
Result<bool> FileMessageStore::restart_queues_of_others(LogOffset log_end) {
  bool any = false;
  for (const auto& [key, next] : queues_.next_offsets()) {
    auto [topic, queue_id] = ConsumeQueues::parse_key(key);
    if (next == floors_.of(key)) continue;
    auto queue = queues_.find(topic, queue_id);
    auto last = next > queue->min() ? queue->read(next - 1, 1) : std::vector<QueueEntry>();
    if (last.empty() || last[0].record_bytes == kBlankEntryBytes) continue;
    const LogOffset at = last[0].physical_offset;
    if (at < log_.begin() || at >= log_end) continue;
    auto bytes = log_.read_up_to(at, log_end);
    auto record = bytes ? message::decode_record(bytes->bytes) : Error(Errc::kNotFound, "");
    if (!record || record->physical_offset != at) continue;  // damage of the log, which proves nothing here
    if (record->topic == topic && record->queue_id == queue_id && record->queue_offset == next - 1) continue;
    any = true;
    logger_.error("queue {}: its entry {} leads to message {} of {}, queue {}: it is built again from the log", key,
                  next - 1, record->queue_offset, record->topic, record->queue_id);
    APOGEE_TRY(queues_.restart(topic, queue_id));
  }
  return any;
}

/// Whether a queue is shorter than it was at the last checkpoint of the floor table, at either end, although the log
/// has its messages: files of it are missing or damaged. What begins too late is removed, to be built from its start.
Result<bool> FileMessageStore::queues_lack_messages(LogOffset log_end) {
  auto stands_at = [&](LogOffset at, std::string_view topic, int32_t queue_id, QueueOffset offset) {
    if (at < log_.begin() || at >= log_end) return false;
    auto bytes = log_.read_up_to(at, log_end);
    auto record = bytes ? message::decode_record(bytes->bytes) : Error(Errc::kNotFound, "");
    return record && record->physical_offset == at && record->topic == topic && record->queue_id == queue_id &&
           record->queue_offset <= offset;
  };
  bool lacking = false;
  for (const auto& [key, floor] : floors_.all()) {
    auto [topic, queue_id] = ConsumeQueues::parse_key(key);
    auto queue = queues_.find(topic, queue_id);
    const QueueOffset min = queue ? queue->min() : 0, max = queue ? queue->max() : 0;
    // Its first record may be damaged as well, and still tell that the log does not begin behind it.
    const bool front = queue && min > floor.min && floor.first_record >= log_.begin() && floor.first_record < log_end;
    const bool back = max < floor.next && stands_at(floor.last_record, topic, queue_id, floor.next - 1);
    if (!front && !back) continue;
    lacking = true;
    logger_.error("queue {} goes from {} to {}, but went from {} to {}: it is built again from the log", key, min, max,
                  floor.min, floor.next);
    if (front) APOGEE_TRY(queues_.restart(topic, queue_id));
  }
  return lacking;
}

}  // namespace apogee::store
