#pragma once

#include <cstdint>
#include <string_view>

namespace apogee {

/// Java's String.hashCode of UTF-8 text: over UTF-16 units, so that tags in any script get the code that
/// Java clients send. A byte that is not UTF-8 counts as U+FFFD.
[[nodiscard]] int32_t java_string_hash(std::string_view utf8);

}  // namespace apogee
