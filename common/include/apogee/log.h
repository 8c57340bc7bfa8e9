#pragma once

#include <functional>
#include <string_view>

namespace apogee {

enum class LogLevel : unsigned char { kDebug, kInfo, kWarn, kError, kOff };

/// Where log lines go. Called from any thread; must not block for long and must not call back into
/// the object that logs. An empty function drops everything.
using LogSink = std::function<void(LogLevel level, std::string_view line)>;

}  // namespace apogee
