#include "common/base/hash.h"

#include <cstring>

#include "common/base/text.h"

namespace apogee {

namespace {

// Takes one code point off the front; U+FFFD for a byte that begins none.
uint32_t take_code_point(std::string_view& text) {
  auto byte = [&](size_t i) { return static_cast<uint32_t>(static_cast<unsigned char>(text[i])); };
  uint32_t first = byte(0);
  size_t more = first < 0x80                    ? 0
                : first >= 0xC2 && first < 0xE0 ? 1
                : (first & 0xF0) == 0xE0        ? 2
                : first >= 0xF0 && first < 0xF5 ? 3
                                                : 9;
  uint32_t code = more == 1 ? first & 0x1F : more == 2 ? first & 0x0F : more == 3 ? first & 0x07 : first;
  if (more >= text.size()) more = 9;
  for (size_t i = 1; more != 9 && i <= more; ++i) {
    if ((byte(i) & 0xC0) != 0x80) {
      more = 9;
      break;
    }
    code = code << 6 | (byte(i) & 0x3F);
  }
  bool overlong = (more == 2 && code < 0x800) || (more == 3 && code < 0x10000);
  if (more == 9 || overlong || code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)) {
    text.remove_prefix(1);
    return 0xFFFD;
  }
  text.remove_prefix(more + 1);
  return code;
}

}  // namespace

int32_t java_string_hash(std::string_view utf8) {
  uint32_t hash = 0;
  auto add = [&hash](uint32_t unit) { hash = hash * 31 + unit; };
  size_t ascii = 0;
  for (; ascii < utf8.size() && static_cast<signed char>(utf8[ascii]) >= 0; ++ascii)
    add(static_cast<uint32_t>(utf8[ascii]));
  utf8.remove_prefix(ascii);
  while (!utf8.empty()) {
    uint32_t code = take_code_point(utf8);
    if (code >= 0x10000) {
      add(0xD800 + ((code - 0x10000) >> 10));
      add(0xDC00 + ((code - 0x10000) & 0x3FF));
    } else {
      add(code);
    }
  }
  return static_cast<int32_t>(hash);
}

std::string to_valid_utf8(std::string_view text) {
  std::string out;
  out.reserve(text.size() + 16);
  while (!text.empty()) {
    std::string_view before = text;
    bool replaced = take_code_point(text) == 0xFFFD;
    out.append(replaced ? "\xEF\xBF\xBD" : before.substr(0, before.size() - text.size()));
  }
  return out;
}

bool is_utf8(std::string_view text) {
  while (!text.empty()) {
    // Most texts are ASCII, eight bytes of which are looked at at once.
    uint64_t eight = 0;
    while (text.size() >= sizeof eight) {
      std::memcpy(&eight, text.data(), sizeof eight);
      if ((eight & 0x8080808080808080ULL) != 0) break;
      text.remove_prefix(sizeof eight);
    }
    if (text.empty()) break;
    bool replacement = text.substr(0, 3) == "\xEF\xBF\xBD";
    if (take_code_point(text) == 0xFFFD && !replacement) return false;
  }
  return true;
}

}  // namespace apogee
