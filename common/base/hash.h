#pragma once

#include <cstdint>
#include <string_view>

namespace apogee {

/// Java's String.hashCode of UTF-8 text: over UTF-16 units, so that tags in any script get the code that
/// Java clients send. A byte that is not UTF-8 counts as U+FFFD.
[[nodiscard]] int32_t java_string_hash(std::string_view utf8);

/// FNV-1a with 64 bits; `hash` is what the bytes before gave. Files hold it, so it stays as it is.
[[nodiscard]] constexpr uint64_t fnv1a_64(std::string_view bytes, uint64_t hash = 14695981039346656037ULL) {
  for (char byte : bytes) hash = (hash ^ static_cast<unsigned char>(byte)) * 1099511628211ULL;
  return hash;
}

}  // namespace apogee
