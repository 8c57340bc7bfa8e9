#include "common/loop/tcp_connection.h"

#include <arpa/inet.h>
#include <fmt/core.h>
#include <unistd.h>
#include <uv.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <deque>

#include "common/base/check.h"
#include "common/loop/loop_buffers.h"

namespace apogee::loop {

namespace {

constexpr size_t kBuffersPerWrite = 64;
/// Parts of the list of what is to be written for which room is kept.
constexpr size_t kUnsentKeptMax = 256;

Error uv_error(int code, std::string_view what) {
  return Error(code == UV_ETIMEDOUT ? Errc::kTimeout : Errc::kNetwork, fmt::format("{}: {}", what, uv_strerror(code)));
}

std::string address_text(const sockaddr_storage& address) {
  char ip[INET6_ADDRSTRLEN] = "";
  if (address.ss_family == AF_INET6) {
    const auto& v6 = reinterpret_cast<const sockaddr_in6&>(address);
    if (IN6_IS_ADDR_V4MAPPED(&v6.sin6_addr)) {
      inet_ntop(AF_INET, &v6.sin6_addr.s6_addr[12], ip, sizeof ip);
      return fmt::format("{}:{}", ip, ntohs(v6.sin6_port));
    }
    inet_ntop(AF_INET6, &v6.sin6_addr, ip, sizeof ip);
    return fmt::format("[{}]:{}", ip, ntohs(v6.sin6_port));
  }
  const auto& v4 = reinterpret_cast<const sockaddr_in&>(address);
  inet_ntop(AF_INET, &v4.sin_addr, ip, sizeof ip);
  return fmt::format("{}:{}", ip, ntohs(v4.sin_port));
}

}  // namespace

struct TcpConnection::State final : TurnWork {
  EventLoop* loop = nullptr;
  uv_tcp_t handle{};
  bool closing = false;
  bool reading = false;
  bool flush_wanted = false;
  bool write_in_flight = false;
  TcpConnection* owner = nullptr;
  std::shared_ptr<const Callbacks> callbacks;  ///< held while one runs, which may close the connection
  std::string peer;
  std::vector<SharedBytes> unsent;  ///< from first_unsent on; that one may be partly written
  size_t first_unsent = 0;
  size_t unsent_bytes = 0;
  uint64_t written_bytes = 0;
  uv_write_t write_request{};
  size_t write_request_bytes = 0;

  static State* create(EventLoop& loop) {
    auto* state = new State;
    state->loop = &loop;
    APOGEE_CHECK(uv_tcp_init(loop.raw(), &state->handle) == 0);
    state->handle.data = state;
    return state;
  }

  void close_handles() {
    if (closing) return;
    closing = true;
    if (flush_wanted) loop->forget_write(this);
    uv_close(reinterpret_cast<uv_handle_t*>(&handle),
             [](uv_handle_t* closed) { delete static_cast<State*>(closed->data); });
  }

  /// The turn's writes leave.
  void turn_ends() override {
    flush_wanted = false;
    if (!write_in_flight) flush();
  }

  void opened() {
    uv_tcp_nodelay(&handle, 1);
    sockaddr_storage address{};
    int size = sizeof address;
    if (uv_tcp_getpeername(&handle, reinterpret_cast<sockaddr*>(&address), &size) == 0) peer = address_text(address);
  }

  /// The owner learns it once; it may delete itself in the callback.
  void fail(const Error& reason) {
    if (closing) return;
    close_handles();
    if (owner) owner->state_ = nullptr;
    auto held = std::move(callbacks);
    if (held && held->on_close) held->on_close(reason);
  }

  void wrote(size_t bytes) {
    written_bytes += bytes;
    unsent_bytes -= bytes;
    while (bytes > 0) {
      auto& front = unsent[first_unsent];
      if (bytes < front.size()) {
        front.bytes.remove_prefix(bytes);
        break;
      }
      bytes -= front.size();
      front = {};
      ++first_unsent;
    }
    if (first_unsent == unsent.size()) {
      unsent.clear();
      first_unsent = 0;
      if (unsent.capacity() > kUnsentKeptMax) unsent.shrink_to_fit();
    } else if (first_unsent > unsent.size() / 2 && first_unsent >= kUnsentKeptMax) {
      unsent.erase(unsent.begin(), unsent.begin() + static_cast<ptrdiff_t>(first_unsent));
      first_unsent = 0;
    }
    auto held = callbacks;
    if (held && held->on_written) held->on_written();
  }

