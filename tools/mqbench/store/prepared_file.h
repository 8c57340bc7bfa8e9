#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>

#include "common/io/file_system.h"

namespace mqbench {

/// A file of zeros prepared as the CommitLog prepares its own: allocated, mapped, pages made present and writable.
/// Removed at the end. Throws what the file system says.
class PreparedFile {
 public:
  PreparedFile(std::filesystem::path path, int64_t bytes, bool populate);
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
