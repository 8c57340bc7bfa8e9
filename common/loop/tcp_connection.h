#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "apogee/result.h"
#include "common/base/bytes.h"
#include "common/loop/event_loop.h"

namespace apogee::loop {

/// One TCP stream on one loop. Every function is called on the loop's thread. The handle lives until its
/// close callback, whatever happens to this object. No callback comes after close() or the destructor.
class TcpConnection {
 public:
  struct Callbacks {
    /// Where to read to: at least one byte of room. The bytes are then announced by on_read.
    std::function<std::pair<char*, size_t>()> read_buffer;
    std::function<void(size_t bytes)> on_read;
    /// Once, when the peer closed or reading or writing failed; the connection is closed already.
    std::function<void(const Error& reason)> on_close;
    /// May be empty. The kernel has taken more; written_bytes() tells how much in all.
    std::function<void()> on_written = nullptr;
  };

  ~TcpConnection();
  TcpConnection(const TcpConnection&) = delete;
  TcpConnection& operator=(const TcpConnection&) = delete;

  /// Takes an accepted descriptor over (closes it on failure).
  static Result<std::unique_ptr<TcpConnection>> adopt(EventLoop& loop, int descriptor);
  using Connected = std::function<void(Result<std::unique_ptr<TcpConnection>>)>;
  /// Resolves "host:port" or "[v6]:port" and connects, to each address that the name has until one takes
  /// it; `done` comes once, on the loop, within the timeout.
  /// Returns what gives the attempt up without calling `done` (on the loop; nothing once it is over).
  static Task connect(EventLoop& loop, const std::string& address, Milliseconds timeout, Connected done);

  void start(Callbacks callbacks);
  void pause_reading();
  void resume_reading();

  /// Queues the parts in order and keeps their owners until they are written. They leave with one system
  /// call at the end of the loop's turn, or at once by flush().
  void write(std::vector<SharedBytes> parts);
  void write(SharedBytes part);
  /// The same with one part, of which a copy is made in room that the loop's connections share.
  void write_copy(std::string_view bytes);
  void flush();
  [[nodiscard]] size_t unsent_bytes() const;
  /// Bytes the kernel has taken so far.
  [[nodiscard]] uint64_t written_bytes() const;

  void close();
  [[nodiscard]] const std::string& peer_address() const;  ///< "ip:port"

 private:
  struct State;
  struct Attempt;
  explicit TcpConnection(State* state);
  State* state_;  ///< freed by the handle's close callback; null after a close
  std::string peer_;
};

/// Splits at the last colon; brackets around an IPv6 address are taken off. Errors: kInvalidArgument.
Result<std::pair<std::string, uint16_t>> split_host_port(std::string_view address);

}  // namespace apogee::loop
