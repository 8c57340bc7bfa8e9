#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "apogee/result.h"

// Properties of a message are one text: name 0x01 value 0x02, repeated; the last 0x02 may be missing. A part
// without a name or without a value does not count, and of several values of one name the last one does.
namespace apogee::message {

inline constexpr char kNameValueSeparator = '\x01';
inline constexpr char kPropertySeparator = '\x02';
inline constexpr size_t kPropertiesBytesMax = 32767;

/// Looks one property up without allocating. The view lives as long as `properties`.
[[nodiscard]] std::optional<std::string_view> find_property(std::string_view properties, std::string_view name);

/// All properties in their order. The views live as long as `properties`.
[[nodiscard]] std::vector<std::pair<std::string_view, std::string_view>> parse_properties(std::string_view properties);

/// Adds one property at the end, first the separator when that is missing. An empty value adds nothing.
void append_property(std::string& properties, std::string_view name, std::string_view value);
/// Adds a whole properties text at the end, first the separator when that is missing.
void append_properties(std::string& properties, std::string_view more);
/// Drops every value of a name.
void remove_property(std::string& properties, std::string_view name);
/// remove_property, then append_property.
void set_property(std::string& properties, std::string_view name, std::string_view value);

/// Whether a text sent by a client can be kept: at most kPropertiesBytesMax bytes, and each part is a name, one
/// separator and a value. Errors: kTooLarge, kInvalidArgument.
[[nodiscard]] Status check_properties(std::string_view properties);
/// Whether an application may use the name or value: no separators in it and not empty.
[[nodiscard]] Status check_property(std::string_view name, std::string_view value);

}  // namespace apogee::message
