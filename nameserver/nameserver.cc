#include "nameserver/nameserver.h"

#include <chrono>
#include <exception>
#include <utility>

#include "common/loop/event_loop.h"
#include "common/remoting/remoting_server.h"
#include "common/remoting/rpc_client.h"
#include "nameserver/request_table.h"

namespace apogee::nameserver {
namespace {

constexpr int64_t kDrainMs = 500;

int64_t steady_ms() {
  using namespace std::chrono;
  return duration_cast<milliseconds>(steady_clock::now().time_since_epoch()).count();
}

remoting::RemotingServer::Options server_options(const NameServerConfig& config) {
  remoting::RemotingServer::Options options;
  options.bind_address = config.bind_address;
  options.ports = {static_cast<uint16_t>(config.listen_port)};
  options.io_threads = config.io_threads;
  options.frame_bytes_max = static_cast<size_t>(config.frame_bytes_max);
  options.idle_ms_max = int64_t{config.connection_idle_s_max} * 1000;
  options.name = "ns-io";
  return options;
}

}  // namespace

struct NameServer::Impl {
  Impl(const NameServerConfig& c, config::ConfigTable& table, const Logger& l)
      : config(c),
        logger(l),
        kv(c.kv_config_path),
        registration(routes, kv, c, steady_ms, l),
        route_requests(routes, kv, c, steady_ms, l),
        config_requests(
            kv, table, c,
            [this](const ConfigHandlers::Changes& changes) {
              if (on_change) on_change(changes);
            },
            l),
        requests(
            registration, route_requests, config_requests,
            [this](loop::Task task) { return housekeeping && housekeeping->loop().post(std::move(task)); }, l),
        server(server_options(c), l) {}

  const NameServerConfig& config;
  const Logger& logger;
  std::function<void(const ConfigHandlers::Changes&)> on_change;
  KvConfig kv;
  RouteTable routes;
  RegistrationHandlers registration;
  RouteHandlers route_requests;
  ConfigHandlers config_requests;
  RequestTable requests;
  std::unique_ptr<loop::LoopThread> housekeeping;
  std::unique_ptr<remoting::RpcClient> client;
  remoting::RemotingServer server;
  bool started = false;

  /// NOTIFY_MIN_BROKER_ID_CHANGE; any thread.
  void tell_brokers(const MinIdChange& change) {
    if (!config.notify_min_broker_id_changed) return;
    logger.info("the smallest id of the brokers {} is now {} ({}); {} are told", change.broker_name, change.min_id,
                change.min_address, change.to_tell.size());
    for (const auto& address : change.to_tell) {
      auto request = remoting::Command::request(remoting::RequestCode::kNotifyMinBrokerIdChange);
      request.ext.set("minBrokerId", change.min_id);
      request.ext.set("brokerName", change.broker_name);
      request.ext.set("minBrokerAddr", change.min_address);
      if (!change.offline_address.empty()) request.ext.set("offlineBrokerAddr", change.offline_address);
      if (!change.ha_address.empty()) request.ext.set("haBrokerAddr", change.ha_address);
      client->send_oneway(address, std::move(request), [this, address](const Status& sent) {
        if (!sent) logger.warn("the broker at {} could not be told: {}", address, sent.error().message);
      });
    }
  }

  /// On the housekeeping loop; plans itself anew, so that a changed interval counts from the next time on.
  void look_for_silent_brokers() {
    for (const auto& removed : routes.remove_silent(steady_ms())) {
      logger.warn("broker at {} was silent for too long and is dropped", removed.address);
      if (removed.connection != 0) server.close_connection(removed.connection);
    }
    housekeeping->loop().run_after(loop::Milliseconds(config.scan_inactive_interval_ms.get()),
                                   [this] { look_for_silent_brokers(); });
  }
};

NameServer::NameServer(const NameServerConfig& config, config::ConfigTable& table, const Logger& logger)
    : impl_(std::make_unique<Impl>(config, table, logger)) {}

NameServer::~NameServer() { stop(); }

void NameServer::set_change_listener(std::function<void(const std::vector<config::ConfigTable::Change>&)> listener) {
  impl_->on_change = std::move(listener);
}

Status NameServer::start() {
  APOGEE_TRY(impl_->kv.load());
  impl_->housekeeping = std::make_unique<loop::LoopThread>("ns-housekeeping");
  impl_->client =
      std::make_unique<remoting::RpcClient>(impl_->housekeeping->loop(), remoting::RpcClient::Options{}, impl_->logger);
  impl_->routes.set_min_id_listener([impl = impl_.get()](const MinIdChange& change) { impl->tell_brokers(change); });
  impl_->server.set_handler(
      [impl = impl_.get()](const remoting::Caller& caller, remoting::Command request, remoting::Responder respond) {
        impl->requests.dispatch(caller, std::move(request), std::move(respond));
      });
  impl_->server.set_quick_handler([impl = impl_.get()](size_t, const remoting::Caller&,
                                                       const remoting::HeaderView& header, std::string_view,
                                                       remoting::QuickReply answer) {
    try {
      return impl->route_requests.quick_route(header, answer);
    } catch (const std::exception&) {
      return false;  // the long way tells what is wrong
    }
  });
  impl_->server.set_close_listener([impl = impl_.get()](remoting::ConnectionId connection, const std::string& address) {
    for (const auto& broker : impl->routes.remove_by_connection(connection))
      impl->logger.info("broker at {} is gone: its connection from {} closed", broker, address);
  });
  APOGEE_TRY(impl_->server.start());
  impl_->started = true;
  impl_->housekeeping->loop().post([impl = impl_.get()] { impl->look_for_silent_brokers(); });
  impl_->logger.info("name server started at {}:{}", impl_->config.bind_address, port());
  return {};
}

void NameServer::stop() {
  if (impl_->started) {
    impl_->server.stop(kDrainMs);
    impl_->logger.info("name server stopped");
  }
  impl_->started = false;
  if (impl_->client) impl_->client->shutdown();
  if (impl_->housekeeping) impl_->housekeeping->stop_and_join();
}

uint16_t NameServer::port() const { return impl_->server.port(); }

}  // namespace apogee::nameserver
