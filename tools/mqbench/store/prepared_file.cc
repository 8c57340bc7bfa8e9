#include "tools/mqbench/store/prepared_file.h"

#include <stdexcept>

namespace mqbench {

namespace io = apogee::io;

PreparedFile::PreparedFile(std::filesystem::path path, int64_t bytes, Pages pages)
    : path_(std::move(path)), bytes_(bytes) {
  auto opened = io::posix_file_system().open(path_.string(), io::OpenMode::kCreate);
  if (!opened) throw std::runtime_error(opened.error().message);
  file_ = std::move(*opened);
  if (auto allocated = file_->allocate(bytes); !allocated) throw std::runtime_error(allocated.error().message);
  auto mapped = file_->map(static_cast<size_t>(bytes));
  if (!mapped) throw std::runtime_error(mapped.error().message);
  map_ = std::move(*mapped);
  if (pages == Pages::kUntouched) return;
  if (auto zeros = file_->write_zeros(0, bytes, pages == Pages::kOnDisk); !zeros)
    throw std::runtime_error(zeros.error().message);
  if (!map_->populate(0, static_cast<size_t>(bytes)))
    throw std::runtime_error(path_.string() + ": no memory for its pages");
}

PreparedFile::~PreparedFile() {
  std::error_code ignored;
  std::filesystem::remove(path_, ignored);
}

}  // namespace mqbench
