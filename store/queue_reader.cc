#include "store/queue_reader.h"

#include <time.h>

#include <algorithm>
#include <array>
#include <map>
#include <utility>

#include "common/message/message_record.h"
#include "store/dispatcher.h"

namespace apogee::store {

namespace {

/// Entries looked at by one get(), whatever the filter leaves of them; as in Apache RocketMQ.
constexpr int64_t kEntriesScannedMin = 800;
/// The end of the log that is not asked about whether it is in memory.
constexpr LogOffset kRecentBytes = 32 << 20;
/// The log is looked at, and read from the disk, by such stretches of its files. Of those that follow some are asked
/// for.
constexpr LogOffset kStretchBytes = 512 << 10;
constexpr LogOffset kAheadBytes = 3 * kStretchBytes;
/// Wrong entries that follow one another are repaired together, so many at a time.
constexpr QueueOffset kRunMax = 4096;
/// So many records ahead are asked for from memory.
constexpr size_t kPrefetched = 6;

/// What a thread has found to be in memory is believed so long.
constexpr int64_t kBelievedMs = 50;
constexpr size_t kBelievedStretches = 64;

int64_t steady_ms() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
  return static_cast<int64_t>(now.tv_sec) * 1'000 + now.tv_nsec / 1'000'000;
}

/// [from, to) becomes all of the stretches that it reaches into.
void widen_to_stretches(int64_t readable, int64_t& from, int64_t& to) {
  from -= from % kStretchBytes;
  to = std::min((to + kStretchBytes - 1) / kStretchBytes * kStretchBytes, readable);
}

/// Whether the stretches of the file that [from, to) reaches into are in memory, each asked about now and then only.
bool stretches_in_memory(const io::MappedRegion& map, int64_t readable, int64_t from, int64_t to) {
  struct Believed {
    const void* map = nullptr;
    int64_t stretch = 0, end = 0, until_ms = 0;
  };
  static thread_local std::array<Believed, kBelievedStretches> all_believed;
  const int64_t first = from / kStretchBytes, last = (to - 1) / kStretchBytes;
  const int64_t now_ms = steady_ms();
  for (int64_t stretch = first; stretch <= last; ++stretch) {
    auto& believed = all_believed[static_cast<size_t>(stretch) % kBelievedStretches];
    const int64_t begin = stretch * kStretchBytes, end = std::min(begin + kStretchBytes, readable);
    if (believed.map == map.data() && believed.stretch == stretch && believed.end == end && now_ms < believed.until_ms)
      continue;
    if (!map.in_memory(static_cast<size_t>(begin), static_cast<size_t>(end - begin))) return false;
    believed = {map.data(), stretch, end, now_ms + kBelievedMs};
  }
  return true;
}

}  // namespace

std::string_view QueueReader::bytes_of(Cursor& cursor, const QueueEntry& entry) const {
  const LogOffset at = entry.physical_offset, end = entry.end();
  if (at < 0 || entry.record_bytes < 0 || end > cursor.readable_end) return {};
  if (at < cursor.begin || at >= cursor.end) {
    cursor.begin = cursor.end = 0;
    cursor.file = parts_.log.files().at(at);
    if (!cursor.file) return {};
    cursor.data = cursor.file->map->data();
    cursor.begin = cursor.file->begin;
    cursor.end = cursor.file->end();
  }
  if (end > cursor.end) return {};
  return {cursor.data + (at - cursor.begin), static_cast<size_t>(entry.record_bytes)};
}

/// Of a record that is looked at soon: its first line is on the way meanwhile.
void QueueReader::prefetch(const Cursor& cursor, const QueueEntry& entry) {
  const LogOffset at = entry.physical_offset;
  if (at < cursor.begin || at >= cursor.end) return;
  __builtin_prefetch(cursor.data + (at - cursor.begin));
}

QueueReader::Found QueueReader::look_up(Cursor& cursor, const QueueEntry& entry, std::string_view topic,
                                        int32_t queue_id, QueueOffset offset, std::string_view& record) const {
  if (is_blank(entry)) return Found::kGone;
  record = bytes_of(cursor, entry);
  const bool is_there = entry.physical_offset < checked_below_
                            ? is_record_of(record, entry.physical_offset, topic, queue_id, offset)
                            : is_placed(record, entry.physical_offset, queue_id, offset);
  if (is_there) return Found::kMessage;
  // A file that retention has taken away since the entry was read.
  return entry.physical_offset > 0 && entry.physical_offset < parts_.log.begin() ? Found::kGone : Found::kWrong;
}

