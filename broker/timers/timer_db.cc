#include "broker/timers/timer_db.h"

#include <rocksdb/db.h>
#include <rocksdb/options.h>
#include <rocksdb/write_batch.h>

#include <algorithm>
#include <filesystem>
#include <utility>

#include "broker/state_db.h"
#include "common/base/bytes.h"

// Keys of the database, all integers big-endian:
//
//   'k' u64 key hash, i64 due, i64 offset  ->  u8 cancels, i64 queue offset
//   'm'  ->  u32 version, i64 queue progress, i64 pending, i64 cancellations, i64 i64 front (due, offset)
//   'o' i64 offset  ->  i64 due, u64 key hash, u8 cancels, i64 queue offset
//   't' i64 due, i64 offset  ->  u64 key hash, u8 cancels, i64 queue offset
//   'x' i64 offset of the last copy  ->  times (i64 due, i64 offset, u64 key hash, u8 cancels, i64 queue offset)
//
// `front`: no entry of 't' is before it. What was delivered leaves marks of deletion there, which a search from the
// front need not pass.
namespace apogee::broker {

namespace {

constexpr const char* kWhat = "the timer database";
constexpr uint32_t kVersion = 1;
constexpr size_t kStateBytes = 44, kDeliveredBytes = 33;

std::string due_key(int64_t due_ms, store::LogOffset offset) {
  std::string key(1, 't');
  append_be(key, due_ms);
  append_be(key, offset);
  return key;
}
std::string offset_key(store::LogOffset offset) {
  std::string key(1, 'o');
  append_be(key, offset);
  return key;
}
std::string hash_key(uint64_t hash, int64_t due_ms, store::LogOffset offset) {
  std::string key(1, 'k');
  append_be(key, hash);
  append_be(key, due_ms);
  append_be(key, offset);
  return key;
}
std::string copy_key(store::LogOffset offset) {
  std::string key(1, 'x');
  append_be(key, offset);
  return key;
}

void append_tail(std::string& to, const TimerEntry& entry) {
  to.push_back(entry.cancels ? '\1' : '\0');
  append_be(to, entry.queue_offset);
}
void read_tail(ByteReader& from, TimerEntry& entry) {
  entry.cancels = from.read<uint8_t>() != 0;
  entry.queue_offset = from.read<int64_t>();
}
std::string_view view(const rocksdb::Slice& slice) { return {slice.data(), slice.size()}; }

}  // namespace

struct TimerDb::Impl {
  [[nodiscard]] Error error_of(const rocksdb::Status& status) const { return state_db_error(status, dir, kWhat); }
  [[nodiscard]] Status open();
  [[nodiscard]] Status load();
  [[nodiscard]] std::string state() const {
    std::string bytes;
    append_be(bytes, kVersion);
    append_be(bytes, progress);
    append_be(bytes, pending.load());
    append_be(bytes, cancellations);
    append_be(bytes, front.first);
    append_be(bytes, front.second);
    return bytes;
  }
  [[nodiscard]] std::unique_ptr<rocksdb::Iterator> iterate(const rocksdb::Slice& end) const {
    rocksdb::ReadOptions options;
    options.iterate_upper_bound = &end;
    return std::unique_ptr<rocksdb::Iterator>(db->NewIterator(options));
  }
  [[nodiscard]] Error damaged(const char* what) const {
    return {Errc::kCorrupt, dir + ": an entry " + what + " has a wrong length"};
  }
  void add(rocksdb::WriteBatch& batch, const TimerEntry& entry) const {
    std::string by_due, by_offset, by_hash;
    append_be(by_due, entry.key_hash);
    append_tail(by_due, entry);
    append_be(by_offset, entry.due_ms);
    append_be(by_offset, entry.key_hash);
    append_tail(by_offset, entry);
    append_tail(by_hash, entry);
    // A write batch in memory fails only beyond 4 GiB.
    batch.Put(due_key(entry.due_ms, entry.offset), by_due).PermitUncheckedError();
    batch.Put(offset_key(entry.offset), by_offset).PermitUncheckedError();
    batch.Put(hash_key(entry.key_hash, entry.due_ms, entry.offset), by_hash).PermitUncheckedError();
  }
  static void remove(rocksdb::WriteBatch& batch, const TimerEntry& entry) {
    batch.Delete(due_key(entry.due_ms, entry.offset)).PermitUncheckedError();
    batch.Delete(offset_key(entry.offset)).PermitUncheckedError();
    batch.Delete(hash_key(entry.key_hash, entry.due_ms, entry.offset)).PermitUncheckedError();
  }

