#include "broker/offsets/consumer_offsets.h"

#include <rocksdb/db.h>
#include <rocksdb/options.h>
#include <rocksdb/write_batch.h>

#include <array>
#include <atomic>
#include <filesystem>
#include <functional>
#include <mutex>
#include <set>
#include <unordered_map>
#include <utility>

#include "broker/state_db.h"
#include "common/base/bytes.h"
#include "common/base/hash.h"
#include "common/config/properties_file.h"
#include "common/remoting/bodies/group_bodies.h"

// Keys of the database:  'o' topic '@' group 0x00 u32 queue id  ->  i64 offset
//                        'm' "json"  ->  u64 u64: FNV-1a of the JSON file before and after the latest export
// Integers are big-endian. With the hashes a start can tell our own export from a file that a Java broker, run on
// the same store in between, has written since; the latter is imported.
namespace apogee::broker {

namespace {

constexpr const char* kWhat = "the offsets database";
constexpr const char* kJsonHashesKey = "mjson";

struct TextHash {
  using is_transparent = void;
  size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
};

std::string name_of(std::string_view topic, std::string_view group) {
  std::string name;
  name.reserve(topic.size() + group.size() + 1);
  return name.append(topic).append(1, '@').append(group);
}
// Names cannot hold '@', so that the first one separates.
std::pair<std::string_view, std::string_view> topic_and_group(std::string_view name) {
  size_t at = name.find('@');
  return {name.substr(0, at), at == std::string_view::npos ? std::string_view() : name.substr(at + 1)};
}

std::string db_key(std::string_view name, int32_t queue_id) {
  std::string key(1, 'o');
  key.append(name).append(1, '\0');
  append_be(key, queue_id);
  return key;
}

Error db_error(const rocksdb::Status& status, const std::string& dir) { return state_db_error(status, dir, kWhat); }

}  // namespace

struct ConsumerOffsets::Impl {
  struct Slot {
    int64_t offset = 0;
    bool dirty = false;
    bool own = false;  // committed here, and not known to the master yet
  };
  using Queues = std::map<int32_t, Slot>;
  struct Shard {
    std::mutex mutex;
    std::unordered_map<std::string, Queues, TextHash, std::equal_to<>> table;  // by "topic@group"
    std::vector<std::pair<std::string, int32_t>> dirty;                        // changed or removed since flush()
  };

  Impl(Options o, const Logger& l) : options(std::move(o)), logger(l) {}

  Shard& shard_of(std::string_view name) { return shards[TextHash{}(name) % shards.size()]; }

  enum class How : uint8_t { kAny, kForward, kMaster, kOwn };
  // kForward: unless a greater one is known (false). kMaster: as the master says, unless a greater one is our own.
  // kOwn: the master does not know it.
  bool set(std::string_view name, int32_t queue_id, int64_t offset, How how = How::kAny) {
    Shard& shard = shard_of(name);
    std::lock_guard<std::mutex> lock(shard.mutex);
    auto entry = shard.table.find(name);
    if (entry == shard.table.end()) entry = shard.table.emplace(std::string(name), Queues{}).first;
    auto [queue, added] = entry->second.try_emplace(queue_id);
    if (!added && how == How::kForward && queue->second.offset > offset) return false;
    if (!added && how == How::kMaster && queue->second.own && queue->second.offset > offset) return false;
    const bool same = !added && queue->second.offset == offset;
    if (how != How::kAny || !same)
      queue->second.own = how == How::kOwn || (how == How::kAny && keeps_own.load(std::memory_order_relaxed));
    if (same) return true;
    queue->second.offset = offset;
    changes.fetch_add(1, std::memory_order_relaxed);
    exported.store(false, std::memory_order_relaxed);
    if (std::exchange(queue->second.dirty, true)) return true;
    shard.dirty.emplace_back(entry->first, queue_id);
    return true;
  }
  template <typename Predicate>
  void remove_if(Predicate gone) {
    for (auto& shard : shards) {
      std::lock_guard<std::mutex> lock(shard.mutex);
      for (auto entry = shard.table.begin(); entry != shard.table.end();) {
        if (!gone(topic_and_group(entry->first))) {
          ++entry;
          continue;
        }
        for (const auto& [queue_id, slot] : entry->second) shard.dirty.emplace_back(entry->first, queue_id);
        entry = shard.table.erase(entry);
        changes.fetch_add(1, std::memory_order_relaxed);
        exported.store(false, std::memory_order_relaxed);
      }
    }
    std::lock_guard<std::mutex> lock(reset_mutex);
    for (auto reset = resets.begin(); reset != resets.end();)
      reset = gone(topic_and_group(reset->first)) ? resets.erase(reset) : std::next(reset);
    reset_names.store(resets.size(), std::memory_order_release);
  }
  std::optional<int64_t> pending_reset(std::string_view name, int32_t queue_id) {
    if (reset_names.load(std::memory_order_acquire) == 0) return std::nullopt;
    std::lock_guard<std::mutex> lock(reset_mutex);
    auto entry = resets.find(name);
    if (entry == resets.end()) return std::nullopt;
    auto queue = entry->second.find(queue_id);
    if (queue == entry->second.end()) return std::nullopt;
    return queue->second;
  }
  template <typename Visit>
  void each(Visit visit) {
    for (auto& shard : shards) {
      std::lock_guard<std::mutex> lock(shard.mutex);
      for (const auto& [name, queues] : shard.table) visit(name, queues);
    }
  }

