#include "common/remoting/json_scanner.h"

namespace apogee::remoting {

namespace {

constexpr std::string_view kWords[] = {"true", "false", "null", "NaN", "undefined"};

bool is_space(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t' || c == '\f' || c == '\b'; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }

bool ends_name(char c) {
  return is_space(c) || c == ':' || c == ',' || c == '{' || c == '}' || c == '[' || c == ']' || c == '"' || c == '\'';
}

}  // namespace

void JsonScanner::skip_space() {
  while (position_ < text_.size() && is_space(text_[position_])) ++position_;
}

void JsonScanner::skip_commas() {
  while (position_ < text_.size() && (is_space(text_[position_]) || text_[position_] == ',')) ++position_;
}

JsonScanner::Kind JsonScanner::peek() {
  if (failed_) return Kind::kBad;
  skip_space();
  if (position_ >= text_.size()) return Kind::kEnd;
  switch (char c = text_[position_]) {
    case '{': return Kind::kObject;
    case '[': return Kind::kArray;
    case '"':
    case '\'': return Kind::kText;
    case 't': return Kind::kTrue;
    case 'f': return Kind::kFalse;
    case 'n':
    case 'N':
    case 'u': return Kind::kNull;
    default: return c == '-' || c == '+' || is_digit(c) ? Kind::kNumber : Kind::kBad;
  }
}

bool JsonScanner::take(char wanted) {
  if (failed_) return false;
  skip_space();
  if (position_ >= text_.size() || text_[position_] != wanted) return false;
  ++position_;
  return true;
}

bool JsonScanner::read_hex(int digits, uint32_t& value) {
  if (text_.size() - position_ < static_cast<size_t>(digits)) return false;
  const char* from = text_.data() + position_;
  auto [end, error] = std::from_chars(from, from + digits, value, 16);
  if (error != std::errc() || end != from + digits) return false;
  position_ += static_cast<size_t>(digits);
  return true;
}

bool JsonScanner::read_escape(std::string& to) {
  if (position_ >= text_.size()) return false;
  char c = text_[position_++];
  uint32_t value = 0;
  switch (c) {
    case 'b': to += '\b'; return true;
    case 'f': to += '\f'; return true;
    case 'n': to += '\n'; return true;
    case 'r': to += '\r'; return true;
    case 't': to += '\t'; return true;
    case 'v': to += '\v'; return true;
    case '"':
    case '\'':
    case '\\':
    case '/': to += c; return true;
    case 'x':
      if (!read_hex(2, value)) return false;
      append_utf8(to, value);
      return true;
    case 'u': {
      if (!read_hex(4, value)) return false;
      if (value >= 0xD800 && value < 0xDC00 && text_.substr(position_, 2) == "\\u") {
        size_t back = position_;
        uint32_t low = 0;
        position_ += 2;
        if (!read_hex(4, low)) return false;
        if (low >= 0xDC00 && low < 0xE000) {
          value = 0x10000 + ((value - 0xD800) << 10) + (low - 0xDC00);
        } else {
          position_ = back;
        }
      }
      append_utf8(to, value);
      return true;
    }
    default: return false;
  }
}

bool JsonScanner::read_text(std::string& to) {
  to.clear();
  if (peek() != Kind::kText) return failed_ = true, false;
  char quote = text_[position_++];
  while (true) {
    size_t from = position_;
    while (position_ < text_.size() && text_[position_] != quote && text_[position_] != '\\') ++position_;
    to.append(text_.substr(from, position_ - from));
    if (position_ >= text_.size()) return failed_ = true, false;
    if (text_[position_++] == quote) return true;
    if (!read_escape(to)) return failed_ = true, false;
  }
}

bool JsonScanner::read_number(std::string_view& to) {
  if (peek() != Kind::kNumber) return failed_ = true, false;
  if (text_[position_] == '+') ++position_;
  size_t from = position_;
  auto digits = [this] {
    size_t before = position_;
    while (position_ < text_.size() && is_digit(text_[position_])) ++position_;
    return position_ > before;
  };
  if (position_ < text_.size() && text_[position_] == '-') ++position_;
  if (!digits()) return failed_ = true, false;
  if (position_ < text_.size() && text_[position_] == '.') {
    ++position_;
    if (!digits()) return failed_ = true, false;
  }
  if (position_ < text_.size() && (text_[position_] == 'e' || text_[position_] == 'E')) {
    ++position_;
    if (position_ < text_.size() && (text_[position_] == '+' || text_[position_] == '-')) ++position_;
    if (!digits()) return failed_ = true, false;
  }
  to = slice(from);
  // Java's type suffixes, which fastjson writes when it is asked to.
  if (position_ < text_.size() && std::string_view("LSBFD").find(text_[position_]) != std::string_view::npos)
    ++position_;
  if (position_ < text_.size() && !ends_name(text_[position_])) return failed_ = true, false;
  return true;
}

bool JsonScanner::take_word() {
  if (failed_) return false;
  skip_space();
  for (std::string_view word : kWords) {
    if (text_.substr(position_, word.size()) != word) continue;
    size_t end = position_ + word.size();
    if (end < text_.size() && !ends_name(text_[end])) continue;
    position_ = end;
    return true;
  }
  return failed_ = true, false;
}

bool JsonScanner::read_bare_name(std::string_view& to) {
  if (failed_) return false;
  skip_space();
  size_t from = position_;
  while (position_ < text_.size() && !ends_name(text_[position_])) ++position_;
  to = slice(from);
  if (to.empty()) failed_ = true;
  return !failed_;
}

bool JsonScanner::skip_value(int depth_left) {
  std::string text;
  std::string_view bare;
  switch (peek()) {
    case Kind::kText: return read_text(text);
    case Kind::kNumber: return read_number(bare);
    case Kind::kTrue:
    case Kind::kFalse:
    case Kind::kNull: return take_word();
    case Kind::kObject:
      if (depth_left <= 0) break;
      take('{');
      for (skip_commas(); !failed_ && !take('}'); skip_commas()) {
        Kind kind = peek();
        bool named = kind == Kind::kText || kind == Kind::kObject || kind == Kind::kArray ? skip_value(depth_left - 1)
                                                                                          : read_bare_name(bare);
        if (!named || !take(':') || !skip_value(depth_left - 1)) return failed_ = true, false;
      }
      return !failed_;
    case Kind::kArray:
      if (depth_left <= 0) break;
      take('[');
      for (skip_commas(); !failed_ && !take(']'); skip_commas()) {
        if (!skip_value(depth_left - 1)) return failed_ = true, false;
      }
      return !failed_;
    default: break;
  }
  return failed_ = true, false;
}

void append_utf8(std::string& to, uint32_t code) {
  if (code >= 0xD800 && code < 0xE000) code = 0xFFFD;
  auto add = [&to](uint32_t byte) { to += static_cast<char>(byte); };
  if (code < 0x80) {
    add(code);
  } else if (code < 0x800) {
    add(0xC0 | (code >> 6));
    add(0x80 | (code & 0x3F));
  } else if (code < 0x10000) {
    add(0xE0 | (code >> 12));
    add(0x80 | ((code >> 6) & 0x3F));
    add(0x80 | (code & 0x3F));
  } else {
    add(0xF0 | (code >> 18));
    add(0x80 | ((code >> 12) & 0x3F));
    add(0x80 | ((code >> 6) & 0x3F));
    add(0x80 | (code & 0x3F));
  }
}

void append_json_string(std::string& to, std::string_view value) {
  static constexpr char kDigits[] = "0123456789ABCDEF";
  to += '"';
  size_t done = 0;
  for (size_t i = 0; i < value.size(); ++i) {
    auto c = static_cast<unsigned char>(value[i]);
    if (c >= 0x20 && c != '"' && c != '\\') continue;
    to.append(value.substr(done, i - done));
    done = i + 1;
    to += '\\';
    switch (c) {
      case '"':
      case '\\': to += static_cast<char>(c); break;
      case '\b': to += 'b'; break;
      case '\t': to += 't'; break;
      case '\n': to += 'n'; break;
      case '\f': to += 'f'; break;
      case '\r': to += 'r'; break;
      default:
        to += "u00";
        to += kDigits[c >> 4];
        to += kDigits[c & 0xF];
    }
  }
  to.append(value.substr(done));
  to += '"';
}

}  // namespace apogee::remoting
