#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "tools/mqadmin/commands/commands.h"
#include "tools/mqadmin/commands/lag_text.h"

// Configuration of groups, and who is connected.
namespace mqadmin {

namespace {

namespace admin = apogee::admin;
using apogee::MessageQueue;

using Members = std::vector<std::pair<admin::Client, admin::ConsumerState>>;

/// What is wrong with how the members divide the queues; empty when nothing is.
Result<std::string> trouble_with_queues(Invocation& in, const Members& members) {
  std::map<MessageQueue, int> holders;
  std::set<std::string> topics;
  for (const auto& [client, state] : members) {
    for (const auto& subscription : state.subscriptions) topics.insert(subscription.topic);
    for (const auto& entry : state.queues) ++holders[entry.first];
  }
  for (const auto& topic : topics) {
    auto queues = in.client().queues_of_topic(topic);
    if (!queues) {
      if (queues.error().code == Errc::kNotFound) continue;  // nobody has sent to it yet
      return std::move(queues).error();
    }
    for (const auto& queue : *queues) {
      const int count = holders.count(queue) == 0 ? 0 : holders[queue];
      if (count == 1) continue;
      return fmt::format("{} holds queue {} of {} on {}",
                         count == 0 ? std::string("nobody") : fmt::format("{} members", count), queue.queue_id,
                         queue.topic, queue.broker_name);
    }
  }
  return std::string();
}

Table config_table(const admin::GroupConfig& config) {
  Table table({{"", "name", 40}, {"", "value"}}, false);
  auto row = [&table](const char* name, const auto& value) { table.row({name, fmt::format("=  {}", value)}); };
  row("groupName", config.group);
  row("consumeEnable", config.consume_enable);
  row("consumeFromMinEnable", config.consume_from_min_enable);
  row("consumeBroadcastEnable", config.consume_broadcast_enable);
  row("consumeMessageOrderly", config.consume_orderly);
  row("retryQueueNums", config.retry_queues);
  row("retryMaxTimes", config.retry_times_max);
  row("brokerId", config.broker_id);
  row("whichBrokerWhenConsumeSlowly", config.broker_id_when_slow);
  row("notifyConsumerIdsChangedEnable", config.notify_consumer_ids_changed);
  row("groupSysFlag", config.sys_flag);
  row("consumeTimeoutMinute", config.consume_timeout_minutes);
  std::string attributes;
  for (const auto& [name, value] : config.attributes)
    attributes += fmt::format("{}{}={}", attributes.empty() ? "" : ", ", name, value);
  row("attributes", "{" + attributes + "}");
  return table;
}

}  // namespace

void write_group_config(JsonWriter& json, const admin::GroupConfig& config) {
  json.begin_object()
      .member("groupName", config.group)
      .member("consumeEnable", config.consume_enable)
      .member("consumeFromMinEnable", config.consume_from_min_enable)
      .member("consumeBroadcastEnable", config.consume_broadcast_enable)
      .member("consumeMessageOrderly", config.consume_orderly)
      .member("retryQueueNums", config.retry_queues)
      .member("retryMaxTimes", config.retry_times_max)
      .member("brokerId", config.broker_id)
      .member("whichBrokerWhenConsumeSlowly", config.broker_id_when_slow)
      .member("notifyConsumerIdsChangedEnable", config.notify_consumer_ids_changed)
      .member("groupSysFlag", config.sys_flag)
      .member("consumeTimeoutMinute", config.consume_timeout_minutes)
      .key("attributes")
      .begin_object();
  for (const auto& [name, value] : config.attributes) json.member(name, value);
  json.end_object().end_object();
}

Status run_get_consumer_config(Invocation& in) {
  const std::string group = in.get('g');
  APOGEE_TRY_ASSIGN(auto cluster, in.client().cluster());
  JsonWriter json;
  json.begin_array();
  bool found = false;
  for (const auto& [name, broker] : cluster.brokers) {
    if (broker.addresses.empty()) continue;
    auto config = in.client().group_config(broker.addresses.begin()->second, group);
    if (!config) {
      if (config.error().code == Errc::kNotFound) continue;
      return std::move(config).error();
    }
    found = true;
    in.out.line(fmt::format("============================={}:{}=============================", broker.cluster, name));
    in.out.rows(config_table(*config));
    json.begin_object().member("cluster", broker.cluster).member("brokerName", name).key("config");
    write_group_config(json, *config);
    json.end_object();
  }
  if (!found) return Error{Errc::kNotFound, fmt::format("no broker has the group {}", group)};
  in.out.write(json.end_array());
  return {};
}

Status run_consumer(Invocation& in) {
  const std::string group = in.get('g');
  APOGEE_TRY_ASSIGN(auto clients, in.client().group_clients(group));
  Members members;
  std::string trouble;
  Progress progress("consumers", static_cast<int64_t>(clients.clients.size()));
  for (const auto& client : clients.clients) {
    auto state = in.client().consumer_state(group, client.client_id, in.has('s'));
    progress.advance();
    if (state) {
      members.emplace_back(client, std::move(*state));
    } else if (trouble.empty()) {
      trouble = fmt::format("{} does not answer", client.client_id);
    }
  }
  progress.hide();
  const bool same = std::all_of(members.begin(), members.end(), [&members](const auto& member) {
    return same_subscriptions(members.front().second, member.second);
  });
  const bool divided = same && clients.message_model != "BROADCASTING";
  if (trouble.empty() && divided) {
    APOGEE_TRY_ASSIGN(trouble, trouble_with_queues(in, members));
  }
  Table table({{"#Index", "index", 6},
               {"#ClientId", "clientId", 40},
               {"#Version", "version", 20},
               {"#Queues", "queues", 8},
               {"#Cached", "cachedMessages"}});
  for (const auto& [client, state] : members) {
    int64_t cached = 0;
    for (const auto& entry : state.queues) cached += entry.second.cached_messages;
    table.row({table.size() + 1, client.client_id, admin::version_name(client.version), state.queues.size(), cached});
  }
  in.out.rows(table);
  if (in.has('s')) {
    for (const auto& [client, state] : members)
      in.out.line(fmt::format("\n#Consumer jstack# {}\n{}", client.client_id, state.stacks));
  }
  in.out.line(same ? "\nSame subscription in the same group of consumer"
                   : "\nWARN: Different subscription in the same group of consumer!!!");
  if (divided) in.out.line("Rebalance " + (trouble.empty() ? std::string("OK") : "Failed: " + trouble));
  JsonWriter json;
  json.begin_object().member("group", group).key("clients");
  table.to_json(json);
  json.member("sameSubscription", same).member("rebalanceOk", trouble.empty()).member("trouble", trouble);
  if (in.has('s')) {
    json.key("jstacks").begin_object();
    for (const auto& [client, state] : members) json.member(client.client_id, state.stacks);
    json.end_object();
  }
  in.out.write(json.end_object());
  return {};
}

Status run_producer(Invocation& in) {
  APOGEE_TRY_ASSIGN(auto groups, in.client().producers(in.get('b')));
  Table table({{"#Group", "group", 40},
               {"#ClientId", "clientId", 36},
               {"#ClientAddr", "address", 22},
               {"#Language", "language", 10},
               {"#Version", "version", 10},
               {"#LastUpdate", "lastUpdateMs"}});
  for (const auto& [group, members] : groups) {
    for (const auto& member : members)
      table.row({group, member.client_id, member.address, member.language, admin::version_name(member.version),
                 time_cell(member.last_seen_ms, "N/A", true)});
  }
  in.out.table(table);
  return {};
}

Status run_set_consume_mode(Invocation& in) {
  admin::ConsumeModeChange change;
  change.topic = in.get('t');
  change.group = in.get('g');
  const std::string mode = in.get('m');
  if (mode != "PULL" && mode != "POP")
    return Error{Errc::kInvalidArgument, fmt::format("-m must be PULL or POP, not \"{}\"", mode)};
  change.mode = mode == "POP" ? admin::ConsumeMode::kPop : admin::ConsumeMode::kPull;
  APOGEE_TRY_ASSIGN(auto share, in.number('q', 0, -1, INT32_MAX));
  change.pop_share_queues = static_cast<int32_t>(share);
  std::vector<std::string> addresses{in.get('b')};
  if (in.has('c')) {
    APOGEE_TRY_ASSIGN(addresses, in.client().master_addresses(in.get('c')));
  }
  JsonWriter json;
  json.begin_object().key("brokers").begin_array();
  for (const auto& address : addresses) {
    APOGEE_TRY(in.client().set_consume_mode(address, change));
    in.out.line(fmt::format("set consume mode to {} success.", address));
    json.value(address);
  }
  in.out.line(fmt::format("topic[{}] group[{}] consume mode[{}] popShareQueueNum[{}]", change.topic, change.group, mode,
                          change.pop_share_queues));
  in.out.write(json.end_array()
                   .member("topic", change.topic)
                   .member("group", change.group)
                   .member("mode", mode)
                   .member("popShareQueueNum", change.pop_share_queues)
                   .end_object());
  return {};
}

}  // namespace mqadmin
