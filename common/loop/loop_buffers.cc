#include "common/loop/loop_buffers.h"

#include <cstring>
#include <string>
#include <utility>

namespace apogee::loop {

namespace {
bool is_free(const std::shared_ptr<char[]>& chunk) { return chunk != nullptr && chunk.use_count() == 1; }
std::shared_ptr<char[]> make(size_t bytes) { return std::shared_ptr<char[]>(new char[bytes]); }
}  // namespace

LoopBuffers::Room LoopBuffers::read_room() {
  if (is_free(read_)) {
    // Other threads may have let frames in it go: what they have read of them comes before what is written here.
    [[maybe_unused]] auto acquired = read_;
    acquired = nullptr;
    read_used_ = 0;
  } else if (read_ == nullptr || kReadBytes - read_used_ < kReadBytesMin) {
    read_ = make(kReadBytes);
    read_used_ = 0;
  }
  return {read_, read_used_, kReadBytes - read_used_};
}

SharedBytes LoopBuffers::keep(std::string_view bytes) {
  if (bytes.size() > kKeptBytesMax) return SharedBytes::from(std::string(bytes));
  if (is_free(write_)) write_used_ = 0;
  if (write_ == nullptr || kWriteBytes - write_used_ < bytes.size()) {
    std::swap(write_, other_write_);
    if (!is_free(write_)) write_ = make(kWriteBytes);
    write_used_ = 0;
  }
  char* to = write_.get() + write_used_;
  std::memcpy(to, bytes.data(), bytes.size());
  write_used_ += bytes.size();
  return {write_, std::string_view(to, bytes.size())};
}

}  // namespace apogee::loop
