#include "store/recovery.h"

#include <fmt/core.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "common/message/message_record.h"

namespace apogee::store {

namespace {

constexpr size_t kTimerSlotBytes = 32;
constexpr size_t kWalkersMax = 8;
constexpr auto kProgressInterval = std::chrono::seconds(3);

constexpr uintptr_t kSectorBytes = 512;  // mappings begin at one

/// Whether a sector's worth of the text is zeros. The CRC of a record covers its body alone; topic and properties
/// of which the disk has nothing, because the power failed, are told by this. The store takes no such texts.
bool has_lost_sector(std::string_view text) {
  while (!text.empty()) {
    auto in_sector = kSectorBytes - reinterpret_cast<uintptr_t>(text.data()) % kSectorBytes;
    std::string_view part = text.substr(0, in_sector);
    if (part.find_first_not_of('\0') == std::string_view::npos) return true;
    text.remove_prefix(part.size());
  }
  return false;
}

bool is_as_written(const message::RecordView& record) {
  return message::body_crc_matches(record) && !has_lost_sector(record.topic) && !has_lost_sector(record.properties);
}

/// Index of the file where the walk begins, in a log without a position of ours in its checkpoint.
size_t first_file_to_walk(const std::vector<std::shared_ptr<LogFile>>& files, bool clean,
                          const Checkpoint& checkpoint) {
  if (clean) return files.size() >= 3 ? files.size() - 3 : 0;
  for (size_t i = files.size(); i-- > 0;) {
    if (look_at(files[i]->bytes(), files[i]->begin, true).kind != LogPosition::Kind::kRecord) continue;
    auto record = message::decode_record(files[i]->bytes());
    if (record && record->store_timestamp_ms <= checkpoint.safe_time_ms()) return i;
  }
  return 0;
}

/// Whether the checkpoint's position is one of this log: the record that it names is there, and ends there.
bool position_holds(const LogFiles& log, const Checkpoint& checkpoint) {
  auto file = log.at(checkpoint.last_record);
  if (!file) return false;
  auto last = look_at(file->bytes_from(checkpoint.last_record), checkpoint.last_record, true);
  return last.kind != LogPosition::Kind::kNothing && checkpoint.last_record + last.bytes == checkpoint.log_position;
}

/// Whether the log ends at its checkpoint's position, because our last stop was clean and nobody has written since.
bool ends_at_checkpoint(const LogFiles& log, const Checkpoint& checkpoint) {
  constexpr size_t kLookedAt = 4096;
  if (checkpoint.ended_at < 0 || checkpoint.ended_at != checkpoint.log_position) return false;
  auto file = log.at(checkpoint.log_position);
  return !file || file->bytes_from(checkpoint.log_position).substr(0, kLookedAt).find_first_not_of('\0') ==
                      std::string_view::npos;
}

/// What a walk over one file has found.
struct WalkedFile {
  LogOffset end = -1;       ///< behind the last record or blank; -1: the file has none
  LogOffset bad_from = -1;  ///< from here to the end of the file there is no whole record; -1: it ends with a blank
  std::vector<Hole> holes;  ///< with a record behind them in this file
  int64_t records = 0;
  int64_t last_store_time_ms = 0;
  std::optional<Error> error;
};

WalkedFile walk(const LogFile& file, LogOffset from, bool check_crc, std::atomic<int64_t>& walked_bytes) {
  constexpr int64_t kToldEach = 1 << 20;
  WalkedFile result;
  int64_t untold = 0;
  LogOffset at = from;
  while (at < file.end()) {
    message::RecordView record;
    auto position = look_at(file.bytes_from(at), at, check_crc, &record);
    if (position.kind == LogPosition::Kind::kNothing) {
      auto next = next_record(file, at + 1);
      if (!next) {
        result.error = next.error();
        return result;
      }
      if (*next < 0) {
        result.bad_from = at;
        break;
      }
      result.holes.push_back({at, *next});
      at = *next;
      continue;
    }
    if (position.kind == LogPosition::Kind::kRecord) {
      ++result.records;
      result.last_store_time_ms = record.store_timestamp_ms;
    }
    at += position.bytes;
    result.end = at;
    if ((untold += position.bytes) >= kToldEach) walked_bytes += std::exchange(untold, 0);
  }
  return result;
}

/// Walks files[first...], the first one from `from` on, on as many threads as there is use for.
std::vector<WalkedFile> walk_all(const std::vector<std::shared_ptr<LogFile>>& files, size_t first, LogOffset from,
                                 bool check_crc, const Logger& logger) {
  const size_t count = files.size() - first;
  std::vector<WalkedFile> walked(count);
  std::atomic<size_t> next{0}, done{0};
  std::atomic<int64_t> bytes{0};
  auto work = [&] {
    for (size_t i = next++; i < count; i = next++) {
      const auto& file = *files[first + i];
      walked[i] = walk(file, i == 0 ? from : file.begin, check_crc, bytes);
      ++done;
    }
  };
  auto told = std::chrono::steady_clock::now();
  std::vector<std::thread> threads;
  const size_t workers = std::min({count, kWalkersMax, static_cast<size_t>(std::thread::hardware_concurrency()) + 1});
  for (size_t i = 0; i + 1 < workers; ++i) threads.emplace_back(work);
  std::atomic<bool> finished{false};
  std::mutex mutex;
  std::condition_variable ended;
  std::thread progress([&] {
    std::unique_lock lock(mutex);
    while (!ended.wait_for(lock, kProgressInterval, [&] { return finished.load(); })) {
      auto seconds = std::chrono::duration_cast<std::chrono::seconds>(std::chrono::steady_clock::now() - told).count();
      logger.info("recovery: {} MiB of the log looked at in {} s, {} of {} files done", bytes >> 20, seconds,
                  done.load(), count);
    }
  });
  work();
  for (auto& thread : threads) thread.join();
  {
    std::lock_guard lock(mutex);
    finished = true;
    ended.notify_one();
  }
  progress.join();
  return walked;
}

}  // namespace

Result<LogOffset> next_record(const LogFile& file, LogOffset from, LogOffset end) {
  // The magics of both versions begin with the same three bytes, behind four bytes of length.
  constexpr std::string_view kMagicStart = "\xDA\xA3\x20";
  constexpr LogOffset kLengthBytes = 4;
  constexpr int64_t kStep = 1 << 20;
  end = std::min(end, file.end());
  const auto bytes_from = [&](LogOffset at) { return file.bytes_from(at).substr(0, static_cast<size_t>(end - at)); };
  const auto step_with_data = [&](LogOffset at) -> Result<LogOffset> {
    APOGEE_TRY_ASSIGN(int64_t data, file.file->next_data(at - file.begin));
    // It begins early enough to see a magic on the border of the data.
    return file.begin + data >= end ? end : std::max(at, file.begin + data - kLengthBytes);
  };
  const auto record_in = [&](LogOffset at) -> LogOffset {
    auto part = bytes_from(at).substr(0, kStep + kLengthBytes + 3);
    for (size_t magic = part.find(kMagicStart, kLengthBytes); magic != std::string_view::npos;
         magic = part.find(kMagicStart, magic + 1)) {
      LogOffset offset = at + static_cast<LogOffset>(magic) - kLengthBytes;
      if (look_at(bytes_from(offset), offset, true).kind == LogPosition::Kind::kRecord) return offset;
    }
    return -1;
  };
  if (from >= end) return -1;
  // Mostly it is near.
  APOGEE_TRY_ASSIGN(LogOffset at, step_with_data(from));
  if (at >= end) return -1;
  if (const LogOffset near = record_in(at); near >= 0) return near;
  // As in LogFiles::cut(): all is asked for before more of it is read, because reading ahead makes data of zeros.
  std::vector<LogOffset> steps;
  for (at += kStep; at < end; at += kStep) {
    APOGEE_TRY_ASSIGN(at, step_with_data(at));
    if (at < end) steps.push_back(at);
  }
  for (LogOffset step : steps)
    if (const LogOffset found = record_in(step); found >= 0) return found;
  return -1;
}

LogOffset end_of_hole(const std::vector<Hole>& holes, LogOffset offset) {
  auto behind = std::upper_bound(holes.begin(), holes.end(), offset,
                                 [](LogOffset at, const Hole& hole) { return at < hole.end; });
  return behind != holes.end() && behind->begin <= offset ? behind->end : -1;
}

bool could_look_lost(std::string_view properties) {
  if (properties.empty()) return false;
  if (properties.front() == '\0' || properties.back() == '\0') return true;
  return std::search_n(properties.begin(), properties.end(), kSectorBytes, '\0') != properties.end();
}

bool is_topic_text(std::string_view topic) {
  return std::all_of(topic.begin(), topic.end(), [](char c) { return c > ' ' && c < '\x7f' && c != '/'; }) &&
         topic.find_first_not_of('.') != std::string_view::npos;
}

LogPosition look_at(std::string_view rest_of_file, LogOffset offset, bool check_crc,
                    message::RecordView* record_there) {
  if (rest_of_file.size() < message::kBlankBytesMin) return {};
  auto bytes = load_be<int32_t>(rest_of_file.data());
  auto magic = load_be<int32_t>(rest_of_file.data() + 4);
  if (magic == message::kBlankMagic) {
    if (bytes < 0 || static_cast<size_t>(bytes) != rest_of_file.size()) return {};
    return {LogPosition::Kind::kBlank, static_cast<int64_t>(rest_of_file.size())};
  }
  if (magic != message::kRecordMagicV1 && magic != message::kRecordMagicV2) return {};
  auto record = message::decode_record(rest_of_file);
  if (!record || record->physical_offset != offset) return {};
  if (!is_topic_text(record->topic)) return {};
  if (check_crc && !is_as_written(*record)) return {};
  if (record_there != nullptr) *record_there = *record;
  return {LogPosition::Kind::kRecord, static_cast<int64_t>(record->bytes.size())};
}

bool is_record_of(std::string_view bytes, LogOffset offset, std::string_view topic, int32_t queue_id,
                  QueueOffset queue_offset) {
  if (!is_placed(bytes, offset, queue_id, queue_offset)) return false;
  auto record = message::decode_record(bytes);
  return record && record->topic == topic && is_as_written(*record);
}

Result<RecoveredLog> recover_log(const LogFiles& log, bool clean, const Checkpoint& checkpoint, bool check_crc,
                                 const Logger& logger) {
  RecoveredLog recovered;
  auto files = log.list();
  if (files.empty()) return recovered;
  size_t first;
  if (position_holds(log, checkpoint)) {
    recovered.walked_from = checkpoint.log_position;
    recovered.from_checkpoint = true;
    if (auto last = message::decode_record(log.at(checkpoint.last_record)->bytes_from(checkpoint.last_record)))
      recovered.last_store_time_ms = last->store_timestamp_ms;
    first = std::min(files.size() - 1,
                     static_cast<size_t>((checkpoint.log_position - files.front()->begin) / log.file_bytes()));
  } else {
    first = first_file_to_walk(files, clean, checkpoint);
    recovered.walked_from = std::max(files[first]->begin, log.begin().value_or(0));
  }
  recovered.only_zeros_behind = clean && recovered.from_checkpoint && ends_at_checkpoint(log, checkpoint);
  const bool at_the_end = recovered.only_zeros_behind || recovered.walked_from == files.back()->end();
  auto walked =
      at_the_end ? std::vector<WalkedFile>() : walk_all(files, first, recovered.walked_from, check_crc, logger);

  recovered.end = recovered.walked_from;
  int64_t records = 0;
  LogOffset bad_from = -1;
  for (auto& file : walked) {
    if (file.error) return *file.error;
    auto& holes = file.holes;
    if (file.end >= 0) {
      // What was bad up to the end of an earlier file has whole records behind it now.
      const LogOffset begin = files[first + static_cast<size_t>(&file - walked.data())]->begin;
      bool bad_at_once = !holes.empty() && holes.front().begin == begin;
      if (bad_from >= 0 && bad_at_once) {
        holes.front().begin = bad_from;
      } else if (bad_from >= 0) {
        recovered.holes.push_back({bad_from, begin});
      }
      bad_from = file.bad_from;
      recovered.end = file.end;
    } else if (bad_from < 0) {
      bad_from = file.bad_from;
    }
    recovered.holes.insert(recovered.holes.end(), holes.begin(), holes.end());
    records += file.records;
    recovered.last_store_time_ms = std::max(recovered.last_store_time_ms, file.last_store_time_ms);
  }
  if (recovered.last_store_time_ms == 0) recovered.last_store_time_ms = checkpoint.log_time_ms;
  for (const auto& hole : recovered.holes)
    logger.error(
        "the log is damaged: the {} bytes from {} to {} hold no whole message; what they held is lost, what "
        "follows is kept",
        hole.end - hole.begin, hole.begin, hole.end);
  logger.info("recovery after {} stop: {} records looked at from {} on, the log ends at {}",
              clean ? "a clean" : "an unclean", records, recovered.walked_from, recovered.end);
  return recovered;
}

Status check_layout(io::FileSystem& files, const std::string& root) {
  APOGEE_TRY_ASSIGN(auto names, files.list(root));
  for (const auto& name : names) {
    std::string path = root;
    path.append("/").append(name);
    if (name.starts_with("dledger-"))
      return Error(Errc::kUnsupported,
                   path +
                       " is a DLedger log, which this broker cannot read: let the old broker's consumers "
                       "finish, or copy the messages with a consumer, and start on an empty directory");
    if (name.starts_with("consumequeue_") && files.exists(path + "/CURRENT"))
      return Error(Errc::kUnsupported,
                   path +
                       " holds consume queues in RocksDB (storeType=defaultRocksDB), which this broker does "
                       "not read: move it away to have the queues built again from the log");
    if (name == "timerwheel" && !files.is_directory(path)) {
      APOGEE_TRY_ASSIGN(auto file, files.open(path, io::OpenMode::kExisting));
      APOGEE_TRY_ASSIGN(int64_t bytes, file->size());
      std::string raw(static_cast<size_t>(bytes), '\0');
      APOGEE_TRY_ASSIGN(size_t got, file->read_at(0, raw.data(), raw.size()));
      for (size_t slot = 0; slot + kTimerSlotBytes <= got; slot += kTimerSlotBytes)
        if (load_be<int32_t>(raw.data() + slot + 24) > 0)
          return Error(Errc::kUnsupported,
                       path +
                           " holds pending timers of Apache RocketMQ 5, which this broker cannot deliver: "
                           "start on this directory again when they are due and delivered");
    }
  }
  return {};
}

}  // namespace apogee::store
