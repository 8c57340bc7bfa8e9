#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>

#include "common/io/file_system.h"

namespace mqbench {

/// Of a mapped file: nothing in memory; zeros present and writable; the same, and zeros and their blocks on the disk.
/// The CommitLog prepares its window as kPresent, under SYNC_FLUSH as kOnDisk.
enum class Pages { kUntouched, kPresent, kOnDisk };

/// An allocated and mapped file. Removed at the end. Throws what the file system says.
class PreparedFile {
 public:
  PreparedFile(std::filesystem::path path, int64_t bytes, Pages pages);
  ~PreparedFile();
  PreparedFile(const PreparedFile&) = delete;
  PreparedFile& operator=(const PreparedFile&) = delete;
  [[nodiscard]] char* data() const { return map_->data(); }
  [[nodiscard]] apogee::io::File& file() const { return *file_; }
  [[nodiscard]] int64_t bytes() const { return bytes_; }

 private:
  const std::filesystem::path path_;
  const int64_t bytes_;
  std::unique_ptr<apogee::io::File> file_;
  std::shared_ptr<apogee::io::MappedRegion> map_;
};

}  // namespace mqbench
