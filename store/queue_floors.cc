#include "store/queue_floors.h"

#include <fmt/core.h>

#include <algorithm>

#include "common/base/bytes.h"
#include "common/base/crc32.h"

namespace apogee::store {

namespace {

constexpr uint32_t kMagic = 0x41515146;  // "AQQF"
constexpr uint32_t kVersion = 1;
constexpr size_t kHeadBytes = 16;  // magic, version, number of queues
constexpr size_t kCrcBytes = 4;

}  // namespace

std::string QueueFloors::encode_locked() const {
  std::string raw;
  append_be<uint32_t>(raw, kMagic);
  append_be<uint32_t>(raw, kVersion);
  append_be<int64_t>(raw, static_cast<int64_t>(floors_.size()));
  for (const auto& [key, next] : floors_) {
    append_be<uint16_t>(raw, static_cast<uint16_t>(key.size()));
    raw += key;
    append_be<int64_t>(raw, next);
  }
  append_be<uint32_t>(raw, crc32(raw));
  return raw;
}

bool QueueFloors::decode_locked(std::string_view raw) {
  if (raw.size() < kHeadBytes + kCrcBytes) return false;
  auto body = raw.substr(0, raw.size() - kCrcBytes);
  if (load_be<uint32_t>(raw.data() + body.size()) != crc32(body)) return false;
  if (load_be<uint32_t>(raw.data()) != kMagic || load_be<uint32_t>(raw.data() + 4) != kVersion) return false;
  auto count = load_be<int64_t>(raw.data() + 8);
  body.remove_prefix(kHeadBytes);
  for (; count > 0; --count) {
    if (body.size() < 2) return false;
    auto key_bytes = static_cast<size_t>(load_be<uint16_t>(body.data()));
    if (body.size() < 2 + key_bytes + 8) return false;
    floors_[std::string(body.substr(2, key_bytes))] = load_be<int64_t>(body.data() + 2 + key_bytes);
    body.remove_prefix(2 + key_bytes + 8);
  }
  return body.empty();
}

Status QueueFloors::load() {
  std::lock_guard lock(mutex_);
  if (!files_.exists(path_)) return {};
  APOGEE_TRY_ASSIGN(auto file, files_.open(path_, io::OpenMode::kExisting));
  APOGEE_TRY_ASSIGN(int64_t bytes, file->size());
  std::string raw(static_cast<size_t>(bytes), '\0');
  APOGEE_TRY_ASSIGN(size_t got, file->read_at(0, raw.data(), raw.size()));
  raw.resize(got);
  if (decode_locked(raw)) return {};
  floors_.clear();
  logger_.warn("{} is damaged and is passed over: queues whose records are all gone begin at 0 again", path_);
  return {};
}

QueueOffset QueueFloors::of(std::string_view key) const {
  std::lock_guard lock(mutex_);
  auto found = floors_.find(key);
  return found == floors_.end() ? 0 : found->second;
}

QueueFloors::Offsets QueueFloors::joined(const Offsets& offsets) const {
  std::lock_guard lock(mutex_);
  auto all = floors_;
  for (const auto& [key, next] : offsets) {
    auto& floor = all[key];
    floor = std::max(floor, next);
  }
  return {all.begin(), all.end()};
}

void QueueFloors::raise(const Offsets& offsets) {
  std::lock_guard lock(mutex_);
  for (const auto& [key, next] : offsets) {
    if (next <= 0) continue;
    auto& floor = floors_[key];
    if (next <= floor) continue;
    floor = next;
    ++changes_;
  }
}

Status QueueFloors::save() {
  std::lock_guard saving(save_mutex_);
  std::string raw;
  uint64_t changes = 0;
  {
    std::lock_guard lock(mutex_);
    if (changes_ == saved_changes_) return {};
    changes = changes_;
    raw = encode_locked();
  }
  const std::string temporary = path_ + ".tmp";
  {
    APOGEE_TRY_ASSIGN(auto file, files_.open(temporary, io::OpenMode::kCreate));
    APOGEE_TRY(file->resize(static_cast<int64_t>(raw.size())));
    APOGEE_TRY(file->write_at(0, raw));
    APOGEE_TRY(file->sync());
  }
  APOGEE_TRY(files_.rename(temporary, path_));
  APOGEE_TRY(files_.sync_directory(path_.substr(0, path_.rfind('/'))));
  std::lock_guard lock(mutex_);
  saved_changes_ = changes;
  return {};
}

void QueueFloors::propose(Offsets offsets, LogOffset covers, LogOffset needs) {
  std::lock_guard lock(mutex_);
  proposal_ = Proposal{std::move(offsets), covers, needs};
}

bool QueueFloors::proposed() const {
  std::lock_guard lock(mutex_);
  return proposal_.has_value();
}

Status QueueFloors::save_proposed(LogOffset flushed) {
  Proposal proposal;
  {
    std::lock_guard lock(mutex_);
    if (!proposal_ || proposal_->needs > flushed) return {};
    proposal = std::move(*proposal_);
    proposal_.reset();
  }
  raise(proposal.offsets);
  APOGEE_TRY(save());
  std::lock_guard lock(mutex_);
  covered_ = std::max(covered_, proposal.covers);
  return {};
}

LogOffset QueueFloors::covered() const {
  std::lock_guard lock(mutex_);
  return covered_;
}

}  // namespace apogee::store
