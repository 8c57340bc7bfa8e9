#pragma once

#include <algorithm>
#include <condition_variable>
#include <filesystem>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "common/base/bytes.h"
#include "common/io/file_system.h"
#include "common/message/message_record.h"
#include "store/consume_queues.h"
#include "store/file_names.h"
#include "store/message_store.h"
#include "test/support/catch.h"
#include "test/support/temporary_directory.h"
#include "test/support/wait.h"

namespace apogee::store {

namespace fs = std::filesystem;

struct Directory {
  test::TemporaryDirectory made;
  fs::path path = made.path();
};

inline StoreOptions small_options(const fs::path& root) {
  StoreOptions options;
  options.root_dir = root.string();
  options.commit_log_file_bytes = 64 * 1024;
  options.consume_queue_file_bytes = 2'000;
  options.disk_used_ratio_max = 1.01;
  options.retention.clean_forcibly = false;  // the machine's disk may be fuller than that
  return options;
}

struct Running {
  std::mutex mutex;
  std::condition_variable changed;
  std::map<std::string, QueueOffset> arrived;  // guarded by mutex
  std::vector<std::string> lines;              // guarded by mutex: what was logged
  Logger logger;
  const std::string queues_root;
  const int64_t queue_file_bytes;
  io::FileSystem& file_system;
  std::unique_ptr<MessageStore> store;

  explicit Running(StoreOptions options, io::FileSystem& files = io::posix_file_system())
      : logger([this](LogLevel, std::string_view line) {
          std::lock_guard lock(mutex);
          lines.emplace_back(line);
        }),
        queues_root(options.root_dir + "/consumequeue/"),
        queue_file_bytes(options.consume_queue_file_bytes),
        file_system(files) {
    auto opened = MessageStore::open(std::move(options), logger, files);
    if (!opened) FAIL(opened.error().message);
    store = std::move(*opened);
    store->set_arrival_listener([this](const std::vector<Arrival>& arrivals) {
      std::lock_guard lock(mutex);
      for (const auto& each : arrivals) arrived[each.topic + "-" + std::to_string(each.queue_id)] = each.max_offset;
      changed.notify_all();
    });
    REQUIRE(store->start());
  }
  ~Running() {
    if (store) store->stop();
  }
  bool logged(std::string_view part) {
    std::lock_guard lock(mutex);
    return std::any_of(lines.begin(), lines.end(),
                       [&](const std::string& line) { return line.find(part) != std::string::npos; });
  }
  /// Waits until the messages in front of the offset can be read, and until their entries are in files, for tests that
  /// look at these.
  bool wait_for(const std::string& queue, QueueOffset offset) {
    {
      std::unique_lock lock(mutex);
      if (!changed.wait_for(lock, std::chrono::seconds(20), [&] { return arrived[queue] >= offset; })) return false;
    }
    (void)test::eventually([&] { return offset <= 0 || in_file(queue, offset - 1); }, std::chrono::seconds(3));
    return true;
  }
  bool in_file(const std::string& queue, QueueOffset offset) {
    std::string path = queue;
    path[path.rfind('-')] = '/';
    const int64_t at = offset * kQueueEntryBytes;
    path = queues_root + path + "/" + file_name_of(at / queue_file_bytes * queue_file_bytes);
    auto file = file_system.open(path, io::OpenMode::kExisting);
    if (!file) return false;
    char raw[kQueueEntryBytes] = {};
    auto bytes = (*file)->read_at(at % queue_file_bytes, raw, sizeof raw);
    return bytes && *bytes == sizeof raw && load_be<int32_t>(raw + 8) != 0;
  }
};

/// Nothing when no answer comes. Thread: any.
inline std::optional<PutResult> put_if_answered(MessageStore& store, std::string_view topic, int32_t queue,
                                                std::string_view body, std::string_view properties = {},
                                                bool batch = false) {
  MessageDraft draft;
  draft.topic = topic;
  draft.queue_id = queue;
  draft.body = body;
  draft.properties = properties;
  draft.born_timestamp_ms = 1;
  std::mutex mutex;
  std::condition_variable told;
  std::optional<PutResult> result;
  auto done = [&](PutResult r) {
    std::lock_guard lock(mutex);
    result = std::move(r);
    told.notify_one();
  };
  if (batch) {
    store.append_batch(draft, done);
  } else {
    store.append(draft, done);
  }
  std::unique_lock lock(mutex);
  told.wait_for(lock, std::chrono::seconds(20), [&] { return result.has_value(); });
  return result;
}

/// Thread: the test's own.
inline PutResult put(MessageStore& store, std::string_view topic, int32_t queue, std::string_view body,
                     std::string_view properties = {}, bool batch = false) {
  auto result = put_if_answered(store, topic, queue, body, properties, batch);
  REQUIRE(result);
  return *result;
}

inline std::string body_of(const SharedBytes& record) {
  auto decoded = message::decode_record(record.bytes);
  REQUIRE(decoded);
  return std::string(decoded->body);
}

}  // namespace apogee::store
