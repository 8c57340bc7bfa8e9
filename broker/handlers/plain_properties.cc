#include "broker/handlers/plain_properties.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include <algorithm>
#include <bit>
#include <cstring>

#include "common/base/text.h"
#include "common/message/properties.h"
#include "common/message/property_names.h"
#include "common/remoting/header_view.h"

namespace apogee::broker {

namespace property = message::property;

namespace {

constexpr size_t kKeyBytesMax = 96;
constexpr size_t kStepBytes = 16;
/// Of a separator as JSON has it: \u0001 or \u0002.
constexpr ptrdiff_t kSeparatorBytes = 6;

/// Whether a property means nothing to this broker, which keeps it as it is.
bool is_plain_name(std::string_view name) {
  switch (name.front()) {
    case 'T': return name == property::kTags;  // TIMER_*, TRAN_*, TRACE_ON, TRANSACTION_*
    case 'I': return name != property::kInnerNum && name != property::kInnerMultiDispatch;
    case 'D': return name != property::kDelayLevel;
    case 'P': return name != property::kPopCheck;
    case 'M': return name != property::kMessageRegion;
    case 'C': return name != property::kCluster;
    default: return true;
  }
}

bool is_plain_key(std::string_view key) {
  if (key.size() > kKeyBytesMax) return false;
  const char* at = key.data();
  const char* const end = at + key.size();
#ifdef __SSE2__
  for (; end - at >= static_cast<ptrdiff_t>(kStepBytes); at += kStepBytes) {
    __m128i bytes;
    std::memcpy(&bytes, at, sizeof bytes);
    const __m128i printable =
        _mm_and_si128(_mm_cmpgt_epi8(bytes, _mm_set1_epi8(' ')), _mm_cmplt_epi8(bytes, _mm_set1_epi8(0x7F)));
    const __m128i escaped =
        _mm_or_si128(_mm_cmpeq_epi8(bytes, _mm_set1_epi8('"')), _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\\')));
    if (_mm_movemask_epi8(_mm_andnot_si128(escaped, printable)) != 0xFFFF) return false;
  }
#endif
  return std::all_of(at, end, [](char c) { return c > ' ' && c < 0x7F && c != '"' && c != '\\'; });
}

/// One property; middle is its first separator. False: it is not for the short way.
bool read_one(const char* begin, const char* middle, const char* end, PlainProperties& to) {
  if (middle == nullptr || middle == begin || middle + 1 == end) return false;
  const std::string_view name(begin, static_cast<size_t>(middle - begin));
  if (!is_plain_name(name)) return false;
  const std::string_view value(middle + 1, static_cast<size_t>(end - middle - 1));
  if (name == property::kUniqueKey) to.unique_key = value;
  if (name == property::kWait) to.wait_store_ok = is_true(value);
  return true;
}

bool read_whole(std::string_view properties, PlainProperties& to) {
  const char* at = properties.data();
  const char* const end = at + properties.size();
  while (at != end) {
    const auto* part_end =
        static_cast<const char*>(std::memchr(at, message::kPropertySeparator, static_cast<size_t>(end - at)));
    if (part_end == nullptr) part_end = end;
    const auto* middle =
        static_cast<const char*>(std::memchr(at, message::kNameValueSeparator, static_cast<size_t>(part_end - at)));
    if (!read_one(at, middle, part_end, to)) return false;
    at = part_end == end ? end : part_end + 1;
  }
  return true;
}

/// Copies what is neither a backslash nor a control character; the room has kStepBytes behind it.
inline void copy_plain(const char*& at, const char* end, char*& to) {
#ifdef __SSE2__
  const __m128i backslashes = _mm_set1_epi8('\\'), controls = _mm_set1_epi8(0x1F);
  while (end - at >= static_cast<ptrdiff_t>(kStepBytes)) {
    __m128i bytes;
    std::memcpy(&bytes, at, sizeof bytes);
    std::memcpy(to, &bytes, sizeof bytes);
    const __m128i found =
        _mm_or_si128(_mm_cmpeq_epi8(bytes, backslashes), _mm_cmpeq_epi8(_mm_min_epu8(bytes, controls), bytes));
    const auto mask = static_cast<unsigned>(_mm_movemask_epi8(found));
    const size_t plain = mask == 0 ? kStepBytes : static_cast<size_t>(std::countr_zero(mask));
    at += plain;
    to += plain;
    if (mask != 0) return;
  }
#endif
  while (at != end && *at != '\\' && static_cast<unsigned char>(*at) > 0x1F) *to++ = *at++;
}

/// Takes the escapes out and reads the properties in one pass.
bool read_escaped(std::string_view text, std::string& room, PlainProperties& to) {
  constexpr size_t kEscapeBytesMax = 6;
  if (text.size() > message::kPropertiesBytesMax * kEscapeBytesMax) return false;
  if (room.size() < text.size() + kStepBytes) room.resize(text.size() + kStepBytes);
  const char* at = text.data();
  const char* const end = at + text.size();
  char* out = room.data();
  const char* part = out;
  const char* middle = nullptr;
  for (;;) {
    copy_plain(at, end, out);
    if (at == end) break;
    char c = *at;
    if (c != '\\') {
      ++at;
    } else if (end - at >= kSeparatorBytes && std::memcmp(at, "\\u000", kSeparatorBytes - 1) == 0 &&
               (at[5] == '1' || at[5] == '2')) {
      c = static_cast<char>(at[5] - '0');
      at += kSeparatorBytes;
    } else if (!remoting::take_escape(at, end, c)) {
      return false;
    }
    if (c == message::kNameValueSeparator && middle == nullptr) middle = out;
    if (c == message::kPropertySeparator) {
      if (!read_one(part, middle, out, to)) return false;
      part = out + 1;
      middle = nullptr;
    }
    *out++ = c;
  }
  to.all = {room.data(), static_cast<size_t>(out - room.data())};
  return part == out || read_one(part, middle, out, to);
}

}  // namespace

bool is_true(std::string_view value) {
  return value == "true" || (value.size() == 4 && equals_ignore_case(value, "true"));
}

bool read_plain_properties(std::string_view properties, bool escaped, std::string& room, PlainProperties& to) {
  to.all = properties;
  return (escaped ? read_escaped(properties, room, to) : read_whole(properties, to)) &&
         to.all.size() <= message::kPropertiesBytesMax && is_plain_key(to.unique_key);
}

}  // namespace apogee::broker
