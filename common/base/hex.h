#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace apogee {

/// Two upper-case digits a byte.
[[nodiscard]] std::string to_hex(std::string_view bytes);
/// Either case; nullopt for an odd length or another character.
[[nodiscard]] std::optional<std::string> from_hex(std::string_view digits);

}  // namespace apogee
