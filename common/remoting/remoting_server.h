#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "apogee/result.h"
#include "common/base/logger.h"
#include "common/loop/event_loop.h"
#include "common/remoting/command.h"

namespace apogee::remoting {

/// Names a connection of a server for as long as the process lives; never reused. 0 is nobody.
using ConnectionId = uint64_t;

/// Who sent a request.
struct Caller {
  ConnectionId connection = 0;
  std::string address;      ///< "ip:port" of the peer
  uint16_t local_port = 0;  ///< the listening port it came in by
};

/// Answers one request, once. Copyable, callable from any thread (it posts to the connection's loop);
/// a second call, a call for a one-way request, or one after the connection closed does nothing.
class Responder {
 public:
  using Send = std::function<void(Command)>;
  Responder() = default;
  explicit Responder(Send send) : once_(std::make_shared<Once>(std::move(send))) {}
  void operator()(Command response) const {
    if (!once_ || once_->used.test_and_set()) return;
    Send send = std::move(once_->send);
    once_->send = nullptr;
    if (send) send(std::move(response));
  }

 private:
  struct Once {
    std::atomic_flag used;
    Send send;
    explicit Once(Send s) : send(std::move(s)) {}
  };
  std::shared_ptr<Once> once_;
};

/// Called on the IO loop of the connection; must not block. The request's opaque and serialization must
/// reach the response (Command::response_to).
using RequestHandler = std::function<void(const Caller& caller, Command request, Responder respond)>;
using CloseListener = std::function<void(ConnectionId connection, const std::string& address)>;
using ReplyCallback = std::function<void(Result<Command> reply)>;

/// Accepts connections and moves frames. One acceptor hands each connection to the least loaded of N IO
/// loops. Limits: frame size, idle time, bytes of requests in flight per connection and in all (reading
/// stops until they are answered), bytes waiting to be written per connection (closed beyond).
class RemotingServer {
 public:
  struct Options {
    std::string bind_address = "0.0.0.0";
    std::vector<uint16_t> ports;  ///< 0 = any free one; see port(). A taken port stops the start.
    int io_threads = 2;
    size_t frame_bytes_max = 16 * 1024 * 1024;
    int64_t idle_ms_max = 120'000;
    size_t connection_inflight_bytes_max = 64u << 20;
    size_t total_inflight_bytes_max = 512u << 20;
    size_t connection_unsent_bytes_max = 256u << 20;
    const char* name = "io";  ///< prefix of the thread names
  };
  struct Counters {
    uint64_t connections_open, connections_accepted, frames_in, frames_out, bad_frames, oversize_frames;
  };

  RemotingServer(Options options, const Logger& logger);
  ~RemotingServer();

  /// Both before start().
  void set_handler(RequestHandler handler);
  void set_close_listener(CloseListener listener);

  /// Errors: kAlreadyExists when a port is taken (the message names it), kPermission, kInvalidArgument.
  [[nodiscard]] Status start();
  /// Stops accepting and reading, lets what was answered be written for at most `drain_ms`, closes.
  void stop(int64_t drain_ms = 0);
  /// The port that Options::ports[index] became.
  [[nodiscard]] uint16_t port(size_t index = 0) const;
  [[nodiscard]] Counters counters() const;

  /// Requests of ours to a connected client. Thread: any; the callback comes on that connection's loop.
  /// Errors: kClosed, kTimeout.
  void call(ConnectionId connection, Command request, int64_t timeout_ms, ReplyCallback done);
  void send_oneway(ConnectionId connection, Command request);
  void close_connection(ConnectionId connection);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace apogee::remoting
