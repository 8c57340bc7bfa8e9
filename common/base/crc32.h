#pragma once

#include <cstdint>
#include <string_view>

namespace apogee {

/// CRC-32 of zlib. To go on with further bytes, pass the value so far.
[[nodiscard]] uint32_t crc32(std::string_view bytes, uint32_t so_far = 0);
/// As the protocol and the records carry it: the lower 31 bits.
[[nodiscard]] inline int32_t crc32_31(std::string_view bytes) {
  return static_cast<int32_t>(crc32(bytes) & 0x7FFFFFFFU);
}

}  // namespace apogee
