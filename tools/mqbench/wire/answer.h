#pragma once

#include <cstdint>
#include <string_view>

namespace mqbench {

/// One frame as it lies in a read buffer.
struct Frame {
  uint8_t type = 0;  ///< 0 JSON, 1 binary
  std::string_view header;
  std::string_view body;
  size_t bytes = 0;
};

/// What a load needs of an answer's header.
struct Answer {
  int code = -1;
  uint32_t opaque = 0;
  int64_t next_offset = -1;  ///< nextBeginOffset, when asked for
  bool request = false;      ///< not an answer: the broker asks something of its own accord
};

/// Finds the members without building a document. False when the header is none.
[[nodiscard]] bool scan_answer(const Frame& frame, bool with_next_offset, Answer& answer);
/// The remark, for messages about failures; "" when there is none.
[[nodiscard]] std::string_view remark_of(const Frame& frame);

inline constexpr uint32_t kOpaqueFirst = 1'000'000'000;  ///< so that it always has ten digits

}  // namespace mqbench
