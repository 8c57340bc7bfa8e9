#include "common/remoting/header_view.h"

#include <bit>
#include <charconv>
#include <cstring>

namespace apogee::remoting {

namespace {

bool is_number_char(char c) { return (c >= '0' && c <= '9') || c == '-'; }

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

constexpr uint64_t kOnes = 0x0101010101010101U;

/// Has the top bit of the lowest byte that is zero, and perhaps of bytes above it.
constexpr uint64_t zero_bytes(uint64_t word) { return (word - kOnes) & ~word & (kOnes << 7); }

/// The first of both in [at, end); end when there is none. Eight bytes a step.
const char* quote_or_backslash(const char* at, const char* end) {
  if constexpr (std::endian::native == std::endian::little) {
    for (; end - at >= 8; at += 8) {
      uint64_t word = 0;
      std::memcpy(&word, at, sizeof word);
      const uint64_t found = zero_bytes(word ^ (kOnes * '"')) | zero_bytes(word ^ (kOnes * '\\'));
      if (found != 0) return at + std::countr_zero(found) / 8;
    }
  }
  while (at != end && *at != '"' && *at != '\\') ++at;
  return at;
}

class Scanner {
 public:
  explicit Scanner(std::string_view text) : at_(text.data()), end_(text.data() + text.size()) {}

  bool take(char wanted) {
    if (at_ == end_ || *at_ != wanted) return false;
    ++at_;
    return true;
  }
  [[nodiscard]] bool at_end() const { return at_ == end_; }

  /// A text in double quotes; its escapes are passed over.
  bool text(std::string_view& to, bool& escaped) {
    if (!take('"')) return false;
    const char* from = at_;
    escaped = false;
    for (;;) {
      at_ = quote_or_backslash(at_, end_);
      if (at_ == end_) return false;
      if (*at_ == '"') {
        to = std::string_view(from, static_cast<size_t>(at_ - from));
        ++at_;
        return true;
      }
      escaped = true;
      if (end_ - at_ < 2) return false;
      at_ += 2;
    }
  }

  bool name(std::string_view& to) {
    bool escaped = false;
    return text(to, escaped) && !escaped && take(':');
  }

  /// `is_null`: there was a null, and `field` stays as it is.
  bool value(HeaderView::Field& field, bool& is_null) {
    is_null = false;
    field.escaped = false;
    if (at_ == end_) return false;
    if (*at_ == '"') return text(field.value, field.escaped);
    const std::string_view rest(at_, static_cast<size_t>(end_ - at_));
    for (std::string_view word : {std::string_view("true"), std::string_view("false"), std::string_view("null")}) {
      if (!rest.starts_with(word)) continue;
      at_ += word.size();
      is_null = word == "null";
      field.value = word;
      return ends_value();
    }
    const char* from = at_;
    while (at_ != end_ && is_number_char(*at_)) ++at_;
    field.value = std::string_view(from, static_cast<size_t>(at_ - from));
    return at_ != from && ends_value();
  }

 private:
  [[nodiscard]] bool ends_value() const { return at_ != end_ && (*at_ == ',' || *at_ == '}'); }
  const char* at_;
  const char* end_;
};

bool to_number(const HeaderView::Field& field, int32_t& to) {
  if (field.escaped) return false;
  const char* last = field.value.data() + field.value.size();
  auto [end, error] = std::from_chars(field.value.data(), last, to);
  return error == std::errc() && end == last;
}

bool read_fields(Scanner& in, HeaderView& to) {
  if (!in.take('{')) return false;
  if (in.take('}')) return true;
  bool is_null = false;
  do {
    if (to.field_count == HeaderView::kFieldsMax) return false;
    auto& field = to.fields[to.field_count];
    if (!in.name(field.name) || !in.value(field, is_null)) return false;
    if (!is_null) ++to.field_count;
  } while (in.take(','));
  return in.take('}');
}

}  // namespace

bool scan_header(std::string_view header, HeaderView& to) {
  to.code = to.version = to.opaque = to.flag = 0;
  to.field_count = 0;
  to.language = to.remark = {};
  Scanner in(header);
  if (!in.take('{')) return false;
  bool is_null = false;
  HeaderView::Field member;
  do {
    if (!in.name(member.name)) return false;
    if (member.name == "extFields") {
      if (to.field_count > 0 || !read_fields(in, to)) return false;
      continue;
    }
    if (!in.value(member, is_null)) return false;
    if (is_null) continue;
    if (member.name == "language") to.language = member;
    if (member.name == "remark") to.remark = member;
    int32_t* number = member.name == "code"      ? &to.code
                      : member.name == "opaque"  ? &to.opaque
                      : member.name == "flag"    ? &to.flag
                      : member.name == "version" ? &to.version
                                                 : nullptr;
    if (number != nullptr && !to_number(member, *number)) return false;
  } while (in.take(','));
  return in.take('}') && in.at_end();
}

bool unescape(std::string_view value, std::string& to) {
  to.clear();
  for (;;) {
    const size_t plain = value.find('\\');
    to.append(value.substr(0, plain));
    if (plain == std::string_view::npos) return true;
    value.remove_prefix(plain + 1);
    if (value.empty()) return false;
    switch (value.front()) {
      case '"':
      case '\\':
      case '/': to += value.front(); break;
      case 'n': to += '\n'; break;
      case 't': to += '\t'; break;
      case 'r': to += '\r'; break;
      case 'u': {
        if (value.size() < 5 || value[1] != '0' || value[2] != '0') return false;
        const int high = hex_digit(value[3]), low = hex_digit(value[4]);
        if (high < 0 || high > 7 || low < 0) return false;
        to += static_cast<char>(high * 16 + low);
        value.remove_prefix(4);
        break;
      }
      default: return false;
    }
    value.remove_prefix(1);
  }
}

}  // namespace apogee::remoting
