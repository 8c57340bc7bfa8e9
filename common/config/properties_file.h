#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "apogee/result.h"

namespace apogee::config {

/// One assignment of a properties text.
struct Property {
  std::string key;
  std::string value;
  int line = 0;  ///< where it begins, from 1
};

/// Reads the format of java.util.Properties: `key=value`, `key: value` or `key value`; comments begin with # or !;
/// a backslash at the end of a line goes on with the next; \t \n \r \f \\ \uXXXX and escaped separators are
/// understood. The text is UTF-8. Keys come in the order of the text; of a repeated key all are returned.
/// Error: kCorrupt for a malformed \uXXXX; the message begins with the line number.
[[nodiscard]] Result<std::vector<Property>> parse_properties(std::string_view text);

/// The same of a file. Errors: kNotFound, kPermission, kIo, kCorrupt; the message begins with the path.
[[nodiscard]] Result<std::vector<Property>> read_properties_file(const std::string& path);

/// "key=value\n" for each, escaped so that parse_properties returns the same.
[[nodiscard]] std::string to_properties_text(const std::map<std::string, std::string>& values);

/// The text with the given keys set to new values: the last assignment of a key is rewritten in place, a key
/// that is not there is appended. Comments, order and everything else stay.
[[nodiscard]] std::string with_properties(std::string_view text, const std::map<std::string, std::string>& values);

/// with_properties() for a file, which is replaced in one step (and made when missing).
/// Errors: kIo, kPermission, kDiskFull; then the old file is still there.
[[nodiscard]] Status update_properties_file(const std::string& path, const std::map<std::string, std::string>& values);

/// Replaces a small file in one step: a temporary file is written, synced, and renamed over it; a copy of what was
/// there before is kept as PATH.bak. Missing folders are made. Errors: kIo, kPermission, kDiskFull; then the old file
/// is still there.
[[nodiscard]] Status replace_file(const std::string& path, std::string_view content);

/// The whole file. Errors: kNotFound, kPermission, kIo; the message begins with the path.
[[nodiscard]] Result<std::string> read_whole_file(const std::string& path);

}  // namespace apogee::config
