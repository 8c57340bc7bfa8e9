#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace apogee::test {

/// A blocking TCP socket for bytes as they are. Every wait is bounded. Thread: one at a time, but stop().
class StreamSocket {
 public:
  using Limit = std::chrono::milliseconds;
  static constexpr Limit kLimit = std::chrono::seconds(20);

  explicit StreamSocket(int descriptor) : fd_(descriptor) {}
  explicit StreamSocket(uint16_t port);  ///< to 127.0.0.1; throws when nobody listens
  ~StreamSocket();
  StreamSocket(const StreamSocket&) = delete;
  StreamSocket& operator=(const StreamSocket&) = delete;

  bool send(std::string_view bytes);  ///< false: the peer has closed
  /// Exactly so many bytes; nullopt when the peer closes before, or the time is over.
  [[nodiscard]] std::optional<std::string> receive(size_t bytes, Limit limit = kLimit);
  /// What is there, at most so many bytes; "" when the time is over; nullopt when the peer has closed.
  [[nodiscard]] std::optional<std::string> receive_some(size_t bytes_max, Limit limit);
  /// Whether the peer closes, whatever it sends before.
  [[nodiscard]] bool closes(Limit limit = kLimit);
  void stop();  ///< ends both directions. Thread: any.

 private:
  int fd_;
};

/// Listens on a free port of 127.0.0.1.
class StreamListener {
 public:
  StreamListener();
  ~StreamListener();
  StreamListener(const StreamListener&) = delete;
  StreamListener& operator=(const StreamListener&) = delete;
  [[nodiscard]] uint16_t port() const { return port_; }
  /// A descriptor; -1 when the time is over.
  [[nodiscard]] int accept(std::chrono::milliseconds limit);

 private:
  int fd_ = -1;
  uint16_t port_ = 0;
};

}  // namespace apogee::test