  /// The buffers of the next write; `bytes` becomes what they hold together.
  size_t gather(uv_buf_t* buffers, size_t& bytes) const {
    const size_t count = std::min(unsent.size() - first_unsent, kBuffersPerWrite);
    bytes = 0;
    for (size_t i = 0; i < count; ++i) {
      const auto& part = unsent[first_unsent + i].bytes;
      buffers[i] = uv_buf_init(const_cast<char*>(part.data()), static_cast<unsigned>(part.size()));
      bytes += part.size();
    }
    return count;
  }

  void flush() {
    while (!closing && !write_in_flight && !unsent.empty()) {
      uv_buf_t buffers[kBuffersPerWrite];
      size_t bytes = 0;
      const size_t count = gather(buffers, bytes);
      auto* stream = reinterpret_cast<uv_stream_t*>(&handle);
      int taken = uv_try_write(stream, buffers, static_cast<unsigned>(count));
      if (taken >= 0) {
        wrote(static_cast<size_t>(taken));
        if (static_cast<size_t>(taken) == bytes) continue;
        // The socket is full: the rest of these buffers goes by a request, which waits for room.
        if (!closing) flush_with_request();
        return;
      }
      if (taken == UV_EAGAIN) {
        flush_with_request();
        return;
      }
      fail(uv_error(taken, "write to " + peer));
      return;
    }
  }

  void flush_with_request() {
    uv_buf_t buffers[kBuffersPerWrite];
    const size_t count = gather(buffers, write_request_bytes);
    write_in_flight = true;
    write_request.data = this;
    int error = uv_write(&write_request, reinterpret_cast<uv_stream_t*>(&handle), buffers, static_cast<unsigned>(count),
                         [](uv_write_t* request, int status) {
                           auto* state = static_cast<State*>(request->data);
                           state->write_in_flight = false;
                           if (state->closing) return;
                           if (status < 0) return state->fail(uv_error(status, "write to " + state->peer));
                           state->wrote(state->write_request_bytes);
                           state->flush();
                         });
    if (error < 0) {
      write_in_flight = false;
      fail(uv_error(error, "write to " + peer));
    }
  }

  void want_flush() {
    if (flush_wanted || write_in_flight) return;
    flush_wanted = true;
    loop->write_at_turn_end(this);
  }

  void start_reading() {
    if (reading || closing) return;
    reading = true;
    int error = uv_read_start(
        reinterpret_cast<uv_stream_t*>(&handle),
        [](uv_handle_t* handle, size_t, uv_buf_t* buffer) {
          auto* state = static_cast<State*>(handle->data);
          auto [data, size] = state->callbacks->read_buffer();
          *buffer = uv_buf_init(data, static_cast<unsigned>(std::min<size_t>(size, 1u << 30)));
        },
        [](uv_stream_t* stream, ssize_t count, const uv_buf_t*) {
          auto* state = static_cast<State*>(stream->data);
          if (count == 0) return;
          if (count < 0) {
            auto code = static_cast<int>(count);
            return state->fail(code == UV_EOF
                                   ? Error(Errc::kClosed, "the peer " + state->peer + " closed the connection")
                                   : uv_error(code, "read from " + state->peer));
          }
          auto held = state->callbacks;
          held->on_read(static_cast<size_t>(count));
        });
    if (error < 0) fail(uv_error(error, "read from " + peer));
  }
};

TcpConnection::TcpConnection(State* state) : state_(state), peer_(state->peer) { state_->owner = this; }

TcpConnection::~TcpConnection() { close(); }

Result<std::unique_ptr<TcpConnection>> TcpConnection::adopt(EventLoop& loop, int descriptor) {
  loop.check_on_loop();
  State* state = State::create(loop);
  if (int error = uv_tcp_open(&state->handle, descriptor); error < 0) {
    ::close(descriptor);
    state->close_handles();
    return uv_error(error, "adopt a connection");
  }
  state->opened();
  return std::unique_ptr<TcpConnection>(new TcpConnection(state));
}

/// One attempt to connect: resolve, connect, or give up at the deadline.
struct TcpConnection::Attempt {
  EventLoop* loop = nullptr;
  std::string address;
  TcpConnection::Connected done;
  EventLoop::TimerId deadline = 0;
  bool finished = false;
  uv_getaddrinfo_t resolve{};
  uv_connect_t connect{};
  State* connecting = nullptr;
  std::deque<sockaddr_storage> candidates;  ///< not tried yet

