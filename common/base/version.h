#pragma once

namespace apogee {

/// Of all programs and the SDK; the project's version in CMakeLists.txt is the same (tools/check.sh compares).
inline constexpr const char* kVersion = "0.1.0";

}  // namespace apogee
