#pragma once

#include <string>
#include <vector>

namespace apogee::test {

struct Ran {
  int exit_code = -1;  ///< 128 + the signal that ended it
  std::string out;
  std::string err;
};

/// Runs a program of ours to its end, with nothing in its environment but what is given and the options of the
/// sanitizers. program: below the build directory, such as "tools/mqadmin", or a whole path. Throws when it cannot run,
/// or is silent for a minute.
[[nodiscard]] Ran run_program(const std::string& program, const std::vector<std::string>& arguments,
                              const std::vector<std::string>& environment);

/// The same on a terminal so many columns wide; what it printed, standard error included, is in `out`, with "\r\n".
[[nodiscard]] Ran run_on_terminal(const std::string& program, const std::vector<std::string>& arguments,
                                  const std::vector<std::string>& environment, unsigned short columns);

}  // namespace apogee::test
