#include "broker/broker.h"

#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <future>
#include <map>
#include <utility>
#include <vector>

#include "broker/filter/consumer_filters.h"
#include "broker/groups/consumer_groups.h"
#include "broker/groups/producer_groups.h"
#include "broker/handlers/admin_rows.h"
#include "broker/handlers/ha_admin_handlers.h"
#include "broker/handlers/message_query_handlers.h"
#include "broker/handlers/pull_handlers.h"
#include "broker/handlers/queue_query_handlers.h"
#include "broker/handlers/quick_pull.h"
#include "broker/handlers/quick_send.h"
#include "broker/handlers/recall_handler.h"
#include "broker/handlers/reply_handlers.h"
#include "broker/handlers/send_handlers.h"
#include "broker/handlers/transaction_handlers.h"
#include "broker/reader_pool.h"
#include "broker/registration/registration.h"
#include "broker/replication/acting_master.h"
#include "broker/replication/replication.h"
#include "broker/replication/slave_requests.h"
#include "broker/replication/sync_answers.h"
#include "broker/schedule/delay_levels.h"
#include "broker/schedule/delay_service.h"
#include "broker/timers/timer_service.h"
#include "broker/topics/lost_topics.h"
#include "common/base/process.h"
#include "common/loop/tcp_listener.h"
#include "store/ha/replicated_log.h"

namespace apogee::broker {

namespace {

constexpr uint64_t kDescriptorsEnough = 65'536;
constexpr size_t kReaderTasksMax = 20'000;
constexpr int64_t kFirstRegistrationWaitMs = 50;
constexpr int64_t kUnregisterTimeoutMs = 1'000;
constexpr int kPortTries = 50;
constexpr int64_t kHeldPullTickMs = 50;
constexpr int kFlushTickMs = 200;

void check_map_count(const Logger& logger) {
  constexpr int64_t kEnough = 65'530;
  int64_t count = 0;
  if (std::ifstream("/proc/sys/vm/max_map_count") >> count; count > 0 && count < kEnough)
    logger.warn("vm.max_map_count is {}: each log file takes one mapping; set it to {} or more", count, kEnough);
}

template <typename Handlers>
remoting::RequestHandler method_of(Handlers& handlers,
                                   void (Handlers::*method)(const remoting::Caller&, remoting::Command,
                                                            remoting::Responder)) {
  return [&handlers, method](const remoting::Caller& caller, remoting::Command request, remoting::Responder respond) {
    (handlers.*method)(caller, std::move(request), std::move(respond));
  };
}

}  // namespace

struct Broker::Impl {
  Impl(BrokerConfig& c, config::ConfigTable& t, std::string file, Logger& l)
      : config(c), table(t), config_file(std::move(file)), logger(l) {}

  [[nodiscard]] Status start();
  [[nodiscard]] Status open_state();
  [[nodiscard]] Status listen();
  void build_handlers();
  void start_housekeeping();
  void settings_changed(const ConfigAdminHandlers::Changes& changes);
  void save_state(bool sync);
  [[nodiscard]] std::map<std::string, std::string> figures() const;
  void stop();

  BrokerConfig& config;
  config::ConfigTable& table;
  std::string config_file;
  Logger& logger;
  const int64_t boot_time_ms = system_now_ms();

