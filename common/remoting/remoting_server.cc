#include "common/remoting/remoting_server.h"

#include <fmt/core.h>
#include <unistd.h>

#include <condition_variable>
#include <mutex>
#include <unordered_map>

#include "common/base/check.h"
#include "common/loop/run_on.h"
#include "common/loop/tcp_listener.h"
#include "common/message/message_record.h"
#include "common/remoting/remoting_connection.h"

namespace apogee::remoting {

namespace {

constexpr int kLoopShift = 48;
constexpr auto kIdleCheckInterval = std::chrono::milliseconds(5'000);
constexpr auto kLogInterval = std::chrono::seconds(1);

}  // namespace

struct RemotingServer::Impl {
  struct Peer {
    std::unique_ptr<RemotingConnection> connection;
    Caller caller;
  };
  struct IoLoop final : QuickReply::Sender {
    int index = 0;
    std::unique_ptr<loop::LoopThread> thread;
    std::atomic<size_t> connections_count{0};
    // Below: the loop's own.
    std::unordered_map<ConnectionId, Peer> connections;
    uint64_t next_connection = 1;
    std::chrono::steady_clock::time_point last_log{};
    uint64_t unlogged = 0;
    bool stopping = false;
    RemotingConnection* find(ConnectionId id) {
      auto found = connections.find(id);
      return found == connections.end() ? nullptr : found->second.connection.get();
    }
    void hold(ConnectionId id, size_t frame_bytes) override {
      if (auto* connection = find(id)) connection->hold(frame_bytes);
    }
    void send(ConnectionId id, std::string_view frame, std::vector<SharedBytes>* body, size_t held_bytes) override {
      auto* connection = find(id);
      if (connection == nullptr) return;
      if (!frame.empty()) connection->send_frame(frame, body);
      if (held_bytes > 0) connection->release(held_bytes);
    }
  };

  Options options;
  const Logger& logger;
  RequestHandler handler;
  QuickHandler quick_handler;
  CloseListener close_listener;
  std::shared_ptr<TransportCounters> counters = std::make_shared<TransportCounters>();
  std::vector<std::shared_ptr<IoLoop>> io;  ///< shared with responders, which may outlive the server
  std::unique_ptr<loop::LoopThread> acceptor;
  std::vector<std::unique_ptr<loop::TcpListener>> listeners;
  std::vector<uint16_t> ports;
  std::atomic<bool> accepting{false};
  bool started = false, stopped = false;

  Impl(Options o, const Logger& l) : options(std::move(o)), logger(l) {}

  IoLoop* loop_of(ConnectionId id) {
    auto index = static_cast<size_t>(id >> kLoopShift);
    return id != 0 && index < io.size() ? io[index].get() : nullptr;
  }

  /// On the acceptor.
  void accepted(int descriptor, uint16_t local_port) {
    if (!accepting.load()) {
      ::close(descriptor);
      return;
    }
    IoLoop* least = io.front().get();
    for (auto& candidate : io)
      if (candidate->connections_count.load() < least->connections_count.load()) least = candidate.get();
    least->connections_count.fetch_add(1);
    counters->connections_accepted.fetch_add(1, std::memory_order_relaxed);
    bool posted =
        least->thread->loop().post([this, least, descriptor, local_port] { open(*least, descriptor, local_port); });
    if (!posted) ::close(descriptor);
  }

  void open(IoLoop& on, int descriptor, uint16_t local_port) {
    if (on.stopping) {
      ::close(descriptor);
      on.connections_count.fetch_sub(1);
      return;
    }
    auto tcp = loop::TcpConnection::adopt(on.thread->loop(), descriptor);
    if (!tcp) {
      on.connections_count.fetch_sub(1);
      logger.warn("{}", tcp.error().message);
      return;
    }
    ConnectionId id = (static_cast<uint64_t>(on.index) << kLoopShift) | on.next_connection++;
    RemotingConnection::Limits limits{options.frame_bytes_max, options.connection_unsent_bytes_max,
                                      options.connection_inflight_bytes_max, options.total_inflight_bytes_max};
    auto connection = std::make_unique<RemotingConnection>(on.thread->loop(), std::move(*tcp), limits, counters);
    auto* raw = connection.get();
    Peer peer{std::move(connection), {id, raw->peer_address(), local_port}};
    if (auto parts = loop::split_host_port(peer.caller.address)) {
      peer.caller.ip_bytes = message::ip_bytes_of(parts->first);
      peer.caller.port = parts->second;
    }
    // The nodes of the table stay where they are.
    const Caller& caller = on.connections.emplace(id, std::move(peer)).first->second.caller;
    RemotingConnection::Callbacks callbacks;
    callbacks.on_request = [this, &on, id](Command request, size_t frame_bytes) {
      dispatch(on, id, std::move(request), frame_bytes);
    };
    callbacks.on_close = [this, &on, id](const Error& reason) { closed(on, id, reason); };
    if (quick_handler)
      callbacks.on_frame = [this, &on, &caller](const HeaderView& header, std::string_view body, size_t frame_bytes) {
        return !on.stopping && quick_handler(static_cast<size_t>(on.index), caller, header, body,
                                             QuickReply(on, caller.connection, frame_bytes));
      };
    raw->start(std::move(callbacks));
  }

