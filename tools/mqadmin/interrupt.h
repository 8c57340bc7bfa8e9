#pragma once

#include <chrono>
#include <csignal>

namespace mqadmin {

/// Ctrl-C (SIGINT) and SIGTERM for commands that go on for long. Made before the command asks for its client: threads
/// that start later inherit the mask, so that the signals come here only. Thread: the one that made it.
class Interrupt {
 public:
  Interrupt();  ///< blocks both signals
  ~Interrupt();
  Interrupt(const Interrupt&) = delete;
  Interrupt& operator=(const Interrupt&) = delete;

  /// Whether a signal came; from then on always true. Waits for one, at most so long.
  [[nodiscard]] bool came(std::chrono::milliseconds wait = std::chrono::milliseconds(0));

 private:
  sigset_t signals_{};
  sigset_t before_{};
  bool came_ = false;
};

}  // namespace mqadmin
