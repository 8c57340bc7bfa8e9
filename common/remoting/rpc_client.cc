#include "common/remoting/rpc_client.h"

#include <fmt/core.h>

#include <future>
#include <unordered_map>

#include "common/base/check.h"
#include "common/loop/run_on.h"
#include "common/remoting/remoting_connection.h"

namespace apogee::remoting {

namespace {

constexpr auto kIdleCheckInterval = std::chrono::milliseconds(5'000);
/// Beyond the call's own deadline: to connect, and for a busy loop to tell the result.
constexpr auto kWaitGrace = std::chrono::seconds(10);

Error shut_down() { return Error(Errc::kClosed, "the client is shut down"); }

}  // namespace

struct RpcClient::Impl : std::enable_shared_from_this<RpcClient::Impl> {
  using Clock = std::chrono::steady_clock;
  struct Waiting {
    Command request;
    Clock::time_point deadline;
    ReplyCallback done;                       // a call
    std::function<void(Status)> oneway_done;  // a one-way request, may be empty
    bool oneway = false;
  };
  struct Peer {
    std::unique_ptr<RemotingConnection> connection;
    bool connecting = false;
    loop::Task give_up_connecting;
    uint64_t generation = 0;
    std::vector<Waiting> waiting;                 ///< for the connection
    loop::EventLoop::TimerId deadline_timer = 0;  ///< for the first of them whose time will be over
    Clock::time_point deadline_armed{};
  };

  loop::EventLoop& loop;
  const Options options;
  const Logger& logger;
  std::shared_ptr<TransportCounters> counters = std::make_shared<TransportCounters>();
  // Below: the loop's own.
  RequestHandler handler;
  std::function<void(const std::string&)> close_listener;
  std::unordered_map<std::string, Peer> peers;
  std::unordered_map<ConnectionId, std::string> addresses;
  ConnectionId next_connection = 1;
  loop::EventLoop::TimerId idle_timer = 0;
  bool closed = false;

  Impl(loop::EventLoop& l, Options o, const Logger& log) : loop(l), options(o), logger(log) {}

  void submit(const std::string& address, Waiting waiting) {
    if (closed) return fail(waiting, shut_down());
    if (idle_timer == 0) {
      idle_timer = loop.run_every(kIdleCheckInterval, [weak = weak_from_this()] {
        if (auto self = weak.lock()) self->close_idle();
      });
    }
    Peer& peer = peers[address];
    if (peer.connection) return send(peer, std::move(waiting));
    if (!waiting.oneway) arm_deadline(address, peer, waiting.deadline);
    peer.waiting.push_back(std::move(waiting));
    if (!peer.connecting) connect(address, peer);
  }

  void arm_deadline(const std::string& address, Peer& peer, Clock::time_point deadline) {
    if (peer.deadline_timer != 0) {
      if (peer.deadline_armed <= deadline) return;
      loop.cancel(peer.deadline_timer);
    }
    peer.deadline_armed = deadline;
    auto wait = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now());
    peer.deadline_timer =
        loop.run_after(std::max(wait, std::chrono::milliseconds(0)), [weak = weak_from_this(), address] {
          if (auto self = weak.lock()) self->expire_waiting(address);
        });
  }

  void disarm_deadline(Peer& peer) {
    if (peer.deadline_timer != 0) loop.cancel(peer.deadline_timer);
    peer.deadline_timer = 0;
  }

  /// Calls whose time is over before there is a connection; the attempt goes on for the others.
  void expire_waiting(const std::string& address) {
    auto found = peers.find(address);
    if (found == peers.end()) return;
    Peer& peer = found->second;
    peer.deadline_timer = 0;
    auto now = Clock::now();
    std::vector<Waiting> late, in_time;
    for (auto& each : peer.waiting) (!each.oneway && each.deadline <= now ? late : in_time).push_back(std::move(each));
    peer.waiting = std::move(in_time);
    for (auto& each : peer.waiting)
      if (!each.oneway) arm_deadline(address, peer, each.deadline);
    for (auto& each : late) fail(each, Error(Errc::kTimeout, "no connection to " + address + " in time"));
  }

