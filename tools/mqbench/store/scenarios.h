#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "tools/mqbench/report.h"

// The scenarios of `mqbench store`, a file each. They throw std::runtime_error when something cannot be measured.
namespace mqbench {

struct StoreBenchOptions {
  std::filesystem::path directory;  ///< scratch; each scenario leaves it as it was
  double seconds = 5;               ///< of each timed measurement
  int64_t body_bytes = 1'024;
  int64_t append_bytes = 1LL << 30;  ///< written at most by one measurement of appends
  std::vector<int64_t> senders = {1, 16, 256};
  int64_t store_bytes = 10LL << 30;  ///< of the store that is started
  int64_t store_body_bytes = 4'096;
  int64_t recover_bytes = 1LL << 30;  ///< of the store that is recovered
  int64_t log_file_bytes = 1LL << 30;
  int64_t index_messages = 1'000'000;
  int64_t topics = 10'000;
  int64_t queues = 8;
};

/// append.*: how fast one thread appends, against memcpy into memory and into a file prepared as the log is.
void measure_append(const StoreBenchOptions& options, Report& report);
/// sync.N.*: acknowledged messages a second under SYNC_FLUSH with N senders, against write and fdatasync.
void measure_sync_flush(const StoreBenchOptions& options, Report& report);
/// start.*: how long a store takes to start after a stop, and recover.*: after a crash.
void measure_start(const StoreBenchOptions& options, Report& report);
/// index.*: entries a second, and what they cost.
void measure_index(const StoreBenchOptions& options, Report& report);
/// memory.*: resident memory with many topics.
void measure_memory(const StoreBenchOptions& options, Report& report);

}  // namespace mqbench
