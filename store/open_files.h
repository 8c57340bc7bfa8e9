#pragma once

#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <utility>

#include "apogee/result.h"
#include "common/io/file_system.h"

namespace apogee::store {

/// Open files, at most `limit` of them, least recently used first out. Thread: any.
class OpenFiles {
 public:
  OpenFiles(io::FileSystem& files, size_t limit) : files_(files), limit_(limit) {}
  [[nodiscard]] Result<std::shared_ptr<io::File>> get(const std::string& path, io::OpenMode mode);
  void forget(const std::string& path);
  void forget_below(const std::string& directory);

  /// After each write; `made`: the file is new, so its directories want a sync too.
  void mark_dirty(const std::string& path, bool made);
  /// Syncs what was marked, all of it below the directory. What is gone in the meantime is no error.
  [[nodiscard]] Status sync_dirty(const std::string& directory);

 private:
  io::FileSystem& files_;
  const size_t limit_;
  std::mutex mutex_;
  std::list<std::pair<std::string, std::shared_ptr<io::File>>> order_;   // guarded by mutex_; latest first
  std::unordered_map<std::string, decltype(order_)::iterator> by_path_;  // guarded by mutex_
  std::unordered_map<std::string, bool> dirty_;                          // guarded by mutex_; true: new
};

}  // namespace apogee::store
