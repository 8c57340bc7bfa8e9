#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "apogee/result.h"
#include "tools/mqstore/store_directory.h"

namespace mqstore {

/// One inconsistency. `kind` is a word for programs, such as "hole" or "wrong-entry".
struct Finding {
  std::string kind;
  std::string where;  ///< a file, a queue or a place in the log
  std::string what;   ///< for people: what is wrong and what it means
};

struct VerifyOptions {
  bool for_4_9 = false;            ///< also what Apache RocketMQ 4.9 could not read
  bool index = true;               ///< look into indexdb/ too
  int64_t findings_per_kind = 20;  ///< of one kind are told; the others are counted
};

struct Verified {
  std::vector<Finding> findings;
  int64_t findings_total = 0;
  int64_t records = 0, record_bytes = 0, holes = 0, queues = 0, entries = 0, index_entries = 0;
  int64_t log_begin = 0, log_end = 0;
  bool unclean = false;    ///< the last stop was none: a start looks at the ends of log and queues and completes them
  bool torn_tail = false;  ///< bytes of no whole record behind the log's end
  bool queues_bad = false, index_bad = false;
  std::vector<std::string> bad_config_files;
};

/// Told now and then: bytes done and in all.
using ProgressListener = std::function<void(int64_t done, int64_t total)>;

/// Walks log, queues, configuration and index, and changes nothing. Memory: some bytes a queue. Error: kIo.
[[nodiscard]] apogee::Result<Verified> verify(StoreDirectory& store, const VerifyOptions& options,
                                              const ProgressListener& progress);

}  // namespace mqstore