  // In the order of dependence; destroyed in reverse.
  std::unique_ptr<store::MessageStore> store;
  std::unique_ptr<MessagePut> put;
  std::unique_ptr<TimerService> timers;  // nullptr at a slave
  std::unique_ptr<ConsumerOffsets> offsets;
  std::unique_ptr<SubscriptionGroups> groups;
  std::unique_ptr<ConsumerGroups> consumers;
  std::unique_ptr<ProducerGroups> producers;
  std::unique_ptr<QueueLocks> locks;
  std::unique_ptr<ConsumerFilters> filters;
  std::unique_ptr<RateLimits> limits;
  std::unique_ptr<BrokerStats> stats;
  std::unique_ptr<ReaderPool> readers;
  std::unique_ptr<loop::LoopThread> housekeeping;
  std::unique_ptr<HeldPulls> held;
  std::unique_ptr<TopicTable> topics;
  std::unique_ptr<RequestTable> requests;
  std::unique_ptr<remoting::RemotingServer> server;
  std::unique_ptr<remoting::RpcClient> client;
  std::unique_ptr<Replication> replication;
  std::unique_ptr<Registration> registration;
  std::unique_ptr<ActingMaster> acting;     // of a slave that may act for its master
  std::unique_ptr<SettingNotices> notices;  // of a master

  std::unique_ptr<DelayService> delays;
  std::unique_ptr<Transactions> transactions;
  std::unique_ptr<RecallHandler> recall_handler;
  std::unique_ptr<OffsetMovedEvents> moved_events;
  std::unique_ptr<TransactionHandlers> transaction_handlers;
  std::unique_ptr<SendOperation> send_operation;
  std::unique_ptr<SendHandlers> send_handlers;
  std::unique_ptr<QuickSend> quick_send;  // nullptr at a slave
  std::unique_ptr<ReplyHandlers> reply_handlers;
  std::unique_ptr<SendBackHandler> send_back_handler;
  std::unique_ptr<PullOperation> pull_operation;
  std::unique_ptr<PullHandlers> pull_handlers;
  std::unique_ptr<QuickPull> quick_pull;
  std::unique_ptr<QueueQueryHandlers> queue_query_handlers;
  std::unique_ptr<MessageQueryHandlers> message_query_handlers;
  std::unique_ptr<ClientHandlers> client_handlers;
  std::unique_ptr<ClientOffsetHandlers> client_offset_handlers;
  std::unique_ptr<TopicAdminHandlers> topic_admin_handlers;
  std::unique_ptr<GroupAdminHandlers> group_admin_handlers;
  std::unique_ptr<ConfigAdminHandlers> config_admin_handlers;
  std::unique_ptr<StatsAdminHandlers> stats_admin_handlers;
  std::unique_ptr<StoreAdminHandlers> store_admin_handlers;
  std::unique_ptr<ResetOffsetHandlers> reset_offset_handlers;
  std::unique_ptr<RelayHandlers> relay_handlers;
  std::unique_ptr<HaAdminHandlers> ha_admin_handlers;

