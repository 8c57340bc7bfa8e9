#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "apogee/result.h"
#include "tools/mqstore/store_directory.h"

namespace mqstore {

struct DumpOptions {
  std::string topic;             ///< empty: all
  int32_t queue_id = -1;         ///< -1: all
  std::string key;               ///< as UNIQ_KEY or a word of KEYS; empty: all
  int64_t from = 0;              ///< place in the log
  int64_t begin_ms = 0;          ///< store time, inclusive
  int64_t end_ms = INT64_MAX;    ///< inclusive
  int64_t limit = INT64_MAX;     ///< records
  int64_t body_bytes_max = 100;  ///< of each body that are printed; 0: none
  bool json = false;             ///< a line of JSON for each record
};

/// Prints records in the order of the log; `print` gets whole lines and answers false to end. Holes and a torn tail are
/// lines of their own. Returns how many records were printed. Error: kIo.
[[nodiscard]] apogee::Result<int64_t> dump(const StoreDirectory& store, const DumpOptions& options,
                                           const std::function<bool(std::string_view lines)>& print);

/// Prints the entries of a queue. Errors: kNotFound, kIo.
[[nodiscard]] apogee::Result<int64_t> dump_queue(const StoreDirectory& store, const DumpOptions& options,
                                                 const std::function<bool(std::string_view lines)>& print);

}  // namespace mqstore
