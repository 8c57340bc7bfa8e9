#pragma once

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string_view>
#include <system_error>

namespace apogee {

/// The number that the whole text is, in decimal digits with a minus in front or without; false when it is none or does
/// not fit. As std::from_chars, but quick with the few digits that numbers of headers have.
template <typename Int>
[[nodiscard]] inline bool read_decimal(std::string_view text, Int& to) {
  constexpr size_t kDigitsThatFit = std::numeric_limits<Int>::digits10;
  if (text.size() - 1 < kDigitsThatFit) {
    Int number = 0;
    size_t i = 0;
    for (; i < text.size(); ++i) {
      const auto digit = static_cast<unsigned char>(text[i] - '0');
      if (digit > 9) break;
      number = static_cast<Int>(number * 10 + digit);
    }
    if (i == text.size()) return to = number, true;
  }
  const char* const last = text.data() + text.size();
  const auto [end, error] = std::from_chars(text.data(), last, to);
  return error == std::errc() && end == last;
}

}  // namespace apogee
