#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "apogee/result.h"
#include "common/base/logger.h"
#include "common/remoting/remoting_server.h"

namespace apogee::remoting {

/// Calls to remoting servers by address ("host:port"), one connection an address, opened when first used
/// and again after it closed; requests are pipelined. Belongs to one loop, whose thread runs every callback;
/// the public functions may be called from any thread.
class RpcClient {
 public:
  struct Options {
    int64_t connect_timeout_ms = 3'000;
    int64_t idle_ms_max = 120'000;
    size_t frame_bytes_max = 128u << 20;
    size_t connection_unsent_bytes_max = 256u << 20;
  };
  RpcClient(loop::EventLoop& loop, Options options, const Logger& logger);
  ~RpcClient();  ///< on any thread but the loop's while the loop runs, or after the loop has ended

  /// Requests that a server sends to us (a Caller's connection is usable with this client's address only).
  /// Called on the loop. Without a handler such a request is answered with code 3.
  void set_handler(RequestHandler handler);
  /// The address is the one that was called.
  void set_close_listener(std::function<void(const std::string& address)> listener);

  /// Sets the opaque, sends, and hands the reply (whatever its code) to `done` on the loop, exactly once.
  /// Errors: kNetwork (could not connect, or the connection broke), kTimeout, kClosed, kBusy.
  void call(std::string address, Command request, int64_t timeout_ms, ReplyCallback done);
  /// Blocks the calling thread, which must not be the loop's.
  [[nodiscard]] Result<Command> call_and_wait(const std::string& address, Command request, int64_t timeout_ms);
  /// `done`, if given, tells that the frame was written to the socket, or why not.
  void send_oneway(std::string address, Command request, std::function<void(Status)> done = nullptr);
  void close(const std::string& address);
  /// Fails what is outstanding with kClosed and closes every connection; later calls fail at once.
  void shutdown();

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace apogee::remoting
