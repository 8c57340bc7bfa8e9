#pragma once

#include <string>
#include <utility>

#include "store/ha/epoch_file.h"
#include "store/ha/replica_acks.h"
#include "store/ha/replicated_log.h"
#include "test/support/memory_file_system.h"
#include "test/support/wait.h"
#include "test/unit/store/fault_file_system.h"
#include "test/unit/store/store_bench.h"

namespace apogee::store {

/// On a file system in memory.
inline StoreOptions memory_options(bool slave = false) {
  auto options = small_options("/store");
  options.message_index_enabled = false;  // a RocksDB wants real files
  options.log_window_bytes = 64 * 1024;
  options.slave = slave;
  return options;
}

/// What append_copy() answers.
inline Status append_copy(ReplicatedLog& log, LogOffset at, std::string bytes) {
  struct Answer {
    std::mutex mutex;
    std::condition_variable told;
    std::optional<Status> status;  // guarded by mutex
  };
  auto answer = std::make_shared<Answer>();
  log.append_copy(at, SharedBytes::from(std::move(bytes)), [answer](Status status) {
    std::lock_guard lock(answer->mutex);
    answer->status = std::move(status);
    answer->told.notify_one();
  });
  std::unique_lock lock(answer->mutex);
  if (!answer->told.wait_for(lock, std::chrono::seconds(20), [&] { return answer->status.has_value(); }))
    return Error(Errc::kTimeout, "no answer");
  return std::move(*answer->status);
}

/// Copies what `from` has up to `limit`, from where `to` ends, a file at a time.
inline Status copy_log(ReplicatedLog& from, ReplicatedLog& to, LogOffset limit = INT64_MAX) {
  LogOffset at = to.end() == 0 ? from.begin() : to.end();
  while (at < std::min(limit, from.end())) {
    APOGEE_TRY_ASSIGN(auto bytes, from.read(at, limit - at));
    APOGEE_TRY(append_copy(to, at, std::string(bytes.bytes)));
    at += static_cast<LogOffset>(bytes.size());
  }
  return {};
}

/// The bytes of a log, from its begin to its end.
inline std::string log_bytes(const ReplicatedLog& log) {
  std::string all;
  for (LogOffset at = log.begin(); at < log.end();) {
    auto part = log.read(at, INT32_MAX);
    if (!part || part->empty()) return all + "?";
    all += part->bytes;
    at += static_cast<LogOffset>(part->size());
  }
  return all;
}

/// Bodies of a queue in their order, as far as they can be read.
inline std::vector<std::string> bodies_of(MessageStore& store, std::string_view topic, int32_t queue) {
  std::vector<std::string> bodies;
  for (QueueOffset next = store.min_offset(topic, queue); next < store.max_offset(topic, queue);) {
    auto got = store.get(topic, queue, next, {}, nullptr);
    for (const auto& record : got.records) bodies.push_back(body_of(record));
    if (got.next_begin_offset <= next) break;
    next = got.next_begin_offset;
  }
  return bodies;
}

}  // namespace apogee::store
