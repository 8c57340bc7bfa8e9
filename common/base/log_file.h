#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "apogee/log.h"
#include "apogee/result.h"

namespace apogee {

/// "debug", "info", "warn", "error", "off" in any case. Error: kInvalidArgument naming them.
[[nodiscard]] Result<LogLevel> log_level_from_name(std::string_view name);
[[nodiscard]] const char* to_string(LogLevel level);

/// Log lines with time, level and thread in a file that is moved aside when it is full (broker.log becomes
/// broker.1.log, and so on), and on the standard error output if wanted.
///
/// A line that was written already within the last `repeat_window_ms` is counted instead of written again; when the
/// window ends one line tells how often it came. Lines of warn and above reach the file at once, others each second.
/// Thread: any.
class LogFile {
 public:
  struct Options {
    std::string path;  ///< empty = no file; missing folders are made
    size_t file_bytes_max = 64u << 20;
    size_t files_max = 10;  ///< moved-aside files that are kept
    bool to_stderr = false;
    int64_t repeat_window_ms = 5'000;  ///< 0 = every line is written
  };
  /// Errors: kIo or kPermission when the file cannot be opened; the message names the path.
  [[nodiscard]] static Result<std::unique_ptr<LogFile>> open(Options options);
  ~LogFile();  ///< writes out what is held back; sinks that are still around drop their lines from then on
  LogFile(const LogFile&) = delete;
  LogFile& operator=(const LogFile&) = delete;

  /// What a Logger writes to; may outlive the file.
  [[nodiscard]] LogSink sink() const;
  void flush();
  /// Opens the path anew, for a file that logrotate moved away (SIGHUP). Error: kIo; then lines go on to the old one.
  [[nodiscard]] Status reopen();

 private:
  struct Impl;
  explicit LogFile(std::shared_ptr<Impl> impl);
  std::shared_ptr<Impl> impl_;
};

}  // namespace apogee