  void finish(Result<std::unique_ptr<TcpConnection>> result) {
    if (finished) return;
    finished = true;
    loop->cancel(deadline);
    auto tell = std::move(done);
    tell(std::move(result));
  }

  /// Tries the next address; the last one's failure is the attempt's.
  static void connect_next(const std::shared_ptr<Attempt>& attempt) {
    struct Connecting {
      std::shared_ptr<Attempt> attempt;
      State* state;
    };
    sockaddr_storage to = attempt->candidates.front();
    attempt->candidates.pop_front();
    auto* connecting = new Connecting{attempt, State::create(*attempt->loop)};
    attempt->connect.data = connecting;
    attempt->connecting = connecting->state;
    int error = uv_tcp_connect(&attempt->connect, &connecting->state->handle, reinterpret_cast<sockaddr*>(&to),
                               [](uv_connect_t* request, int status) {
                                 std::unique_ptr<Connecting> c(static_cast<Connecting*>(request->data));
                                 c->attempt->connecting = nullptr;
                                 if (status < 0 || c->attempt->finished) {
                                   c->state->close_handles();
                                   return failed(c->attempt, status < 0 ? status : UV_ECANCELED);
                                 }
                                 c->state->opened();
                                 c->attempt->finish(std::unique_ptr<TcpConnection>(new TcpConnection(c->state)));
                               });
    if (error < 0) {
      attempt->connecting = nullptr;
      connecting->state->close_handles();
      delete connecting;
      failed(attempt, error);
    }
  }