  void closed(IoLoop& on, ConnectionId id, const Error& reason) {
    auto found = on.connections.find(id);
    if (found == on.connections.end()) return;
    auto peer = std::move(found->second);
    on.connections.erase(found);
    on.connections_count.fetch_sub(1);
    if (reason.code != Errc::kClosed) log_bad_connection(on, reason);
    if (close_listener) close_listener(id, peer.caller.address);
  }

  /// At most one line a second and loop: a hostile peer must not fill the disk.
  void log_bad_connection(IoLoop& on, const Error& reason) {
    auto now = std::chrono::steady_clock::now();
    if (now - on.last_log < kLogInterval) {
      ++on.unlogged;
      return;
    }
    on.last_log = now;
    if (on.unlogged > 0) {
      logger.warn("connection closed: {} ({} more were closed for errors meanwhile)", reason.message, on.unlogged);
    } else {
      logger.warn("connection closed: {}", reason.message);
    }
    on.unlogged = 0;
  }

  /// Gives a request's bytes back to the budget when the last copy of its responder has gone.
  struct Budget {
    std::shared_ptr<IoLoop> on;
    ConnectionId id;
    size_t frame_bytes;
    Budget(std::shared_ptr<IoLoop> loop, ConnectionId connection, size_t bytes)
        : on(std::move(loop)), id(connection), frame_bytes(bytes) {}
    Budget(const Budget&) = delete;
    ~Budget() {
      auto give_back = [on = on.get(), id = id, bytes = frame_bytes] {
        if (auto* connection = on->find(id)) connection->release(bytes);
      };
      if (on->thread->loop().on_loop_thread()) {
        give_back();
      } else {
        on->thread->loop().post(give_back);
      }
    }
  };

  void dispatch(IoLoop& on, ConnectionId id, Command request, size_t frame_bytes) {
    auto found = on.connections.find(id);
    if (found == on.connections.end()) return;
    if (on.stopping) return found->second.connection->release(frame_bytes);  // nobody will answer it
    const Caller caller = found->second.caller;                              // the connection may go meanwhile
    auto budget = std::make_shared<Budget>(io[static_cast<size_t>(on.index)], id, frame_bytes);
    bool oneway = request.is_oneway();
    Responder respond([on = io[static_cast<size_t>(on.index)], id, oneway, budget](Command response) {
      if (oneway) return;
      auto send = [on = on.get(), id](const Command& command) {
        if (auto* to = on->find(id)) to->send(command);
      };
      if (on->thread->loop().on_loop_thread()) {
        send(response);
      } else {
        on->thread->loop().post([send, response = std::move(response)] { send(response); });
      }
    });
    budget = nullptr;
    handler(caller, std::move(request), std::move(respond));
  }

