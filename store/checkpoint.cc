#include "store/checkpoint.h"

#include <algorithm>

#include "common/base/bytes.h"
#include "common/base/crc32.h"

namespace apogee::store {

namespace {
constexpr size_t kFileBytes = 4096;
constexpr size_t kUsedBytes = 24;
constexpr int64_t kSafetyMs = 3'000;
constexpr int64_t kOwnPosition = 2048;
constexpr std::string_view kOwnMark = "ApogeeCp";
constexpr size_t kOwnBytes = 28;
constexpr int64_t kEndPosition = 2560;
constexpr std::string_view kEndMark = "ApogeeEn";

std::string encoded_end(const Checkpoint& checkpoint) {
  std::string own(kEndMark);
  append_be<int64_t>(own, checkpoint.ended_at);
  append_be<int64_t>(own, checkpoint.log_time_ms);
  append_be<int64_t>(own, checkpoint.queues_time_ms);
  append_be<int64_t>(own, checkpoint.index_time_ms);
  append_be<uint32_t>(own, crc32(own));
  return own;
}
}  // namespace

int64_t Checkpoint::safe_time_ms() const {
  return std::max<int64_t>(0, std::min(log_time_ms, queues_time_ms) - kSafetyMs);
}

Result<Checkpoint> read_checkpoint(io::FileSystem& files, const std::string& path) {
  Checkpoint checkpoint;
  if (!files.exists(path)) return checkpoint;
  APOGEE_TRY_ASSIGN(auto file, files.open(path, io::OpenMode::kExisting));
  char raw[kUsedBytes] = {};
  APOGEE_TRY_ASSIGN(size_t bytes, file->read_at(0, raw, sizeof raw));
  if (bytes < sizeof raw) return checkpoint;
  checkpoint.log_time_ms = load_be<int64_t>(raw);
  checkpoint.queues_time_ms = load_be<int64_t>(raw + 8);
  checkpoint.index_time_ms = load_be<int64_t>(raw + 16);
  char own[kOwnBytes] = {};
  APOGEE_TRY_ASSIGN(bytes, file->read_at(kOwnPosition, own, sizeof own));
  std::string_view checked(own, kOwnBytes - 4);
  if (bytes == sizeof own && checked.starts_with(kOwnMark) && load_be<uint32_t>(own + 24) == crc32(checked)) {
    checkpoint.log_position = load_be<int64_t>(own + 8);
    checkpoint.last_record = load_be<int64_t>(own + 16);
  }
  // Whoever has written other times may have written more of the log.
  checkpoint.ended_at = checkpoint.log_position;
  const std::string expected = encoded_end(checkpoint);
  std::string end(expected.size(), '\0');
  APOGEE_TRY_ASSIGN(bytes, file->read_at(kEndPosition, end.data(), end.size()));
  if (bytes != end.size() || end != expected) checkpoint.ended_at = -1;
  return checkpoint;
}

Status write_checkpoint(io::FileSystem& files, const std::string& path, const Checkpoint& checkpoint) {
  APOGEE_TRY_ASSIGN(auto file, files.open(path, io::OpenMode::kCreate));
  char raw[kUsedBytes];
  store_be(raw, checkpoint.log_time_ms);
  store_be(raw + 8, checkpoint.queues_time_ms);
  store_be(raw + 16, checkpoint.index_time_ms);
  APOGEE_TRY(file->resize(kFileBytes));
  APOGEE_TRY(file->write_at(0, std::string_view(raw, sizeof raw)));
  std::string own(kOwnMark);
  append_be<int64_t>(own, checkpoint.log_position);
  append_be<int64_t>(own, checkpoint.last_record);
  append_be<uint32_t>(own, crc32(own));
  APOGEE_TRY(file->write_at(kOwnPosition, own));
  APOGEE_TRY(file->write_at(kEndPosition, encoded_end(checkpoint)));
  return file->sync();
}

}  // namespace apogee::store
