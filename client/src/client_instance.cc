#include "client/src/client_instance.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <random>
#include <utility>

#include "common/base/text.h"
#include "common/remoting/bodies/topic_bodies.h"

namespace apogee {

using remoting::Command;
using remoting::RequestCode;
namespace response_code = remoting::response_code;

namespace {

constexpr const char* kDefaultTopic = "TBW102";
constexpr int64_t kReconnectHeartbeatMs = 1'000;

remoting::RpcClient::Options rpc_options(const ClientConfig& config) {
  remoting::RpcClient::Options options;
  options.connect_timeout_ms = config.connect_timeout.count();
  return options;
}

bool is_system_name(const std::string& name) {
  static constexpr std::string_view kNames[] = {
      "TBW102", "SELF_TEST_TOPIC", "BenchmarkTest", "OFFSET_MOVED_EVENT", "SCHEDULE_TOPIC_XXXX", "RMQ_SYS_TRACE_TOPIC"};
  for (auto system : kNames) {
    if (name == system) return true;
  }
  return name.rfind("rmq_sys_", 0) == 0 || name.rfind("RMQ_SYS_", 0) == 0 || name.rfind("CID_RMQ_SYS_", 0) == 0;
}

void add_queues(std::vector<MessageQueue>* to, const std::string& topic, const std::string& broker, int count) {
  for (int i = 0; i < count; ++i) to->push_back({topic, broker, i});
}

}  // namespace

int64_t now_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch())
      .count();
}
int64_t steady_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

Error broker_error(const Command& reply, const char* what) {
  std::string text =
      std::string(what) + ": " + remoting::response_code_name(reply.code) + " (" + std::to_string(reply.code) + ")";
  if (reply.remark && !reply.remark->empty()) text += ": " + *reply.remark;
  return {Errc::kBroker, std::move(text), reply.code};
}

namespace {

/// "%RETRY%" or "%DLQ%", where a name has it, and the rest.
std::pair<std::string, std::string> without_special_prefix(const std::string& name) {
  for (auto special : {kRetryTopicPrefix, kDlqTopicPrefix}) {
    if (name.compare(0, special.size(), special) == 0) return {std::string(special), name.substr(special.size())};
  }
  return {"", name};
}

}  // namespace

std::string with_namespace(const std::string& name_space, const std::string& name) {
  if (name_space.empty() || is_system_name(name)) return name;
  const auto [prefix, rest] = without_special_prefix(name);
  if (rest.rfind(name_space + "%", 0) == 0) return name;
  return prefix + name_space + "%" + rest;
}

std::string without_namespace(const std::string& name_space, const std::string& name) {
  if (name_space.empty()) return name;
  const auto [prefix, rest] = without_special_prefix(name);
  return prefix + (rest.rfind(name_space + "%", 0) == 0 ? rest.substr(name_space.size() + 1) : rest);
}

Result<std::vector<std::string>> parse_name_servers(const std::string& text) {
  std::vector<std::string> servers;
  for (auto part : split(text, ";")) {
    auto server = trim(part);
    if (server.empty()) continue;
    const auto colon = server.rfind(':');
    int port = 0;
    if (colon != std::string_view::npos && colon > 0) {
      auto digits = server.substr(colon + 1);
      auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), port);
      if (error != std::errc() || end != digits.data() + digits.size()) port = 0;
    }
    if (port < 1 || port > 65535) {
      return Error{Errc::kInvalidArgument, "name_servers: \"" + std::string(server) + "\" is not host:port"};
    }
    servers.emplace_back(server);
  }
  if (servers.empty()) {
    return Error{Errc::kInvalidArgument, "name_servers: none given, and NAMESRV_ADDR is not set"};
  }
  return servers;
}

