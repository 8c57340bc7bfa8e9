#include "test/support/stream_socket.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <stdexcept>

namespace apogee::test {

namespace {

sockaddr_in loopback(uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port);
  return address;
}

bool readable(int fd, std::chrono::milliseconds limit) {
  pollfd one{fd, POLLIN, 0};
  return ::poll(&one, 1, static_cast<int>(std::max<int64_t>(0, limit.count()))) > 0;
}

}  // namespace

StreamSocket::StreamSocket(uint16_t port) : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  auto address = loopback(port);
  if (::connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
    ::close(fd_);
    throw std::runtime_error("connect to port " + std::to_string(port) + ": " + std::strerror(errno));
  }
  int on = 1;
  ::setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

StreamSocket::~StreamSocket() { ::close(fd_); }

bool StreamSocket::send(std::string_view bytes) {
  while (!bytes.empty()) {
    auto sent = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) return false;
    bytes.remove_prefix(static_cast<size_t>(sent));
  }
  return true;
}

std::optional<std::string> StreamSocket::receive_some(size_t bytes_max, Limit limit) {
  if (!readable(fd_, limit)) return std::string();
  std::string bytes(bytes_max, '\0');
  auto count = ::recv(fd_, bytes.data(), bytes.size(), 0);
  if (count <= 0) return std::nullopt;
  bytes.resize(static_cast<size_t>(count));
  return bytes;
}

std::optional<std::string> StreamSocket::receive(size_t bytes, Limit limit) {
  auto deadline = std::chrono::steady_clock::now() + limit;
  std::string all;
  while (all.size() < bytes) {
    auto left = std::chrono::duration_cast<Limit>(deadline - std::chrono::steady_clock::now());
    auto some = receive_some(bytes - all.size(), left);
    if (!some || (some->empty() && left.count() <= 0)) return std::nullopt;
    all += *some;
  }
  return all;
}

bool StreamSocket::closes(Limit limit) {
  auto deadline = std::chrono::steady_clock::now() + limit;
  for (;;) {
    auto left = std::chrono::duration_cast<Limit>(deadline - std::chrono::steady_clock::now());
    if (!receive_some(64 << 10, left)) return true;
    if (left.count() <= 0) return false;
  }
}

void StreamSocket::stop() { ::shutdown(fd_, SHUT_RDWR); }

StreamListener::StreamListener() : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  auto address = loopback(0);
  socklen_t size = sizeof address;
  if (::bind(fd_, reinterpret_cast<sockaddr*>(&address), size) != 0 || ::listen(fd_, 16) != 0 ||
      ::getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &size) != 0)
    throw std::runtime_error(std::string("listen: ") + std::strerror(errno));
  port_ = ntohs(address.sin_port);
}

StreamListener::~StreamListener() { ::close(fd_); }

int StreamListener::accept(std::chrono::milliseconds limit) {
  if (!readable(fd_, limit)) return -1;
  return ::accept4(fd_, nullptr, nullptr, SOCK_CLOEXEC);
}

}  // namespace apogee::test
