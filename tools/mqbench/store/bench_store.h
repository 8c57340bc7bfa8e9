#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "common/base/logger.h"
#include "store/message_store.h"
#include "tools/mqbench/store/scenarios.h"

// What the scenarios share.
namespace mqbench {

/// Steady seconds since it was made.
class Stopwatch {
 public:
  [[nodiscard]] double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count();
  }

 private:
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
};

/// A store in a directory of its own below the scratch one, stopped and removed at the end.
class BenchStore {
 public:
  BenchStore(const StoreBenchOptions& options, const std::string& name);
  ~BenchStore();
  BenchStore(const BenchStore&) = delete;
  BenchStore& operator=(const BenchStore&) = delete;

  apogee::store::StoreOptions options;  ///< may be changed before open()
  /// Opens and starts; returns the seconds that it took. Throws what the store says.
  double open();
  void stop();
  [[nodiscard]] apogee::store::MessageStore& store() { return *store_; }

  /// Appends without waiting for the answer, but for room when very many are outstanding. Thread: one.
  void append(const apogee::store::MessageDraft& draft);
  /// Until everything appended was answered. Throws when something was refused.
  void wait_for_answers();
  /// Until the queues, and with index the index, hold everything.
  void wait_until_built(bool index);

 private:
  apogee::Logger logger_;
  std::unique_ptr<apogee::store::MessageStore> store_;
  std::mutex mutex_;
  std::condition_variable answered_;
  int64_t outstanding_ = 0;  // guarded by mutex_
  std::string refused_;      // guarded by mutex_
};

[[nodiscard]] apogee::store::MessageDraft draft_of(std::string_view topic, int32_t queue_id, std::string_view body);
/// A record's bytes in the log.
[[nodiscard]] int64_t record_bytes_of(const apogee::store::MessageDraft& draft);
/// User and system time of this process, in seconds.
[[nodiscard]] double cpu_seconds();
/// From /proc/self/status, such as "VmRSS", "RssAnon"; in MiB.
[[nodiscard]] double memory_mib(const std::string& field);
[[nodiscard]] int64_t open_descriptors();
/// Asks the kernel to forget what it has cached of the files below; what is not on disk yet is written first.
void drop_from_cache(const std::filesystem::path& directory);

}  // namespace mqbench
