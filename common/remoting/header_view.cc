#include "common/remoting/header_view.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include <bit>
#include <cstring>
#include <limits>
#include <utility>

#include "common/base/bytes.h"
#include "common/base/decimal.h"

namespace apogee::remoting {

namespace {

bool is_number_char(char c) { return (c >= '0' && c <= '9') || c == '-'; }

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

constexpr ptrdiff_t kStepBytes = 16;
constexpr uint64_t kOnes = 0x0101010101010101U;

/// Has the top bit of the lowest byte that is zero, and perhaps of bytes above it.
constexpr uint64_t zero_bytes(uint64_t word) { return (word - kOnes) & ~word & (kOnes << 7); }

/// The first of both in [at, end); end when there is none. Sixteen or eight bytes a step.
inline const char* quote_or_backslash(const char* at, const char* end) {
#ifdef __SSE2__
  const __m128i quotes = _mm_set1_epi8('"'), backslashes = _mm_set1_epi8('\\');
  for (; end - at >= 16; at += 16) {
    __m128i word;
    std::memcpy(&word, at, sizeof word);
    const __m128i found = _mm_or_si128(_mm_cmpeq_epi8(word, quotes), _mm_cmpeq_epi8(word, backslashes));
    if (const auto mask = static_cast<unsigned>(_mm_movemask_epi8(found)); mask != 0)
      return at + std::countr_zero(mask);
  }
#endif
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

/// The first quote or backslash of the sixteen bytes; 16: there is none.
inline unsigned first_of_sixteen(const char* at) {
#ifdef __SSE2__
  __m128i bytes;
  std::memcpy(&bytes, at, sizeof bytes);
  const __m128i found =
      _mm_or_si128(_mm_cmpeq_epi8(bytes, _mm_set1_epi8('"')), _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\\')));
  return static_cast<unsigned>(std::countr_zero(static_cast<unsigned>(_mm_movemask_epi8(found)) | 1U << kStepBytes));
#else
  return static_cast<unsigned>(quote_or_backslash(at, at + kStepBytes) - at);
#endif
}

/// Behind the text in double quotes that begins at `at`, whose escapes are passed over; nullptr: there is none.
[[gnu::noinline]] const char* pass_text(const char* at, const char* end, std::string_view& to, bool& escaped) {
  if (at == end || *at != '"') return nullptr;
  const char* const from = ++at;
  escaped = false;
  for (;;) {
    at = quote_or_backslash(at, end);
    if (at == end) return nullptr;
    if (*at == '"') break;
    escaped = true;
    if (end - at < 2) return nullptr;
    at += 2;
  }
  to = std::string_view(from, static_cast<size_t>(at - from));
  return at + 1;
}

/// Behind the word or number that begins at `at`; nullptr: there is none. A whole value, so it ends with , or }.
[[gnu::noinline]] const char* pass_bare(const char* at, const char* end, std::string_view& to, bool& is_null) {
  const char* const from = at;
  while (at != end && is_number_char(*at)) ++at;
  if (at == from) {
    const std::string_view rest(at, static_cast<size_t>(end - at));
    for (std::string_view word : {std::string_view("true"), std::string_view("false"), std::string_view("null")}) {
      if (!rest.starts_with(word)) continue;
      at += word.size();
      is_null = word == "null";
      break;
    }
  }
  to = std::string_view(from, static_cast<size_t>(at - from));
  return at != from && at != end && (*at == ',' || *at == '}') ? at : nullptr;
}

/// Its place stays in a register, because nobody else gets to know where it is kept.
class Scanner {
 public:
  explicit Scanner(std::string_view text) : at_(text.data()), end_(text.data() + text.size()) {}

  bool take(char wanted) {
    if (at_ == end_ || *at_ != wanted) return false;
    ++at_;
    return true;
  }
  [[nodiscard]] bool at_end() const { return at_ == end_; }

  /// Takes a member's name and its colon.
  bool name(std::string_view& to) {
    bool escaped = false;
    return text(to, escaped) && !escaped && take(':');
  }

  /// `is_null`: there was a null.
  bool value(HeaderView::Field& field, bool& is_null) {
    is_null = false;
    if (at_ != end_ && *at_ == '"') return text(field.value, field.escaped);
    field.escaped = false;
    return moved_to(pass_bare(at_, end_, field.value, is_null));
  }

  /// A number that is a whole value, has no sign and fits; false: there is something else, and nothing was taken.
  bool number(int32_t& to) {
    constexpr ptrdiff_t kDigitsMax = std::numeric_limits<int32_t>::digits10 + 1;
    const char* at = at_;
    uint64_t number = 0;
    while (at != end_ && at - at_ < kDigitsMax && static_cast<unsigned char>(*at - '0') < 10)
      number = number * 10 + static_cast<uint64_t>(*at++ - '0');
    if (at == at_ || at == end_ || (*at != ',' && *at != '}') || number > std::numeric_limits<int32_t>::max())
      return false;
    to = static_cast<int32_t>(number);
    at_ = at;
    return true;
  }

  /// A field named by one letter, with a short text and the comma behind it; false: there is something else, and
  /// nothing was taken.
  bool letter_field(HeaderView::Field& to) {
    constexpr ptrdiff_t kFrontBytes = 5;
    if (end_ - at_ < kFrontBytes + kStepBytes + 2) return false;
    const char* const at = at_;
    const char letter = at[1];
    const unsigned bytes = first_of_sixteen(at + kFrontBytes);
    const char* const behind = at + kFrontBytes + bytes;
    if (std::memcmp(at + 2, "\":\"", 3) != 0 || at[0] != '"' || letter < 'a' || letter > 'z' || bytes == kStepBytes ||
        behind[0] != '"' || behind[1] != ',')
      return false;
    to.name = std::string_view(at + 1, 1);
    to.value = std::string_view(at + kFrontBytes, bytes);
    to.escaped = false;
    at_ = behind + 2;
    return true;
  }

 private:
  bool text(std::string_view& to, bool& escaped) {
    if (end_ - at_ > kStepBytes && *at_ == '"') {
      const unsigned bytes = first_of_sixteen(at_ + 1);
      if (bytes < kStepBytes && at_[1 + bytes] == '"') {
        to = std::string_view(at_ + 1, bytes);
        escaped = false;
        at_ += bytes + 2;
        return true;
      }
    }
    return moved_to(pass_text(at_, end_, to, escaped));
  }
  bool moved_to(const char* at) {
    if (at == nullptr) return false;
    at_ = at;
    return true;
  }

  const char* at_;
  const char* end_;
};

inline bool read_fields(Scanner& in, HeaderView& to) {
  if (!in.take('{')) return false;
  if (in.take('}')) return true;
  bool is_null = false;
  size_t count = 0;
  do {
    while (count < HeaderView::kFieldsMax && in.letter_field(to.fields[count])) ++count;
    if (count == HeaderView::kFieldsMax) return false;
    auto& field = to.fields[count];
    if (!in.name(field.name) || !in.value(field, is_null)) return false;
    if (!is_null) ++count;
  } while (in.take(','));
  to.field_count = count;
  return in.take('}');
}

/// A member of the header that is a number; nullptr: `name` is none.
int32_t* number_of(std::string_view name, HeaderView& to) {
  switch (name.size()) {
    case 4: return name == "code" ? &to.code : name == "flag" ? &to.flag : nullptr;
    case 6: return name == "opaque" ? &to.opaque : nullptr;
    case 7: return name == "version" ? &to.version : nullptr;
    default: return nullptr;
  }
}

}  // namespace

bool scan_header(std::string_view header, HeaderView& to) {
  to.binary = false;
  to.code = to.version = to.opaque = to.flag = 0;
  to.field_count = 0;
  to.language = to.remark = {};
  Scanner in(header);
  if (!in.take('{')) return false;
  bool is_null = false;
  bool fields_seen = false;
  HeaderView::Field member;
  do {
    if (!in.name(member.name)) return false;
    if (member.name == "extFields") {
      if (std::exchange(fields_seen, true) || !read_fields(in, to)) return false;
      continue;
    }
    int32_t* const number = number_of(member.name, to);
    if (number != nullptr && in.number(*number)) continue;
    if (!in.value(member, is_null)) return false;
    if (is_null) continue;
    if (number != nullptr) {
      if (member.escaped || !read_decimal(member.value, *number)) return false;
    } else if (member.name == "language") {
      to.language = member;
    } else if (member.name == "remark") {
      to.remark = member;
    }
  } while (in.take(','));
  return in.take('}') && in.at_end();
}

bool scan_binary_header(std::string_view header, HeaderView& to) {
  constexpr size_t kFixedBytes = 2 + 1 + 2 + 4 + 4;
  to.binary = true;
  to.field_count = 0;
  to.language = to.remark = {};
  if (header.size() < kFixedBytes) return false;
  const char* at = header.data();
  to.code = load_be<int16_t>(at);
  to.version = load_be<int16_t>(at + 3);
  to.opaque = load_be<int32_t>(at + 5);
  to.flag = load_be<int32_t>(at + 9);
  ByteReader in(header.substr(kFixedBytes));
  const auto remark_bytes = in.read<int32_t>();
  if (remark_bytes < 0) return false;
  in.take(static_cast<size_t>(remark_bytes));
  const auto fields_bytes = in.read<int32_t>();
  if (!in.ok() || fields_bytes < 0 || static_cast<size_t>(fields_bytes) > in.remaining()) return false;
  ByteReader fields(in.take(static_cast<size_t>(fields_bytes)));
  while (fields.remaining() > 0) {
    if (to.field_count == HeaderView::kFieldsMax) return false;
    auto& field = to.fields[to.field_count++];
    field.name = fields.take(fields.read<uint16_t>());
    const auto value_bytes = fields.read<int32_t>();
    if (value_bytes < 0) return false;
    field.value = fields.take(static_cast<size_t>(value_bytes));
    field.escaped = false;
    if (!fields.ok()) return false;
  }
  return true;
}

bool take_escape(const char*& at, const char* end, char& to) {
  if (end - at < 2) return false;
  switch (at[1]) {
    case '"':
    case '\\':
    case '/': to = at[1]; break;
    case 'n': to = '\n'; break;
    case 't': to = '\t'; break;
    case 'r': to = '\r'; break;
    case 'u': {
      if (end - at < 6 || at[2] != '0' || at[3] != '0') return false;
      const int high = hex_digit(at[4]), low = hex_digit(at[5]);
      if (high < 0 || high > 7 || low < 0) return false;
      to = static_cast<char>(high * 16 + low);
      at += 6;
      return true;
    }
    default: return false;
  }
  at += 2;
  return true;
}

bool unescape(std::string_view value, std::string& to) {
  to.clear();
  for (;;) {
    const size_t plain = value.find('\\');
    to.append(value.substr(0, plain));
    if (plain == std::string_view::npos) return true;
    const char* at = value.data() + plain;
    const char* const end = value.data() + value.size();
    char c = 0;
    if (!take_escape(at, end, c)) return false;
    to += c;
    value = {at, static_cast<size_t>(end - at)};
  }
}

}  // namespace apogee::remoting
