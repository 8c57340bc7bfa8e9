#pragma once

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "test/support/catch.h"
#include "test/support/run_program.h"

namespace apogee::test {

/// Runs build/.../mqadmin; NAMESRV_ADDR is what is given, or not set.
inline Ran run_mqadmin(const std::vector<std::string>& arguments, const std::string& namesrv = "") {
  std::vector<std::string> environment{"TZ=UTC"};
  if (!namesrv.empty()) environment.push_back("NAMESRV_ADDR=" + namesrv);
  return run_program("tools/mqadmin", arguments, environment);
}

/// mqadmin with the NameServer of a test cluster.
struct Admin {
  std::string namesrv;

  /// Must succeed; what it printed.
  std::string text(const std::vector<std::string>& arguments) const {
    auto ran = run_mqadmin(arguments, namesrv);
    INFO(arguments[0] << ": " << ran.err);
    REQUIRE(ran.exit_code == 0);
    CHECK(ran.err.empty());
    return ran.out;
  }
  /// The same with --json.
  nlohmann::json parsed(std::vector<std::string> arguments) const {
    arguments.emplace_back("--json");
    auto out = text(arguments);
    INFO(arguments[0] << " printed " << out);
    auto value = nlohmann::json::parse(out, nullptr, false);
    REQUIRE_FALSE(value.is_discarded());
    return value;
  }
  /// Must fail with one line; that line.
  std::string failure(const std::vector<std::string>& arguments, int exit_code = 1) const {
    auto ran = run_mqadmin(arguments, namesrv);
    INFO(arguments[0] << " printed " << ran.out);
    CHECK(ran.exit_code == exit_code);
    CHECK(std::count(ran.err.begin(), ran.err.end(), '\n') == 1);
    CHECK(ran.err.rfind("mqadmin: ", 0) == 0);
    return ran.err;
  }
};

inline bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace apogee::test
