#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "apogee/result.h"

namespace apogee::message {

enum class Compression : uint8_t { kZlib, kLz4, kZstd };

/// The bits for a message's system flag, kCompressed included.
[[nodiscard]] int32_t sys_flag_of(Compression type);
/// How a compressed body is compressed; without type bits zlib. Error: kInvalidArgument for other bits.
[[nodiscard]] Result<Compression> compression_of(int32_t sys_flag);

/// zlib stream, LZ4 frame or zstd frame. Level: 1 to 9; what is best for the type when 0.
[[nodiscard]] Result<std::string> compress(Compression type, std::string_view bytes, int level = 0);
/// Errors: kCorrupt; kTooLarge when more than `bytes_max` bytes would come out.
[[nodiscard]] Result<std::string> decompress(Compression type, std::string_view bytes, size_t bytes_max);

}  // namespace apogee::message
