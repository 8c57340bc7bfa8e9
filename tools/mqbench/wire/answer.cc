#include "tools/mqbench/wire/answer.h"

#include "common/base/bytes.h"

namespace mqbench {

namespace {

/// The number behind a key such as `"opaque":`, which may stand in quotation marks. A key inside of a text would be
/// escaped, so the quotation marks make the match sure.
bool number_behind(std::string_view header, std::string_view key, int64_t& number) {
  size_t at = header.find(key);
  if (at == std::string_view::npos) return false;
  at += key.size();
  while (at < header.size() && (header[at] == ' ' || header[at] == '"')) ++at;
  const bool negative = at < header.size() && header[at] == '-';
  if (negative) ++at;
  int64_t value = 0;
  const size_t begin = at;
  while (at < header.size() && header[at] >= '0' && header[at] <= '9') value = value * 10 + (header[at++] - '0');
  number = negative ? -value : value;
  return at > begin;
}

bool scan_binary(std::string_view header, bool with_next_offset, Answer& answer) {
  if (header.size() < 21) return false;
  answer.code = apogee::load_be<int16_t>(header.data());
  answer.opaque = apogee::load_be<uint32_t>(header.data() + 5);
  answer.request = (apogee::load_be<uint32_t>(header.data() + 9) & 1) == 0;
  if (!with_next_offset) return true;
  constexpr std::string_view kKey = "nextBeginOffset";
  const size_t at = header.find(kKey);
  if (at == std::string_view::npos || at + kKey.size() + 4 > header.size()) return true;
  answer.next_offset = 0;
  const auto size = apogee::load_be<uint32_t>(header.data() + at + kKey.size());
  for (char digit : header.substr(at + kKey.size() + 4, size))
    answer.next_offset = answer.next_offset * 10 + (digit - '0');
  return true;
}

}  // namespace

bool scan_answer(const Frame& frame, bool with_next_offset, Answer& answer) {
  if (frame.type == 1) return scan_binary(frame.header, with_next_offset, answer);
  if (frame.type != 0) return false;
  int64_t code = 0, opaque = 0, flag = 0;
  if (!number_behind(frame.header, "\"code\":", code) || !number_behind(frame.header, "\"opaque\":", opaque))
    return false;
  answer.code = static_cast<int>(code);
  answer.opaque = static_cast<uint32_t>(opaque);
  answer.request = !number_behind(frame.header, "\"flag\":", flag) || (flag & 1) == 0;
  if (with_next_offset && !number_behind(frame.header, "\"nextBeginOffset\":", answer.next_offset))
    answer.next_offset = -1;
  return true;
}

std::string_view remark_of(const Frame& frame) {
  if (frame.type == 1) {
    if (frame.header.size() < 17) return {};
    return frame.header.substr(17, apogee::load_be<uint32_t>(frame.header.data() + 13));
  }
  constexpr std::string_view kKey = "\"remark\":\"";
  const size_t at = frame.header.find(kKey);
  if (at == std::string_view::npos) return {};
  const auto rest = frame.header.substr(at + kKey.size());
  return rest.substr(0, rest.find('"'));
}

}  // namespace mqbench
