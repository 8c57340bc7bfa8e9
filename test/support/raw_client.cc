#include "test/support/raw_client.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <random>
#include <stdexcept>

#include "common/remoting/command_codec.h"

namespace apogee::test {

namespace {
sockaddr_in loopback(uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}
}  // namespace

RawClient::RawClient(const std::string& ip, uint16_t port, std::chrono::milliseconds limit)
    : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) {
  auto to = loopback(port);
  int error = ::inet_pton(AF_INET, ip.c_str(), &to.sin_addr) == 1 ? 0 : EINVAL;
  if (error == 0 && ::connect(fd_, reinterpret_cast<sockaddr*>(&to), sizeof to) != 0) error = errno;
  if (error == EINPROGRESS) {
    pollfd wait{fd_, POLLOUT, 0};
    socklen_t size = sizeof error;
    if (::poll(&wait, 1, static_cast<int>(limit.count())) <= 0)
      error = ETIMEDOUT;
    else
      ::getsockopt(fd_, SOL_SOCKET, SO_ERROR, &error, &size);
  }
  if (error != 0) {
    ::close(fd_);
    throw std::runtime_error("cannot connect to " + ip + " port " + std::to_string(port));
  }
  ::fcntl(fd_, F_SETFL, ::fcntl(fd_, F_GETFL) & ~O_NONBLOCK);
}

RawClient::~RawClient() { ::close(fd_); }

void RawClient::send_bytes(std::string_view bytes) {
  while (!bytes.empty()) {
    ssize_t n = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n <= 0) return;  // the peer closed: what comes back tells
    bytes.remove_prefix(static_cast<size_t>(n));
  }
}

void RawClient::send(const remoting::Command& command) { send_bytes(remoting::encode_frame_to_string(command)); }

Status RawClient::read_exactly(char* to, size_t bytes, std::chrono::steady_clock::time_point deadline) {
  while (bytes > 0) {
    auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now()).count();
    pollfd wait{fd_, POLLIN, 0};
    if (left <= 0 || ::poll(&wait, 1, static_cast<int>(left)) <= 0) return Error(Errc::kTimeout, "no answer in time");
    ssize_t n = ::recv(fd_, to, bytes, 0);
    if (n <= 0) return Error(Errc::kClosed, "the peer closed the connection");
    to += n;
    bytes -= static_cast<size_t>(n);
  }
  return {};
}

Result<remoting::Command> RawClient::receive(std::chrono::milliseconds limit) {
  auto deadline = std::chrono::steady_clock::now() + limit;
  char head[4];
  APOGEE_TRY(read_exactly(head, sizeof head, deadline));
  std::string rest(static_cast<size_t>(load_be<int32_t>(head)), '\0');
  APOGEE_TRY(read_exactly(rest.data(), rest.size(), deadline));
  return remoting::decode_frame(SharedBytes::from(std::move(rest)));
}

Result<remoting::Command> RawClient::call(remoting::Command request, std::chrono::milliseconds limit) {
  request.opaque = ++opaque_;
  send(request);
  for (;;) {
    auto reply = receive(limit);
    if (!reply || (reply->is_response() && reply->opaque == opaque_)) return reply;
  }
}

bool RawClient::closed_by_peer(std::chrono::milliseconds limit) {
  char nothing;
  auto read = read_exactly(&nothing, 1, std::chrono::steady_clock::now() + limit);
  return !read && read.error().code == Errc::kClosed;
}

namespace {

/// Four ports below each other are one program's: listenPort, one above it, two below it.
constexpr uint16_t kPortsOfAProgram = 4;
constexpr uint16_t kPortsOfAProcess = 400;
/// Below what the kernel gives to outgoing connections: a program that starts again finds its port free.
constexpr uint16_t kFirstPort = 12'000, kProcesses = 50;

/// The ports that no other test process takes as long as this one lives: a socket's name in the abstract namespace,
/// which goes with the process, says so.
uint16_t ports_of_this_process() {
  std::random_device random;
  const auto begin = static_cast<uint16_t>(random() % kProcesses);
  for (uint16_t i = 0; i < kProcesses; ++i) {
    const auto number = static_cast<uint16_t>((begin + i) % kProcesses);
    sockaddr_un name{};
    name.sun_family = AF_UNIX;
    const std::string text = "apogee-test-ports-" + std::to_string(number);
    std::copy(text.begin(), text.end(), name.sun_path + 1);
    const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + text.size());
    const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (::bind(fd, reinterpret_cast<sockaddr*>(&name), length) == 0)
      return static_cast<uint16_t>(kFirstPort + number * kPortsOfAProcess);
    ::close(fd);
  }
  throw std::runtime_error("all ports are other test processes'");
}

bool is_free(uint16_t port) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  int on = 1;
  ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  auto at = loopback(port);
  const bool free = ::bind(fd, reinterpret_cast<sockaddr*>(&at), sizeof at) == 0;
  ::close(fd);
  return free;
}

}  // namespace

uint16_t free_port() {
  static const uint16_t first = ports_of_this_process();
  static std::atomic<uint32_t> taken{0};
  for (int attempt = 0; attempt < 2 * kPortsOfAProcess / kPortsOfAProgram; ++attempt) {
    const auto below = static_cast<uint16_t>(first + taken++ * kPortsOfAProgram % kPortsOfAProcess);
    bool free = true;
    for (uint16_t i = 0; i < kPortsOfAProgram && free; ++i) free = is_free(static_cast<uint16_t>(below + i));
    if (free) return static_cast<uint16_t>(below + 2);
  }
  throw std::runtime_error("no free ports on 127.0.0.1");
}

}  // namespace apogee::test
