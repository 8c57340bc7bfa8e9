#pragma once

#include <string>
#include <vector>

namespace apogee::test {

struct Ran {
  int exit_code = -1;  ///< 128 + the signal that ended it
  std::string out;
  std::string err;
};

/// Runs a program of ours to its end, with nothing in its environment but what is given.
/// program: below the build directory, such as "tools/mqadmin". Throws when it cannot run, or is silent for a minute.
[[nodiscard]] Ran run_program(const std::string& program, const std::vector<std::string>& arguments,
                              const std::vector<std::string>& environment);

}  // namespace apogee::test