TopicRoute make_topic_route(const std::string& topic, remoting::TopicRouteData data) {
  TopicRoute route;
  std::sort(data.queue_datas.begin(), data.queue_datas.end(),
            [](const auto& a, const auto& b) { return a.broker_name < b.broker_name; });
  std::sort(data.broker_datas.begin(), data.broker_datas.end(),
            [](const auto& a, const auto& b) { return a.broker_name < b.broker_name; });
  for (const auto& queues : data.queue_datas) {
    auto broker = std::find_if(data.broker_datas.begin(), data.broker_datas.end(),
                               [&](const auto& b) { return b.broker_name == queues.broker_name; });
    if (broker == data.broker_datas.end()) continue;
    if ((queues.perm & remoting::perm::kRead) != 0) {
      add_queues(&route.read_queues, topic, queues.broker_name, queues.read_queue_nums);
    }
    if ((queues.perm & remoting::perm::kWrite) != 0 && broker->broker_addrs.count(0) != 0) {
      add_queues(&route.write_queues, topic, queues.broker_name, queues.write_queue_nums);
    }
  }
  if (!data.order_topic_conf.empty()) {
    route.write_queues.clear();
    for (auto part : split(data.order_topic_conf, ";")) {
      const auto colon = part.rfind(':');
      if (colon == std::string_view::npos) continue;
      int count = 0;
      std::from_chars(part.data() + colon + 1, part.data() + part.size(), count);
      add_queues(&route.write_queues, topic, std::string(trim(part.substr(0, colon))), count);
    }
  }
  std::sort(route.read_queues.begin(), route.read_queues.end());
  std::sort(route.write_queues.begin(), route.write_queues.end());
  route.data = std::move(data);
  return route;
}

struct ClientInstance::NameServerCall {
  Command request;
  int64_t deadline_ms = 0;
  size_t attempts_left = 0;
  remoting::ReplyCallback done;
};

ClientInstance::ClientInstance(const ClientConfig& config, const char* thread_name)
    : config_(config),
      logger_(config.log_sink, config.log_level),
      thread_(thread_name),
      rpc_(thread_.loop(), rpc_options(config), logger_) {}

ClientInstance::~ClientInstance() { shutdown("", ""); }

std::string ClientInstance::name_servers_text() const {
  std::string text;
  for (const auto& server : name_servers_) text += server + ";";
  return text;
}

Status ClientInstance::find_client_ip() {
  if (!config_.client_ip.empty()) {
    client_ip_ = config_.client_ip;
    return {};
  }
  client_ip_ = "127.0.0.1";
  const auto& server = name_servers_.front();
  const auto colon = server.rfind(':');
  std::string host = server.substr(0, colon);
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  addrinfo hints{};
  hints.ai_socktype = SOCK_DGRAM;
  addrinfo* found = nullptr;
  if (getaddrinfo(host.c_str(), server.c_str() + colon + 1, &hints, &found) != 0) {
    logger_.warn("cannot resolve {}: the client id names {}", server, client_ip_);
    return {};
  }
  for (auto* address = found; address != nullptr; address = address->ai_next) {
    const int fd = socket(address->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) continue;
    sockaddr_storage local{};
    socklen_t size = sizeof local;
    char text[NI_MAXHOST] = {};
    const bool ok =
        connect(fd, address->ai_addr, address->ai_addrlen) == 0 &&
        getsockname(fd, reinterpret_cast<sockaddr*>(&local), &size) == 0 &&
        getnameinfo(reinterpret_cast<sockaddr*>(&local), size, text, sizeof text, nullptr, 0, NI_NUMERICHOST) == 0;
    close(fd);
    if (ok) {
      client_ip_ = text;
      break;
    }
  }
  freeaddrinfo(found);
  return {};
}

