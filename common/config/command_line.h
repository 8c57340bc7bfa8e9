#pragma once

#include <iosfwd>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "common/config/config_table.h"

namespace apogee::config {

/// What a server's command line looks like beyond its keys.
struct Program {
  std::string name;      ///< "mqbroker"
  std::string version;   ///< "0.1.0"
  std::string summary;   ///< one or two sentences for --help
  std::string examples;  ///< lines for --help, each with its own explanation
  struct Flag {
    std::string name;  ///< "--standalone"
    std::string help;
  };
  std::vector<Flag> flags;
  /// Environment variable and the key that it sets, such as {"NAMESRV_ADDR", "namesrvAddr"}.
  std::vector<std::pair<std::string, std::string>> environment;
  /// The key that -n sets; empty = there is no -n.
  std::string namesrv_key;
};

struct CommandLine {
  /// Set when the program is to end now: --help, --version, -p and -m, or an error that has been printed.
  std::optional<int> exit_code;
  std::string config_file;      ///< of -c; empty when not given
  std::set<std::string> flags;  ///< names of the Program::flags that were given
};

/// Reads the command line and fills the table: first the environment, then the file of -c, then the options, each
/// later one winning. Every key of the table is a long option that takes a value (`--listenPort 9876`).
/// Prints what was asked for to `out`; an error is one line on `err` and exit code 1.
[[nodiscard]] CommandLine parse_command_line(int argc, const char* const* argv, const Program& program,
                                             ConfigTable& table, std::ostream& out, std::ostream& err);

}  // namespace apogee::config
