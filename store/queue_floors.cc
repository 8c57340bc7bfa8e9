#include "store/queue_floors.h"

#include <fmt/core.h>

#include <algorithm>
#include <iterator>

#include "common/base/bytes.h"
#include "common/base/crc32.h"

namespace apogee::store {

namespace {

constexpr uint32_t kMagic = 0x41515146;  // "AQQF"
constexpr uint32_t kVersion = 1;
constexpr size_t kFloorBytes = 32;
constexpr size_t kHeadBytes = 16;  // magic, version, number of queues
constexpr size_t kCrcBytes = 4;

}  // namespace

std::string QueueFloors::encode_locked() const {
  std::string raw;
  append_be<uint32_t>(raw, kMagic);
  append_be<uint32_t>(raw, kVersion);
  append_be<int64_t>(raw, static_cast<int64_t>(floors_.size()));
  for (const auto& [key, floor] : floors_) {
    append_be<uint16_t>(raw, static_cast<uint16_t>(key.size()));
    raw += key;
    for (int64_t field : {floor.next, floor.last_record, floor.min, floor.first_record}) append_be<int64_t>(raw, field);
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
    if (body.size() < 2 + key_bytes + kFloorBytes) return false;
    const char* fields = body.data() + 2 + key_bytes;
    floors_[std::string(body.substr(2, key_bytes))] = {load_be<int64_t>(fields), load_be<int64_t>(fields + 8),
                                                       load_be<int64_t>(fields + 16), load_be<int64_t>(fields + 24)};
    body.remove_prefix(2 + key_bytes + kFloorBytes);
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
  loaded_ = decode_locked(raw);
  if (loaded_) return {};
  floors_.clear();
  damaged_ = true;
  logger_.warn("{} is damaged and is passed over: queues whose records are all gone begin at 0 again", path_);
  return {};
}

QueueOffset QueueFloors::of(std::string_view key) const {
  std::lock_guard lock(mutex_);
  auto found = floors_.find(key);
  return found == floors_.end() ? 0 : found->second.next;
}

QueueOffset QueueFloors::retired_below(std::string_view key) const {
  std::lock_guard lock(mutex_);
  auto found = floors_.find(key);
  return found == floors_.end() || found->second.last_record >= 0 ? 0 : found->second.min;
}

QueueFloors::Offsets QueueFloors::joined(const Offsets& offsets) const {
  std::lock_guard lock(mutex_);
  std::map<std::string, QueueOffset> all;
  for (const auto& [key, floor] : floors_) all[key] = floor.next;
  for (const auto& [key, next] : offsets) {
    auto& floor = all[key];
    floor = std::max(floor, next);
  }
  return {all.begin(), all.end()};
}

QueueFloors::Floors QueueFloors::all() const {
  std::lock_guard lock(mutex_);
  return {floors_.begin(), floors_.end()};
}

void QueueFloors::raise_locked(const std::string& key, const QueueFloor& floor) {
  if (floor.next <= 0) return;
  auto& known = floors_[key];
  if (floor.next < known.next || floor == known) return;
  // Looked at before the queue was given up, told afterwards.
  if (known.next > 0 && floor.next == known.next && known.last_record < 0) return;
  known = floor;
  ++changes_;
}

void QueueFloors::retire(const Offsets& offsets) {
  std::lock_guard lock(mutex_);
  for (const auto& [key, next] : offsets) raise_locked(key, {next, -1, next, -1});
  if (!proposal_) return;
  auto retired = [&](const auto& proposed) {
    return std::any_of(offsets.begin(), offsets.end(), [&](const auto& each) { return each.first == proposed.first; });
  };
  auto& floors = proposal_->floors;
  floors.erase(std::remove_if(floors.begin(), floors.end(), retired), floors.end());
}

void QueueFloors::lower(const Offsets& offsets) {
  std::lock_guard lock(mutex_);
  for (const auto& [key, next] : offsets) {
    auto found = floors_.find(key);
    if (found == floors_.end() || found->second.next <= next) continue;
    ++changes_;
    found->second.next = next;
    found->second.min = std::min(found->second.min, next);
    if (next <= 0) floors_.erase(found);
  }
}

void QueueFloors::keep_retired() {
  std::lock_guard lock(mutex_);
  ++changes_;
  for (auto it = floors_.begin(); it != floors_.end();)
    it = it->second.last_record >= 0 ? floors_.erase(it) : std::next(it);
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

void QueueFloors::propose(Floors floors, LogOffset covers, LogOffset needs) {
  std::lock_guard lock(mutex_);
  proposal_ = Proposal{std::move(floors), covers, needs};
}

bool QueueFloors::proposed() const {
  std::lock_guard lock(mutex_);
  return proposal_.has_value();
}

Status QueueFloors::save_proposed(LogOffset flushed) {
  LogOffset covers = 0;
  {
    std::lock_guard lock(mutex_);
    if (!proposal_ || proposal_->needs > flushed) return {};
    for (const auto& [key, floor] : proposal_->floors) raise_locked(key, floor);
    covers = proposal_->covers;
    proposal_.reset();
  }
  APOGEE_TRY(save());
  std::lock_guard lock(mutex_);
  covered_ = std::max(covered_, covers);
  return {};
}

LogOffset QueueFloors::covered() const {
  std::lock_guard lock(mutex_);
  return covered_;
}

}  // namespace apogee::store