/// Whether the entry's record is in memory; with `load` it is read into it. What was written lately is taken to be
/// there. What follows is looked at with it: mostly the next records lie there.
bool QueueReader::in_memory(Cursor& cursor, const QueueEntry& entry, bool load) const {
  const LogOffset at = entry.physical_offset, end = entry.end();
  if (at >= cursor.readable_end - kRecentBytes || (at >= cursor.present_from && end <= cursor.present_to)) return true;
  if (is_blank(entry) || bytes_of(cursor, entry).empty()) return true;  // there is nothing to read
  auto& map = *cursor.file->map;
  const int64_t readable = std::min(cursor.end, cursor.readable_end) - cursor.begin;
  int64_t from = at - cursor.begin, to = end - cursor.begin;
  if (!load && !stretches_in_memory(map, readable, from, to))
    return map.in_memory(static_cast<size_t>(from), static_cast<size_t>(to - from));
  widen_to_stretches(readable, from, to);
  if (load && !map.load(static_cast<size_t>(from), static_cast<size_t>(to - from), kAheadBytes)) return true;
  cursor.present_from = cursor.begin + from;
  cursor.present_to = cursor.begin + to;
  return true;
}

/// Notes an entry for repair. False: that was tried in vain.
bool QueueReader::suspect(std::string_view topic, int32_t queue_id, QueueOffset offset) {
  Place place(topic, queue_id, offset);
  {
    std::lock_guard lock(mutex_);
    if (given_up_.count(place) != 0) return false;
    suspects_.insert(std::move(place));
  }
  parts_.wake_repair();
  return true;
}

void QueueReader::get(std::string_view topic, int32_t queue_id, QueueOffset offset, const GetLimits& limits,
                      const TagsCodeFilter& filter, GetResult& to) {
  auto& records = to.records;
  records.clear();
  to.messages = 0;
  to.last_record = {};
  to.bytes = 0;
  to.on_disk = false;
  to.min_offset = to.max_offset = 0;
  auto answer = [&to](GetStatus status, QueueOffset next) {
    to.status = status;
    to.next_begin_offset = next;
  };
  auto queue = parts_.queues.find(topic, queue_id);
  if (!queue) return answer(GetStatus::kNoMatchedLogicQueue, 0);
  to.min_offset = queue->min();
  to.max_offset = queue->max();
  if (to.max_offset == 0) return answer(GetStatus::kNoMessageInQueue, 0);
  if (offset < to.min_offset) return answer(GetStatus::kOffsetTooSmall, to.min_offset);
  if (offset == to.max_offset) return answer(GetStatus::kOffsetOverflowOne, offset);
  if (offset > to.max_offset) return answer(GetStatus::kOffsetOverflowBadly, to.max_offset);

  const bool filtered = filter || limits.record_filter;
  static thread_local std::vector<QueueEntry> entries;
  queue->read(offset, filtered ? std::max<int64_t>(kEntriesScannedMin, limits.count_max) : limits.count_max, entries);
  if (entries.empty())
    return answer(GetStatus::kOffsetFoundNull, (offset / parts_.entries_per_file + 1) * parts_.entries_per_file);
  Cursor cursor;
  cursor.readable_end = parts_.log.readable_end();
  if (!filtered && !limits.joined) records.reserve(entries.size());
  if (!filter) {
    (void)bytes_of(cursor, entries.front());
    for (size_t i = 0; i < std::min(kPrefetched, entries.size()); ++i) prefetch(cursor, entries[i]);
  }
  QueueOffset next = offset;
  bool removed = false;
  for (size_t i = 0; i < entries.size() && to.messages < limits.count_max; ++i) {
    const auto& entry = entries[i];
    if (!filter && i + kPrefetched < entries.size()) prefetch(cursor, entries[i + kPrefetched]);
    // The filter believes the entry, so only one that could stand for a message is asked about.
    const bool plausible = is_blank(entry) || (entry.record_bytes > 0 && entry.physical_offset >= 0);
    if (plausible && filter && !filter(entry.tags_code)) {
      ++next;
      continue;
    }
    if (to.messages > 0 && to.bytes + entry.record_bytes > limits.bytes_max) break;
    if (!in_memory(cursor, entry, !limits.only_from_memory)) {
      to.on_disk = to.messages == 0;
      break;
    }
    std::string_view record;
    auto found = look_up(cursor, entry, topic, queue_id, next, record);
    if (found == Found::kWrong && suspect(topic, queue_id, next)) {
      removed = true;
      break;
    }
    ++next;
    if (found != Found::kMessage) {
      removed = true;
      continue;
    }
    if (limits.record_filter && !limits.record_filter(record)) continue;
    to.bytes += entry.record_bytes;
    ++to.messages;
    to.last_record = record;
    if (limits.joined && !records.empty() && records.back().bytes.end() == record.begin() &&
        records.back().owner.get() == cursor.file->map.get()) {
      auto& bytes = records.back().bytes;
      bytes = std::string_view(bytes.data(), bytes.size() + record.size());
    } else {
      records.emplace_back(cursor.file->map, record);
    }
  }
  if (to.messages > 0) return answer(GetStatus::kFound, next);
  return answer(removed ? GetStatus::kMessageWasRemoving : GetStatus::kNoMatchedMessage, next);
}

