#include "common/loop/tcp_listener.h"

#include <arpa/inet.h>
#include <fmt/core.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#include <cerrno>
#include <cstring>

#include "common/base/check.h"

namespace apogee::loop {

namespace {
constexpr int kBacklog = 1024;
constexpr int kAcceptsPerTurn = 64;
/// accept(2) without a free descriptor would be asked for again at once, for ever.
constexpr Milliseconds kPauseAfterFailure{100};
}  // namespace

struct TcpListener::State {
  int descriptor = -1;
  uint16_t port = 0;
  EventLoop* loop = nullptr;
  uv_poll_t poll{};
  bool started = false;
  bool failing = false;
  EventLoop::TimerId pause = 0;
  Accepted accepted;
  Failed failed;

  void listen_on() {
    uv_poll_start(&poll, UV_READABLE,
                  [](uv_poll_t* handle, int, int) { static_cast<State*>(handle->data)->accept_some(); });
  }

  void accept_some() {
    for (int i = 0; i < kAcceptsPerTurn; ++i) {
      int fd = ::accept4(descriptor, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
      if (fd >= 0) {
        failing = false;
        accepted(fd);
        continue;
      }
      if (errno == EAGAIN || errno == EWOULDBLOCK) return;
      if (errno == EINTR || errno == ECONNABORTED) continue;
      if (!failing) failed(fmt::format("accept on port {}: {}", port, std::strerror(errno)));
      failing = true;
      uv_poll_stop(&poll);
      pause = loop->run_after(kPauseAfterFailure, [this] {
        pause = 0;
        listen_on();
      });
      return;
    }
  }
};

Result<std::unique_ptr<TcpListener>> TcpListener::bind(const std::string& address, uint16_t port) {
  sockaddr_storage storage{};
  socklen_t size = sizeof(sockaddr_in);
  if (uv_ip4_addr(address.c_str(), port, reinterpret_cast<sockaddr_in*>(&storage)) != 0) {
    size = sizeof(sockaddr_in6);
    if (uv_ip6_addr(address.c_str(), port, reinterpret_cast<sockaddr_in6*>(&storage)) != 0)
      return Error(Errc::kInvalidArgument, fmt::format("bind address \"{}\" is not an IP address", address));
  }
  int fd = ::socket(storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return Error(Errc::kNetwork, fmt::format("socket: {}", std::strerror(errno)));
  int on = 1;
  ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (::bind(fd, reinterpret_cast<sockaddr*>(&storage), size) != 0 || ::listen(fd, kBacklog) != 0) {
    int error = errno;
    ::close(fd);
    Errc code = error == EADDRINUSE ? Errc::kAlreadyExists
                : error == EACCES   ? Errc::kPermission
                                    : Errc::kInvalidArgument;
    return Error(code, fmt::format("listen on {}:{}: {}", address, port, std::strerror(error)));
  }
  ::getsockname(fd, reinterpret_cast<sockaddr*>(&storage), &size);
  auto* state = new State;
  state->descriptor = fd;
  state->port = ntohs(storage.ss_family == AF_INET6 ? reinterpret_cast<sockaddr_in6*>(&storage)->sin6_port
                                                    : reinterpret_cast<sockaddr_in*>(&storage)->sin_port);
  return std::unique_ptr<TcpListener>(new TcpListener(state));
}

void TcpListener::start(EventLoop& loop, Accepted accepted, Failed failed) {
  loop.check_on_loop();
  state_->loop = &loop;
  state_->accepted = std::move(accepted);
  state_->failed = std::move(failed);
  state_->started = true;
  state_->poll.data = state_;
  APOGEE_CHECK(uv_poll_init(loop.raw(), &state_->poll, state_->descriptor) == 0);
  state_->listen_on();
}

TcpListener::~TcpListener() {
  if (!state_->started) {
    ::close(state_->descriptor);
    delete state_;
    return;
  }
  state_->loop->check_on_loop();
  if (state_->pause != 0) state_->loop->cancel(state_->pause);
  uv_poll_stop(&state_->poll);
  ::close(state_->descriptor);
  uv_close(reinterpret_cast<uv_handle_t*>(&state_->poll),
           [](uv_handle_t* handle) { delete static_cast<State*>(handle->data); });
}

uint16_t TcpListener::port() const { return state_->port; }

}  // namespace apogee::loop