  static void failed(const std::shared_ptr<Attempt>& attempt, int error) {
    if (!attempt->finished && !attempt->candidates.empty()) return connect_next(attempt);
    attempt->finish(uv_error(error, "connect to " + attempt->address));
  }
};

Task TcpConnection::connect(EventLoop& loop, const std::string& address, Milliseconds timeout, Connected done) {
  loop.check_on_loop();
  auto parts = split_host_port(address);
  if (!parts) {
    done(parts.error());
    return [] {};
  }
  // Shared by the requests and the timer: whoever comes last lets it go.
  auto attempt = std::make_shared<Attempt>();
  attempt->loop = &loop;
  attempt->address = address;
  attempt->done = std::move(done);
  attempt->deadline = loop.run_after(timeout, [attempt, timeout] {
    if (attempt->finished) return;
    attempt->finished = true;
    uv_cancel(reinterpret_cast<uv_req_t*>(&attempt->resolve));
    if (attempt->connecting) attempt->connecting->close_handles();
    auto tell = std::move(attempt->done);
    tell(Error(Errc::kTimeout,
               fmt::format("connect to {}: no connection within {} ms", attempt->address, timeout.count())));
  });

  Task give_up = [weak = std::weak_ptr<Attempt>(attempt)] {
    auto a = weak.lock();
    if (!a || a->finished) return;
    a->finished = true;
    a->loop->cancel(a->deadline);
    uv_cancel(reinterpret_cast<uv_req_t*>(&a->resolve));
    if (a->connecting) a->connecting->close_handles();
    a->done = nullptr;
  };

  // A numeric address needs no resolver thread.
  sockaddr_storage numeric{};
  if (uv_ip4_addr(parts->first.c_str(), parts->second, reinterpret_cast<sockaddr_in*>(&numeric)) == 0 ||
      uv_ip6_addr(parts->first.c_str(), parts->second, reinterpret_cast<sockaddr_in6*>(&numeric)) == 0) {
    attempt->candidates.push_back(numeric);
    Attempt::connect_next(attempt);
    return give_up;
  }
  // Held by the request until its callback, which comes in any case.
  auto* held = new std::shared_ptr<Attempt>(attempt);
  attempt->resolve.data = held;
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  int error = uv_getaddrinfo(
      loop.raw(), &attempt->resolve,
      [](uv_getaddrinfo_t* request, int status, addrinfo* found) {
        std::unique_ptr<std::shared_ptr<Attempt>> mine(static_cast<std::shared_ptr<Attempt>*>(request->data));
        auto a = *mine;
        for (addrinfo* each = found; status == 0 && each != nullptr; each = each->ai_next) {
          sockaddr_storage to{};
          std::memcpy(&to, each->ai_addr, std::min<size_t>(each->ai_addrlen, sizeof to));
          a->candidates.push_back(to);
        }
        uv_freeaddrinfo(found);
        if (a->finished) return;
        if (a->candidates.empty())
          return a->finish(uv_error(status < 0 ? status : UV_EAI_NONAME, "look up " + a->address));
        Attempt::connect_next(a);
      },
      parts->first.c_str(), std::to_string(parts->second).c_str(), &hints);
  if (error < 0) {
    delete held;
    attempt->finish(uv_error(error, "look up " + address));
  }
  return give_up;
}

void TcpConnection::start(Callbacks callbacks) {
  if (!state_) return;
  state_->loop->check_on_loop();
  state_->callbacks = std::make_shared<const Callbacks>(std::move(callbacks));
  state_->start_reading();
}

void TcpConnection::pause_reading() {
  if (!state_ || !state_->reading || state_->closing) return;
  state_->reading = false;
  uv_read_stop(reinterpret_cast<uv_stream_t*>(&state_->handle));
}

void TcpConnection::resume_reading() {
  if (state_) state_->start_reading();
}

void TcpConnection::write(std::vector<SharedBytes> parts) {
  if (!state_ || state_->closing) return;
  for (auto& part : parts) write(std::move(part));
}

void TcpConnection::write(SharedBytes part) {
  if (!state_ || state_->closing || part.empty()) return;
  state_->unsent_bytes += part.size();
  state_->unsent.push_back(std::move(part));
  state_->want_flush();
}

void TcpConnection::write_copy(std::string_view bytes) {
  if (!state_ || state_->closing || bytes.empty()) return;
  auto& unsent = state_->unsent;
  SharedBytes copy = state_->loop->buffers().keep(bytes);
  state_->unsent_bytes += bytes.size();
  // Answers to what was read at once lie one behind the other.
  auto* last = unsent.empty() ? nullptr : &unsent.back();
  if (last != nullptr && last->owner == copy.owner && last->bytes.end() == copy.bytes.begin() &&
      !state_->write_in_flight) {
    last->bytes = std::string_view(last->bytes.data(), last->size() + copy.size());
  } else {
    unsent.push_back(std::move(copy));
  }
  state_->want_flush();
}

void TcpConnection::flush() {
  if (state_ && !state_->closing) state_->flush();
}

size_t TcpConnection::unsent_bytes() const { return state_ ? state_->unsent_bytes : 0; }
uint64_t TcpConnection::written_bytes() const { return state_ ? state_->written_bytes : 0; }

void TcpConnection::close() {
  if (!state_) return;
  State* state = std::exchange(state_, nullptr);
  state->callbacks = nullptr;
  state->owner = nullptr;
  state->close_handles();
}

const std::string& TcpConnection::peer_address() const { return peer_; }

Result<std::pair<std::string, uint16_t>> split_host_port(std::string_view address) {
  auto colon = address.rfind(':');
  if (colon == std::string_view::npos || colon == 0)
    return Error(Errc::kInvalidArgument, fmt::format("address \"{}\" is not HOST:PORT", address));
  auto host = address.substr(0, colon), port = address.substr(colon + 1);
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  uint16_t number = 0;
  auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), number);
  if (error != std::errc() || end != port.data() + port.size() || number == 0)
    return Error(Errc::kInvalidArgument, fmt::format("address \"{}\": \"{}\" is not a port", address, port));
  return std::pair{std::string(host), number};
}

}  // namespace apogee::loop
