#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "apogee/result.h"
#include "common/remoting/command.h"

namespace apogee::test {

/// A blocking socket that speaks frames, or anything else. Every wait is bounded.
class RawClient {
 public:
  explicit RawClient(uint16_t port) : RawClient("127.0.0.1", port) {}  ///< throws when nobody listens
  RawClient(const std::string& ip, uint16_t port, std::chrono::milliseconds limit = std::chrono::seconds(20));
  ~RawClient();
  RawClient(const RawClient&) = delete;
  RawClient& operator=(const RawClient&) = delete;

  void send_bytes(std::string_view bytes);
  void send(const remoting::Command& command);
  /// Error: kTimeout, kClosed.
  [[nodiscard]] Result<remoting::Command> receive(std::chrono::milliseconds limit = std::chrono::seconds(20));
  /// Sends with an opaque of its own and takes the next answer to it.
  [[nodiscard]] Result<remoting::Command> call(remoting::Command request,
                                               std::chrono::milliseconds limit = std::chrono::seconds(20));
  /// Whether the peer closes the connection, without sending anything more.
  [[nodiscard]] bool closed_by_peer(std::chrono::milliseconds limit = std::chrono::seconds(20));

 private:
  [[nodiscard]] Status read_exactly(char* to, size_t bytes, std::chrono::steady_clock::time_point deadline);
  int fd_ = -1;
  int32_t opaque_ = 100;
};

/// A port P of 127.0.0.1 such that P, P-1, P-2 and P+1 are free now; no other test process is given one of these as
/// long as this one lives, and it gives them again only after many others.
uint16_t free_port();

}  // namespace apogee::test
