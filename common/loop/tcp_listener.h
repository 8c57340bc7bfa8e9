#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "apogee/result.h"
#include "common/loop/event_loop.h"

namespace apogee::loop {

/// A listening TCP socket on one loop; accepted descriptors (non-blocking, close-on-exec) are handed out.
class TcpListener {
 public:
  using Accepted = std::function<void(int descriptor)>;
  /// Told once for each run of failures of accept(2), such as too many open files.
  using Failed = std::function<void(const std::string& why)>;

  /// Binds and listens; port 0 takes a free one. SO_REUSEADDR but not SO_REUSEPORT: a taken port is an
  /// error (kAlreadyExists, naming address and port). Thread: any.
  static Result<std::unique_ptr<TcpListener>> bind(const std::string& address, uint16_t port);
  /// On the loop's thread, as the loop's owner or before it runs.
  void start(EventLoop& loop, Accepted accepted, Failed failed);
  ~TcpListener();  ///< on the loop's thread once started

  [[nodiscard]] uint16_t port() const;

 private:
  struct State;
  explicit TcpListener(State* state) : state_(state) {}
  State* state_;
};

}  // namespace apogee::loop