  void send(Peer& peer, Waiting waiting) {
    if (peer.connection->unsent_bytes() > options.connection_unsent_bytes_max / 2)
      return fail(waiting,
                  Error(Errc::kBusy, peer.connection->peer_address() + " does not take our requests fast enough"));
    if (waiting.oneway) return peer.connection->send(waiting.request, std::move(waiting.oneway_done));
    auto left = std::chrono::duration_cast<std::chrono::milliseconds>(waiting.deadline - Clock::now()).count();
    peer.connection->call(std::move(waiting.request), std::max<int64_t>(left, 0), std::move(waiting.done));
  }

  static void fail(Waiting& waiting, const Error& reason) {
    if (waiting.oneway) {
      if (waiting.oneway_done) waiting.oneway_done(reason);
    } else {
      waiting.done(reason);
    }
  }

  void connect(const std::string& address, Peer& peer) {
    peer.connecting = true;
    auto give_up = loop::TcpConnection::connect(
        loop, address, loop::Milliseconds(options.connect_timeout_ms),
        [weak = weak_from_this(), address](Result<std::unique_ptr<loop::TcpConnection>> tcp) {
          if (auto self = weak.lock()) self->connected(address, std::move(tcp));
        });
    // A refused address may have ended the attempt, and with it this peer, already.
    if (auto found = peers.find(address); found != peers.end()) found->second.give_up_connecting = std::move(give_up);
  }

  void connected(const std::string& address, Result<std::unique_ptr<loop::TcpConnection>> tcp) {
    auto found = peers.find(address);
    if (found == peers.end() || closed) return;
    Peer& peer = found->second;
    peer.connecting = false;
    disarm_deadline(peer);
    auto waiting = std::move(peer.waiting);
    peer.waiting.clear();
    if (!tcp) {
      peers.erase(found);
      for (auto& each : waiting) fail(each, Error(Errc::kNetwork, tcp.error().message));
      return;
    }
    RemotingConnection::Limits limits;
    limits.frame_bytes_max = options.frame_bytes_max;
    limits.unsent_bytes_max = options.connection_unsent_bytes_max;
    limits.inflight_bytes_max = limits.total_inflight_bytes_max = SIZE_MAX;
    peer.connection = std::make_unique<RemotingConnection>(loop, std::move(*tcp), limits, counters);
    ConnectionId id = next_connection++;
    peer.generation = id;
    addresses[id] = address;
    peer.connection->start({[this, id](Command request, size_t bytes) { dispatch(id, std::move(request), bytes); },
                            [this, id](const Error& reason) { dropped(id, reason); }});
    for (auto& each : waiting) {
      auto again = peers.find(address);
      if (again == peers.end() || !again->second.connection) {
        fail(each, Error(Errc::kNetwork, "the connection to " + address + " broke"));
      } else {
        send(again->second, std::move(each));
      }
    }
  }

  void dropped(ConnectionId id, const Error& reason) {
    auto address = addresses.find(id);
    if (address == addresses.end()) return;
    std::string name = address->second;
    addresses.erase(address);
    auto found = peers.find(name);
    std::unique_ptr<RemotingConnection> gone;
    if (found != peers.end() && found->second.generation == id) {
      gone = std::move(found->second.connection);
      peers.erase(found);
    }
    if (reason.code != Errc::kClosed) logger.debug("connection to {} dropped: {}", name, reason.message);
    if (close_listener) close_listener(name);
  }

  void dispatch(ConnectionId id, Command request, size_t frame_bytes) {
    RemotingConnection* from = find(id);
    if (!from) return;
    from->release(frame_bytes);
    bool oneway = request.is_oneway();
    if (!handler) {
      if (!oneway)
        from->send(Command::response_to(request, response_code::kRequestCodeNotSupported,
                                        fmt::format(" request type {} not supported", request.code)));
      return;
    }
    Caller caller{id, addresses[id], 0};
    Responder respond([weak = weak_from_this(), id, oneway](Command response) {
      auto self = weak.lock();
      if (!self || oneway) return;
      auto deliver = [weak, id, response = std::move(response)] {
        auto alive = weak.lock();
        if (auto* to = alive ? alive->find(id) : nullptr) to->send(response);
      };
      if (self->loop.on_loop_thread()) {
        deliver();
      } else {
        self->loop.post(deliver);
      }
    });
    auto held = handler;
    held(caller, std::move(request), std::move(respond));
  }