  [[nodiscard]] Status load();
  [[nodiscard]] Status import_json(bool required_to_be_ours);
  [[nodiscard]] std::string json();

  const Options options;
  const Logger& logger;
  std::unique_ptr<rocksdb::DB> db;
  std::array<Shard, 16> shards;
  std::atomic<bool> exported{false};
  std::atomic<bool> keeps_own{false};
  std::atomic<uint64_t> changes{0};

  std::mutex reset_mutex;
  std::map<std::string, QueueOffsets, std::less<>> resets;  // guarded by reset_mutex; by "topic@group"
  std::atomic<size_t> reset_names{0};

  std::mutex flush_mutex;     // one flush() at a time
  bool unsynced = false;      // something was written without a sync; guarded by flush_mutex
  std::mutex export_mutex;    // one export_json() at a time
  uint64_t json_hash = 0;     // of the file as it is; guarded by export_mutex
  std::string other_members;  // of the JSON file; constant after load()
};

ConsumerOffsets::ConsumerOffsets(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ConsumerOffsets::~ConsumerOffsets() = default;

Result<std::unique_ptr<ConsumerOffsets>> ConsumerOffsets::open(Options options, const Logger& logger) {
  auto impl = std::make_unique<Impl>(std::move(options), logger);
  APOGEE_TRY_ASSIGN(impl->db, open_state_db(impl->options.db_dir, kWhat));
  APOGEE_TRY(impl->load());
  return std::unique_ptr<ConsumerOffsets>(new ConsumerOffsets(std::move(impl)));
}

Status ConsumerOffsets::Impl::load() {
  size_t loaded = 0;
  std::unique_ptr<rocksdb::Iterator> it(db->NewIterator(rocksdb::ReadOptions()));
  for (it->Seek("o"); it->Valid() && it->key().starts_with("o"); it->Next()) {
    std::string_view key(it->key().data(), it->key().size());
    if (key.size() < 6 || it->value().size() != 8 || key[key.size() - 5] != '\0')
      return Error{Errc::kCorrupt, options.db_dir + ": an entry of " + std::to_string(key.size()) + " and " +
                                       std::to_string(it->value().size()) + " bytes is no offset"};
    auto name = key.substr(1, key.size() - 6);
    shard_of(name).table[std::string(name)][load_be<int32_t>(key.data() + key.size() - 4)].offset =
        load_be<int64_t>(it->value().data());
    ++loaded;
  }
  if (!it->status().ok()) return db_error(it->status(), options.db_dir);

  std::string hashes;
  rocksdb::Status status = db->Get(rocksdb::ReadOptions(), kJsonHashesKey, &hashes);
  if (!status.ok() && !status.IsNotFound()) return db_error(status, options.db_dir);
  auto text = config::read_whole_file(options.json_file);
  if (text) {
    json_hash = fnv1a_64(*text);
    if (hashes.size() == 16 &&
        (json_hash == load_be<uint64_t>(hashes.data()) || json_hash == load_be<uint64_t>(hashes.data() + 8))) {
      if (auto known = remoting::decode_consumer_offset_serialize_wrapper(*text))
        other_members = std::move(known->other_members);
      logger.info("{}: {} consumer offsets", options.db_dir, loaded);
      return {};
    }
  }
  if (!text && (loaded > 0 || status.ok())) return {};
  return import_json(text.has_value());
}

// Reads consumerOffset.json, or its .bak where that is missing or cannot be read.
Status ConsumerOffsets::Impl::import_json(bool exists) {
  bool bad = false;
  for (const std::string& path : {options.json_file, options.json_file + ".bak"}) {
    auto text = config::read_whole_file(path);
    if (!text) continue;
    if (text->empty()) continue;
    auto wrapper = remoting::decode_consumer_offset_serialize_wrapper(*text);
    if (!wrapper) {
      logger.warn("{}: {}", path, wrapper.error().message);
      bad = true;
      continue;
    }
    size_t count = 0;
    for (const auto& [name, queues] : wrapper->offset_table) {
      if (name.find('@') == std::string::npos) continue;
      for (const auto& [queue_id, offset] : queues) {
        set(name, queue_id, offset);
        ++count;
      }
    }
    other_members = std::move(wrapper->other_members);
    logger.info("{}: {} consumer offsets imported", path, count);
    return {};
  }
  if (exists && bad)
    return Error{Errc::kCorrupt, options.json_file + ": neither it nor its .bak is a table of consumer offsets"};
  return {};
}

std::optional<int64_t> ConsumerOffsets::query(std::string_view group, std::string_view topic, int32_t queue_id) const {
  const std::string name = name_of(topic, group);
  if (auto reset = impl_->pending_reset(name, queue_id)) return reset;
  auto& shard = impl_->shard_of(name);
  std::lock_guard<std::mutex> lock(shard.mutex);
  auto entry = shard.table.find(name);
  if (entry == shard.table.end()) return std::nullopt;
  auto queue = entry->second.find(queue_id);
  if (queue == entry->second.end()) return std::nullopt;
  return queue->second.offset;
}

bool ConsumerOffsets::commit(std::string_view group, std::string_view topic, int32_t queue_id, int64_t offset) {
  const std::string name = name_of(topic, group);
  if (impl_->pending_reset(name, queue_id)) return false;
  impl_->set(name, queue_id, offset);
  return true;
}

bool ConsumerOffsets::commit_forward(std::string_view group, std::string_view topic, int32_t queue_id, int64_t offset) {
  const std::string name = name_of(topic, group);
  if (impl_->pending_reset(name, queue_id)) return false;
  return impl_->set(name, queue_id, offset, Impl::How::kForward);
}

void ConsumerOffsets::keep_own(const Table& before) {
  impl_->keeps_own.store(true);
  for (const auto& [name, queues] : before)
    for (const auto& [queue_id, offset] : queues) impl_->set(name, queue_id, offset, Impl::How::kOwn);
}

ConsumerOffsets::Table ConsumerOffsets::own() const {
  Table own;
  impl_->each([&own](const std::string& name, const Impl::Queues& queues) {
    for (const auto& [queue_id, slot] : queues)
      if (slot.own) own[name][queue_id] = slot.offset;
  });
  return own;
}

void ConsumerOffsets::give_up_own(std::string_view topic_and_group, int32_t queue_id, int64_t offset) {
  auto& shard = impl_->shard_of(topic_and_group);
  std::lock_guard<std::mutex> lock(shard.mutex);
  auto entry = shard.table.find(topic_and_group);
  if (entry == shard.table.end()) return;
  auto queue = entry->second.find(queue_id);
  if (queue != entry->second.end() && queue->second.offset == offset) queue->second.own = false;
}

void ConsumerOffsets::take_over(const Table& master) {
  for (const auto& [name, queues] : master)
    if (name.find('@') != std::string::npos)
      for (const auto& [queue_id, offset] : queues) impl_->set(name, queue_id, offset, Impl::How::kMaster);
  for (auto& shard : impl_->shards) {
    std::lock_guard<std::mutex> lock(shard.mutex);
    for (auto entry = shard.table.begin(); entry != shard.table.end();) {
      const auto known = master.find(entry->first);
      auto& queues = entry->second;
      for (auto queue = queues.begin(); queue != queues.end();) {
        if (queue->second.own || (known != master.end() && known->second.count(queue->first) != 0)) {
          ++queue;
          continue;
        }
        shard.dirty.emplace_back(entry->first, queue->first);
        impl_->exported.store(false, std::memory_order_relaxed);
        impl_->changes.fetch_add(1, std::memory_order_relaxed);
        queue = queues.erase(queue);
      }
      entry = queues.empty() ? shard.table.erase(entry) : std::next(entry);
    }
  }
}

uint64_t ConsumerOffsets::changes() const { return impl_->changes.load(std::memory_order_relaxed); }

void ConsumerOffsets::reset(std::string_view group, std::string_view topic, int32_t queue_id, int64_t offset) {
  const std::string name = name_of(topic, group);
  {
    std::lock_guard<std::mutex> lock(impl_->reset_mutex);
    impl_->resets[name][queue_id] = offset;
    impl_->reset_names.store(impl_->resets.size(), std::memory_order_release);
  }
  impl_->set(name, queue_id, offset);
}

std::optional<int64_t> ConsumerOffsets::take_reset(std::string_view group, std::string_view topic, int32_t queue_id) {
  if (impl_->reset_names.load(std::memory_order_acquire) == 0) return std::nullopt;
  std::lock_guard<std::mutex> lock(impl_->reset_mutex);
  auto entry = impl_->resets.find(name_of(topic, group));
  if (entry == impl_->resets.end()) return std::nullopt;
  auto queue = entry->second.find(queue_id);
  if (queue == entry->second.end()) return std::nullopt;
  const int64_t offset = queue->second;
  impl_->set(entry->first, queue_id, offset);  // over a commit that slipped in while the reset was made
  entry->second.erase(queue);
  if (entry->second.empty()) impl_->resets.erase(entry);
  impl_->reset_names.store(impl_->resets.size(), std::memory_order_release);
  return offset;
}

ConsumerOffsets::QueueOffsets ConsumerOffsets::offsets(std::string_view group, std::string_view topic) const {
  const std::string name = name_of(topic, group);
  auto& shard = impl_->shard_of(name);
  QueueOffsets offsets;
  std::lock_guard<std::mutex> lock(shard.mutex);
  auto entry = shard.table.find(name);
  if (entry == shard.table.end()) return offsets;
  for (const auto& [queue_id, slot] : entry->second) offsets[queue_id] = slot.offset;
  return offsets;
}

std::vector<std::string> ConsumerOffsets::topics_of_group(std::string_view group) const {
  std::set<std::string> topics;
  impl_->each([&](std::string_view name, const Impl::Queues&) {
    auto [topic, owner] = topic_and_group(name);
    if (owner == group) topics.emplace(topic);
  });
  return {topics.begin(), topics.end()};
}

std::vector<std::string> ConsumerOffsets::groups_of_topic(std::string_view topic) const {
  std::set<std::string> groups;
  impl_->each([&](std::string_view name, const Impl::Queues&) {
    auto [of, group] = topic_and_group(name);
    if (of == topic) groups.emplace(group);
  });
  return {groups.begin(), groups.end()};
}

std::vector<ConsumerOffsets::Entry> ConsumerOffsets::all() const {
  std::vector<Entry> entries;
  impl_->each([&entries](std::string_view name, const Impl::Queues& queues) {
    auto [topic, group] = topic_and_group(name);
    Entry entry{std::string(topic), std::string(group), {}};
    for (const auto& [queue_id, slot] : queues) entry.offsets[queue_id] = slot.offset;
    entries.push_back(std::move(entry));
  });
  return entries;
}

size_t ConsumerOffsets::clone(std::string_view source_group, std::string_view destination_group,
                              std::string_view topic) {
  size_t copied = 0;
  for (const Entry& entry : all()) {
    if (entry.group != source_group || (!topic.empty() && entry.topic != topic)) continue;
    const std::string name = name_of(entry.topic, destination_group);
    for (const auto& [queue_id, offset] : entry.offsets) {
      impl_->set(name, queue_id, offset);
      ++copied;
    }
  }
  return copied;
}

void ConsumerOffsets::remove_group(std::string_view group) {
  impl_->remove_if([group](const auto& topic_group) { return topic_group.second == group; });
}

void ConsumerOffsets::remove_topic(std::string_view topic) {
  impl_->remove_if([topic](const auto& topic_group) { return topic_group.first == topic; });
}

Status ConsumerOffsets::flush(bool sync) {
  std::lock_guard<std::mutex> flushing(impl_->flush_mutex);
  rocksdb::WriteBatch batch;
  std::vector<std::pair<std::string, int32_t>> written;
  for (auto& shard : impl_->shards) {
    std::lock_guard<std::mutex> lock(shard.mutex);
    for (auto& [name, queue_id] : shard.dirty) {
      auto entry = shard.table.find(name);
      auto queue = entry == shard.table.end() ? Impl::Queues::iterator{} : entry->second.find(queue_id);
      bool present = entry != shard.table.end() && queue != entry->second.end();
      rocksdb::Status status;
      if (present) {
        char value[8];
        store_be(value, queue->second.offset);
        queue->second.dirty = false;
        status = batch.Put(db_key(name, queue_id), rocksdb::Slice(value, sizeof value));
      } else {
        status = batch.Delete(db_key(name, queue_id));
      }
      if (!status.ok()) return db_error(status, impl_->options.db_dir);
      written.emplace_back(std::move(name), queue_id);
    }
    shard.dirty.clear();
  }
  if (written.empty() && !(sync && impl_->unsynced)) return {};
  rocksdb::WriteOptions how;
  how.sync = sync;
  rocksdb::Status status = written.empty() ? impl_->db->SyncWAL() : impl_->db->Write(how, &batch);
  if (status.ok()) {
    impl_->unsynced = !sync;
    return {};
  }
  for (auto& [name, queue_id] : written) {
    auto& shard = impl_->shard_of(name);
    std::lock_guard<std::mutex> lock(shard.mutex);
    auto entry = shard.table.find(name);
    if (entry != shard.table.end())
      if (auto queue = entry->second.find(queue_id); queue != entry->second.end()) queue->second.dirty = true;
    shard.dirty.emplace_back(std::move(name), queue_id);
  }
  return db_error(status, impl_->options.db_dir);
}

std::string ConsumerOffsets::Impl::json() {
  remoting::ConsumerOffsetSerializeWrapper wrapper;
  wrapper.other_members = other_members;
  each([&wrapper](const std::string& name, const Queues& queues) {
    auto& offsets = wrapper.offset_table[name];
    for (const auto& [queue_id, slot] : queues) offsets[queue_id] = slot.offset;
  });
  return encode(wrapper);
}

Status ConsumerOffsets::export_json() {
  if (impl_->options.json_file.empty()) return {};
  std::lock_guard<std::mutex> exporting(impl_->export_mutex);
  if (impl_->exported.exchange(true)) return {};
  const std::string text = impl_->json();
  const uint64_t hash = fnv1a_64(text);
  std::string hashes;
  append_be(hashes, impl_->json_hash);
  append_be(hashes, hash);
  rocksdb::WriteOptions how;
  how.sync = true;
  Status result;
  if (auto status = impl_->db->Put(how, kJsonHashesKey, hashes); !status.ok()) {
    result = db_error(status, impl_->options.db_dir);
  } else {
    result = config::replace_file(impl_->options.json_file, text);
  }
  if (result) {
    impl_->json_hash = hash;
  } else {
    impl_->exported.store(false);
  }
  return result;
}

}  // namespace apogee::broker
