#include "broker/replication/replication.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <filesystem>
#include <limits>
#include <mutex>
#include <set>
#include <utility>

#include "broker/reader_pool.h"
#include "broker/replication/master_log.h"
#include "broker/replication/replication_config.h"
#include "common/base/bytes.h"
#include "common/loop/event_loop.h"
#include "common/remoting/bodies/route_bodies.h"
#include "store/ha/epoch_file.h"
#include "store/ha/ha_client.h"
#include "store/ha/ha_server.h"
#include "store/ha/replica_acks.h"

namespace apogee::broker {

namespace code = remoting::response_code;
using remoting::Command;
using remoting::RequestCode;
using store::HaClient;
using store::HaServer;
using store::LogOffset;
using store::MasterLog;

namespace {

constexpr const char* kOwnOffsetsFile = "slaveOffsets.json";
constexpr const char* kOwnOffsetsBackup = "slaveOffsets.json.bak";
constexpr int64_t kSearchMs = 2'000;   // between questions where the master is, while it is not followed
constexpr int64_t kMembersMs = 5'000;  // between looks for the addresses of this broker's members
constexpr int64_t kOtherMasterMs = 60'000;
constexpr int64_t kCallMs = 3'000;
constexpr size_t kWorkMax = 10'000;

const char* to_string(HaClient::State state) {
  switch (state) {
    case HaClient::State::kIdle: return "IDLE";
    case HaClient::State::kConnecting: return "CONNECTING";
    case HaClient::State::kHandshake: return "HANDSHAKE";
    case HaClient::State::kTransfer: return "TRANSFER";
    case HaClient::State::kRefused: return "REFUSED";
  }
  return "UNKNOWN";
}

}  // namespace

struct Replication::Impl : std::enable_shared_from_this<Replication::Impl> {
  Impl(const Parts& p, MasterLink& m) : parts(p), master(m), log(p.store.replicated_log()) {}

  [[nodiscard]] bool slave() const { return parts.config.role == BrokerRole::kSlave; }
  [[nodiscard]] bool is_classic(const std::string& address) const {
    const auto peers = classic_peers(parts.config);
    return std::find(peers.begin(), peers.end(), ip_of(address)) != peers.end();
  }
  [[nodiscard]] Status make_server(uint16_t port);
  void make_client();
  void ask_log(std::function<void(Result<MasterLog>)> done);
  void ask_record(LogOffset at, std::function<void(Result<std::string>)> done);
  void find_members();
  void see_master(const std::string& address);
  void look_for_master();

  const Parts& parts;
  MasterLink& master;
  store::ReplicatedLog& log;
  loop::LoopThread ha{"ha"};
  std::unique_ptr<HaServer> server;
  std::unique_ptr<HaClient> client;
  std::unique_ptr<ReaderPool> work;  // for what HaClient must not do on its loop
  std::unique_ptr<MetadataSync> sync;
  std::function<void()> register_soon;

