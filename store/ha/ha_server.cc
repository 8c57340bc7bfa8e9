#include "store/ha/ha_server.h"

#include <fmt/core.h>

#include <algorithm>
#include <atomic>

#include "common/base/check.h"
#include "common/loop/run_on.h"
#include "common/loop/tcp_listener.h"
#include "store/ha/ha_session.h"

namespace apogee::store {

namespace {
/// Connections that have not proven themselves yet; the oldest goes for a new one.
constexpr size_t kUnprovenMax = 64;
constexpr int64_t kTickMsMax = 500;
}  // namespace

struct HaServer::Impl : std::enable_shared_from_this<HaServer::Impl> {
  Impl(Options given, ReplicatedLog& the_log, loop::EventLoop& the_loop, const Logger& the_logger)
      : options(std::move(given)),
        log(the_log),
        loop(the_loop),
        logger(the_logger),
        shared{options,
               log,
               loop,
               logger,
               lines,
               [this](HaSession& session) { return objection(session); },
               [this](HaSession& session) { remove(session); }} {}

  void listen() {
    listener->start(
        loop, [this](int descriptor) { accepted(descriptor); },
        [this](const std::string& why) { logger.warn("replication: no slave can be accepted: {}", why); });
    int64_t tick_ms = std::clamp<int64_t>(std::min(options.heartbeat_ms, options.silence_ms_max) / 4, 1, kTickMsMax);
    ticker =
        loop.run_every(loop::Milliseconds(tick_ms), [this] { for_each([](HaSession& session) { session.tick(); }); });
    log.set_replication_listener([weak = weak_from_this()] {
      auto self = weak.lock();
      // A session that comes looks at the log itself.
      if (!self || !self->has_sessions || self->pump_posted.exchange(true)) return;
      self->loop.post([self] {
        self->pump_posted = false;
        self->for_each([](HaSession& session) { session.pump(); });
      });
    });
  }

  void accepted(int descriptor) {
    auto connection = loop::TcpConnection::adopt(loop, descriptor);
    if (!connection) {
      if (lines.admit("adopt")) logger.warn("replication: {}", connection.error().message);
      return;
    }
    std::shared_ptr<HaSession> oldest;
    size_t unproven = 0;
    for (const auto& session : sessions) {
      if (session->proven()) continue;
      if (unproven++ == 0) oldest = session;
    }
    if (unproven >= kUnprovenMax) oldest->end("too many connections have proven nothing yet");
    sessions.push_back(std::make_shared<HaSession>(shared, std::move(*connection)));
    has_sessions = true;
    sessions.back()->start();
  }

  /// Of the same slave the newer connection stays: the older one may be half open.
  std::optional<std::string> objection(HaSession& session) {
    std::shared_ptr<HaSession> former;
    size_t proven = 0;
    for (const auto& other : sessions) {
      if (other.get() == &session || !other->proven()) continue;
      ++proven;
      if (!session.classic() && other->broker_id() == session.broker_id()) former = other;
    }
    if (former && former->ip() != session.ip())
      return fmt::format(
          "brokerId {} is taken by the slave {}: two brokers of the group {} have the same id; give this "
          "one another",
          session.broker_id(), former->address(), options.broker_name);
    if (former) {
      former->end("the same slave has connected anew, from " + session.address());
    } else if (proven >= static_cast<size_t>(options.slaves_max)) {
      return fmt::format("this master has {} slaves already", proven);
    }
    return std::nullopt;
  }

  void remove(HaSession& session) {
    auto found =
        std::find_if(sessions.begin(), sessions.end(), [&](const auto& each) { return each.get() == &session; });
    if (found != sessions.end()) sessions.erase(found);
    has_sessions = !sessions.empty();
  }

  void for_each(const std::function<void(HaSession&)>& act) {
    auto all = sessions;  // a session may end in it
    for (const auto& session : all) act(*session);
  }

  void close() {
    log.set_replication_listener(nullptr);
    listener.reset();
    if (ticker != 0) loop.cancel(std::exchange(ticker, 0));
    for_each([](HaSession& session) { session.end("this master stops"); });
  }

  const Options options;
  ReplicatedLog& log;
  loop::EventLoop& loop;
  const Logger& logger;
  RepeatedLines lines;
  HaSession::Server shared;
  std::unique_ptr<loop::TcpListener> listener;
  uint16_t port = 0;
  bool started = false;
  loop::EventLoop::TimerId ticker = 0;
  std::vector<std::shared_ptr<HaSession>> sessions;  ///< in order of their coming
  std::atomic<bool> has_sessions{false}, pump_posted{false};
};

HaServer::HaServer(Options options, ReplicatedLog& log, loop::EventLoop& loop, const Logger& logger)
    : impl_(std::make_shared<Impl>(std::move(options), log, loop, logger)) {}

HaServer::~HaServer() { stop(); }

Status HaServer::start() {
  APOGEE_CHECK(!impl_->started);
  APOGEE_TRY_ASSIGN(impl_->listener, loop::TcpListener::bind(impl_->options.bind_address, impl_->options.port));
  impl_->port = impl_->listener->port();
  impl_->started = true;
  loop::run_on(impl_->loop, [this] { impl_->listen(); });
  return {};
}

void HaServer::stop() {
  if (!std::exchange(impl_->started, false)) return;
  loop::run_on(impl_->loop, [this] { impl_->close(); });
}

uint16_t HaServer::port() const { return impl_->port; }

}  // namespace apogee::store
