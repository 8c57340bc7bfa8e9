#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "common/base/text.h"
#include "tools/mqadmin/commands/commands.h"
#include "tools/mqadmin/commands/lag_text.h"
#include "tools/mqadmin/interrupt.h"
#include "tools/mqadmin/offset_moves.h"

// Figures of brokers, topics and groups.
namespace mqadmin {

namespace admin = apogee::admin;
using apogee::MessageQueue;

std::string human_duration(int64_t ms) {
  if (ms < 1000) return fmt::format("{}ms", std::max<int64_t>(ms, 0));
  const int64_t s = ms / 1000;
  if (s < 60) return fmt::format("{}.{}s", s, ms % 1000 / 100);
  if (s < 3600) return fmt::format("{}m{:02}s", s / 60, s % 60);
  if (s < 86'400) return fmt::format("{}h{:02}m", s / 3600, s % 3600 / 60);
  return fmt::format("{}d{:02}h", s / 86'400, s % 86'400 / 3600);
}

Cell lag_time_cell(int64_t ms) {
  return {ms <= 0 ? "0" : human_duration(ms), std::to_string(std::max<int64_t>(ms, 0))};
}

Result<std::map<MessageQueue, int64_t>> lag_times(Invocation& in, const std::string& group,
                                                  const admin::GroupProgress& progress) {
  std::map<MessageQueue, int64_t> lags;
  std::string asked;
  // Queues are sorted by topic; a topic where nothing waits need not be asked for.
  for (const auto& [queue, offsets] : progress.queues) {
    if (offsets.lag() <= 0 || queue.topic == asked) continue;
    asked = queue.topic;
    auto times = in.client().consume_times(group, queue.topic);
    if (!times) {
      if (times.error().code == Errc::kNotFound) continue;  // deleted at this moment
      return std::move(times).error();
    }
    for (const auto& [timed, span] : *times) lags[timed] = span.lag_ms;
  }
  return lags;
}

namespace {

/// What a group leaves undone in one topic.
struct Undone {
  int64_t total = 0, single_queue_max = 0, lag_ms_max = 0;
};

Result<std::map<std::string, Undone>> undone_of(Invocation& in, const std::string& group) {
  APOGEE_TRY_ASSIGN(auto progress, in.client().group_progress(group));
  APOGEE_TRY_ASSIGN(auto lags, lag_times(in, group, progress));
  std::map<std::string, Undone> topics;
  for (const auto& [queue, offsets] : progress.queues) {
    auto& undone = topics[queue.topic];
    undone.total += std::max<int64_t>(offsets.lag(), 0);
    undone.single_queue_max = std::max(undone.single_queue_max, offsets.lag());
    auto lag = lags.find(queue);
    if (lag != lags.end()) undone.lag_ms_max = std::max(undone.lag_ms_max, lag->second);
  }
  return topics;
}

/// What is wrong with the members of a group; empty when nothing is.
std::string trouble_of(Invocation& in, const std::string& group, const admin::GroupClients& clients) {
  std::vector<admin::ConsumerState> states;
  for (const auto& client : clients.clients) {
    auto state = in.client().consumer_state(group, client.client_id, false);
    if (!state) return fmt::format("{} does not answer", client.client_id);
    states.push_back(std::move(*state));
  }
  for (size_t i = 1; i < states.size(); ++i)
    if (!same_subscriptions(states[0], states[i])) return "the members subscribe differently";
  return "";
}

/// One round; `moves` is null where they are not followed.
Status monitor_round(Invocation& in, OffsetMoves* moves) {
  APOGEE_TRY_ASSIGN(auto topics, in.client().topics());
  Table table({{"#Group", "group", 40},
               {"#Topic", "topic", 40},
               {"#Members", "members", 8},
               {"#Undone", "undoneMsgsTotal", 12},
               {"#Single Queue", "undoneMsgsSingleMQ", 13},
               {"#Delay", "undoneMsgsDelayTimeMills", 10},
               {"#Trouble", "trouble"}});
  for (const auto& topic : topics) {
    if (!apogee::is_retry_topic(topic)) continue;
    const std::string group = topic.substr(apogee::kRetryTopicPrefix.size());
    if (group == kMonitorGroup) continue;  // it is us
    auto clients = in.client().group_clients(group);
    // Groups without members are for consumerProgress to show.
    if (!clients) continue;
    const std::string trouble = trouble_of(in, group, *clients);
    auto undone = undone_of(in, group);
    if (!undone) {
      table.row({group, "", clients->clients.size(), 0, 0, "", undone.error().message});
      continue;
    }
    for (const auto& [name, figures] : *undone)
      table.row({group, name, clients->clients.size(), figures.total, figures.single_queue_max,
                 lag_time_cell(figures.lag_ms_max), trouble});
  }
  Table moved({{"#Group", "group", 40},
               {"#Topic", "topic", 40},
               {"#Broker Name", "brokerName", 32},
               {"#QID", "queueId", 4},
               {"#Offset Wanted", "offsetRequest", 20},
               {"#Offset Given", "offsetNew", 20},
               {"#Time", "eventTimestamp"}});
  if (moves != nullptr) {
    for (const auto& [stored_ms, event] : moves->take()) {
      const auto& queue = event.message_queue;
      moved.row({event.consumer_group, queue.topic, queue.broker_name, queue.queue_id, event.offset_request,
                 event.offset_new, time_cell(stored_ms, "-", false)});
    }
  }
  if (in.out.json()) {
    JsonWriter json;
    json.begin_object().member("time", now_ms()).key("groups");
    table.to_json(json);
    json.key("offsetMoves");
    moved.to_json(json);
    in.out.write(json.end_object());
    return {};
  }
  in.out.line(fmt::format("==== {} ====", human_time(now_ms())));
  in.out.rows(table);
  if (!moved.empty()) {
    in.out.line("Offsets that were asked for and do not exist:");
    in.out.rows(moved);
  }
  return {};
}

struct Traffic {
  double per_second = 0;
  int64_t day = 0;
};

/// Of all masters of a topic together.
Result<Traffic> traffic_of(Invocation& in, const admin::TopicRoute& route, const char* counter,
                           const std::string& key) {
  Traffic sum;
  for (const auto& broker : route.brokers) {
    auto master = broker.addresses.find(0);
    if (master == broker.addresses.end()) continue;
    APOGEE_TRY_ASSIGN(auto counted, in.client().broker_counter(master->second, counter, key));
    if (!counted) continue;
    sum.per_second += counted->minute.per_second;
    sum.day += counted->last_24_hours();
  }
  return sum;
}

Cell two(double number) {
  std::string text = fmt::format("{:.2f}", number);
  return {text, text};
}

/// The rows of one topic in statsAll.
Status add_topic(Invocation& in, const std::string& topic, bool active_only, Table& table) {
  APOGEE_TRY_ASSIGN(auto route, in.client().topic_route(topic));
  APOGEE_TRY_ASSIGN(auto groups, in.client().groups_of_topic(topic));
  APOGEE_TRY_ASSIGN(auto put, traffic_of(in, route, "TOPIC_PUT_NUMS", topic));
  if (groups.empty()) {
    if (!active_only || put.day > 0)
      table.row({topic, "", 0, two(put.per_second), Cell("", "null"), put.day, Cell("NO_CONSUMER", "null")});
    return {};
  }
  for (const auto& group : groups) {
    APOGEE_TRY_ASSIGN(auto got, traffic_of(in, route, "GROUP_GET_NUMS", fmt::format("{}@{}", topic, group)));
    int64_t waiting = 0;
    // A group that is online without this topic has no progress in it.
    if (auto progress = in.client().group_progress(group, topic)) {
      for (const auto& entry : progress->queues) waiting += entry.second.lag();
    }
    if (active_only && put.day == 0 && got.day == 0) continue;
    table.row(
        {topic, group, std::max<int64_t>(waiting, 0), two(put.per_second), two(got.per_second), put.day, got.day});
  }
  return {};
}

}  // namespace

Status run_broker_consume_stats(Invocation& in) {
  APOGEE_TRY_ASSIGN(auto level, in.number('l', 0, 0, INT64_MAX));
  APOGEE_TRY_ASSIGN(auto ordered, in.truth('o', false));
  APOGEE_TRY_ASSIGN(auto timeout_ms, in.number('t', 50'000, 1, 3'600'000));
  in.set_request_timeout(std::chrono::milliseconds(timeout_ms));
  APOGEE_TRY_ASSIGN(auto lag, in.client().broker_lag(in.get('b'), ordered));
  Table table({{"#Topic", "topic", 64},
               {"#Group", "group", 64},
               {"#Broker Name", "brokerName", 32},
               {"#QID", "queueId", 4},
               {"#Broker Offset", "brokerOffset", 20},
               {"#Consumer Offset", "consumerOffset", 20},
               {"#Diff", "diff", 20},
               {"#LastTime", "lastConsumedMs"}});
  for (const auto& [group, queues] : lag.groups) {
    for (const auto& [queue, offsets] : queues) {
      if (offsets.lag() < level) continue;
      table.row({queue.topic, group, queue.broker_name, queue.queue_id, offsets.broker_offset, offsets.consumer_offset,
                 offsets.lag(), time_cell(offsets.last_consumed_ms, "N/A", false)});
    }
  }
  in.out.rows(table);
  in.out.line(fmt::format("\nDiff Total: {}", lag.total));
  JsonWriter json;
  json.begin_object().key("queues");
  table.to_json(json);
  in.out.write(json.member("diffTotal", lag.total).end_object());
  return {};
}

Status run_stats_all(Invocation& in) {
  std::vector<std::string> topics;
  if (in.has('t')) {
    topics.push_back(in.get('t'));
  } else {
    APOGEE_TRY_ASSIGN(topics, in.client().topics());
  }
  Table table({{"#Topic", "topic", 64},
               {"#Consumer Group", "group", 64},
               {"#Accumulation", "accumulation", 12, true},
               {"#InTPS", "inTps", 11, true},
               {"#OutTPS", "outTps", 11, true},
               {"#InMsg24Hour", "in24Hours", 14, true},
               {"#OutMsg24Hour", "out24Hours", 14, true}});
  Progress progress("topics", static_cast<int64_t>(topics.size()));
  for (const auto& topic : topics) {
    progress.advance();
    if (apogee::is_retry_topic(topic) || apogee::is_dlq_topic(topic)) continue;
    auto added = add_topic(in, topic, in.has('a'), table);
    // Topics that are only known here, or were deleted since they were listed.
    if (!added && (in.has('t') || added.error().code != Errc::kNotFound)) return added;
  }
  progress.hide();
  in.out.table(table);
  return {};
}

Status run_start_monitoring(Invocation& in) {
  APOGEE_TRY_ASSIGN(auto interval, in.number('i', 60, 1, 86'400));
  APOGEE_TRY_ASSIGN(auto rounds, in.number('r', 0, 1, INT32_MAX));
  Interrupt interrupt;
  // A single round is over before anything could come.
  std::optional<OffsetMoves> moves;
  if (rounds != 1) {
    moves.emplace(in.name_servers());
    APOGEE_TRY(moves->start());
  }
  for (int64_t round = 0; rounds == 0 || round < rounds; ++round) {
    if (round > 0 && interrupt.came(std::chrono::seconds(interval))) break;
    auto status = monitor_round(in, moves ? &*moves : nullptr);
    // A NameServer that is away for a while is no reason to stop looking.
    if (!status && round == 0) return status;
    if (!status) in.out.line("WARN: " + status.error().message);
    if (!in.out.flush()) break;
  }
  return {};
}

}  // namespace mqadmin