  std::mutex mutex;
  std::set<std::string> members;  // IP addresses; guarded by mutex
  std::atomic<bool> stopped{false};
  std::string own_address;    // constant after listen()
  int64_t other_told_ms = 0;  // of the housekeeping loop
};

Replication::Replication(Parts parts)
    : parts_(parts), master_(parts_.config, parts_.logger), impl_(std::make_shared<Impl>(parts_, master_)) {}

Replication::~Replication() { stop(); }

Status Replication::Impl::make_server(uint16_t port) {
  HaServer::Options options;
  const auto& config = parts.config;
  options.bind_address = config.bind_address;
  options.port = port;
  options.broker_name = config.broker_name;
  options.secret = config.ha_secret;
  options.peer_allowed = [self = weak_from_this()](const std::string& ip) {
    const auto impl = self.lock();
    if (!impl) return false;
    std::lock_guard lock(impl->mutex);
    return impl->members.count(ip) != 0;
  };
  options.classic_peers = classic_peers(config);
  options.heartbeat_ms = config.ha_heartbeat_ms;
  options.silence_ms_max = config.ha_silence_ms_max;
  options.batch_bytes = config.ha_batch_bytes;
  options.window_bytes = config.ha_window_bytes;
  options.bytes_per_second = [&config] { return config.ha_flow_control ? config.ha_bytes_per_second.get() : 0; };
  options.catch_up_bytes_per_second = [&config] { return config.ha_bytes_per_second.get(); };
  options.flushed_only = config.store_options().flush_disk_type == store::FlushDiskType::kSync;
  server = std::make_unique<HaServer>(std::move(options), log, ha.loop(), parts.logger);
  Status status = server->start();
  if (!status) server.reset();
  return status;
}

Status Replication::listen(uint16_t port_wanted, bool any_port, std::string own_address) {
  if (impl_->slave()) return {};
  impl_->own_address = std::move(own_address);
  // What a slave had to tell its master has no meaning once it is one.
  std::error_code ignored;
  for (const char* name : {kOwnOffsetsFile, kOwnOffsetsBackup})
    std::filesystem::remove(parts_.config.config_file(name), ignored);
  Status status = impl_->make_server(port_wanted);
  if (!status && any_port && status.error().code == Errc::kAlreadyExists) status = impl_->make_server(0);
  if (!status)
    return Error{status.error().code, "haListenPort " + std::to_string(port_wanted) + ": " + status.error().message};
  impl_->parts.housekeeping.post([self = impl_] {
    self->find_members();
    self->parts.housekeeping.run_every(loop::Milliseconds(kMembersMs), [self] { self->find_members(); });
  });
  return {};
}

uint16_t Replication::port() const { return impl_->server ? impl_->server->port() : 0; }

// Without a secret slaves are known by where they registered. Another master of the same name is told about: both would
// give the same offsets to different messages.
void Replication::Impl::find_members() {
  if (stopped) return;
  for (const auto& name_server : split_addresses(parts.config.namesrv_addr.get()))
    parts.client.call(name_server, Command::request(RequestCode::kGetBrokerClusterInfo), kCallMs,
                      [self = shared_from_this()](Result<Command> answer) {
                        if (!answer || answer->code != code::kSuccess) return;
                        auto info = remoting::decode_cluster_info(answer->body.bytes);
                        if (!info) return;
                        auto group = info->broker_addr_table.find(self->parts.config.broker_name);
                        if (group == info->broker_addr_table.end()) return;
                        const auto& addresses = group->second.broker_addrs;
                        if (auto master = addresses.find(0); master != addresses.end())
                          self->see_master(master->second);
                        std::lock_guard lock(self->mutex);
                        for (const auto& [id, address] : addresses)
                          if (id != 0) self->members.insert(ip_of(address));
                      });
}

void Replication::Impl::see_master(const std::string& address) {
  if (address == own_address) {
    other_told_ms = 0;
    return;
  }
  const int64_t now = steady_now_ms();
  if (other_told_ms != 0 && now - other_told_ms < kOtherMasterMs) return;
  other_told_ms = now;
  parts.logger.error(
      "another {} with id 0 is registered from {}, and this broker is one from {}: stop one of the two; what both take "
      "cannot be brought together",
      parts.config.broker_name, address, own_address);
}

void Replication::Impl::ask_log(std::function<void(Result<MasterLog>)> done) {
  auto answered = [self = shared_from_this(), done = std::move(done)](Result<Command> answer) {
    auto result =
        std::make_shared<Result<MasterLog>>(answer ? master_log_in(*answer) : Result<MasterLog>(answer.error()));
    self->ha.loop().post([done, result] { done(std::move(*result)); });
  };
  parts.client.call(master.get().address, Command::request(RequestCode::kGetBrokerRuntimeInfo), kCallMs,
                    std::move(answered));
}

void Replication::Impl::ask_record(LogOffset at, std::function<void(Result<std::string>)> done) {
  Command request = Command::request(RequestCode::kViewMessageById);
  request.ext.set("offset", at);
  parts.client.call(master.get().address, std::move(request), kCallMs,
                    [self = shared_from_this(), at, done = std::move(done)](Result<Command> answer) {
                      auto result = std::make_shared<Result<std::string>>(std::string());
                      if (!answer) {
                        *result = std::move(answer).error();
                      } else if (answer->code != code::kSuccess) {
                        *result = Error{Errc::kNotFound, "the master has no message at " + std::to_string(at) + ": " +
                                                             answer->remark.value_or("")};
                      } else {
                        *result = std::string(answer->body.bytes);
                      }
                      self->ha.loop().post([done, result] { done(std::move(*result)); });
                    });
}

void Replication::Impl::make_client() {
  const auto& config = parts.config;
  HaClient::Options options;
  options.broker_name = config.broker_name;
  options.broker_id = config.broker_id;
  options.secret = config.ha_secret;
  options.classic = is_classic(master.get().ha_address);
  options.acknowledge_on_disk = config.ha_ack_on_disk;
  options.truncate_ahead = config.ha_truncate_ahead;
  options.heartbeat_ms = config.ha_heartbeat_ms;
  options.silence_ms_max = config.ha_silence_ms_max;
  options.scrub_bytes_per_second = config.ha_scrub_bytes_per_second;
  const auto weak = weak_from_this();
  options.ask_log = [weak](std::function<void(Result<MasterLog>)> done) {
    if (auto self = weak.lock()) self->ask_log(std::move(done));
  };
  options.ask_record = [weak](LogOffset at, std::function<void(Result<std::string>)> done) {
    if (auto self = weak.lock()) self->ask_record(at, std::move(done));
  };
  options.run_elsewhere = [weak](std::function<void()> task) {
    if (auto self = weak.lock(); self && !self->work->post(std::move(task)))
      self->parts.logger.warn("replication: a task is dropped, the broker stops or too many wait");
  };
  work = std::make_unique<ReaderPool>(1, kWorkMax);
  client = std::make_unique<HaClient>(std::move(options), log, ha.loop(), parts.logger);
}

// A NameServer tells with each registration where the master is; until the master is followed they are asked often.
void Replication::Impl::look_for_master() {
  if (stopped || client->figures().state == HaClient::State::kTransfer) return;
  register_soon();
}

Status Replication::start(MetadataSync::Parts sync, std::function<void()> register_soon) {
  if (!impl_->slave()) return {};
  impl_->register_soon = std::move(register_soon);
  impl_->sync = std::make_unique<MetadataSync>(std::move(sync));
  impl_->make_client();
  auto follow = [impl = impl_.get()](const MasterLink::Master& master) {
    impl->client->follow(master.ha_address, impl->is_classic(master.ha_address));
    impl->sync->wake();
  };
  parts_.client.set_handler([weak = std::weak_ptr(impl_)](const remoting::Caller&, const Command& request,
                                                          const remoting::Responder& respond) {
    if (request.code == static_cast<int32_t>(RequestCode::kNotifySettingsChanged)) {
      if (auto impl = weak.lock()) return impl->sync->wake();
    }
    respond(Command::response_to(request, code::kRequestCodeNotSupported, "a broker does not serve this"));
  });
  master_.set_listener(follow);
  if (const auto master = master_.get(); !master.ha_address.empty()) follow(master);
  impl_->parts.housekeeping.post([self = impl_] {
    self->parts.housekeeping.run_every(loop::Milliseconds(kSearchMs), [self] { self->look_for_master(); });
  });
  return impl_->sync->start();
}

void Replication::stop() {
  if (impl_->stopped.exchange(true)) return;
  if (impl_->sync) impl_->sync->stop();
  if (impl_->client) impl_->client->stop();
  if (impl_->server) impl_->server->stop();
  if (impl_->work) impl_->work->stop();
  impl_->ha.stop_and_join();
}

bool Replication::may_remove(LogOffset new_begin) const {
  if (!impl_->slave()) return true;
  return impl_->sync != nullptr && new_begin <= impl_->sync->figures().master_begin;
}

void Replication::settings_changed() {
  if (!impl_->slave()) impl_->log.acks().set_rules(replication_rules(parts_.config));
}

bool Replication::follows() const {
  return impl_->client && impl_->client->figures().state == HaClient::State::kTransfer;
}

remoting::HaRuntimeInfo Replication::status() const {
  remoting::HaRuntimeInfo info;
  info.master = !impl_->slave();
  const LogOffset end = impl_->log.end();
  if (info.master) {
    info.master_commit_log_max_offset = end;
    const auto rules = impl_->log.acks().rules();
    for (const auto& slave : impl_->log.acks().slaves()) {
      remoting::HaRuntimeInfo::Connection connection;
      connection.addr = slave.address;
      connection.slave_ack_offset = slave.acknowledged;
      connection.diff = std::max<int64_t>(0, end - slave.acknowledged);
      // An ASYNC_MASTER keeps no set of those that it waits for.
      connection.in_sync = rules.waits ? slave.in_sync : connection.diff < rules.fall_behind_bytes_max;
      connection.transferred_byte_in_second = slave.bytes_per_second;
      connection.transfer_from_where = slave.sent;
      connection.broker_id = slave.classic ? -1 : slave.broker_id;
      connection.behind_ms = connection.diff == 0 ? 0 : slave.caught_up_ms_ago;
      connection.stream = slave.classic ? "classic" : "epochs";
      info.in_sync_slave_nums += connection.in_sync ? 1 : 0;
      info.connections.push_back(std::move(connection));
    }
    return info;
  }
  if (!impl_->client) return info;
  const auto figures = impl_->client->figures();
  auto& client = info.client;
  client.max_offset = end;
  client.transferred_byte_in_second = figures.bytes_per_second;
  client.state = to_string(figures.state);
  client.why = figures.why;
  client.master = figures.master;
  client.master_max_offset = std::max(figures.master_end, end);
  const bool has_all = figures.state == HaClient::State::kTransfer && end >= figures.master_end;
  client.behind_ms = has_all ? 0 : figures.caught_up_ms_ago;
  info.master_commit_log_max_offset = client.master_max_offset;
  return info;
}

remoting::EpochEntryCache Replication::epochs() const {
  remoting::EpochEntryCache body;
  body.cluster_name = parts_.config.cluster_name;
  body.broker_name = parts_.config.broker_name;
  body.broker_id = parts_.config.broker_id;
  body.max_offset = impl_->log.end();
  for (const auto& epoch : impl_->log.epochs().all()) {
    if (!body.epoch_list.empty()) body.epoch_list.back().end_offset = epoch.begin;
    body.epoch_list.push_back({epoch.number, epoch.begin, std::numeric_limits<int64_t>::max()});
  }
  return body;
}

std::map<std::string, std::string> Replication::figures() const {
  std::map<std::string, std::string> table;
  const auto info = status();
  const auto last = impl_->log.epochs().last();
  table["haEpoch"] = std::to_string(last ? last->number : 0);
  if (info.master) {
    table["haSlaves"] = std::to_string(info.connections.size());
    table["haInSync"] = std::to_string(impl_->log.acks().in_sync());
    table["haConfirmOffset"] = std::to_string(impl_->log.acks().confirmed());
    for (const auto& each : info.connections)
      table["haSlave_" + (each.broker_id < 0 ? each.addr : std::to_string(each.broker_id))] =
          each.addr + " lagBytes=" + std::to_string(each.diff) + " lagMs=" + std::to_string(each.behind_ms) +
          " inSync=" + (each.in_sync ? "true" : "false") + " ackOffset=" + std::to_string(each.slave_ack_offset);
    return table;
  }
  table["haState"] = info.client.state;
  table["haWhy"] = info.client.why;
  table["haMasterAddress"] = info.client.master;
  table["haLagBytes"] = std::to_string(std::max<int64_t>(0, info.client.master_max_offset - info.client.max_offset));
  table["haLagMs"] = std::to_string(info.client.behind_ms);
  if (impl_->client) {
    const auto figures = impl_->client->figures();
    table["haReceivedBytes"] = std::to_string(figures.received_bytes);
    table["haReconnects"] = std::to_string(figures.reconnects);
    table["haDamagedRanges"] = std::to_string(figures.damaged_ranges);
    table["haMendedRanges"] = std::to_string(figures.mended_ranges);
    table["haConfirmOffset"] = std::to_string(figures.confirmed);
  }
  if (impl_->sync) {
    const auto synced = impl_->sync->figures();
    table["haSyncedMsAgo"] = std::to_string(synced.synced_ms_ago);
    table["haSyncedTables"] = std::to_string(synced.changes);
    table["haOwnOffsets"] = std::to_string(synced.own_offsets);
    table["haPushedOffsets"] = std::to_string(synced.pushed_offsets);
  }
  return table;
}

}  // namespace apogee::broker
