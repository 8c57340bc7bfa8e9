#pragma once

#include <charconv>
#include <optional>
#include <string_view>

namespace apogee::broker {

/// As Java's Integer.valueOf and Long.valueOf: decimal digits with an optional sign, within the type's range.
template <typename Integer>
[[nodiscard]] std::optional<Integer> java_integer(std::string_view text) {
  if (text.size() > 1 && text.front() == '+' && text[1] != '-') text.remove_prefix(1);
  Integer value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

/// As Java's Double.valueOf: white space around, an optional sign, NaN, Infinity, decimal or hexadecimal digits with an
/// exponent, a suffix of f or d; too much is infinite, too little is 0.
[[nodiscard]] std::optional<double> java_double(std::string_view text);

}  // namespace apogee::broker
