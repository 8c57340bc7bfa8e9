#pragma once

#include <string>
#include <string_view>

namespace apogee::broker {

/// The properties of a send as the short way takes them.
struct PlainProperties {
  std::string_view all;         ///< without escapes
  std::string_view unique_key;  ///< empty: there is none
  bool wait_store_ok = true;
};

/// One look at all properties. `escaped`: they are a text of a JSON header, with escapes; `room` then gets them without
/// and is to be kept for the next ones. False: one of them asks for something that only the long way does, or the text
/// is not as it should be.
[[nodiscard]] bool read_plain_properties(std::string_view properties, bool escaped, std::string& room,
                                         PlainProperties& to);

/// True only for "true" in any case.
[[nodiscard]] bool is_true(std::string_view value);

}  // namespace apogee::broker
