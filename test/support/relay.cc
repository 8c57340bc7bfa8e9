#include "test/support/relay.h"

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include <stdexcept>

namespace apogee::test {

/// One direction of one connection: what has come, and when it goes on.
struct Relay::Pipe {
  using Clock = std::chrono::steady_clock;
  struct Piece {
    Clock::time_point due;
    std::string bytes;  ///< empty: the end
  };
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<Piece> pieces;
  bool stopped = false;
  void put(Clock::time_point due, std::string bytes) {
    const std::lock_guard lock(mutex);
    pieces.push_back({due, std::move(bytes)});
    changed.notify_all();
  }
  void stop() {
    const std::lock_guard lock(mutex);
    stopped = true;
    changed.notify_all();
  }
  /// The next one when it is due; empty: the end.
  std::string take() {
    std::unique_lock lock(mutex);
    while (!stopped) {
      if (pieces.empty()) {
        changed.wait(lock);
      } else if (Clock::now() >= pieces.front().due) {
        auto bytes = std::move(pieces.front().bytes);
        pieces.pop_front();
        return bytes;
      } else {
        changed.wait_until(lock, pieces.front().due);
      }
    }
    return {};
  }
};

namespace {
sockaddr_in address_of(const std::string& host, uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  if (::inet_pton(AF_INET, host.c_str(), &address.sin_addr) != 1) throw std::runtime_error("address " + host);
  return address;
}
}  // namespace

Relay::Relay(const std::string& host, std::string to_host, uint16_t to_port, std::chrono::milliseconds delay)
    : to_host_(std::move(to_host)), to_port_(to_port), delay_(delay) {
  listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  auto at = address_of(host, 0);
  socklen_t size = sizeof at;
  if (::bind(listener_, reinterpret_cast<sockaddr*>(&at), size) != 0 || ::listen(listener_, 16) != 0 ||
      ::getsockname(listener_, reinterpret_cast<sockaddr*>(&at), &size) != 0)
    throw std::runtime_error("a relay cannot listen on " + host);
  port_ = ntohs(at.sin_port);
  acceptor_ = std::thread([this] { accept_all(); });
}

Relay::~Relay() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    ::shutdown(listener_, SHUT_RDWR);
    for (const int each : sockets_) ::shutdown(each, SHUT_RDWR);
    for (auto& each : pipes_) each->stop();
  }
  acceptor_.join();
  for (auto& each : threads_) each.join();
  for (const int each : sockets_) ::close(each);
  ::close(listener_);
}

int64_t Relay::bytes() const {
  const std::lock_guard lock(mutex_);
  return bytes_;
}

void Relay::accept_all() {
  for (;;) {
    const int in = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    if (in < 0) return;
    const int out = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    auto to = address_of(to_host_, to_port_);
    if (::connect(out, reinterpret_cast<sockaddr*>(&to), sizeof to) != 0) {
      ::close(in);
      ::close(out);
      continue;
    }
    const std::lock_guard lock(mutex_);
    sockets_.insert(sockets_.end(), {in, out});
    if (stopping_) return;
    for (const auto& [from, onto] : {std::pair(in, out), std::pair(out, in)}) {
      auto pipe = std::make_shared<Pipe>();
      pipes_.push_back(pipe);
      threads_.emplace_back([this, pipe, from = from] { carry(from, pipe); });
      threads_.emplace_back([this, pipe, onto = onto] { deliver(pipe, onto); });
    }
  }
}

void Relay::carry(int from, const std::shared_ptr<Pipe>& pipe) {
  for (;;) {
    std::string bytes(64 << 10, '\0');
    const ssize_t n = ::recv(from, bytes.data(), bytes.size(), 0);
    bytes.resize(n > 0 ? static_cast<size_t>(n) : 0);
    pipe->put(Pipe::Clock::now() + delay_, std::move(bytes));
    if (n <= 0) return;
  }
}

void Relay::deliver(const std::shared_ptr<Pipe>& pipe, int to) {
  for (;;) {
    const auto bytes = pipe->take();
    if (bytes.empty()) break;
    for (size_t done = 0; done < bytes.size();) {
      const ssize_t n = ::send(to, bytes.data() + done, bytes.size() - done, MSG_NOSIGNAL);
      if (n <= 0) return;
      done += static_cast<size_t>(n);
      const std::lock_guard lock(mutex_);
      bytes_ += n;
    }
  }
  ::shutdown(to, SHUT_WR);
}

}  // namespace apogee::test
