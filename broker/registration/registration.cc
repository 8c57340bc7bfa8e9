#include "broker/registration/registration.h"

#include <algorithm>
#include <chrono>
#include <future>
#include <set>
#include <utility>

#include "common/base/crc32.h"
#include "common/remoting/bodies/kv_bodies.h"
#include "common/remoting/bodies/register_broker_body.h"

namespace apogee::broker {

namespace {

constexpr int64_t kTickMs = 500;
constexpr int64_t kRetryMs = 3'000;
constexpr int64_t kRoundMsMax = 2'000;  // longer than that nobody waits for a NameServer
constexpr int64_t kPeriodMsMin = 10'000, kPeriodMsMax = 60'000;

int64_t steady_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

}  // namespace

remoting::Command registration_request(const BrokerConfig& config, const Registration::Identity& identity,
                                       remoting::TopicConfigSerializeWrapper topics) {
  constexpr int32_t read_write = remoting::perm::kRead | remoting::perm::kWrite;
  const int32_t permission = config.permission;
  if ((permission & read_write) != read_write)
    for (auto& [name, topic] : topics.topic_config_table) topic.perm &= permission;
  remoting::RegisterBrokerBody body;
  body.topic_config_wrapper = std::move(topics);
  remoting::Command request = remoting::Command::request(remoting::RequestCode::kRegisterBroker);
  std::string bytes = config.compressed_register ? encode_compressed(body, request.version) : encode(body);
  request.ext.set("brokerName", config.broker_name);
  request.ext.set("brokerAddr", identity.address);
  request.ext.set("clusterName", config.cluster_name);
  request.ext.set("haServerAddr", identity.ha_address);
  request.ext.set("brokerId", config.broker_id);
  request.ext.set("compressed", config.compressed_register);
  request.ext.set("bodyCrc32", crc32_31(bytes));
  if (config.slave_acting_master) {
    request.ext.set("enableActingMaster", true);
    request.ext.set("heartbeatTimeoutMillis", config.broker_not_active_ms);
  }
  request.body = SharedBytes::from(std::move(bytes));
  return request;
}

struct Registration::Impl : std::enable_shared_from_this<Registration::Impl> {
  explicit Impl(Parts p) : parts(std::move(p)) {}

  enum class Known : uint8_t { kUnknown, kRegistered, kFailing };
  struct NameServer {
    Known known = Known::kUnknown;
    bool whole_table_due = true;  // it missed a change, or may have
    int64_t next_ms = 0;          // steady clock
    int outstanding = 0;
  };

  Parts parts;
  std::map<std::string, NameServer> servers;
  bool stopped = false;
  bool all_due = false;

  [[nodiscard]] int64_t period_ms() const {
    return std::clamp(parts.config.register_period_ms.get(), kPeriodMsMin, kPeriodMsMax);
  }

  void refresh_servers() {
    auto addresses = split_addresses(parts.config.namesrv_addr.get());
    std::set<std::string> wanted(addresses.begin(), addresses.end());
    for (auto at = servers.begin(); at != servers.end();)
      at = wanted.count(at->first) == 0 ? servers.erase(at) : std::next(at);
    for (const auto& address : wanted) servers[address];
  }

  void tick() {
    if (stopped) return;
    refresh_servers();
    const int64_t now = steady_ms();
    for (auto& [address, server] : servers)
      if (all_due || (server.outstanding == 0 && now >= server.next_ms))
        send(address, parts.topics.contents(), true, nullptr);
    all_due = false;
  }

  // For NameServers that drop brokers soon, see enableSlaveActingMaster.
  void send_heartbeats() {
    if (stopped) return;
    for (auto& [address, server] : servers) {
      if (server.known != Known::kRegistered) continue;
      auto request = remoting::Command::request(remoting::RequestCode::kBrokerHeartbeat);
      request.ext.set("clusterName", parts.config.cluster_name);
      request.ext.set("brokerAddr", parts.identity.address);
      request.ext.set("brokerName", parts.config.broker_name);
      request.ext.set("brokerId", parts.config.broker_id);
      request.ext.set("heartbeatTimeoutMills", parts.config.broker_not_active_ms);
      parts.client.send_oneway(address, std::move(request));
    }
  }

  // `finished` is shared by the requests of a round; the last one to let it go calls it.
  void send(const std::string& address, remoting::TopicConfigSerializeWrapper topics, bool whole,
            std::shared_ptr<void> finished) {
    auto& server = servers[address];
    ++server.outstanding;
    server.next_ms = steady_ms() + period_ms();
    auto request = registration_request(parts.config, parts.identity, std::move(topics));
    auto self = shared_from_this();
    parts.client.call(address, std::move(request), parts.config.register_timeout_ms,
                      [self, address, whole, finished = std::move(finished)](Result<remoting::Command> reply) {
                        self->answered(address, whole, reply);
                      });
  }

  void answered(const std::string& address, bool whole, const Result<remoting::Command>& reply) {
    auto found = servers.find(address);
    if (found == servers.end()) return;
    NameServer& server = found->second;
    --server.outstanding;
    if (!reply || reply->code != remoting::response_code::kSuccess) {
      failed(
          address, server,
          !reply ? reply.error().message : "answer " + std::to_string(reply->code) + " " + reply->remark.value_or(""));
      return;
    }
    if (whole) server.whole_table_due = false;
    if (server.known != Known::kRegistered) {
      server.known = Known::kRegistered;
      parts.logger.info("registered with the NameServer {} as {} ({})", address, parts.config.broker_name,
                        parts.identity.address);
    }
    if (parts.on_master)
      return parts.on_master(std::string(reply->ext.get("masterAddr").value_or("")),
                             std::string(reply->ext.get("haServerAddr").value_or("")));
    if (!reply->body.empty()) take_order_topics(reply->body.bytes);
  }

