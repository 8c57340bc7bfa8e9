#pragma once

#include <cstddef>
#include <memory>
#include <string_view>

#include "common/base/bytes.h"

namespace apogee::loop {

/// Room that the connections of one loop share, so that in steady state neither what they read nor what they write
/// takes memory from the heap. Thread: the loop's.
class LoopBuffers {
 public:
  static constexpr size_t kReadBytes = 64 * 1024, kReadBytesMin = 32 * 1024;
  static constexpr size_t kWriteBytes = 64 * 1024, kKeptBytesMax = 8 * 1024;

  struct Room {
    std::shared_ptr<char[]> chunk;
    size_t begin = 0, size = 0;
  };
  /// Where the next read may go, at least kReadBytesMin bytes; what nobody keeps of it is used again.
  [[nodiscard]] Room read_room();
  /// The room that the last read_room() has given. Another call of that one may give another room: meanwhile other
  /// threads may have let go what lay in front.
  [[nodiscard]] Room room_given() const { return {read_, read_used_, kReadBytes - read_used_}; }
  /// The bytes up to `end` of the room are now what was read; who keeps some of them holds the chunk.
  void read_up_to(size_t end) { read_used_ = end; }

  /// A copy of the bytes; of more than kKeptBytesMax in a chunk of its own.
  [[nodiscard]] SharedBytes keep(std::string_view bytes);

 private:
  std::shared_ptr<char[]> read_, write_, other_write_;
  size_t read_used_ = 0, write_used_ = 0;
};

}  // namespace apogee::loop
