#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "apogee/result.h"
#include "common/base/logger.h"
#include "common/loop/event_loop.h"
#include "common/remoting/command.h"
#include "common/remoting/header_view.h"

namespace apogee::remoting {

/// Names a connection of a server for as long as the process lives; never reused. 0 is nobody.
using ConnectionId = uint64_t;

/// Who sent a request.
struct Caller {
  ConnectionId connection = 0;
  std::string address;      ///< "ip:port" of the peer
  uint16_t local_port = 0;  ///< the listening port it came in by
  std::string ip_bytes{};   ///< of the peer: 4 or 16
  uint16_t port = 0;        ///< of the peer
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
/// Answers one request that a QuickHandler has taken, with a whole encoded frame, on the connection's loop: within the
/// handler, or later after hold(). A plain value.
class QuickReply {
 public:
  class Sender {
   public:
    virtual void hold(ConnectionId connection, size_t frame_bytes) = 0;
    /// `body`, which may be nullptr: parts behind the frame's bytes, which are taken out.
    virtual void send(ConnectionId connection, std::string_view frame, std::vector<SharedBytes>* body,
                      size_t held_bytes) = 0;

   protected:
    ~Sender() = default;
  };
  QuickReply(Sender& sender, ConnectionId connection, size_t frame_bytes)
      : sender_(&sender), connection_(connection), frame_bytes_(frame_bytes) {}
  /// Keeps the request's bytes on the connection's budget until it is answered.
  void hold() {
    held_ = true;
    sender_->hold(connection_, frame_bytes_);
  }
  void send(std::string_view frame) { sender_->send(connection_, frame, nullptr, held_ ? frame_bytes_ : 0); }
  /// `head`: the frame up to its body, whose parts are taken out of `body`.
  void send(std::string_view head, std::vector<SharedBytes>& body) {
    sender_->send(connection_, head, &body, held_ ? frame_bytes_ : 0);
  }
  /// Of a held one-way request.
  void release() { send({}); }

 private:
  Sender* sender_;
  ConnectionId connection_;
  size_t frame_bytes_;
  bool held_ = false;
};

/// Takes requests of the most frequent kinds before they are decoded; false: the RequestHandler is to have this one.
/// Called on the IO loop of the connection, `loop` of so many; must not block.
using QuickHandler = std::function<bool(size_t loop, const Caller& caller, const HeaderView& header,
                                        std::string_view body, QuickReply reply)>;
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

  /// These before start().
  void set_handler(RequestHandler handler);
  void set_close_listener(CloseListener listener);
  void set_quick_handler(QuickHandler handler);

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
  /// Runs the task on the loop of the connection, whether that is open still or not; never within this call. False:
  /// there is no such loop any more, and the task was dropped. Thread: any.
  bool post(ConnectionId connection, loop::Task task);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace apogee::remoting
