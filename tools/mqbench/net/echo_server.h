#pragma once

#include <cstdint>
#include <functional>
#include <string>

namespace mqbench {

struct EchoOptions {
  std::string bind = "127.0.0.1";  ///< an IPv4 address
  int port = 0;                    ///< 0: a free one
  size_t answer_body = 0;          ///< bytes behind each answer's header, as a pull's answer has them
  // For the test of this tool's honesty: it does nothing for stall_ms at the end of every stall_every_ms.
  int64_t stall_ms = 0;
  int64_t stall_every_ms = 1'000;
};

/// A bare libuv server on one thread: finds the opaque of each request and answers with what a broker answers to a
/// send. It does nothing else, so it is the ceiling for any broker's send path. Runs until SIGTERM or SIGINT.
/// listening: told the port. Throws what keeps it from listening.
void serve_echo(const EchoOptions& options, const std::function<void(uint16_t port)>& listening);

/// An echo server as a child process, ended with this object.
class EchoChild {
 public:
  /// cpus: where it runs; "": anywhere. Throws when it does not start.
  EchoChild(const EchoOptions& options, const std::string& cpus);
  ~EchoChild();
  EchoChild(const EchoChild&) = delete;
  EchoChild& operator=(const EchoChild&) = delete;
  [[nodiscard]] int pid() const { return pid_; }
  [[nodiscard]] const std::string& address() const { return address_; }

 private:
  int pid_ = -1;
  std::string address_;
};

}  // namespace mqbench
