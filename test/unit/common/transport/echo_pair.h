#pragma once

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "common/remoting/remoting_server.h"
#include "common/remoting/rpc_client.h"
#include "test/support/catch.h"
#include "test/support/wait.h"

namespace apogee::remoting {

/// An echo server and a client of it.
struct Pair {
  Logger logger;
  RemotingServer server;
  loop::LoopThread thread{"client"};
  RpcClient client;
  std::string address;

  static RemotingServer::Options options() {
    RemotingServer::Options o;
    o.bind_address = "127.0.0.1";
    o.ports = {0};
    return o;
  }
  static void echo(const Caller&, Command request, Responder respond) {
    auto response = Command::response_to(request, 0);
    response.body = request.body;
    respond(std::move(response));
  }
  explicit Pair(RequestHandler handler = echo, RemotingServer::Options o = options(), LogSink sink = {},
                RpcClient::Options c = {})
      : logger(std::move(sink)), server(std::move(o), logger), client(thread.loop(), c, logger) {
    server.set_handler(std::move(handler));
    REQUIRE(server.start());
    address = "127.0.0.1:" + std::to_string(server.port());
  }
};

inline Command request_with(std::string body) {
  auto request = Command::request(RequestCode::kSendMessage);
  request.body = SharedBytes::from(std::move(body));
  return request;
}

/// A handler that answers nothing before it is told to. Thread: any.
class HeldRequests {
 public:
  [[nodiscard]] RequestHandler handler() {
    return [this](const Caller&, Command request, Responder respond) {
      std::lock_guard lock(mutex_);
      held_.emplace_back(std::move(request), std::move(respond));
    };
  }
  [[nodiscard]] size_t count() const {
    std::lock_guard lock(mutex_);
    return held_.size();
  }
  /// Answers what is held; how many they were.
  size_t answer_all() {
    decltype(held_) now;
    {
      std::lock_guard lock(mutex_);
      now.swap(held_);
    }
    for (auto& [request, respond] : now) respond(Command::response_to(request, 0));
    return now.size();
  }

 private:
  mutable std::mutex mutex_;
  std::vector<std::pair<Command, Responder>> held_;
};

inline sockaddr_in loopback(uint16_t port) {
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(port);
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return to;
}

/// A connected socket whose reads give up after ten seconds; closed by the caller.
inline int raw_connect(uint16_t port) {
  int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  auto to = loopback(port);
  timeval limit{10, 0};
  ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  REQUIRE(::connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof to) == 0);
  return fd;
}

inline void raw_send(int fd, const std::string& bytes) {
  REQUIRE(::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size()));
}

}  // namespace apogee::remoting