  [[nodiscard]] bool slave() const { return config.role == BrokerRole::kSlave; }
  std::string ip, address, ha_address;
  uint16_t port = 0;
  int64_t last_export_ms = 0;       // of the reader that saves
  std::atomic<bool> saving{false};  // one save at a time
  std::atomic<bool> ready{false};   // everything that requests need is there
  std::atomic<bool> stopped{false};
  bool started = false;
};

Broker::Broker(BrokerConfig& config, config::ConfigTable& table, std::string config_file, Logger& logger)
    : impl_(std::make_unique<Impl>(config, table, std::move(config_file), logger)) {}

Broker::~Broker() { impl_->stop(); }

Status Broker::start() { return impl_->start(); }
void Broker::stop() { impl_->stop(); }
uint16_t Broker::port() const { return impl_->port; }
const std::string& Broker::address() const { return impl_->address; }

Status Broker::Impl::open_state() {
  auto opened = store::MessageStore::open(config.store_options(), logger);
  if (!opened) return std::move(opened).error();
  store = std::move(*opened);
  auto opened_offsets =
      ConsumerOffsets::open({config.store_root + "/offsetsdb", config.config_file("consumerOffset.json")}, logger);
  if (!opened_offsets) return std::move(opened_offsets).error();
  offsets = std::move(*opened_offsets);

  SubscriptionGroups::Options group_options;
  group_options.file = config.config_file("subscriptionGroup.json");
  group_options.auto_create = config.auto_create_group;
  groups = std::make_unique<SubscriptionGroups>(std::move(group_options), logger);
  APOGEE_TRY(groups->load());
  filters = std::make_unique<ConsumerFilters>(config.config_file("consumerFilter.json"), config, logger);
  filters->load();

  locks = std::make_unique<QueueLocks>(QueueLocks::Options{config.config_file("queueLocks.json"), config.lock_life_ms});
  if (auto loaded = locks->load(); !loaded) logger.error("{}; queues are locked anew", loaded.error().message);
  if (!slave()) APOGEE_TRY(take_over({config, *store, *offsets, *locks, logger}));
  put = std::make_unique<MessagePut>(*store);
  TimerService::Options timer_options{config.store_root + "/timersdb", config.config_file("timersCheckpoint.json"),
                                      config.config_file("timercheck"), config.timer_precision_ms};
  if (slave()) {
    // Read again from the log, without what the master has delivered, should this broker become a master.
    std::error_code error;
    std::filesystem::remove_all(timer_options.db_dir, error);
    if (error) return Error{Errc::kIo, timer_options.db_dir + ": " + error.message()};
  } else {
    APOGEE_TRY_ASSIGN(timers, TimerService::open(timer_options, {*store, *put, logger, system_now_ms}));
  }
  groups->set_read_only(slave());

  TopicTable::Options topic_options;
  topic_options.file = config.config_file("topics.json");
  topic_options.cluster_name = config.cluster_name;
  topic_options.broker_name = config.broker_name;
  topic_options.auto_create = config.auto_create_topic;
  topic_options.default_queue_nums = config.default_topic_queue_nums;
  topic_options.cluster_topic = config.cluster_topic;
  topic_options.broker_topic = config.broker_topic;
  if (config.trace_topic) topic_options.trace_topic = config.trace_topic_name;
  topics = std::make_unique<TopicTable>(std::move(topic_options), logger);
  topics->set_read_only(slave());
  APOGEE_TRY(topics->load());
  return slave() ? Status() : restore_lost_topics(*store, *topics, logger);
}

// With listenPort 0 a port P is wanted for which P - 2 is free too, so it is a matter of trying.
Status Broker::Impl::listen() {
  remoting::RemotingServer::Options options;
  options.bind_address = config.bind_address;
  options.io_threads = config.io_threads;
  options.idle_ms_max = config.channel_idle_s * 1000;
  options.connection_inflight_bytes_max = static_cast<size_t>(config.connection_inflight_bytes);
  options.total_inflight_bytes_max = static_cast<size_t>(config.total_inflight_bytes);
  options.connection_unsent_bytes_max = static_cast<size_t>(config.connection_unsent_bytes);
  for (int tries = config.listen_port == 0 ? kPortTries : 1;; --tries) {
    port = static_cast<uint16_t>(config.listen_port);
    if (port == 0) {
      auto any = loop::TcpListener::bind(config.bind_address, 0);
      if (!any) return std::move(any).error();
      port = (*any)->port();
    }
    options.ports = {port, static_cast<uint16_t>(port - 2)};
    server = std::make_unique<remoting::RemotingServer>(options, logger);
    server->set_handler([this](const remoting::Caller& caller, remoting::Command request, remoting::Responder respond) {
      if (ready.load(std::memory_order_acquire))
        return requests->dispatch(caller, std::move(request), std::move(respond));
      respond(remoting::Command::response_to(request, remoting::response_code::kSystemError, kBrokerStarting));
    });
    server->set_quick_handler([this](size_t io_loop, const remoting::Caller& caller, const remoting::HeaderView& header,
                                     std::string_view body, remoting::QuickReply reply) {
      return ready.load(std::memory_order_acquire) &&
             (quick_pull->take(io_loop, caller, header, reply) ||
              (quick_send && quick_send->take(io_loop, caller, header, body, reply)));
    });
    server->set_close_listener([this](remoting::ConnectionId connection, const std::string&) {
      if (!ready.load(std::memory_order_acquire)) return;
      held->connection_closed(connection);
      consumers->connection_closed(connection);
      producers->connection_closed(connection);
      limits->connection_closed(connection);
      if (notices) notices->connection_closed(connection);
    });
    Status status = server->start();
    if (status || tries <= 1 || status.error().code != Errc::kAlreadyExists) return status;
  }
}

void Broker::Impl::build_handlers() {
  const BrokerIdentity identity{config.cluster_name, config.broker_name, address};
  const store::HostAddress store_host = host_address_of(address);
  const ClientCalls calls = calls_by(*server);
  consumers->set_change_listener([this, notify = notify_members(calls, *groups)](const std::string& name, auto group) {
    if (group == nullptr) filters->unregister_group(name);
    notify(name, std::move(group));
  });

  transactions = std::make_unique<Transactions>(
      Transactions::Parts{config, *store, *put, *offsets, *producers, *stats, calls, store_host, logger});
  transaction_handlers = std::make_unique<TransactionHandlers>(*transactions, config);
  send_operation = std::make_unique<SendOperation>(
      SendOperation::Parts{config, *topics, *groups, *stats, *put, store_host, ip, system_now_ms, transactions.get()});
  recall_handler =
      std::make_unique<RecallHandler>(RecallHandler::Parts{config, *topics, *stats, *put, store_host, system_now_ms});
  send_handlers = std::make_unique<SendHandlers>(*send_operation, config, *limits);
  reply_handlers = std::make_unique<ReplyHandlers>(
      ReplyHandlers::Parts{config, *send_operation, *producers, calls, address, system_now_ms});
  send_back_handler = std::make_unique<SendBackHandler>(
      SendBackHandler::Parts{config, *topics, *groups, *stats, *store, *put, store_host, ip, logger});
  moved_events = std::make_unique<OffsetMovedEvents>(
      OffsetMovedEvents::Parts{*put, config.broker_name, store_host, logger, system_now_ms});
  pull_operation = std::make_unique<PullOperation>(
      PullOperation::Parts{config, *topics, *groups, *consumers, *offsets, *stats, *store, *held, *filters, *limits, ip,
                           system_now_ms, [this](std::function<void()> task) { return readers->post(std::move(task)); },
                           memory_share_bytes(config.in_memory_ratio), moved_events.get()});
  pull_handlers = std::make_unique<PullHandlers>(*pull_operation, config);
  queue_query_handlers = std::make_unique<QueueQueryHandlers>(*store);
  message_query_handlers = std::make_unique<MessageQueryHandlers>(*store, config);

  client_handlers = std::make_unique<ClientHandlers>(
      ClientHandlers::Parts{*consumers, *producers, *groups, *topics, *locks, *filters, logger, system_now_ms,
                            [this](std::function<void()> task) { return readers->post(std::move(task)); }});
  client_offset_handlers = std::make_unique<ClientOffsetHandlers>(
      ClientOffsetHandlers::Parts{*offsets, *groups, *topics, *store, memory_share_bytes(config.in_memory_ratio)});
  topic_admin_handlers =
      std::make_unique<TopicAdminHandlers>(TopicAdminHandlers::Parts{*topics, *offsets, *stats, *store, logger});
  group_admin_handlers = std::make_unique<GroupAdminHandlers>(
      GroupAdminHandlers::Parts{identity, *groups, *consumers, *producers, *offsets, *topics, *locks, *stats, logger});
  ConfigAdminHandlers::Parts config_parts{
      table, config_file.empty() ? config.config_file("broker.properties") : config_file, logger,
      [this](const ConfigAdminHandlers::Changes& changes) { settings_changed(changes); }, system_now_ms};
  config_admin_handlers = std::make_unique<ConfigAdminHandlers>(std::move(config_parts));
  StatsAdminHandlers::Parts stats_parts{
      identity,
      *groups,
      *consumers,
      *offsets,
      *topics,
      *stats,
      *store,
      boot_time_ms,
      config.commit_log_dir.empty() ? config.store_root + "/commitlog" : config.commit_log_dir,
      [this] { return figures(); },
      system_now_ms,
      [this] { return delays->offsets(); }};
  stats_admin_handlers = std::make_unique<StatsAdminHandlers>(std::move(stats_parts));
  store_admin_handlers = std::make_unique<StoreAdminHandlers>(StoreAdminHandlers::Parts{*topics, *store, logger});
  reset_offset_handlers = std::make_unique<ResetOffsetHandlers>(
      ResetOffsetHandlers::Parts{identity, *groups, *consumers, *offsets, *topics, *store, calls, logger});
  relay_handlers = std::make_unique<RelayHandlers>(RelayHandlers::Parts{identity, *consumers, *store, calls});

  ha_admin_handlers = std::make_unique<HaAdminHandlers>(
      HaAdminHandlers::Parts{config, *store, address, ha_address, [this] { return replication->status(); },
                             [this] { return replication->epochs(); }});

  using Code = remoting::RequestCode;
  requests->add(Code::kSendMessage, RunsOn::kIoLoop, method_of(*send_handlers, &SendHandlers::send_message));
  requests->add(Code::kSendMessageV2, RunsOn::kIoLoop, method_of(*send_handlers, &SendHandlers::send_message_v2));
  requests->add(Code::kSendBatchMessage, RunsOn::kIoLoop, method_of(*send_handlers, &SendHandlers::send_batch));
  reply_handlers->add_rows(*requests);
  requests->add(Code::kRecallMessage, RunsOn::kIoLoop, method_of(*recall_handler, &RecallHandler::recall));
  requests->add(Code::kConsumerSendMsgBack, RunsOn::kReaders,
                method_of(*send_back_handler, &SendBackHandler::send_back));
  requests->add(Code::kPullMessage, RunsOn::kIoLoop, method_of(*pull_handlers, &PullHandlers::pull));
  requests->add(Code::kLitePullMessage, RunsOn::kIoLoop, method_of(*pull_handlers, &PullHandlers::pull));
  requests->add(Code::kEndTransaction, RunsOn::kReaders,
                method_of(*transaction_handlers, &TransactionHandlers::end_transaction));
  auto& queries = *queue_query_handlers;
  requests->add(Code::kSearchOffsetByTimestamp, RunsOn::kReaders,
                method_of(queries, &QueueQueryHandlers::offset_by_time));
  requests->add(Code::kGetMaxOffset, RunsOn::kIoLoop, method_of(queries, &QueueQueryHandlers::max_offset));
  requests->add(Code::kGetMinOffset, RunsOn::kIoLoop, method_of(queries, &QueueQueryHandlers::min_offset));
  requests->add(Code::kGetEarliestMsgStoretime, RunsOn::kReaders,
                method_of(queries, &QueueQueryHandlers::earliest_time));
  requests->add(Code::kViewMessageById, RunsOn::kReaders, method_of(queries, &QueueQueryHandlers::view_message));
  requests->add(Code::kQueryMessage, RunsOn::kReaders,
                method_of(*message_query_handlers, &MessageQueryHandlers::query_message));
  add_rows(*requests, {*client_handlers, *client_offset_handlers, *topic_admin_handlers, *group_admin_handlers,
                       *config_admin_handlers, *stats_admin_handlers, *reset_offset_handlers, *relay_handlers,
                       *store_admin_handlers});
  auto& ha = *ha_admin_handlers;
  requests->add(Code::kExchangeBrokerHaInfo, RunsOn::kReaders, method_of(ha, &HaAdminHandlers::exchange_info));
  requests->add(Code::kGetBrokerHaStatus, RunsOn::kReaders, method_of(ha, &HaAdminHandlers::ha_status));
  requests->add(Code::kGetBrokerEpochCache, RunsOn::kReaders, method_of(ha, &HaAdminHandlers::epoch_cache));
  if (slave()) {
    requests->set_gate(refused_by_slave);
    add_lock_answer(*requests, *locks);
  } else {
    const auto boot = std::to_string(boot_time_ms);
    auto& acks = store->replicated_log().acks();
    notices = std::make_unique<SettingNotices>(
        SettingNotices::Parts{*topics, *groups, acks, housekeeping->loop(), calls, boot, logger});
    notices->wrap(*requests);
    add_sync_answers(*requests, {*store, *offsets, *filters, *locks, timers.get(), boot, *notices});
  }
  if (!slave())
    quick_send = std::make_unique<QuickSend>(
        QuickSend::Parts{config, *topics, *limits, *stats, *put, *requests, store_host, send_operation->unique_ids(),
                         config.flush_disk_type == store::FlushDiskType::kSync,
                         static_cast<size_t>(std::max(1, config.io_threads)), system_now_ms});
  const auto vip_port = static_cast<uint16_t>(port - 2);
  requests->set_vip_port(vip_port);
  quick_pull = std::make_unique<QuickPull>(QuickPull::Parts{*pull_operation, config, *requests, logger, vip_port,
                                                            static_cast<size_t>(std::max(1, config.io_threads))});
}

std::map<std::string, std::string> Broker::Impl::figures() const {
  const auto counters = server->counters();
  auto figures = delays->figures();
  figures.merge(
      std::map<std::string, std::string>{{"connections", std::to_string(counters.connections_open)},
                                         {"connectionsAccepted", std::to_string(counters.connections_accepted)},
                                         {"framesIn", std::to_string(counters.frames_in)},
                                         {"framesOut", std::to_string(counters.frames_out)},
                                         {"badFrames", std::to_string(counters.bad_frames)},
                                         {"oversizeFrames", std::to_string(counters.oversize_frames)},
                                         {"unsupportedRequests", std::to_string(requests->unsupported_total())},
                                         {"heldPulls", std::to_string(held->size())}});
  if (timers) figures.merge(timers->figure_table());
  figures.merge(replication->figures());
  figures.merge(transactions->texts());
  if (acting) figures.merge(acting->texts());
  return figures;
}

void Broker::Impl::settings_changed(const ConfigAdminHandlers::Changes& changes) {
  logger.set_level(config.log_level);
  topics->set_auto_create(config.auto_create_topic);
  groups->set_auto_create(config.auto_create_group);
  held->set_max(static_cast<size_t>(config.held_pulls_max.get()));
  locks->set_life_ms(config.lock_life_ms);
  store->set_retention(config.retention_options());
  store->set_message_bytes_max(config.message_bytes_max);
  replication->settings_changed();
  for (const auto& change : changes) {
    // NameServers take topics over only with a new version.
    if (change.key == "brokerPermission")
      topics->touch([this](const Status& status) {
        if (!status) logger.error("version of the topics: {}", status.error().message);
        registration->register_all_soon();
      });
  }
}

// On a reader. `sync`: until everything is on disk.
void Broker::Impl::save_state(bool sync) {
  auto report = [this](const char* what, const Status& status) {
    if (!status) logger.error("{} could not be saved: {}", what, status.error().message);
  };
  report("consumer offsets", offsets->flush(sync));
  if (sync) report("subscription groups", groups->save_if_changed());
  if (!stopped && !slave()) report("delayOffset.json", delays->save(config.flush_delay_offset_ms));
  const int64_t now = system_now_ms();
  if (stopped || now - last_export_ms >= config.flush_consumer_offset_ms) {
    last_export_ms = now;
    report("consumerOffset.json", offsets->export_json());
    report("consumerFilter.json", filters->save_if_changed());
  }
}

void Broker::Impl::start_housekeeping() {
  auto& housekeeper = housekeeping->loop();
  housekeeper.post([this, &housekeeper] {
    housekeeper.run_every(loop::Milliseconds(kHeldPullTickMs), [this] { held->expire(system_now_ms()); });
    housekeeper.run_every(loop::Milliseconds(1'000), [this] { stats->tick(); });
    housekeeper.run_every(loop::Milliseconds(10'000), [this] {
      consumers->expire();
      producers->expire();
      locks->expire();
      const auto save = [this] { locks->save_if_changed().ignore("the next change tells"); };
      if (locks->changed() && !readers->post(save)) logger.warn("queue locks are not saved: the readers are busy");
      limits->expire();
    });
    housekeeper.run_every(loop::Milliseconds(kFlushTickMs), [this, ticks = 0]() mutable {
      const bool sync = ++ticks % (1'000 / kFlushTickMs) == 0;
      if (saving.exchange(true)) return;
      if (!readers->post([this, sync] {
            save_state(sync);
            saving.store(false);
          }))
        saving.store(false);
    });
  });
}

Status Broker::Impl::start() {
  auto warnings = check(config);
  if (!warnings) return std::move(warnings).error();
  for (const auto& line : *warnings) logger.warn("{}", line);
  auto chosen = choose_address(config.broker_ip1, config.bind_address, split_addresses(config.namesrv_addr.get()));
  if (!chosen) return std::move(chosen).error();
  ip = chosen->ip;
  logger.info("the broker's address is {}: {}", ip, chosen->why);
  if (config.namesrv_addr.get().empty())
    logger.warn("namesrvAddr is empty: the broker registers nowhere, and clients will not find it");
  raise_descriptor_limit(kDescriptorsEnough, logger);
  check_map_count(logger);

  APOGEE_TRY(open_state());
  consumers = std::make_unique<ConsumerGroups>();
  producers = std::make_unique<ProducerGroups>();
  limits = std::make_unique<RateLimits>(config);
  stats = std::make_unique<BrokerStats>(config.cluster_name);
  readers = std::make_unique<ReaderPool>(config.reader_threads, kReaderTasksMax);
  housekeeping = std::make_unique<loop::LoopThread>("housekeeping");
  auto on_readers = [this](std::function<void()> task) {
    auto shared = std::make_shared<std::function<void()>>(std::move(task));
    if (readers->post([shared] { (*shared)(); })) return;
    housekeeping->loop().post([shared] { (*shared)(); });
  };
  // What has just been stored is in memory, so it is answered on the connection's own loop, without another thread.
  auto on_its_loop = [this, on_readers](remoting::ConnectionId connection, std::function<void()> task) {
    if (server == nullptr || !server->post(connection, task)) on_readers(std::move(task));
  };
  held = std::make_unique<HeldPulls>(on_its_loop, static_cast<size_t>(config.held_pulls_max.get()));
  requests = std::make_unique<RequestTable>(
      [this](std::function<void()> task) { return readers->post(std::move(task)); }, logger);
  const auto delay_levels = config.store_options().delay_levels_ms;
  put->add_rule(timer_rule([this] { return config.timer_limits(); }, system_now_ms));
  put->add_rule(delay_rule(delay_levels.size()));
  delays = std::make_unique<DelayService>(DelayService::Parts{
      *store, *put, *topics, *groups, delay_levels, config.config_file("delayOffset.json"), logger, system_now_ms});
  APOGEE_TRY(delays->load());
  store->set_arrival_listener([this](const std::vector<store::Arrival>& arrivals) {
    held->on_arrivals(arrivals);
    delays->on_arrivals(arrivals);
    if (timers) timers->on_arrivals(arrivals);
  });
  store->set_waiting([this] { return held->size() > 0; });
  client = std::make_unique<remoting::RpcClient>(housekeeping->loop(), remoting::RpcClient::Options{}, logger);
  replication =
      std::make_unique<Replication>(Replication::Parts{config, *store, *client, housekeeping->loop(), logger});
  store->set_removal_listener([this](store::LogOffset new_begin) {
    if (slave()) return replication->may_remove(new_begin);
    return delays->may_remove(new_begin) && timers->may_remove(new_begin);
  });
  APOGEE_TRY(store->start());
  started = true;
  APOGEE_TRY(listen());

  address = (ip.find(':') == std::string::npos ? ip : "[" + ip + "]") + ":" + std::to_string(port);
  const auto ha_wanted = static_cast<uint16_t>(config.ha_listen_port == 0 ? port + 1 : config.ha_listen_port);
  APOGEE_TRY(replication->listen(ha_wanted, config.listen_port == 0 && config.ha_listen_port == 0, address));
  const std::string ha_ip = config.broker_ip2.empty() ? ip : config.broker_ip2;
  ha_address = ha_ip + ":" + std::to_string(slave() ? ha_wanted : replication->port());
  Registration::Parts registration_parts{config, *topics, housekeeping->loop(), *client, {address, ha_address}, logger};
  if (slave())
    registration_parts.on_master = [this](const std::string& master, const std::string& master_ha) {
      replication->master().told(master, master_ha);
    };
  registration = std::make_unique<Registration>(std::move(registration_parts));
  topics->set_change_listener([this](const std::vector<std::string>& names, std::function<void()> finished) {
    registration->topics_changed(names, std::move(finished));
    if (notices) notices->tell();
  });
  build_handlers();
  if (slave() && config.slave_acting_master) {
    ActingMaster::Parts parts{config,   *store,       *topics, *groups,
                              *offsets, *producers,   *stats,  housekeeping->loop(),
                              *client,  delay_levels, address, [this] { return replication->follows(); },
                              logger};
    acting = std::make_unique<ActingMaster>(std::move(parts));
    acting->add_rows(*requests);
  }
  if (slave()) {
    MetadataSync::Parts sync{config,
                             replication->master(),
                             *client,
                             *store,
                             *topics,
                             *groups,
                             *offsets,
                             *filters,
                             *locks,
                             *delays,
                             config.config_file("timersCheckpoint.json"),
                             config.config_file("slaveOffsets.json"),
                             logger};
    APOGEE_TRY(replication->start(std::move(sync), [this] { registration->register_all_soon(); }));
  } else {
    APOGEE_TRY(transactions->start());
    delays->start(host_address_of(address));
  }
  ready.store(true, std::memory_order_release);
  if (timers) timers->start(host_address_of(address));
  start_housekeeping();
  auto first_round = std::make_shared<std::promise<void>>();
  auto registered = first_round->get_future();
  registration->start([first_round] { first_round->set_value(); });
  registered.wait_for(std::chrono::milliseconds(kFirstRegistrationWaitMs));
  if (acting) acting->start();
  logger.info("the broker {} listens on {} port {} and {} (VIP), store {}", config.broker_name, config.bind_address,
              port, port - 2, config.store_root);
  return {};
}

void Broker::Impl::stop() {
  if (!started || stopped) return;
  stopped = true;
  logger.info("the broker {} stops", config.broker_name);
  if (registration) registration->unregister_all(kUnregisterTimeoutMs);
  held->release_all();
  if (notices) notices->stop();
  if (server) server->stop(config.stop_drain_ms);
  if (acting) acting->stop();
  delays->stop();
  // Finishes what was asked for; sends that wait for a topic are stored or refused. A slave's follow its master still.
  if (!slave()) topics.reset();
  readers->stop();
  if (transactions) transactions->stop();
  if (client) client->shutdown();
  if (replication) replication->stop();
  topics.reset();
  housekeeping->stop_and_join();
  if (timers) timers->stop();
  save_state(true);
  store->stop();
  if (Status status = slave() ? Status{} : delays->save(0); !status)
    logger.error("delayOffset.json could not be saved: {}", status.error().message);
  logger.info("the broker {} has stopped", config.broker_name);
}

}  // namespace apogee::broker
