#include "store/recovery.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstring>

#include "common/message/message_record.h"

namespace apogee::store {

namespace {

/// How far behind a bad place good records are looked for: four times the largest record.
constexpr size_t kLookBehindBytes = 16u << 20;
constexpr size_t kTimerSlotBytes = 32;

std::string_view bytes_of(const LogFile& file) { return {file.map->data(), file.map->size()}; }

/// The first good record behind a bad place, in the rest of its file or at the beginning of a later one; -1: none.
LogOffset good_record_behind(const CommitLog& log, const LogFile& file, LogOffset bad) {
  auto rest = bytes_of(file).substr(static_cast<size_t>(bad - file.begin));
  rest = rest.substr(0, std::min(rest.size(), kLookBehindBytes));
  const char magic_start = static_cast<char>(0xDA);
  for (size_t at = rest.find(magic_start, 5); at != std::string_view::npos; at = rest.find(magic_start, at + 1)) {
    auto offset = bad + static_cast<LogOffset>(at) - 4;
    auto there = bytes_of(file).substr(static_cast<size_t>(offset - file.begin));
    if (look_at(there, offset, true).kind == LogPosition::Kind::kRecord) return offset;
  }
  for (const auto& later : log.files())
    if (later->begin > bad && look_at(bytes_of(*later), later->begin, true).kind == LogPosition::Kind::kRecord)
      return later->begin;
  return -1;
}

/// Index of the file where the walk begins.
size_t first_file_to_walk(const std::vector<std::shared_ptr<LogFile>>& files, bool clean,
                          const Checkpoint& checkpoint) {
  if (clean) return files.size() >= 3 ? files.size() - 3 : 0;
  for (size_t i = files.size(); i-- > 0;) {
    if (look_at(bytes_of(*files[i]), files[i]->begin, true).kind != LogPosition::Kind::kRecord) continue;
    auto record = message::decode_record(bytes_of(*files[i]));
    if (record && record->store_timestamp_ms <= checkpoint.safe_time_ms()) return i;
  }
  return 0;
}

}  // namespace

LogPosition look_at(std::string_view rest_of_file, LogOffset offset, bool check_crc) {
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
  if (check_crc && !message::body_crc_matches(*record)) return {};
  return {LogPosition::Kind::kRecord, static_cast<int64_t>(record->bytes.size())};
}

Result<RecoveredLog> recover_log(const CommitLog& log, bool clean, const Checkpoint& checkpoint, bool check_crc,
                                 const Logger& logger) {
  RecoveredLog recovered;
  auto files = log.files();
  if (files.empty()) return recovered;
  size_t index = first_file_to_walk(files, clean, checkpoint);
  recovered.walked_from = recovered.end = files[index]->begin;
  int64_t records = 0;
  std::string_view last_record;
  for (; index < files.size(); ++index) {
    const auto& file = *files[index];
    size_t at = 0;
    bool rolled = false;
    while (at < file.map->size()) {
      auto position = look_at(bytes_of(file).substr(at), file.begin + static_cast<LogOffset>(at), check_crc);
      if (position.kind == LogPosition::Kind::kNothing) break;
      if (position.kind == LogPosition::Kind::kRecord) last_record = bytes_of(file).substr(at);
      at += static_cast<size_t>(position.bytes);
      recovered.end = file.begin + static_cast<LogOffset>(at);
      if (position.kind == LogPosition::Kind::kBlank) rolled = true;
      if (position.kind == LogPosition::Kind::kRecord) ++records;
    }
    if (rolled) continue;
    LogOffset behind = good_record_behind(log, file, recovered.end);
    if (behind >= 0)
      return Error(Errc::kCorrupt,
                   fmt::format("the log is damaged at {} (file {}), but goes on at {}: nothing was changed. Restore "
                               "the file from a replica or a backup, or move it and the later files away to "
                               "start with what lies in front",
                               recovered.end, file.begin, behind));
    break;
  }
  if (auto last = message::decode_record(last_record)) recovered.last_store_time_ms = last->store_timestamp_ms;
  logger.info("recovery after {} stop: {} records looked at, the log ends at {}", clean ? "a clean" : "an unclean",
              records, recovered.end);
  return recovered;
}

Status check_layout(io::FileSystem& files, const std::string& root) {
  APOGEE_TRY_ASSIGN(auto names, files.list(root));
  for (const auto& name : names) {
    std::string path = root + "/" + name;
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
