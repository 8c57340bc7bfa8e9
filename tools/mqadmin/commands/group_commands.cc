#include <fmt/format.h>

#include <algorithm>

#include "common/base/text.h"
#include "tools/mqadmin/commands/commands.h"
#include "tools/mqadmin/commands/lag_text.h"

// Consumer groups, clients and offsets of groups.
namespace mqadmin {

namespace {

using apogee::MessageQueue;
namespace admin = apogee::admin;

std::string describe(const admin::GroupConfig& config) {
  return fmt::format(
      "SubscriptionGroupConfig [groupName={}, consumeEnable={}, consumeFromMinEnable={}, "
      "consumeBroadcastEnable={}, retryQueueNums={}, retryMaxTimes={}, brokerId={}, "
      "whichBrokerWhenConsumeSlowly={}, notifyConsumerIdsChangedEnable={}]",
      config.group, config.consume_enable, config.consume_from_min_enable, config.consume_broadcast_enable,
      config.retry_queues, config.retry_times_max, config.broker_id, config.broker_id_when_slow,
      config.notify_consumer_ids_changed);
}

Table client_table() {
  return Table({{"#ClientId", "clientId", 36},
                {"#ClientAddr", "address", 22},
                {"#Language", "language", 10},
                {"#Version", "version"}});
}

void add_client(Table& table, const admin::Client& client) {
  table.row({client.client_id, client.address, client.language, admin::version_name(client.version)});
}

/// "ip" of the client that has each queue.
std::map<MessageQueue, std::string> owners(Invocation& in, const std::string& group) {
  std::map<MessageQueue, std::string> owner;
  auto clients = in.client().group_clients(group);
  if (!clients) return owner;  // nobody is connected
  Progress progress("consumers", static_cast<int64_t>(clients->clients.size()));
  for (const auto& client : clients->clients) {
    auto state = in.client().consumer_state(group, client.client_id, false);
    progress.advance();
    if (!state) continue;  // a member that leaves at this moment owns nothing
    std::string ip = client.client_id.substr(0, client.client_id.find('@'));
    for (const auto& entry : state->queues) owner[entry.first] = ip;
  }
  return owner;
}

Status show_group_progress(Invocation& in, const std::string& group) {
  APOGEE_TRY_ASSIGN(auto with_clients, in.truth('s', false));
  APOGEE_TRY_ASSIGN(auto progress, in.client().group_progress(group, in.get('t')));
  std::vector<Column> columns{{"#Topic", "topic", 64},
                              {"#Broker Name", "brokerName", 32},
                              {"#QID", "queueId", 4},
                              {"#Broker Offset", "brokerOffset", 20},
                              {"#Consumer Offset", "consumerOffset", 20}};
  if (with_clients) columns.push_back({"#Client IP", "clientIp", 20});
  columns.push_back({"#Diff", "diff", 20});
  columns.push_back({"#Inflight", "inflight", 20});
  columns.push_back({"#LastTime", "lastConsumedMs", 20});
  columns.push_back({"#Time Lag", "timeLagMs"});
  Table table(columns);
  APOGEE_TRY_ASSIGN(auto lags, lag_times(in, group, progress));
  auto owner = with_clients ? owners(in, group) : std::map<MessageQueue, std::string>();
  int64_t total = 0, in_flight = 0, longest_ms = 0;
  for (const auto& [queue, offsets] : progress.queues) {
    std::vector<Cell> row{queue.topic, queue.broker_name, queue.queue_id, offsets.broker_offset,
                          offsets.consumer_offset};
    if (with_clients) {
      auto found = owner.find(queue);
      row.push_back(found == owner.end() ? Cell("N/A", "null") : Cell(found->second));
    }
    row.emplace_back(offsets.lag());
    row.emplace_back(offsets.in_flight);
    row.push_back(time_cell(offsets.last_consumed_ms, "N/A", false));
    const int64_t lag_ms = offsets.lag() > 0 ? lags[queue] : 0;
    row.push_back(lag_time_cell(lag_ms));
    table.row(std::move(row));
    total += offsets.lag();
    in_flight += offsets.in_flight;
    longest_ms = std::max(longest_ms, lag_ms);
  }
  in.out.rows(table);
  in.out.line(fmt::format("\nConsume TPS: {:.2f}", progress.consume_tps));
  in.out.line(fmt::format("Consume Diff Total: {}", total));
  in.out.line(fmt::format("Consume Inflight Total: {}", in_flight));
  in.out.line(fmt::format("Consume Time Lag: {}", lag_time_cell(longest_ms).text));
  JsonWriter json;
  json.begin_object().member("group", group).key("queues");
  table.to_json(json);
  in.out.write(json.member("consumeTps", progress.consume_tps)
                   .member("diffTotal", total)
                   .member("inflightTotal", in_flight)
                   .member("timeLagMs", longest_ms)
                   .end_object());
  return {};
}

Status show_all_groups(Invocation& in) {
  APOGEE_TRY_ASSIGN(auto topics, in.client().topics());
  Table table({{"#Group", "group", 64},
               {"#Count", "count", 6},
               {"#Version", "version", 24},
               {"#Type", "type", 5},
               {"#Model", "model", 14},
               {"#TPS", "consumeTps", 7},
               {"#Diff Total", "diffTotal", 12},
               {"#Time Lag", "timeLagMs"}});
  Progress bar("topics", static_cast<int64_t>(topics.size()));
  for (const auto& topic : topics) {
    bar.advance();
    if (!apogee::is_retry_topic(topic)) continue;
    std::string group = topic.substr(apogee::kRetryTopicPrefix.size());
    auto progress = in.client().group_progress(group, in.get('t'));
    if (!progress) {
      if (progress.error().code == Errc::kNotFound) continue;  // deleted since it was listed
      return std::move(progress).error();
    }
    int64_t total = 0;
    for (const auto& entry : progress->queues) total += entry.second.lag();
    APOGEE_TRY_ASSIGN(auto lags, lag_times(in, group, *progress));
    int64_t longest_ms = 0;
    for (const auto& [queue, lag_ms] : lags) longest_ms = std::max(longest_ms, lag_ms);
    auto clients = in.client().group_clients(group);
    size_t count = clients ? clients->clients.size() : 0;
    int32_t oldest = INT32_MAX;
    if (clients) {
      for (const auto& client : clients->clients) oldest = std::min(oldest, client.version);
    }
    auto tps = static_cast<int64_t>(progress->consume_tps);
    table.row({group, static_cast<int64_t>(count), count > 0 ? admin::version_name(oldest) : "OFFLINE",
               count == 0                                     ? ""
               : clients->consume_type == "CONSUME_PASSIVELY" ? "PUSH"
                                                              : "PULL",
               count == 0 ? "" : clients->message_model, tps, total, lag_time_cell(longest_ms)});
  }
  bar.hide();
  in.out.table(table);
  return {};
}

void print_state(Invocation& in, const admin::ConsumerState& state) {
  in.out.line("#Consumer Properties#");
  for (const auto& [key, value] : state.properties) in.out.line(fmt::format("{:<40}: {}", key, value));
  in.out.line("\n#Consumer Subscription#");
  int number = 1;
  for (const auto& subscription : state.subscriptions) {
    in.out.line(fmt::format("{:03} Topic: {:<40} Type: {:<8} SubExpression: {}", number++, subscription.topic,
                            subscription.expression_type, subscription.expression));
  }
  in.out.line("\n#Consumer Offset#");
  Table offsets({{"#Topic", "", 64}, {"#Broker Name", "", 32}, {"#QID", "", 4}, {"#Consumer Offset", "", 20}});
  for (const auto& [queue, held] : state.queues) {
    offsets.row({queue.topic, queue.broker_name, queue.queue_id, held.commit_offset});
  }
  in.out.rows(offsets);
  in.out.line("\n#Consumer MQ Detail#");
  Table details({{"#Topic", "", 64},
                 {"#Broker Name", "", 32},
                 {"#QID", "", 4},
                 {"#Cached", "", 8},
                 {"#MiB", "", 6},
                 {"#Locked", "", 8},
                 {"#Last Pull", "", 24},
                 {"#Last Consume", ""}});
  for (const auto& [queue, held] : state.queues) {
    details.row({queue.topic, queue.broker_name, queue.queue_id, held.cached_messages, held.cached_mib,
                 held.locked ? "true" : "false", time_cell(held.last_pull_ms, "N/A", true),
                 time_cell(held.last_consume_ms, "N/A", true)});
  }
  in.out.rows(details);
  in.out.line("\n#Consumer RT&TPS#");
  Table figures({{"#Topic", "", 64},
                 {"#Pull RT", "", 14, true},
                 {"#Pull TPS", "", 14, true},
                 {"#Consume RT", "", 14, true},
                 {"#ConsumeOK TPS", "", 14, true},
                 {"#ConsumeFailed TPS", "", 18, true},
                 {"#ConsumeFailedMsgsInHour", "", 25, true}});
  auto two = [](double number) { return fmt::format("{:.2f}", number); };
  for (const auto& [topic, f] : state.topics) {
    figures.row({topic, two(f.pull_rt_ms), two(f.pull_tps), two(f.consume_rt_ms), two(f.consume_ok_tps),
                 two(f.consume_failed_tps), f.consume_failed_messages});
  }
  in.out.rows(figures);
  if (!state.stacks.empty()) in.out.line("\n#Consumer jstack#\n" + state.stacks);
}

void write_subscription(JsonWriter& json, const admin::Subscription& subscription) {
  json.begin_object()
      .member("topic", subscription.topic)
      .member("subExpression", subscription.expression)
      .member("expressionType", subscription.expression_type)
      .end_object();
}

void write_state(JsonWriter& json, const admin::Client& client, const admin::ConsumerState& state) {
  json.begin_object()
      .member("clientId", client.client_id)
      .member("version", admin::version_name(client.version))
      .key("properties")
      .begin_object();
  for (const auto& [key, value] : state.properties) json.member(key, value);
  json.end_object().key("subscriptions").begin_array();
  for (const auto& subscription : state.subscriptions) write_subscription(json, subscription);
  json.end_array().key("queues").begin_array();
  for (const auto& [queue, held] : state.queues) {
    json.begin_object()
        .member("topic", queue.topic)
        .member("brokerName", queue.broker_name)
        .member("queueId", queue.queue_id)
        .member("consumerOffset", held.commit_offset)
        .member("cachedMessages", held.cached_messages)
        .member("cachedMib", held.cached_mib)
        .member("cachedMinOffset", held.cached_min_offset)
        .member("cachedMaxOffset", held.cached_max_offset)
        .member("locked", held.locked)
        .member("dropped", held.dropped)
        .member("lastPullMs", held.last_pull_ms)
        .member("lastConsumeMs", held.last_consume_ms)
        .member("lastLockMs", held.last_lock_ms)
        .end_object();
  }
  json.end_array().key("topics").begin_array();
  for (const auto& [topic, f] : state.topics) {
    json.begin_object()
        .member("topic", topic)
        .member("pullRtMs", f.pull_rt_ms)
        .member("pullTps", f.pull_tps)
        .member("consumeRtMs", f.consume_rt_ms)
        .member("consumeOkTps", f.consume_ok_tps)
        .member("consumeFailedTps", f.consume_failed_tps)
        .member("consumeFailedMessages", f.consume_failed_messages)
        .end_object();
  }
  json.end_array();
  if (!state.stacks.empty()) json.member("jstack", state.stacks);
  json.end_object();
}

}  // namespace

bool same_subscriptions(const admin::ConsumerState& a, const admin::ConsumerState& b) {
  return std::equal(a.subscriptions.begin(), a.subscriptions.end(), b.subscriptions.begin(), b.subscriptions.end(),
                    [](const admin::Subscription& x, const admin::Subscription& y) {
                      return x.topic == y.topic && x.expression == y.expression &&
                             x.expression_type == y.expression_type;
                    });
}

Status run_update_sub_group(Invocation& in) {
  admin::GroupConfig config;
  config.group = in.get('g');
  APOGEE_TRY_ASSIGN(config.consume_enable, in.truth('s', true));
  APOGEE_TRY_ASSIGN(config.consume_from_min_enable, in.truth('m', true));
  APOGEE_TRY_ASSIGN(config.consume_broadcast_enable, in.truth('d', true));
  APOGEE_TRY_ASSIGN(config.notify_consumer_ids_changed, in.truth('a', true));
  APOGEE_TRY_ASSIGN(auto retry_queues, in.number('q', 1, 0, 65'535));
  APOGEE_TRY_ASSIGN(auto retry_times, in.number('r', 16, -1, INT32_MAX));
  APOGEE_TRY_ASSIGN(config.broker_id, in.number('i', 0, 0, INT64_MAX));
  APOGEE_TRY_ASSIGN(config.broker_id_when_slow, in.number('w', 1, 0, INT64_MAX));
  config.retry_queues = static_cast<int32_t>(retry_queues);
  config.retry_times_max = static_cast<int32_t>(retry_times);

  JsonWriter json;
  json.begin_object().member("group", config.group).key("brokers").begin_array();
  Progress progress("brokers");
  auto created = [&](const std::string& address, size_t count, size_t total) {
    progress.hide();
    in.out.line(fmt::format("create subscription group to {} success.", address));
    json.value(address);
    progress.set(static_cast<int64_t>(count), static_cast<int64_t>(total));
  };
  if (in.has('b')) {
    APOGEE_TRY(in.client().create_group(in.get('b'), config));
    created(in.get('b'), 1, 1);
  } else {
    APOGEE_TRY(in.client().create_group_in_cluster(in.get('c'), config, created));
  }
  progress.hide();
  in.out.line(describe(config));
  in.out.write(json.end_array().end_object());
  return {};
}

Status run_delete_sub_group(Invocation& in) {
  std::string group = in.get('g');
  APOGEE_TRY_ASSIGN(auto remove_offsets, in.truth('r', false));
  JsonWriter json;
  json.begin_object().member("group", group).key("brokers").begin_array();
  Progress progress("brokers");
  if (in.has('b')) {
    std::string address = in.get('b');
    APOGEE_TRY(in.client().delete_group(address, group, remove_offsets));
    in.out.line(fmt::format("delete subscription group [{}] from broker [{}] success.", group, address));
    json.value(address);
  } else {
    std::string cluster = in.get('c');
    auto deleted = [&](const std::string& address, size_t count, size_t total) {
      progress.hide();
      in.out.line(fmt::format("delete subscription group [{}] from broker [{}] in cluster [{}] success.", group,
                              address, cluster));
      json.value(address);
      progress.set(static_cast<int64_t>(count), static_cast<int64_t>(total));
    };
    APOGEE_TRY(in.client().delete_group_in_cluster(cluster, group, remove_offsets, deleted));
  }
  progress.hide();
  in.out.write(json.end_array().end_object());
  return {};
}

Status run_consumer_progress(Invocation& in) {
  return in.has('g') ? show_group_progress(in, in.get('g')) : show_all_groups(in);
}

Status run_consumer_connection(Invocation& in) {
  APOGEE_TRY_ASSIGN(auto group, in.client().group_clients(in.get('g'), in.get('b')));
  Table clients = client_table();
  for (const auto& client : group.clients) add_client(clients, client);
  Table subscriptions({{"#Topic", "topic", 20}, {"#SubExpression", "subExpression"}});
  for (const auto& [topic, subscription] : group.subscriptions) subscriptions.row({topic, subscription.expression});
  in.out.rows(clients);
  in.out.line("\nBelow is subscription:");
  in.out.rows(subscriptions);
  in.out.line("\nConsumeType: " + group.consume_type);
  in.out.line("MessageModel: " + group.message_model);
  in.out.line("ConsumeFromWhere: " + group.consume_from_where);
  JsonWriter json;
  json.begin_object().key("connections");
  clients.to_json(json);
  json.key("subscriptions");
  subscriptions.to_json(json);
  in.out.write(json.member("consumeType", group.consume_type)
                   .member("messageModel", group.message_model)
                   .member("consumeFromWhere", group.consume_from_where)
                   .end_object());
  return {};
}

Status run_producer_connection(Invocation& in) {
  APOGEE_TRY_ASSIGN(auto found, in.client().producer_clients(in.get('g'), in.get('t')));
  Table clients = client_table();
  for (const auto& client : found) add_client(clients, client);
  in.out.table(clients);
  return {};
}

Status run_consumer_status(Invocation& in) {
  std::string group = in.get('g');
  std::string wanted = in.get('i');
  APOGEE_TRY_ASSIGN(auto members, in.client().group_clients(group, in.get('b')));
  Table list(
      {{"#Index", "index", 10}, {"#ClientId", "clientId", 40}, {"#Version", "version", 20}, {"#Queues", "queues"}});
  std::vector<std::pair<admin::Client, admin::ConsumerState>> states;
  Progress progress("consumers", static_cast<int64_t>(members.clients.size()));
  for (const auto& client : members.clients) {
    progress.advance();
    if (!wanted.empty() && client.client_id != wanted) continue;
    APOGEE_TRY_ASSIGN(auto state, in.client().consumer_state(group, client.client_id, in.has('s'), in.get('b')));
    list.row({static_cast<int64_t>(states.size() + 1), client.client_id, admin::version_name(client.version),
              static_cast<int64_t>(state.queues.size())});
    states.emplace_back(client, std::move(state));
  }
  progress.hide();
  if (states.empty()) {
    return Error{Errc::kNotFound, fmt::format("the group {} has no member {} at the moment", group, wanted)};
  }
  bool same = std::all_of(states.begin(), states.end(), [&states](const auto& entry) {
    return same_subscriptions(states.front().second, entry.second);
  });
  in.out.rows(list);
  for (const auto& [client, state] : states) {
    in.out.line("\n==== " + client.client_id + " ====");
    print_state(in, state);
  }
  in.out.line(same ? "\nSame subscription in the same group of consumer"
                   : "\nWARN: Different subscription in the same group of consumer!!!");
  JsonWriter json;
  json.begin_object().member("group", group).member("sameSubscription", same).key("clients").begin_array();
  for (const auto& [client, state] : states) write_state(json, client, state);
  in.out.write(json.end_array().end_object());
  return {};
}

namespace {

void show_offsets(Invocation& in, const std::map<MessageQueue, int64_t>& offsets) {
  Table table({{"#brokerName", "brokerName", 40}, {"#queueId", "queueId", 40}, {"#offset", "offset", 40}});
  for (const auto& [queue, offset] : offsets) table.row({queue.broker_name, queue.queue_id, offset});
  in.out.table(table);
}

}  // namespace

Status run_reset_offset_by_time(Invocation& in) {
  admin::OffsetReset reset;
  reset.group = in.get('g');
  reset.topic = in.get('t');
  APOGEE_TRY_ASSIGN(auto time, in.time('s'));
  APOGEE_TRY_ASSIGN(reset.force, in.truth('f', true));
  reset.timestamp_ms = *time;
  APOGEE_TRY_ASSIGN(auto offsets, in.client().reset_offset_by_time(reset));
  in.out.line(
      fmt::format("rollback consumer offset by specified group[{}], topic[{}], force[{}], timestamp(string)[{}], "
                  "timestamp(long)[{}]",
                  reset.group, reset.topic, reset.force, in.get('s'), reset.timestamp_ms));
  show_offsets(in, offsets);
  return {};
}

Status run_skip_accumulated_message(Invocation& in) {
  constexpr int64_t kBehindTheLast = -1;
  admin::OffsetReset reset;
  reset.group = in.get('g');
  reset.topic = in.get('t');
  reset.timestamp_ms = kBehindTheLast;
  APOGEE_TRY_ASSIGN(reset.force, in.truth('f', true));
  APOGEE_TRY_ASSIGN(auto offsets, in.client().reset_offset_by_time(reset));
  in.out.line(fmt::format("skip accumulated messages of group[{}], topic[{}], force[{}]", reset.group, reset.topic,
                          reset.force));
  show_offsets(in, offsets);
  return {};
}

Status run_clone_group_offset(Invocation& in) {
  APOGEE_TRY_ASSIGN(auto offline, in.truth('o', false));
  APOGEE_TRY(in.client().clone_group_offset(in.get('s'), in.get('d'), in.get('t'), offline));
  in.out.line(fmt::format("clone group offset success. srcGroup[{}], destGroup=[{}], topic[{}]", in.get('s'),
                          in.get('d'), in.get('t')));
  in.out.write(JsonWriter()
                   .begin_object()
                   .member("srcGroup", in.get('s'))
                   .member("destGroup", in.get('d'))
                   .member("topic", in.get('t'))
                   .end_object());
  return {};
}

}  // namespace mqadmin