  std::string dir;
  std::unique_ptr<rocksdb::DB> db;
  bool is_new = false, unsynced = false;
  store::QueueOffset progress = 0;
  std::atomic<int64_t> pending{0};
  int64_t cancellations = 0;
  std::pair<int64_t, store::LogOffset> front{0, 0};  // due, offset
  store::LogOffset lowest = 0;                       // no entry of 'o' is before it
};

TimerDb::TimerDb(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
TimerDb::~TimerDb() {
  // So that the next start has no write-ahead log to read again; where it fails, it has.
  if (impl_->db) impl_->db->Flush(rocksdb::FlushOptions()).PermitUncheckedError();
}

Status TimerDb::Impl::open() {
  APOGEE_TRY_ASSIGN(db, open_state_db(dir, kWhat));
  return load();
}

Status TimerDb::Impl::load() {
  std::string bytes;
  rocksdb::Status status = db->Get(rocksdb::ReadOptions(), "m", &bytes);
  if (status.IsNotFound()) {
    std::unique_ptr<rocksdb::Iterator> any(db->NewIterator(rocksdb::ReadOptions()));
    any->SeekToFirst();
    if (any->Valid()) return Error{Errc::kCorrupt, dir + ": its state is missing"};
    is_new = true;
    return {};
  }
  if (!status.ok()) return error_of(status);
  ByteReader reader(bytes);
  if (bytes.size() != kStateBytes || reader.read<uint32_t>() != kVersion)
    return Error{Errc::kCorrupt, dir + ": the version is not " + std::to_string(kVersion)};
  progress = reader.read<int64_t>();
  pending = reader.read<int64_t>();
  cancellations = reader.read<int64_t>();
  front.first = reader.read<int64_t>();
  front.second = reader.read<int64_t>();
  return {};
}

Result<std::unique_ptr<TimerDb>> TimerDb::open(const std::string& dir) {
  auto impl = std::make_unique<Impl>();
  impl->dir = dir;
  if (auto opened = impl->open(); !opened) {
    // RocksDB reports missing files of its own as an I/O error.
    if (opened.error().code != Errc::kCorrupt && opened.error().code != Errc::kIo) return std::move(opened).error();
    impl = std::make_unique<Impl>();
    impl->dir = dir;
    std::error_code error;
    std::filesystem::remove_all(dir, error);
    if (error) return std::move(opened).error();
    APOGEE_TRY(impl->open());
  }
  return std::unique_ptr<TimerDb>(new TimerDb(std::move(impl)));
}

bool TimerDb::is_new() const { return impl_->is_new; }
store::QueueOffset TimerDb::queue_progress() const { return impl_->progress; }
int64_t TimerDb::pending() const { return impl_->pending.load(std::memory_order_relaxed); }
bool TimerDb::has_cancellations() const { return impl_->cancellations > 0; }

Status TimerDb::apply(const Changes& changes) {
  if (changes.empty()) return {};
  const auto progress = impl_->progress;
  const auto pending = impl_->pending.load();
  const auto cancellations = impl_->cancellations;
  const auto front = impl_->front;
  rocksdb::WriteBatch batch;
  for (const auto& entry : changes.removed) {
    Impl::remove(batch, entry);
    impl_->pending -= 1;
    if (entry.cancels) --impl_->cancellations;
  }
  for (const auto& entry : changes.added) {
    impl_->add(batch, entry);
    impl_->pending += 1;
    if (entry.cancels) ++impl_->cancellations;
    impl_->front = std::min(impl_->front, {entry.due_ms, entry.offset});
    impl_->lowest = std::min(impl_->lowest, entry.offset);
  }
  if (changes.queue_progress) impl_->progress = *changes.queue_progress;
  if (!changes.delivered.entries.empty()) {
    std::string bytes;
    bytes.reserve(changes.delivered.entries.size() * kDeliveredBytes);
    for (const auto& entry : changes.delivered.entries) {
      append_be(bytes, entry.due_ms);
      append_be(bytes, entry.offset);
      append_be(bytes, entry.key_hash);
      append_tail(bytes, entry);
    }
    batch.Put(copy_key(changes.delivered.last_copy), bytes).PermitUncheckedError();
  }
  for (auto offset : changes.forgotten) batch.Delete(copy_key(offset)).PermitUncheckedError();
  batch.Put("m", impl_->state()).PermitUncheckedError();
  rocksdb::Status status = impl_->db->Write(rocksdb::WriteOptions(), &batch);
  if (status.ok()) {
    impl_->unsynced = true;
    return {};
  }
  impl_->progress = progress;
  impl_->pending = pending;
  impl_->cancellations = cancellations;
  impl_->front = front;
  return impl_->error_of(status);
}

Status TimerDb::sync() {
  if (!impl_->unsynced) return {};
  rocksdb::Status status = impl_->db->SyncWAL();
  if (!status.ok()) return impl_->error_of(status);
  impl_->unsynced = false;
  return {};
}

Result<std::vector<TimerEntry>> TimerDb::due(int64_t now_ms, size_t count_max, const std::optional<TimerEntry>& after) {
  std::vector<TimerEntry> entries;
  if (now_ms == INT64_MAX || impl_->front.first > now_ms) return entries;
  const std::string end = due_key(now_ms + 1, 0);
  const rocksdb::Slice bound(end);
  auto it = impl_->iterate(bound);
  it->Seek(after ? due_key(after->due_ms, after->offset + 1) : due_key(impl_->front.first, impl_->front.second));
  for (; it->Valid() && entries.size() < count_max; it->Next()) {
    ByteReader key(view(it->key()).substr(1)), value(view(it->value()));
    TimerEntry entry;
    entry.due_ms = key.read<int64_t>();
    entry.offset = key.read<int64_t>();
    entry.key_hash = value.read<uint64_t>();
    read_tail(value, entry);
    if (!key.ok() || !value.ok()) return impl_->damaged("by due time");
    entries.push_back(entry);
  }
  if (!it->status().ok()) return impl_->error_of(it->status());
  if (!after) {
    if (entries.empty()) {
      impl_->front = {now_ms + 1, 0};
    } else {
      impl_->front = {entries.front().due_ms, entries.front().offset};
    }
  }
  return entries;
}

Result<std::optional<int64_t>> TimerDb::next_due() {
  const rocksdb::Slice bound("u");
  auto it = impl_->iterate(bound);
  it->Seek(due_key(impl_->front.first, impl_->front.second));
  if (!it->status().ok()) return impl_->error_of(it->status());
  if (!it->Valid()) return std::optional<int64_t>();
  if (it->key().size() != 17) return impl_->damaged("by due time");
  impl_->front = {load_be<int64_t>(it->key().data() + 1), load_be<int64_t>(it->key().data() + 9)};
  return std::optional<int64_t>(impl_->front.first);
}

Result<std::vector<TimerEntry>> TimerDb::in_front_of(store::LogOffset offset, size_t count_max) {
  std::vector<TimerEntry> entries;
  const std::string end = offset_key(offset);
  const rocksdb::Slice bound(end);
  auto it = impl_->iterate(bound);
  for (it->Seek(offset_key(impl_->lowest)); it->Valid() && entries.size() < count_max; it->Next()) {
    ByteReader key(view(it->key()).substr(1)), value(view(it->value()));
    TimerEntry entry;
    entry.offset = key.read<int64_t>();
    entry.due_ms = value.read<int64_t>();
    entry.key_hash = value.read<uint64_t>();
    read_tail(value, entry);
    if (!key.ok() || !value.ok()) return impl_->damaged("by offset");
    entries.push_back(entry);
  }
  if (!it->status().ok()) return impl_->error_of(it->status());
  impl_->lowest = entries.empty() ? offset : entries.front().offset;
  return entries;
}

Result<std::vector<TimerEntry>> TimerDb::with_key(uint64_t key_hash, int64_t begin_ms, int64_t end_ms) {
  std::vector<TimerEntry> entries;
  const std::string end = hash_key(key_hash, end_ms, 0);
  const rocksdb::Slice bound(end);
  auto it = impl_->iterate(bound);
  for (it->Seek(hash_key(key_hash, begin_ms, 0)); it->Valid(); it->Next()) {
    ByteReader key(view(it->key()).substr(1)), value(view(it->value()));
    TimerEntry entry;
    entry.key_hash = key.read<uint64_t>();
    entry.due_ms = key.read<int64_t>();
    entry.offset = key.read<int64_t>();
    read_tail(value, entry);
    if (!key.ok() || !value.ok()) return impl_->damaged("by key");
    entries.push_back(entry);
  }
  if (!it->status().ok()) return impl_->error_of(it->status());
  return entries;
}

Result<bool> TimerDb::contains(int64_t due_ms, store::LogOffset offset) {
  rocksdb::PinnableSlice value;
  rocksdb::Status status =
      impl_->db->Get(rocksdb::ReadOptions(), impl_->db->DefaultColumnFamily(), due_key(due_ms, offset), &value);
  if (status.IsNotFound()) return false;
  if (!status.ok()) return impl_->error_of(status);
  return true;
}

Result<store::LogOffset> TimerDb::forget_delivered(store::LogOffset flushed) {
  Changes changes;
  store::LogOffset last = -1;
  const rocksdb::Slice bound("y");
  auto it = impl_->iterate(bound);
  for (it->Seek("x"); it->Valid(); it->Next()) {
    if (it->key().size() != 9) return impl_->damaged("of the delivered");
    last = load_be<int64_t>(it->key().data() + 1);
    if (last < flushed) changes.forgotten.push_back(last);
  }
  if (!it->status().ok()) return impl_->error_of(it->status());
  APOGEE_TRY(apply(changes));
  return last < flushed ? -1 : last;
}

Result<size_t> TimerDb::restore(store::LogOffset log_end, store::QueueOffset queue_end) {
  Changes changes;
  const rocksdb::Slice bound("y");
  auto it = impl_->iterate(bound);
  for (it->Seek(copy_key(log_end)); it->Valid(); it->Next()) {
    auto bytes = view(it->value());
    if (it->key().size() != 9) return impl_->damaged("of the delivered");
    changes.forgotten.push_back(load_be<int64_t>(it->key().data() + 1));
    if (bytes.size() % kDeliveredBytes != 0) return impl_->damaged("of the delivered");
    for (ByteReader reader(bytes); reader.remaining() > 0;) {
      TimerEntry entry;
      entry.due_ms = reader.read<int64_t>();
      entry.offset = reader.read<int64_t>();
      entry.key_hash = reader.read<uint64_t>();
      read_tail(reader, entry);
      changes.added.push_back(entry);
    }
  }
  if (!it->status().ok()) return impl_->error_of(it->status());
  if (impl_->progress > queue_end) changes.queue_progress = queue_end;
  APOGEE_TRY(apply(changes));
  return changes.added.size();
}

}  // namespace apogee::broker
