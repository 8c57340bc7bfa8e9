#pragma once

#include <set>
#include <string>
#include <utility>
#include <vector>

#include "apogee/result.h"
#include "common/config/command_line.h"

// Where parse_command_line() meets CLI11.
namespace apogee::config {

/// What stood on the command line, before any of it is applied.
struct GivenOptions {
  std::string config_file, namesrv;
  bool help = false, version = false, print_all = false, print_important = false;
  std::vector<std::pair<std::string, std::string>> settings;
  std::vector<std::string> extras;
  std::set<std::string> flags;
};

[[nodiscard]] Result<GivenOptions> read_given_options(int argc, const char* const* argv, const Program& program,
                                                      const ConfigTable& table);

}  // namespace apogee::config
