#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "test/support/run_program.h"

namespace apogee::test {

/// Runs build/.../mqadmin; NAMESRV_ADDR is what is given, or not set.
[[nodiscard]] Ran run_mqadmin(const std::vector<std::string>& arguments, const std::string& namesrv = "");

/// mqadmin with the NameServer of a test cluster. Thread: the test's own.
struct Admin {
  std::string namesrv;

  /// Must succeed; what it printed.
  std::string text(const std::vector<std::string>& arguments) const;
  /// The same with --json.
  nlohmann::json parsed(std::vector<std::string> arguments) const;
  /// Must fail with one line; that line.
  std::string failure(const std::vector<std::string>& arguments, int exit_code = 1) const;
};

inline bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace apogee::test
