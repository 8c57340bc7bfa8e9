#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace apogee::remoting {

/// A header as it lies in its frame, read in one pass without a copy and without memory of its own.
struct HeaderView {
  static constexpr size_t kFieldsMax = 24;
  struct Field {
    std::string_view name;
    std::string_view value;  ///< of a text without its quotes; of a number or a boolean as it is written
    bool escaped = false;    ///< there are escapes in the value: see unescape()
  };
  bool binary = false;  ///< ROCKETMQ, not JSON
  int32_t code = 0, version = 0, opaque = 0, flag = 0;
  Field language, remark;                ///< of JSON; without a name where they are missing
  std::array<Field, kFieldsMax> fields;  ///< of extFields, in their order; nulls are left out
  size_t field_count = 0;
};

/// Reads headers as clients write them. False: this one is unusual in some way (white space, escapes in a name, too
/// many fields, a value that is no text, number or boolean), or no header; decode_frame() tells which, and reads all of
/// them.
[[nodiscard]] bool scan_header(std::string_view header, HeaderView& to);

/// The same of binary headers. Code, flag, opaque, version and fields are read.
[[nodiscard]] bool scan_binary_header(std::string_view header, HeaderView& to);

/// Takes the escape that begins at `at`, with a backslash. False: it is one that only the general reader knows.
[[nodiscard]] bool take_escape(const char*& at, const char* end, char& to);

/// The value without its escapes, in place of what `to` held. False: there are such as only the general reader knows.
[[nodiscard]] bool unescape(std::string_view value, std::string& to);

}  // namespace apogee::remoting
