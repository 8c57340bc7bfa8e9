#pragma once

#include <fmt/core.h>

#include <charconv>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace apogee::store {

/// Files of the log and of queues are named by the byte offset of their beginning, in 20 decimal digits.
inline std::string file_name_of(int64_t offset) { return fmt::format("{:020}", offset); }

inline std::optional<int64_t> offset_of_file_name(std::string_view name) {
  int64_t offset = 0;
  auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), offset);
  if (name.size() != 20 || error != std::errc() || end != name.data() + name.size()) return std::nullopt;
  return offset;
}

}  // namespace apogee::store
