#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

namespace apogee::test {

/// A program of ours as a process; its output goes to a file. Killed in the destructor if it still runs.
class Process {
 public:
  /// program: below the build directory, such as "broker/mqbroker".
  Process(const std::string& program, std::vector<std::string> arguments, std::string output_file,
          std::vector<std::string> environment = {});
  ~Process();
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  [[nodiscard]] std::string output() const;
  /// False when the text did not come within the limit or the process ended without it.
  [[nodiscard]] bool wait_for_output(const std::string& text,
                                     std::chrono::milliseconds limit = std::chrono::seconds(30));
  void signal(int number);
  /// The exit code, or 128 + the signal that ended it; -1 when it still ran at the limit.
  int wait(std::chrono::milliseconds limit = std::chrono::seconds(30));
  int terminate();  ///< SIGTERM and wait()
  void kill();      ///< SIGKILL and wait()
  [[nodiscard]] bool running();
  [[nodiscard]] int64_t resident_kib() const;
  [[nodiscard]] pid_t pid() const { return pid_; }

 private:
  bool reap(bool block);
  std::string output_file_;
  pid_t pid_ = -1;
  int status_ = 0;
  bool ended_ = false;
};

}  // namespace apogee::test
