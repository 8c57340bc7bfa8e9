#include "broker/filter/java_numbers.h"

#include <limits>
#include <string>

#include "common/base/text.h"

namespace apogee::broker {

std::optional<double> java_double(std::string_view text) {
  text = trim(text);
  bool negative = false;
  if (!text.empty() && (text.front() == '+' || text.front() == '-')) {
    negative = text.front() == '-';
    text.remove_prefix(1);
  }
  auto signed_value = [negative](double value) { return negative ? -value : value; };
  if (text == "NaN") return std::numeric_limits<double>::quiet_NaN();
  if (text == "Infinity") return signed_value(std::numeric_limits<double>::infinity());
  const bool hexadecimal = text.size() > 2 && text[0] == '0' && (text[1] == 'x' || text[1] == 'X');
  if (hexadecimal) {
    text.remove_prefix(2);
    if (text.find_first_of("pP") == std::string_view::npos) return std::nullopt;
  }
  if (!text.empty() && std::string_view("fFdD").find(text.back()) != std::string_view::npos) text.remove_suffix(1);
  // from_chars() takes more than Java: a sign, "inf", "nan".
  const std::string_view first = hexadecimal ? "0123456789abcdefABCDEF." : "0123456789.";
  if (text.empty() || first.find(text.front()) == std::string_view::npos) return std::nullopt;
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value,
                                            hexadecimal ? std::chars_format::hex : std::chars_format::general);
  if (end != text.data() + text.size()) return std::nullopt;
  if (error == std::errc()) return signed_value(value);
  if (error != std::errc::result_out_of_range) return std::nullopt;
  // Beyond either end of the range: the exponent tells which.
  const auto exponent = text.find_first_of(hexadecimal ? "pP" : "eE");
  const bool tiny = exponent == std::string_view::npos
                        ? text.substr(0, text.find('.')).find_first_not_of('0') == std::string_view::npos
                        : exponent + 1 < text.size() && text[exponent + 1] == '-';
  return signed_value(tiny ? 0.0 : std::numeric_limits<double>::infinity());
}

}  // namespace apogee::broker