  void close_idle(IoLoop& on) {
    std::vector<ConnectionId> idle;
    for (auto& [id, peer] : on.connections)
      if (peer.connection->idle_ms() > options.idle_ms_max) idle.push_back(id);
    for (auto id : idle) {
      if (auto* connection = on.find(id)) connection->close(Error(Errc::kClosed, "idle"));
      closed(on, id, Error(Errc::kClosed, "idle"));
    }
  }
};

RemotingServer::RemotingServer(Options options, const Logger& logger)
    : impl_(std::make_unique<Impl>(std::move(options), logger)) {}

RemotingServer::~RemotingServer() { stop(); }

void RemotingServer::set_handler(RequestHandler handler) { impl_->handler = std::move(handler); }
void RemotingServer::set_quick_handler(QuickHandler handler) { impl_->quick_handler = std::move(handler); }
void RemotingServer::set_close_listener(CloseListener listener) { impl_->close_listener = std::move(listener); }

Status RemotingServer::start() {
  APOGEE_CHECK(impl_->handler && !impl_->started);
  for (uint16_t port : impl_->options.ports) {
    auto listener = loop::TcpListener::bind(impl_->options.bind_address, port);
    if (!listener) {
      impl_->listeners.clear();
      return std::move(listener).error();
    }
    impl_->ports.push_back((*listener)->port());
    impl_->listeners.push_back(std::move(*listener));
  }
  impl_->started = true;
  for (int i = 0; i < std::max(1, impl_->options.io_threads); ++i) {
    auto io = std::make_shared<Impl::IoLoop>();
    io->index = i;
    io->thread = std::make_unique<loop::LoopThread>(fmt::format("{}-{}", impl_->options.name, i).c_str());
    auto* raw = io.get();
    impl_->io.push_back(std::move(io));
    auto period =
        std::min<loop::Milliseconds>(kIdleCheckInterval, loop::Milliseconds(impl_->options.idle_ms_max / 2 + 1));
    raw->thread->loop().post(
        [this, raw, period] { raw->thread->loop().run_every(period, [this, raw] { impl_->close_idle(*raw); }); });
  }
  impl_->accepting = true;
  impl_->acceptor = std::make_unique<loop::LoopThread>(fmt::format("{}-accept", impl_->options.name).c_str());
  loop::run_on(impl_->acceptor->loop(), [this] {
    for (auto& listener : impl_->listeners) {
      listener->start(
          impl_->acceptor->loop(), [this, port = listener->port()](int fd) { impl_->accepted(fd, port); },
          [this](const std::string& why) { impl_->logger.error("{}", why); });
    }
  });
  return {};
}

void RemotingServer::stop(int64_t drain_ms) {
  if (!impl_->started || impl_->stopped) return;
  impl_->stopped = true;
  impl_->accepting = false;
  loop::run_on(impl_->acceptor->loop(), [this] { impl_->listeners.clear(); });
  impl_->acceptor->stop_and_join();
  // Nothing is read any more; what other threads still answer goes out until the deadline.
  auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(drain_ms);
  for (auto& io : impl_->io) loop::run_on(io->thread->loop(), [&io] { io->stopping = true; });
  for (;;) {
    bool drained = impl_->counters->inflight_bytes.load() == 0;
    for (auto& io : impl_->io) {
      loop::run_on(io->thread->loop(), [&io, &drained] {
        for (auto& [id, peer] : io->connections) drained = drained && peer.connection->unsent_bytes() == 0;
      });
    }
    if (drained || std::chrono::steady_clock::now() >= deadline) break;
    std::mutex mutex;
    std::unique_lock lock(mutex);
    std::condition_variable nobody;
    nobody.wait_for(lock, std::chrono::milliseconds(2));
  }
  for (auto& io : impl_->io) {
    loop::run_on(io->thread->loop(), [&io] {
      auto connections = std::move(io->connections);
      io->connections.clear();
      for (auto& [id, peer] : connections) peer.connection->close(Error(Errc::kClosed, "the server stops"));
    });
    io->thread->stop_and_join();
  }
}

uint16_t RemotingServer::port(size_t index) const { return impl_->ports.at(index); }

RemotingServer::Counters RemotingServer::counters() const {
  const auto& c = *impl_->counters;
  return {c.connections_open.load(), c.connections_accepted.load(), c.frames_in.load(),
          c.frames_out.load(),       c.bad_frames.load(),           c.oversize_frames.load()};
}

void RemotingServer::call(ConnectionId connection, Command request, int64_t timeout_ms, ReplyCallback done) {
  auto* on = impl_->loop_of(connection);
  auto gone = [] { return Error(Errc::kClosed, "the client's connection is closed"); };
  if (!on) return done(gone());
  auto shared_done = std::make_shared<ReplyCallback>(std::move(done));
  auto task = [on, connection, timeout_ms, request = std::move(request), shared_done, gone]() mutable {
    auto* to = on->find(connection);
    if (!to) return (*shared_done)(gone());
    to->call(std::move(request), timeout_ms, std::move(*shared_done));
  };
  if (!on->thread->loop().post(std::move(task))) (*shared_done)(gone());
}

void RemotingServer::send_oneway(ConnectionId connection, Command request) {
  auto* on = impl_->loop_of(connection);
  if (!on) return;
  request.flag |= kOnewayFlag;
  on->thread->loop().post([on, connection, request = std::move(request)] {
    if (auto* to = on->find(connection)) to->send(request);
  });
}

void RemotingServer::close_connection(ConnectionId connection) {
  auto* on = impl_->loop_of(connection);
  if (!on) return;
  on->thread->loop().post([this, on, connection] {
    if (auto* to = on->find(connection)) to->close(Error(Errc::kClosed, "closed by us"));
    impl_->closed(*on, connection, Error(Errc::kClosed, "closed by us"));
  });
}

bool RemotingServer::post(ConnectionId connection, loop::Task task) {
  auto* on = impl_->loop_of(connection);
  return on != nullptr && on->thread->loop().post(std::move(task));
}

}  // namespace apogee::remoting