void QueueReader::repair(const std::function<bool()>& stopping) {
  for (;;) {
    Place place;
    {
      std::lock_guard lock(mutex_);
      if (suspects_.empty() || stopping()) return;
      place = *suspects_.begin();
    }
    repair_run(place, stopping);
    std::lock_guard lock(mutex_);
    suspects_.erase(place);
  }
}

/// Of an entry that leads to what is no whole record: that part of the log is damaged, if the entry itself is not.
void QueueReader::note_damage(const QueueEntry& entry, const std::string& topic, int32_t queue_id,
                              QueueOffset offset) const {
  const LogOffset at = entry.physical_offset, end = entry.end();
  if (is_blank(entry) || at < parts_.log.begin() || end > parts_.log.end()) return;
  auto file = parts_.log.files().at(at);
  if (!file || end > file->end()) return;
  if (look_at(file->bytes_from(at), at, true).kind != LogPosition::Kind::kNothing) return;
  // What follows tells that the entry's length is one; so it is no entry of zeros and no torn one.
  const bool whole_behind = end == parts_.log.end() || end == file->end() || parts_.holes.end_at(end) >= 0 ||
                            look_at(file->bytes_from(end), end, false).kind != LogPosition::Kind::kNothing;
  if (!whole_behind) return;
  parts_.holes.add(at, end);
  parts_.logger.error("{} of {}, queue {}: the record at {} is damaged, {} bytes", offset, topic, queue_id, at,
                      entry.record_bytes);
}

void QueueReader::repair_run(const Place& place, const std::function<bool()>& stopping) {
  const std::string& topic = std::get<0>(place);
  const int32_t queue_id = std::get<1>(place);
  const QueueOffset offset = std::get<2>(place);
  auto queue = parts_.queues.find(topic, queue_id);
  if (!queue || offset < queue->min() || offset >= queue->max()) return;
  // The wrong entries around this one, and the good ones next to them.
  auto entry_at = [&](QueueOffset at) {
    auto entry = queue->read(at, 1);
    return entry.empty() ? QueueEntry{} : entry.front();
  };
  auto good = [&](QueueOffset at) {
    std::string_view record;
    Cursor cursor;
    cursor.readable_end = parts_.log.readable_end();
    return look_up(cursor, entry_at(at), topic, queue_id, at, record) == Found::kMessage;
  };
  QueueOffset first = offset, last = offset;
  while (first > queue->min() && offset - first < kRunMax && !good(first - 1)) --first;
  while (last + 1 < queue->max() && last - first < kRunMax && !good(last + 1)) ++last;
  LogOffset from = parts_.log.begin(), to = parts_.log.readable_end();
  if (first > queue->min() && good(first - 1)) {
    auto before = entry_at(first - 1);
    from = before.end();
  }
  if (last + 1 < queue->max() && good(last + 1)) to = entry_at(last + 1).physical_offset;

  std::map<QueueOffset, QueueEntry> found;
  for (LogOffset at = from; at < to;) {
    if (stopping()) return;
    auto file = parts_.log.files().at(at);
    if (!file) break;
    const LogOffset end = std::min(to, file->end());
    while (at < end) {
      auto position = look_at(file->bytes_from(at), at, false);
      if (position.kind == LogPosition::Kind::kNothing) {
        auto next = next_record(*file, at + 1, end);
        at = next && *next > 0 ? *next : end;
        continue;
      }
      if (position.kind == LogPosition::Kind::kRecord) {
        auto record = message::decode_record(file->bytes_from(at));
        if (record && record->queue_id == queue_id && record->topic == topic && record->queue_offset >= first &&
            record->queue_offset <= last && has_queue_entry(record->sys_flag) &&
            is_record_of(record->bytes, at, topic, queue_id, record->queue_offset))
          found[record->queue_offset] = {at, static_cast<int32_t>(position.bytes), parts_.tags_code_of(*record)};
      }
      at += position.bytes;
    }
  }
  std::vector<QueueEntry> entries(static_cast<size_t>(last - first + 1), {to, kBlankEntryBytes, 0});
  LogOffset following = to;
  for (QueueOffset at = last; at >= first; --at)
    if (found.count(at) == 0) note_damage(entry_at(at), topic, queue_id, at);
  for (QueueOffset at = last; at >= first; --at) {
    auto& entry = entries[static_cast<size_t>(at - first)];
    entry.physical_offset = following;
    if (auto it = found.find(at); it != found.end()) entry = it->second;
    following = entry.physical_offset;
  }
  if (auto written = queue->rewrite(first, entries); !written) {
    parts_.logger.error("{}: entries {} to {} are wrong and cannot be written: {}", queue->directory(), first, last,
                        written.error().message);
    std::lock_guard lock(mutex_);
    for (QueueOffset at = first; at <= last; ++at)
      if (found.count(at) == 0) given_up_.insert({topic, queue_id, at});
    return;
  }
  if (!found.empty())
    parts_.logger.warn("{}: {} wrong entries from {} on were found in the log and written again", queue->directory(),
                       found.size(), first);
  if (found.size() < entries.size())
    parts_.logger.error("{}: {} messages from {} to {} are damaged in the log and lost; mqstore verify tells more",
                        queue->directory(), entries.size() - found.size(), first, last);
}