  void failed(const std::string& address, NameServer& server, const std::string& why) {
    server.whole_table_due = true;
    server.next_ms = steady_ms() + kRetryMs;
    if (server.known == Known::kFailing || stopped) return;
    server.known = Known::kFailing;
    parts.logger.warn("not registered with the NameServer {}: {}; it is tried again every {} s", address, why,
                      kRetryMs / 1000);
  }

  // The NameServer lists the topics that are consumed in order; it never takes the mark away.
  void take_order_topics(std::string_view json) {
    auto table = remoting::decode_kv_table(json);
    if (!table) return parts.logger.warn("order topics of a NameServer: {}", table.error().message);
    for (const auto& [name, queues] : table->table) {
      auto topic = parts.topics.find(name);
      if (topic == nullptr || topic->order) continue;
      TopicConfig changed = *topic;
      changed.order = true;
      parts.topics.put_async(std::move(changed), TopicTable::Until::kSaved,
                             [self = shared_from_this(), name = name](const Status& status) {
                               if (!status)
                                 self->parts.logger.warn("order mark of topic {}: {}", name, status.error().message);
                             });
    }
  }

  /// A round of registrations; tells whoever waits for it once, when all have ended or after a while.
  struct Round {
    std::function<void()> finished;
    explicit Round(std::function<void()> f) : finished(std::move(f)) {}
    ~Round() { end(); }
    void end() {
      if (auto once = std::exchange(finished, nullptr)) once();
    }
  };

  // A NameServer that fails anyhow is told too, but nobody waits for it.
  void broadcast(const std::vector<std::string>& names, std::function<void()> finished) {
    auto round = std::make_shared<Round>(std::move(finished));
    if (stopped) return;
    refresh_servers();
    auto contents = parts.topics.contents();
    remoting::TopicConfigSerializeWrapper changed;
    changed.data_version = contents.data_version;
    for (const auto& name : names)
      if (auto at = contents.topic_config_table.find(name); at != contents.topic_config_table.end())
        changed.topic_config_table.insert(*at);
    for (auto& [address, server] : servers) {
      const bool whole = server.whole_table_due;
      send(address, whole ? contents : changed, whole, server.known == Known::kFailing ? nullptr : round);
    }
    if (round.use_count() > 1)
      parts.loop.run_after(loop::Milliseconds(kRoundMsMax), [weak = std::weak_ptr<Round>(round)] {
        if (auto late = weak.lock()) late->end();
      });
  }

  void connection_closed(const std::string& address) {
    auto found = servers.find(address);
    if (found == servers.end() || stopped) return;
    found->second.whole_table_due = true;
    if (found->second.known == Known::kRegistered) {
      found->second.known = Known::kUnknown;
      found->second.next_ms = steady_ms();
    }
  }
};

Registration::Registration(Parts parts) : impl_(std::make_shared<Impl>(std::move(parts))) {}
Registration::~Registration() = default;

void Registration::start(std::function<void()> first_round) {
  impl_->parts.loop.post([self = impl_, first_round = std::move(first_round)] {
    self->parts.client.set_close_listener([self](const std::string& address) { self->connection_closed(address); });
    self->broadcast({}, first_round);
    self->parts.loop.run_every(loop::Milliseconds(kTickMs), [self] { self->tick(); });
    if (self->parts.config.slave_acting_master)
      self->parts.loop.run_every(loop::Milliseconds(self->parts.config.broker_heartbeat_ms),
                                 [self] { self->send_heartbeats(); });
  });
}

void Registration::topics_changed(std::vector<std::string> topics, std::function<void()> finished) {
  auto shared = std::make_shared<std::function<void()>>(std::move(finished));
  if (!impl_->parts.loop.post([self = impl_, topics = std::move(topics), shared] { self->broadcast(topics, *shared); }))
    (*shared)();
}

void Registration::register_all_soon() {
  impl_->parts.loop.post([self = impl_] {
    for (auto& [address, server] : self->servers) server.whole_table_due = true;
    self->all_due = true;
    self->tick();
  });
}

void Registration::unregister_all(int64_t timeout_ms) {
  auto finished = std::make_shared<std::promise<void>>();
  auto future = finished->get_future();
  bool posted = impl_->parts.loop.post([self = impl_, timeout_ms, finished] {
    self->stopped = true;
    std::shared_ptr<void> round(nullptr, [finished](void*) { finished->set_value(); });
    for (auto& [address, server] : self->servers) {
      if (server.known != Impl::Known::kRegistered) continue;
      remoting::Command request = remoting::Command::request(remoting::RequestCode::kUnregisterBroker);
      request.ext.set("brokerName", self->parts.config.broker_name);
      request.ext.set("brokerAddr", self->parts.identity.address);
      request.ext.set("clusterName", self->parts.config.cluster_name);
      request.ext.set("brokerId", self->parts.config.broker_id);
      self->parts.client.call(address, std::move(request), timeout_ms,
                              [self, address = address, round](const Result<remoting::Command>& reply) {
                                if (reply)
                                  return self->parts.logger.info("unregistered from the NameServer {}", address);
                                self->parts.logger.warn("unregistering from the NameServer {}: {}", address,
                                                        reply.error().message);
                              });
    }
  });
  if (posted) future.wait_for(std::chrono::milliseconds(timeout_ms + 100));
}

}  // namespace apogee::broker
