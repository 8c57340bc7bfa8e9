#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace apogee {

/// Base 64 with - and _ for + and / (RFC 4648, section 5), filled up with = to a multiple of four characters.
[[nodiscard]] std::string to_base64url(std::string_view bytes);
/// With or without the = at the end; nullopt for another character or a length that no bytes have.
[[nodiscard]] std::optional<std::string> from_base64url(std::string_view text);

}  // namespace apogee