Status ClientInstance::start(Hooks hooks) {
  if (stopped_) return Error{Errc::kClosed, "this client has been shut down, or could not be started; make a new one"};
  std::string servers = config_.name_servers;
  if (servers.empty()) {
    if (const char* from_environment = std::getenv("NAMESRV_ADDR")) servers = from_environment;
  }
  APOGEE_TRY_ASSIGN(name_servers_, parse_name_servers(servers));
  APOGEE_TRY(find_client_ip());
  std::string instance = config_.instance_name;
  if (instance.empty()) {
    instance =
        std::to_string(getpid()) + "#" + std::to_string(std::chrono::steady_clock::now().time_since_epoch().count());
  }
  client_id_ = client_ip_ + "@" + instance;
  if (!config_.unit_name.empty()) client_id_ += "@" + config_.unit_name;
  hooks_ = std::move(hooks);
  name_server_index_ = std::random_device()() % name_servers_.size();
  rpc_.set_handler([this](const remoting::Caller& caller, Command request, remoting::Responder respond) {
    on_request(caller, std::move(request), std::move(respond));
  });
  rpc_.set_close_listener([this](const std::string& address) {
    if (stopped_) return;
    greeted_brokers_.erase(address);
    greet_later(address);  // the broker forgot us together with the connection
  });
  started_ = true;
  loop().post([this] { start_timers(); });
  return {};
}

void ClientInstance::start_timers() {
  loop().run_every(config_.route_refresh_interval, [this] { refresh_routes(); });
  loop().run_every(config_.heartbeat_interval, [this] { heartbeat_now(); });
  refresh_routes();
}

