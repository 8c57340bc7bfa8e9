#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "apogee/result.h"
#include "tools/mqstore/verify.h"

namespace mqstore {

struct RepairOptions {
  bool dry_run = false;
  std::string backup_dir;  ///< empty: ROOT/repair-<time>
};

struct Repaired {
  std::vector<std::string> done;  ///< each a sentence; with dry_run what would be done
  std::vector<std::string> left;  ///< findings that nothing can be done about here
  std::string backup_dir;         ///< empty: nothing was taken away
};

/// Does what can be done without a broker: cuts a torn tail, builds queues again from the log, takes a bad index away
/// (the broker builds it again), puts the .bak of an unreadable configuration file in its place. What is cut or
/// replaced is kept in the backup directory; whole messages are never touched. Holds the store's lock meanwhile.
/// Errors: kAlreadyExists (a broker works on it), kIo, kDiskFull, what MessageStore::open says.
[[nodiscard]] apogee::Result<Repaired> repair(const StoreDirectory& store, const Verified& verified,
                                              const RepairOptions& options,
                                              const std::function<void(std::string_view line)>& log);

}  // namespace mqstore