std::optional<int64_t> QueueReader::time_of(const QueueEntry& entry) const {
  if (is_blank(entry) && entry.physical_offset == 0) return std::nullopt;
  auto bytes = parts_.log.read_up_to(std::max(entry.physical_offset, parts_.log.begin()), parts_.log.readable_end());
  if (!bytes) return std::nullopt;
  auto record = message::decode_record(bytes->bytes);
  if (!record || record->physical_offset != entry.physical_offset) return std::nullopt;
  return record->store_timestamp_ms;
}

QueueOffset QueueReader::offset_by_time(std::string_view topic, int32_t queue_id, int64_t time_ms,
                                        TimeBoundary boundary) const {
  auto queue = parts_.queues.find(topic, queue_id);
  if (!queue) return 0;
  const QueueOffset min = queue->min(), max = queue->max();
  // The first offset whose time is beyond the limit; store times do not go back along a queue.
  QueueOffset low = min, high = max;
  while (low < high) {
    QueueOffset middle = low + (high - low) / 2;
    // A damaged message has no time; the nearest one in front of it that has stands for it.
    QueueOffset probe = middle;
    std::optional<int64_t> time;
    for (; probe >= low && !time; --probe) {
      auto entry = queue->read(probe, 1);
      if (!entry.empty()) time = time_of(entry.front());
    }
    ++probe;
    bool before = !time || (boundary == TimeBoundary::kLower ? *time < time_ms : *time <= time_ms);
    if (before) {
      low = middle + 1;
    } else {
      high = probe;
    }
  }
  return boundary == TimeBoundary::kLower ? low : std::max(min, low - 1);
}

std::optional<int64_t> QueueReader::store_time_ms(std::string_view topic, int32_t queue_id, QueueOffset offset) const {
  auto queue = parts_.queues.find(topic, queue_id);
  if (!queue) return std::nullopt;
  auto entry = queue->read(offset, 1);
  return entry.empty() ? std::nullopt : time_of(entry.front());
}

std::optional<SharedBytes> QueueReader::record_at(LogOffset offset, LogOffset end) const {
  if (offset < parts_.log.begin() || parts_.holes.end_at(offset) >= 0) return std::nullopt;
  auto rest = parts_.log.read_up_to(offset, end);
  if (!rest) return std::nullopt;
  auto position = look_at(rest->bytes, offset, offset < checked_below_);
  if (position.kind != LogPosition::Kind::kRecord) return std::nullopt;
  rest->bytes = rest->bytes.substr(0, static_cast<size_t>(position.bytes));
  return rest;
}

}  // namespace apogee::store
