#pragma once

#include <fmt/core.h>

#include <atomic>
#include <string_view>
#include <utility>

#include "apogee/log.h"

namespace apogee {

/// A level and a sink, handed down by constructor: there is no global logger.
/// Thread: any. The level may be changed while others log.
class Logger {
 public:
  Logger() = default;
  explicit Logger(LogSink sink, LogLevel level = LogLevel::kInfo) : sink_(std::move(sink)), level_(level) {}
  Logger(const Logger&) = delete;
  Logger& operator=(const Logger&) = delete;

  [[nodiscard]] bool enabled(LogLevel level) const {
    return sink_ && level >= level_.load(std::memory_order_relaxed) && level != LogLevel::kOff;
  }
  void set_level(LogLevel level) { level_.store(level, std::memory_order_relaxed); }
  [[nodiscard]] LogLevel level() const { return level_.load(std::memory_order_relaxed); }

  void write(LogLevel level, std::string_view line) const {
    if (enabled(level)) sink_(level, line);
  }
  template <typename... Args>
  void debug(fmt::format_string<Args...> format, Args&&... args) const {
    if (enabled(LogLevel::kDebug)) sink_(LogLevel::kDebug, fmt::format(format, std::forward<Args>(args)...));
  }
  template <typename... Args>
  void info(fmt::format_string<Args...> format, Args&&... args) const {
    if (enabled(LogLevel::kInfo)) sink_(LogLevel::kInfo, fmt::format(format, std::forward<Args>(args)...));
  }
  template <typename... Args>
  void warn(fmt::format_string<Args...> format, Args&&... args) const {
    if (enabled(LogLevel::kWarn)) sink_(LogLevel::kWarn, fmt::format(format, std::forward<Args>(args)...));
  }
  template <typename... Args>
  void error(fmt::format_string<Args...> format, Args&&... args) const {
    if (enabled(LogLevel::kError)) sink_(LogLevel::kError, fmt::format(format, std::forward<Args>(args)...));
  }

 private:
  LogSink sink_;
  std::atomic<LogLevel> level_{LogLevel::kInfo};
};

}  // namespace apogee