void ClientInstance::shutdown(const std::string& producer_group, const std::string& consumer_group) {
  if (stopped_.exchange(true)) return;
  if (started_) {
    // Leave the groups at once, instead of when the connections are found closed. Bounded by the request's time-out.
    struct Waiting {
      std::mutex mutex;
      std::condition_variable changed;
      size_t outstanding = 0;
    };
    auto waiting = std::make_shared<Waiting>();
    std::set<std::string> targets;
    if (!producer_group.empty() || !consumer_group.empty()) targets = heartbeat_targets();
    waiting->outstanding = targets.size();
    const int64_t timeout = std::min<int64_t>(config_.request_timeout.count(), 1'000);
    for (const auto& address : targets) {
      Command request = Command::request(RequestCode::kUnregisterClient);
      request.ext.set("clientID", client_id_);
      if (!producer_group.empty()) request.ext.set("producerGroup", producer_group);
      if (!consumer_group.empty()) request.ext.set("consumerGroup", consumer_group);
      rpc_.call(address, std::move(request), timeout, [waiting](Result<Command>) {
        std::lock_guard lock(waiting->mutex);
        --waiting->outstanding;
        waiting->changed.notify_all();
      });
    }
    std::unique_lock lock(waiting->mutex);
    waiting->changed.wait_for(lock, std::chrono::milliseconds(timeout + 1'000),
                              [&] { return waiting->outstanding == 0; });
  }
  rpc_.shutdown();
  thread_.stop_and_join();
}

TopicRoutePtr ClientInstance::route(const std::string& topic) const {
  std::lock_guard lock(mutex_);
  auto found = routes_.find(topic);
  return found == routes_.end() ? nullptr : found->second;
}

void ClientInstance::watch_topic(const std::string& topic, int default_queues) {
  std::lock_guard lock(mutex_);
  watched_[topic] = default_queues;
}

void ClientInstance::forget_topic(const std::string& topic) {
  std::lock_guard lock(mutex_);
  watched_.erase(topic);
  routes_.erase(topic);
}

void ClientInstance::fetch_route(const std::string& topic, int default_queues, RouteCallback done) {
  watch_topic(topic, default_queues);
  auto shared = std::make_shared<RouteCallback>(std::move(done));
  const bool posted = loop().post([this, topic, default_queues, shared] {
    auto& waiters = route_waiters_[topic];
    waiters.push_back(*shared ? std::move(*shared) : [](Result<TopicRoutePtr>) {});
    if (waiters.size() == 1) request_route(topic, default_queues);
  });
  if (!posted && *shared) (*shared)(Error{Errc::kClosed, "the client is shut down"});
}

void ClientInstance::request_route(const std::string& topic, int default_queues) {
  Command request = Command::request(RequestCode::kGetRouteinfoByTopic);
  request.ext.set("topic", topic);
  request.ext.set("acceptStandardJsonOnly", true);
  call_name_server(
      std::move(request), config_.request_timeout.count(), [this, topic, default_queues](Result<Command> reply) {
        if (!reply) return finish_route(topic, std::move(reply).error());
        if (reply->code == response_code::kTopicNotExist && default_queues > 0 && topic != kDefaultTopic) {
          Command other = Command::request(RequestCode::kGetRouteinfoByTopic);
          other.ext.set("topic", kDefaultTopic);
          other.ext.set("acceptStandardJsonOnly", true);
          call_name_server(
              std::move(other), config_.request_timeout.count(),
              [this, topic, default_queues](Result<Command> fallback) {
                if (!fallback) return finish_route(topic, std::move(fallback).error());
                if (fallback->code != response_code::kSuccess) {
                  return finish_route(topic, Error{Errc::kNotFound,
                                                   "no route for topic " + topic +
                                                       ": it does not exist, and no broker creates topics by itself",
                                                   response_code::kTopicNotExist});
                }
                auto data = remoting::decode_topic_route_data(fallback->body.bytes);
                if (!data) return finish_route(topic, std::move(data).error());
                for (auto& queues : data->queue_datas) {
                  queues.read_queue_nums = queues.write_queue_nums = std::min(default_queues, queues.write_queue_nums);
                }
                auto route = make_topic_route(topic, std::move(*data));
                route.is_default = true;
                store_route(topic, std::move(route));
                finish_route(topic, this->route(topic));
              });
          return;
        }
        if (reply->code == response_code::kTopicNotExist) {
          auto remark = reply->remark.value_or("");
          return finish_route(topic,
                              Error{Errc::kNotFound, "no route for topic " + topic + ": " + remark, reply->code});
        }
        if (reply->code != response_code::kSuccess) {
          return finish_route(topic, broker_error(*reply, "route of a topic"));
        }
        auto data = remoting::decode_topic_route_data(reply->body.bytes);
        if (!data) return finish_route(topic, std::move(data).error());
        store_route(topic, make_topic_route(topic, std::move(*data)));
        finish_route(topic, this->route(topic));
      });
}

void ClientInstance::finish_route(const std::string& topic, Result<TopicRoutePtr> result) {
  auto waiters = std::move(route_waiters_[topic]);
  route_waiters_.erase(topic);
  if (!result) {
    // A retry topic exists only after the group's first heartbeat.
    const auto level = is_retry_topic(topic) ? LogLevel::kDebug : LogLevel::kWarn;
    if (logger_.enabled(level)) logger_.write(level, "route of " + topic + ": " + result.error().message);
  }
  for (auto& waiter : waiters) waiter(result);
}

void ClientInstance::store_route(const std::string& topic, TopicRoute route) {
  bool changed = false;
  {
    std::lock_guard lock(mutex_);
    if (watched_.count(topic) == 0) return;
    auto& known = routes_[topic];
    changed = !known || !(known->data == route.data) || known->is_default != route.is_default;
    if (changed) {
      known = std::make_shared<const TopicRoute>(std::move(route));
      brokers_.clear();
      for (const auto& [name, of_topic] : routes_) {
        for (const auto& broker : of_topic->data.broker_datas) brokers_[broker.broker_name] = broker.broker_addrs;
      }
      // The route that came last wins where two differ.
      for (const auto& broker : known->data.broker_datas) brokers_[broker.broker_name] = broker.broker_addrs;
    }
  }
  if (!changed) return;
  logger_.info("route of {} is new or changed", topic);
  greet_new_brokers();
  if (hooks_.route_changed) hooks_.route_changed(topic);
}

void ClientInstance::refresh_routes() {
  if (stopped_) return;
  std::map<std::string, int> topics;
  {
    std::lock_guard lock(mutex_);
    topics = watched_;
  }
  for (const auto& [topic, default_queues] : topics) fetch_route(topic, default_queues, nullptr);
}

void ClientInstance::call_name_server(Command request, int64_t timeout_ms, remoting::ReplyCallback done) {
  auto call = std::make_shared<NameServerCall>();
  call->request = std::move(request);
  call->deadline_ms = steady_ms() + timeout_ms;
  call->attempts_left = name_servers_.size();
  call->done = std::move(done);
  if (!loop().post([this, call] { try_name_server(call); })) {
    call->done(Error{Errc::kClosed, "the client is shut down"});
  }
}

void ClientInstance::try_name_server(std::shared_ptr<NameServerCall> call) {
  const size_t index = name_server_index_;
  const int64_t left = call->deadline_ms - steady_ms();
  const int64_t share = std::max<int64_t>(1, left / static_cast<int64_t>(call->attempts_left));
  --call->attempts_left;
  const std::string& address = name_servers_[index];
  rpc_.call(address, call->request, share, [this, call, index, &address](Result<Command> reply) {
    if (reply || reply.error().code == Errc::kClosed) return call->done(std::move(reply));
    if (name_server_index_ == index) name_server_index_ = (index + 1) % name_servers_.size();
    if (call->attempts_left > 0 && call->deadline_ms > steady_ms() && !stopped_) return try_name_server(call);
    Error error = std::move(reply).error();
    error.message = "NameServer " + address + ": " + error.message;
    call->done(std::move(error));
  });
}

void ClientInstance::call(const std::string& address, Command request, int64_t timeout_ms,
                          remoting::ReplyCallback done) {
  rpc_.call(address, std::move(request), timeout_ms > 0 ? timeout_ms : config_.request_timeout.count(),
            std::move(done));
}

std::optional<std::string> ClientInstance::broker_address(const std::string& broker_name) const {
  std::lock_guard lock(mutex_);
  auto broker = brokers_.find(broker_name);
  if (broker == brokers_.end()) return std::nullopt;
  auto master = broker->second.find(0);
  return master == broker->second.end() ? std::nullopt : std::optional(master->second);
}

std::optional<std::string> ClientInstance::request_address(const std::string& broker_name) const {
  auto address = broker_address(broker_name);
  if (!address || !config_.vip_channel) return address;
  const auto colon = address->rfind(':');
  int port = 0;
  std::from_chars(address->data() + colon + 1, address->data() + address->size(), port);
  return address->substr(0, colon + 1) + std::to_string(port - 2);
}

std::optional<BrokerPlace> ClientInstance::place_to_read(const std::string& broker_name, int64_t wanted_id) const {
  std::lock_guard lock(mutex_);
  auto broker = brokers_.find(broker_name);
  if (broker == brokers_.end() || broker->second.empty()) return std::nullopt;
  const auto& addresses = broker->second;
  auto wanted = addresses.find(wanted_id);
  if (wanted == addresses.end() && wanted_id != 0) wanted = addresses.find(wanted_id + 1);
  if (wanted == addresses.end()) wanted = addresses.begin();
  if (doubted_.count(wanted->second) != 0) {
    auto better = std::find_if(addresses.begin(), addresses.end(),
                               [this](const auto& each) { return doubted_.count(each.second) == 0; });
    if (better != addresses.end()) wanted = better;
  }
  return BrokerPlace{wanted->second, wanted->first != 0};
}

void ClientInstance::doubt(const std::string& address) {
  {
    std::lock_guard lock(mutex_);
    if (stopped_ || !hooks_.heartbeat_to_slaves || !doubted_.insert(address).second) return;
  }
  logger_.warn("{} does not answer: until it does, other brokers of its name are read from where there are any",
               address);
  greeted_brokers_.erase(address);
  greet_later(address);
}

std::optional<std::string> ClientInstance::any_broker_of(const std::string& topic) const {
  auto known = route(topic);
  if (!known || known->data.broker_datas.empty()) return std::nullopt;
  const auto& brokers = known->data.broker_datas;
  const size_t start = static_cast<size_t>(steady_ms()) % brokers.size();
  std::optional<std::string> doubtful;
  std::lock_guard lock(mutex_);
  for (size_t i = 0; i < brokers.size(); ++i) {
    // The lowest id first: the master when there is one.
    for (const auto& [id, address] : brokers[(start + i) % brokers.size()].broker_addrs) {
      if (doubted_.count(address) == 0) return address;
      if (!doubtful) doubtful = address;
    }
  }
  return doubtful;
}

std::set<std::string> ClientInstance::heartbeat_targets() const {
  std::set<std::string> targets;
  std::lock_guard lock(mutex_);
  for (const auto& [name, addresses] : brokers_) {
    for (const auto& [id, address] : addresses) {
      if (id == 0 || hooks_.heartbeat_to_slaves) targets.insert(address);
    }
  }
  return targets;
}

void ClientInstance::greet_new_brokers() {
  for (const auto& address : heartbeat_targets()) {
    if (greeted_brokers_.count(address) == 0) send_heartbeat(address, nullptr);
  }
}

void ClientInstance::heartbeat_now(std::function<void()> done) {
  loop().post([this, done = std::move(done)] {
    if (stopped_) return;
    auto targets = heartbeat_targets();
    if (targets.empty()) {
      if (done) done();
      return;
    }
    auto outstanding = std::make_shared<size_t>(targets.size());
    for (const auto& address : targets) {
      send_heartbeat(address, [outstanding, done] {
        if (--*outstanding == 0 && done) done();
      });
    }
  });
}

void ClientInstance::greet_later(const std::string& address) {
  if (stopped_ || !greeted_later_.insert(address).second) return;
  const auto delay = std::min<int64_t>(kReconnectHeartbeatMs, config_.heartbeat_interval.count());
  loop().run_after(loop::Milliseconds(delay), [this, address] {
    greeted_later_.erase(address);
    if (stopped_ || greeted_brokers_.count(address) != 0 || heartbeat_targets().count(address) == 0) return;
    send_heartbeat(address, nullptr);
  });
}

void ClientInstance::send_heartbeat(const std::string& address, std::function<void()> done) {
  greeted_brokers_.insert(address);
  remoting::HeartbeatData data = hooks_.heartbeat ? hooks_.heartbeat() : remoting::HeartbeatData{};
  if (data.producer_data_set.empty() && data.consumer_data_set.empty()) {
    if (done) done();
    return;
  }
  data.client_id = client_id_;
  Command request = Command::request(RequestCode::kHeartBeat);
  request.body = SharedBytes::from(remoting::encode(data));
  rpc_.call(address, std::move(request), config_.request_timeout.count(),
            [this, address, done = std::move(done)](Result<Command> reply) {
              if (!reply) {
                greeted_brokers_.erase(address);
                logger_.warn("heartbeat to {}: {}", address, reply.error().message);
                if (reply.error().code != Errc::kClosed) doubt(address);
                greet_later(address);
              } else {
                if (reply->code != response_code::kSuccess)
                  logger_.warn("heartbeat to {}: {}", address, broker_error(*reply, "refused").message);
                std::lock_guard lock(mutex_);
                if (doubted_.erase(address) != 0) logger_.info("{} answers again", address);
              }
              if (done) done();
            });
}

void ClientInstance::on_request(const remoting::Caller& caller, Command request, remoting::Responder respond) {
  if (hooks_.request && hooks_.request(request, respond)) return;
  const char* name = remoting::to_string(request.request_code());
  logger_.warn("request {} ({}) of {} is refused", name, request.code, caller.address);
  if (request.is_oneway()) return;
  respond(Command::response_to(
      request, response_code::kRequestCodeNotSupported,
      "request code " + std::to_string(request.code) + " (" + name + ") is not supported by this client"));
}

}  // namespace apogee
