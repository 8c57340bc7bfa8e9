#pragma once

namespace mqadmin {

/// Runs one command. Results go to standard output, one line about what went wrong to standard error.
/// Answers with the exit code: 0 done, 1 failed, 2 called wrongly.
int run_command_line(int argc, char** argv);

}  // namespace mqadmin