  RemotingConnection* find(ConnectionId id) {
    auto address = addresses.find(id);
    if (address == addresses.end()) return nullptr;
    auto peer = peers.find(address->second);
    return peer == peers.end() || peer->second.generation != id ? nullptr : peer->second.connection.get();
  }

  void close_peer(const std::string& address, const Error& reason) {
    auto found = peers.find(address);
    if (found == peers.end()) return;
    Peer peer = std::move(found->second);
    peers.erase(found);
    disarm_deadline(peer);
    addresses.erase(peer.generation);
    if (peer.connecting && peer.give_up_connecting) peer.give_up_connecting();
    for (auto& each : peer.waiting) fail(each, reason);
    if (!peer.connection) return;
    peer.connection->close(reason);
    if (close_listener && !closed) close_listener(address);
  }

  void close_idle() {
    std::vector<std::string> idle;
    for (auto& [address, peer] : peers)
      if (peer.connection && !peer.connection->has_pending() && peer.connection->idle_ms() > options.idle_ms_max)
        idle.push_back(address);
    for (auto& address : idle) close_peer(address, Error(Errc::kClosed, "idle"));
  }

  void shutdown() {
    if (closed) return;
    closed = true;
    if (idle_timer != 0) loop.cancel(idle_timer);
    while (!peers.empty()) close_peer(std::string(peers.begin()->first), shut_down());
    handler = nullptr;
    close_listener = nullptr;
  }
};

RpcClient::RpcClient(loop::EventLoop& loop, Options options, const Logger& logger)
    : impl_(std::make_shared<Impl>(loop, options, logger)) {}

RpcClient::~RpcClient() { shutdown(); }

void RpcClient::shutdown() {
  loop::run_on(impl_->loop, [this] { impl_->shutdown(); });
}

void RpcClient::set_handler(RequestHandler handler) {
  loop::run_on(impl_->loop, [this, &handler] { impl_->handler = std::move(handler); });
}

void RpcClient::set_close_listener(std::function<void(const std::string& address)> listener) {
  loop::run_on(impl_->loop, [this, &listener] { impl_->close_listener = std::move(listener); });
}

void RpcClient::call(std::string address, Command request, int64_t timeout_ms, ReplyCallback done) {
  request.flag &= ~kOnewayFlag;
  auto waiting = std::make_shared<Impl::Waiting>();
  waiting->request = std::move(request);
  waiting->deadline = Impl::Clock::now() + std::chrono::milliseconds(timeout_ms);
  waiting->done = std::move(done);
  if (!impl_->loop.post(
          [impl = impl_, address = std::move(address), waiting] { impl->submit(address, std::move(*waiting)); }))
    waiting->done(shut_down());
}

Result<Command> RpcClient::call_and_wait(const std::string& address, Command request, int64_t timeout_ms) {
  APOGEE_CHECK(!impl_->loop.on_loop_thread());
  auto reply = std::make_shared<std::promise<Result<Command>>>();
  auto answered = reply->get_future();
  call(address, std::move(request), timeout_ms,
       [reply](Result<Command> result) { reply->set_value(std::move(result)); });
  auto wait = std::chrono::milliseconds(timeout_ms + impl_->options.connect_timeout_ms) + kWaitGrace;
  if (answered.wait_for(wait) != std::future_status::ready)
    return Error(Errc::kTimeout, "no answer from " + address + " in time");
  return answered.get();
}

void RpcClient::send_oneway(std::string address, Command request, std::function<void(Status)> done) {
  request.flag |= kOnewayFlag;
  auto waiting = std::make_shared<Impl::Waiting>();
  waiting->request = std::move(request);
  waiting->oneway = true;
  waiting->oneway_done = std::move(done);
  if (!impl_->loop.post(
          [impl = impl_, address = std::move(address), waiting] { impl->submit(address, std::move(*waiting)); }))
    Impl::fail(*waiting, shut_down());
}

void RpcClient::close(const std::string& address) {
  impl_->loop.post([impl = impl_, address] { impl->close_peer(address, Error(Errc::kClosed, "closed by us")); });
}

}  // namespace apogee::remoting
