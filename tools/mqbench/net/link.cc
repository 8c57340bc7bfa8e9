#include "tools/mqbench/net/link.h"

#include <arpa/inet.h>
#include <fmt/core.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <system_error>

#include "common/base/bytes.h"
#include "common/loop/tcp_connection.h"

namespace mqbench {

namespace {

constexpr size_t kFrameMax = 64UL << 20;

std::string error_text(int number) { return std::generic_category().message(number); }

/// What the loop holds of a link until its close callback.
struct Handle {
  uv_poll_t poll{};  // first: the callback is given this
  int descriptor = -1;
};

/// Resolves; the caller frees.
addrinfo* look_up(const std::string& host_port, int flags) {
  auto parts = apogee::loop::split_host_port(host_port);
  if (!parts) throw std::runtime_error(parts.error().message);
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags;
  addrinfo* found = nullptr;
  const int failed = ::getaddrinfo(parts->first.c_str(), std::to_string(parts->second).c_str(), &hints, &found);
  if (failed != 0) throw std::runtime_error(fmt::format("{}: {}", host_port, ::gai_strerror(failed)));
  return found;
}

}  // namespace

std::string resolve_address(const std::string& host_port) {
  addrinfo* found = look_up(host_port, 0);
  char host[NI_MAXHOST], port[NI_MAXSERV];
  ::getnameinfo(found->ai_addr, found->ai_addrlen, host, sizeof host, port, sizeof port,
                NI_NUMERICHOST | NI_NUMERICSERV);
  const bool v6 = found->ai_family == AF_INET6;
  ::freeaddrinfo(found);
  return v6 ? fmt::format("[{}]:{}", host, port) : fmt::format("{}:{}", host, port);
}

Link::Link(Worker& worker, LinkUser& user, size_t index) : worker_(worker), user_(user), index_(index) {}
Link::~Link() { close(); }

void Link::connect(const std::string& address) {
  addrinfo* found = look_up(address, AI_NUMERICHOST | AI_NUMERICSERV);
  const int descriptor = ::socket(found->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  int failed = descriptor < 0 ? errno : 0;
  if (failed == 0 && ::connect(descriptor, found->ai_addr, found->ai_addrlen) != 0 && errno != EINPROGRESS)
    failed = errno;
  ::freeaddrinfo(found);
  if (failed != 0) {
    if (descriptor >= 0) ::close(descriptor);
    state_ = State::kClosed;
    user_.on_closed(*this, "cannot connect: " + error_text(failed));
    return;
  }
  state_ = State::kConnecting;
  open_handle(descriptor);
}

void Link::adopt(int descriptor) {
  state_ = State::kOpen;
  open_handle(descriptor);
}

void Link::open_handle(int descriptor) {
  const int on = 1;
  ::setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  descriptor_ = descriptor;
  auto* handle = new Handle;
  handle->descriptor = descriptor;
  poll_ = &handle->poll;
  poll_->data = this;
  uv_poll_init(worker_.raw(), poll_, descriptor);
  watch();
}

void Link::watch() {
  int events = paused_ ? 0 : UV_READABLE;
  if (state_ == State::kConnecting || blocked_ || call_writable_) events |= UV_WRITABLE;
  if (events == watched_) return;
  watched_ = events;
  if (events == 0) {
    uv_poll_stop(poll_);
    return;
  }
  uv_poll_start(poll_, events, [](uv_poll_t* handle, int status, int happened) {
    static_cast<Link*>(handle->data)->on_event(status, happened);
  });
}

void Link::close() {
  if (state_ == State::kClosed || state_ == State::kNew) return;
  state_ = State::kClosed;
  if (dirty_) worker_.forget(*this);
  dirty_ = false;
  uv_close(reinterpret_cast<uv_handle_t*>(poll_), [](uv_handle_t* closed) {
    auto* handle = reinterpret_cast<Handle*>(closed);
    ::close(handle->descriptor);
    delete handle;
  });
  poll_ = nullptr;
}

void Link::fail(const std::string& reason) {
  if (state_ == State::kClosed) return;
  close();
  user_.on_closed(*this, reason);
}

void Link::call_when_writable(bool on) {
  call_writable_ = on;
  if (poll_ != nullptr) watch();
}

void Link::pause(bool on) {
  paused_ = on;
  if (poll_ != nullptr) watch();
}

char* Link::append(size_t bytes) {
  if (out_end_ + bytes > out_room_) {
    const size_t held = unsent();
    if (held + bytes > out_room_ || out_begin_ < out_room_ / 2) {
      const size_t room = std::max<size_t>(4'096, (held + bytes) * 2);
      std::unique_ptr<char[]> larger(new char[room]);
      if (held > 0) std::memcpy(larger.get(), out_.get() + out_begin_, held);
      out_ = std::move(larger);
      out_room_ = room;
    } else if (held > 0) {
      std::memmove(out_.get(), out_.get() + out_begin_, held);
    }
    out_begin_ = 0;
    out_end_ = held;
  }
  if (!dirty_ && !blocked_) {
    dirty_ = true;
    worker_.flush_later(*this);
  }
  char* at = out_.get() + out_end_;
  out_end_ += bytes;
  return at;
}

char* Link::append(std::string_view first, std::string_view second) {
  char* to = append(first.size() + second.size());
  std::copy(second.begin(), second.end(), std::copy(first.begin(), first.end(), to));
  return to;
}

void Link::flush_now() {
  dirty_ = false;
  if (state_ != State::kOpen) return;
  while (out_begin_ < out_end_) {
    const ssize_t sent = ::send(descriptor_, out_.get() + out_begin_, out_end_ - out_begin_, MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0 && errno != EAGAIN) return fail("writing failed: " + error_text(errno));
    if (sent > 0) out_begin_ += static_cast<size_t>(sent);
    if (sent < 0) {
      blocked_ = true;
      return watch();
    }
  }
  out_begin_ = out_end_ = 0;
  if (blocked_) {
    blocked_ = false;
    watch();
  }
}

void Link::on_event(int status, int events) {
  if (state_ == State::kConnecting) {
    int failed = 0;
    socklen_t bytes = sizeof failed;
    ::getsockopt(descriptor_, SOL_SOCKET, SO_ERROR, &failed, &bytes);
    if (failed != 0) return fail("cannot connect: " + error_text(failed));
    if (status < 0) return fail(std::string("cannot connect: ") + uv_strerror(status));
    state_ = State::kOpen;
    watch();
    user_.on_open(*this);
    if (state_ == State::kOpen && out_end_ > out_begin_ && !dirty_) flush_now();
    return;
  }
  if (status < 0) return fail(uv_strerror(status));
  if ((events & UV_WRITABLE) != 0) {
    if (blocked_) flush_now();
    if (state_ == State::kOpen && call_writable_ && !blocked_) user_.on_writable(*this);
  }
  if (state_ == State::kOpen && (events & UV_READABLE) != 0) read_some();
}

void Link::read_some() {
  for (int round = 0; round < 4 && state_ == State::kOpen && !paused_; ++round) {
    char* to = worker_.read_buffer();
    size_t room = Worker::kReadBytes;
    if (in_bytes_ > 0) {
      // The rest of a frame goes behind its beginning.
      const size_t frame = in_bytes_ >= 4 ? apogee::load_be<uint32_t>(in_.get()) + 4UL : 0;
      const size_t wanted = std::max(in_bytes_ + 64 * 1024, frame + 64 * 1024);
      if (wanted > in_room_) {
        std::unique_ptr<char[]> larger(new char[wanted]);
        std::memcpy(larger.get(), in_.get(), in_bytes_);
        in_ = std::move(larger);
        in_room_ = wanted;
      }
      to = in_.get() + in_bytes_;
      room = in_room_ - in_bytes_;
    }
    const ssize_t got = ::recv(descriptor_, to, room, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got < 0) return fail("reading failed: " + error_text(errno));
    if (got == 0) return fail("closed by the server");
    const int64_t now = static_cast<int64_t>(uv_hrtime());
    const bool own = in_bytes_ > 0;
    const char* begin = own ? in_.get() : to;
    const size_t bytes = in_bytes_ + static_cast<size_t>(got);
    const ssize_t used = take_frames(begin, bytes, now);
    if (used < 0) return;
    const size_t rest = bytes - static_cast<size_t>(used);
    if (own) {
      if (used > 0 && rest > 0) std::memmove(in_.get(), in_.get() + used, rest);
      in_bytes_ = rest;
    } else {
      keep_rest(begin + used, rest);
    }
    user_.on_read_end(*this, now);
    if (static_cast<size_t>(got) < room) return;
  }
}

ssize_t Link::take_frames(const char* from, size_t bytes, int64_t now) {
  size_t at = 0;
  while (bytes - at >= 8) {
    const auto length = apogee::load_be<uint32_t>(from + at);
    const auto word = apogee::load_be<uint32_t>(from + at + 4);
    const size_t header = word & 0xFFFFFF;
    if (length < 4 || length > kFrameMax || header > length - 4) {
      fail(fmt::format("not a frame of the remoting protocol: its first bytes are {:08x} {:08x}", length, word));
      return -1;
    }
    if (bytes - at < length + 4UL) break;
    const char* begin = from + at + 8;
    const Frame frame{
        static_cast<uint8_t>(word >> 24), {begin, header}, {begin + header, length - 4 - header}, length + 4UL};
    user_.on_frame(*this, frame, now);
    if (state_ != State::kOpen) return -1;
    at += length + 4UL;
  }
  return static_cast<ssize_t>(at);
}

void Link::keep_rest(const char* from, size_t bytes) {
  if (bytes > in_room_) {
    in_room_ = bytes;
    in_.reset(new char[in_room_]);
  }
  if (bytes > 0) std::memcpy(in_.get(), from, bytes);
  in_bytes_ = bytes;
}

}  // namespace mqbench
