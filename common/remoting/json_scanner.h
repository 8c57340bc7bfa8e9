#pragma once

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace apogee::remoting {

/// The tokens of fastjson's dialect; the base of the header reader and of read_json. Every function that fails
/// leaves failed() true, and all further calls do nothing.
class JsonScanner {
 public:
  enum class Kind : uint8_t { kEnd, kObject, kArray, kText, kNumber, kTrue, kFalse, kNull, kBad };

  explicit JsonScanner(std::string_view text) : text_(text) {}

  [[nodiscard]] bool failed() const { return failed_; }
  [[nodiscard]] size_t position() const { return position_; }
  void fail() { failed_ = true; }

  /// What begins at the next byte that is no white space.
  Kind peek();
  /// Takes one of {}[]: when it is next.
  bool take(char wanted);
  /// Takes white space and commas.
  void skip_commas();
  /// A quoted text, single or double quotes, without its escapes.
  bool read_text(std::string& to);
  /// The characters of a number, without a type suffix.
  bool read_number(std::string_view& to);
  /// true, false, null, NaN or undefined.
  bool take_word();
  /// A member name that is not quoted.
  bool read_bare_name(std::string_view& to);
  /// Passes over a whole value of any kind.
  bool skip_value(int depth_left);
  /// Only white space is left.
  bool at_end() { return peek() == Kind::kEnd; }
  [[nodiscard]] std::string_view slice(size_t from) const { return text_.substr(from, position_ - from); }

 private:
  void skip_space();
  bool read_escape(std::string& to);
  bool read_hex(int digits, uint32_t& value);

  std::string_view text_;
  size_t position_ = 0;
  bool failed_ = false;
};

/// Writes the value as a JSON string: escapes quotes, backslashes and control characters only, as Java does.
void append_json_string(std::string& to, std::string_view value);
/// Writes one code point as UTF-8; a surrogate as U+FFFD.
void append_utf8(std::string& to, uint32_t code_point);

}  // namespace apogee::remoting
