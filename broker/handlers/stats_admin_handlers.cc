#include "broker/handlers/stats_admin_handlers.h"

#include <fmt/format.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "broker/handlers/client_offset_handlers.h"
#include "broker/handlers/group_admin_handlers.h"
#include "broker/handlers/request_fields.h"
#include "common/base/text.h"
#include "common/remoting/bodies/group_bodies.h"
#include "common/remoting/bodies/kv_bodies.h"

namespace apogee::broker {

namespace code = remoting::response_code;

namespace {

constexpr const char* kVersionName = "V5_3_3";
constexpr int32_t kQueueEntriesMax = 1024;

std::string rates(const BrokerStats::Rates& r) { return fmt::format("{} {} {}", r.ten_s, r.minute, r.ten_min); }

BrokerStats::Rates sum_of(const BrokerStats::Rates& a, const BrokerStats::Rates& b) {
  return {a.ten_s + b.ten_s, a.minute + b.minute, a.ten_min + b.ten_min};
}

std::string duration(int64_t ms) {
  int64_t s = std::max<int64_t>(ms, 0) / 1000;
  return fmt::format("[ {} days, {} hours, {} minutes, {} seconds ]", s / 86400, s / 3600 % 24, s / 60 % 60, s % 60);
}

std::string human_bytes(double bytes) {
  const char* units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
  size_t unit = 0;
  while (bytes >= 1024 && unit + 1 < std::size(units)) bytes /= 1024, ++unit;
  return unit == 0 ? fmt::format("{:.0f} B", bytes) : fmt::format("{:.1f} {}", bytes, units[unit]);
}

std::string capacity_of(const std::string& dir) {
  struct statvfs figures {};
  if (dir.empty() || statvfs(dir.c_str(), &figures) != 0) return "";
  auto bytes = [&figures](fsblkcnt_t blocks) {
    return human_bytes(static_cast<double>(blocks) * static_cast<double>(figures.f_frsize));
  };
  return "Total : " + bytes(figures.f_blocks) + ", Free : " + bytes(figures.f_bavail) + ".";
}

}  // namespace

void StatsAdminHandlers::runtime_info(const remoting::Caller& /*caller*/, remoting::Command request,
                                      remoting::Responder respond) {
  const auto totals = parts_.stats.totals();
  const auto figures = parts_.store.figures();
  remoting::KvTable body;
  auto& table = body.table;
  auto set = [&table](const char* name, auto value) { table[name] = fmt::format("{}", value); };
  set("brokerVersionDesc", kVersionName);
  set("brokerVersion", remoting::kProtocolVersion);
  set("brokerActive", "true");
  set("bootTimestamp", parts_.boot_time_ms);
  set("startAcceptSendRequestTimeStamp", parts_.boot_time_ms);
  set("runtime", duration(parts_.now_ms() - parts_.boot_time_ms));

  set("putTps", rates(totals.put));
  set("getTransferedTps", rates(totals.get_messages_rate));
  set("getTransferredTps", rates(totals.get_messages_rate));
  set("getFoundTps", rates(totals.get_found));
  set("getMissTps", rates(totals.get_miss));
  set("getTotalTps", rates(sum_of(totals.get_found, totals.get_miss)));
  set("msgPutTotalYesterdayMorning", totals.put_yesterday_morning);
  set("msgPutTotalTodayMorning", totals.put_today_morning);
  set("msgPutTotalTodayNow", totals.put_messages);
  set("msgGetTotalYesterdayMorning", totals.get_yesterday_morning);
  set("msgGetTotalTodayMorning", totals.get_today_morning);
  set("msgGetTotalTodayNow", totals.get_messages);
  set("putMessageTimesTotal", totals.put_messages);
  set("putMessageSizeTotal", totals.put_bytes);
  set("putMessageAverageSize", totals.put_messages == 0
                                   ? 0.0
                                   : static_cast<double>(totals.put_bytes) / static_cast<double>(totals.put_messages));
  set("putMessageEntireTimeMax", totals.put_time_max_ms);
  set("getMessageEntireTimeMax", totals.get_time_max_ms);
  set("putMessageDistributeTime", totals.put_time_distribution);

  // Requests are answered on the loops, without queues for kinds of requests; tools expect the names.
  for (const char* kind : {"send", "pull", "query"}) {
    table[fmt::format("{}ThreadPoolQueueSize", kind)] = "0";
    table[fmt::format("{}ThreadPoolQueueCapacity", kind)] = "0";
    table[fmt::format("{}ThreadPoolQueueHeadWaitTimeMills", kind)] = "0";
  }
  set("pageCacheLockTimeMills", figures.page_cache_lock_ms);
  set("earliestMessageTimeStamp", figures.earliest_message_time_ms);
  set("commitLogDiskRatio", figures.commit_log_disk_ratio);
  set("consumeQueueDiskRatio", figures.consume_queue_disk_ratio);
  set("commitLogMinOffset", figures.log_min_offset);
  set("commitLogMaxOffset", figures.log_max_offset);
  set("dispatchBehindBytes", std::max<int64_t>(figures.log_max_offset - figures.dispatched_offset, 0));
  set("remainHowManyDataToFlush",
      human_bytes(static_cast<double>(std::max<int64_t>(figures.log_max_offset - figures.flushed_offset, 0))));
  set("remainTransientStoreBufferNumbs", std::numeric_limits<int32_t>::max());
  set("totalMemKBytes", memory_share_bytes(100) / 1'024);
  set("commitLogDirCapacity", capacity_of(parts_.commit_log_dir));
  for (const char* name :
       {"timerReadBehind", "timerOffsetBehind", "timerCongestNum", "timerEnqueueTps", "timerDequeueTps"})
    table[name] = "0";
  if (parts_.more_figures)
    for (auto& [name, value] : parts_.more_figures()) table[name] = std::move(value);
  accept(request, respond, encode(body));
}

void StatsAdminHandlers::all_delay_offset(const remoting::Caller& /*caller*/, remoting::Command request,
                                          remoting::Responder respond) {
  accept(request, respond, encode(parts_.delay_offsets ? parts_.delay_offsets() : remoting::DelayOffsetTable{}));
}

void StatsAdminHandlers::topic_stats(const remoting::Caller& /*caller*/, remoting::Command request,
                                     remoting::Responder respond) {
  RequestFields fields(request);
  const std::string topic = fields.text("topic");
  if (!fields.ok()) return refuse(request, respond, fields);
  auto config = parts_.topics.find(topic);
  if (config == nullptr) return refuse(request, respond, code::kTopicNotExist, "topic[" + topic + "] not exist");
  remoting::TopicStatsTable body;
  for (int32_t queue = 0; queue < std::max(config->read_queue_nums, config->write_queue_nums); ++queue) {
    auto& entry = body.offset_table[MessageQueue{topic, parts_.identity.broker_name, queue}];
    entry.min_offset = std::max<int64_t>(parts_.store.min_offset(topic, queue), 0);
    entry.max_offset = std::max<int64_t>(parts_.store.max_offset(topic, queue), 0);
    if (entry.max_offset > 0)
      entry.last_update_timestamp = parts_.store.store_time_ms(topic, queue, entry.max_offset - 1).value_or(0);
  }
  accept(request, respond, encode(body));
}

std::optional<remoting::ConsumeStats> StatsAdminHandlers::stats_of(const std::string& group,
                                                                   const std::string& topic) const {
  auto config = parts_.topics.find(topic);
  if (config == nullptr) return std::nullopt;
  auto online = parts_.consumers.find(group);
  if (online != nullptr && !online->subscriptions.empty() && online->subscription(topic) == nullptr)
    return std::nullopt;
  remoting::ConsumeStats stats;
  for (int32_t queue = 0; queue < config->read_queue_nums; ++queue) {
    auto& entry = stats.offset_table[MessageQueue{topic, parts_.identity.broker_name, queue}];
    entry.broker_offset = std::max<int64_t>(parts_.store.max_offset(topic, queue), 0);
    entry.consumer_offset = std::max<int64_t>(parts_.offsets.query(group, topic, queue).value_or(0), 0);
    entry.pull_offset = entry.consumer_offset;
    if (entry.consumer_offset > 0)
      entry.last_timestamp = parts_.store.store_time_ms(topic, queue, entry.consumer_offset - 1).value_or(0);
  }
  stats.consume_tps = parts_.stats.consume_tps(group, topic);
  return stats;
}

void StatsAdminHandlers::consume_stats(const remoting::Caller& /*caller*/, remoting::Command request,
                                       remoting::Responder respond) {
  RequestFields fields(request);
  const std::string group = fields.text("consumerGroup");
  const std::string topic = fields.text_or("topic", "");
  const std::string topic_list = fields.text_or("topicList", "");
  if (!fields.ok()) return refuse(request, respond, fields);
  std::vector<std::string> topics;
  if (!topic.empty()) {
    topics.push_back(topic);
  } else if (!topic_list.empty()) {
    for (auto part : split(topic_list, ";"))
      if (!trim(part).empty()) topics.emplace_back(trim(part));
  } else {
    topics = parts_.offsets.topics_of_group(group);
  }
  remoting::ConsumeStats all;
  for (const auto& name : topics) {
    auto stats = stats_of(group, name);
    if (!stats) continue;
    all.offset_table.insert(stats->offset_table.begin(), stats->offset_table.end());
    all.consume_tps += stats->consume_tps;
  }
  accept(request, respond, encode(all));
}

void StatsAdminHandlers::broker_consume_stats(const remoting::Caller& /*caller*/, remoting::Command request,
                                              remoting::Responder respond) {
  RequestFields fields(request);
  const bool only_ordered = fields.boolean("isOrder");
  if (!fields.ok()) return refuse(request, respond, fields);
  remoting::ConsumeStatsList body;
  body.broker_addr = parts_.identity.address;
  for (const auto& config : parts_.groups.all()) {
    std::vector<remoting::ConsumeStats> list;
    for (const auto& topic : parts_.offsets.topics_of_group(config->group_name)) {
      auto topic_config = parts_.topics.find(topic);
      if (topic_config == nullptr || (only_ordered && !topic_config->order)) continue;
      auto stats = stats_of(config->group_name, topic);
      if (!stats) continue;
      for (const auto& [queue, entry] : stats->offset_table)
        body.total_diff += entry.broker_offset - entry.consumer_offset;
      list.push_back(std::move(*stats));
    }
    body.consume_stats_list.push_back({{config->group_name, std::move(list)}});
  }
  accept(request, respond, encode(body));
}

void StatsAdminHandlers::consume_time_span(const remoting::Caller& /*caller*/, remoting::Command request,
                                           remoting::Responder respond) {
  RequestFields fields(request);
  const std::string topic = fields.text("topic");
  const std::string group = fields.text("group");
  if (!fields.ok()) return refuse(request, respond, fields);
  auto config = parts_.topics.find(topic);
  if (config == nullptr) return refuse(request, respond, code::kTopicNotExist, "topic[" + topic + "] not exist");
  remoting::QueryConsumeTimeSpanBody body;
  for (int32_t queue = 0; queue < config->write_queue_nums; ++queue) {
    auto time_at = [this, &topic, queue](int64_t offset) {
      return offset < 0 ? std::optional<int64_t>() : parts_.store.store_time_ms(topic, queue, offset);
    };
    const int64_t max_offset = std::max<int64_t>(parts_.store.max_offset(topic, queue), 0);
    const int64_t min_offset = std::max<int64_t>(parts_.store.min_offset(topic, queue), 0);
    const int64_t consumed = parts_.offsets.query(group, topic, queue).value_or(0);
    remoting::QueueTimeSpan span;
    span.message_queue = MessageQueue{topic, parts_.identity.broker_name, queue};
    span.min_time_stamp = time_at(min_offset).value_or(-1);
    span.max_time_stamp = time_at(max_offset - 1).value_or(-1);
    span.consume_time_stamp = consumed > 0 ? time_at(consumed - 1).value_or(-1) : span.min_time_stamp;
    if (max_offset > consumed)
      if (auto next = time_at(std::max(consumed, min_offset))) span.delay_time = parts_.now_ms() - *next;
    body.consume_time_span_set.push_back(std::move(span));
  }
  accept(request, respond, encode(body));
}

void StatsAdminHandlers::view_stats(const remoting::Caller& /*caller*/, remoting::Command request,
                                    remoting::Responder respond) {
  RequestFields fields(request);
  const std::string name = fields.text("statsName");
  const std::string key = fields.text("statsKey");
  if (!fields.ok()) return refuse(request, respond, fields);
  auto item = parts_.stats.item(name, key);
  if (!item) return refuse(request, respond, code::kSystemError, "The stats <" + name + "> <" + key + "> not exist");
  auto body_of_span = [](const BrokerStats::Span& span) {
    return remoting::BrokerStatsItem{span.sum, span.per_second, span.average};
  };
  remoting::BrokerStatsData body{body_of_span(item->minute), body_of_span(item->hour), body_of_span(item->day)};
  accept(request, respond, encode(body));
}

std::map<int32_t, int64_t> StatsAdminHandlers::lowest_offsets(const std::string& topic,
                                                              const std::vector<std::string>& but_groups) const {
  std::map<int32_t, int64_t> lowest;
  for (const auto& group : parts_.offsets.groups_of_topic(topic)) {
    if (std::find(but_groups.begin(), but_groups.end(), group) != but_groups.end()) continue;
    for (const auto& [queue, offset] : parts_.offsets.offsets(group, topic)) {
      if (offset < parts_.store.min_offset(topic, queue)) continue;
      auto [entry, added] = lowest.try_emplace(queue, offset);
      if (!added) entry->second = std::min(entry->second, offset);
    }
  }
  return lowest;
}

void StatsAdminHandlers::correction_offset(const remoting::Caller& /*caller*/, remoting::Command request,
                                           remoting::Responder respond) {
  RequestFields fields(request);
  const std::string topic = fields.text("topic");
  const std::string compare_group = fields.text("compareGroup");
  const std::string filter_groups = fields.text_or("filterGroups", "");
  if (!fields.ok()) return refuse(request, respond, fields);
  std::vector<std::string> but_groups;
  for (auto group : split(filter_groups, ","))
    if (!trim(group).empty()) but_groups.emplace_back(trim(group));
  remoting::QueryCorrectionOffset body;
  body.correction_offsets = lowest_offsets(topic, but_groups);
  for (const auto& [queue, offset] : parts_.offsets.offsets(compare_group, topic)) {
    auto lowest = body.correction_offsets.find(queue);
    // Where every other group is beyond, the group has nothing to make up for.
    if (lowest != body.correction_offsets.end() && lowest->second > offset)
      lowest->second = std::numeric_limits<int64_t>::max();
  }
  accept(request, respond, encode(body));
}

void StatsAdminHandlers::query_consume_queue(const remoting::Caller& /*caller*/, remoting::Command request,
                                             remoting::Responder respond) {
  RequestFields fields(request);
  const std::string topic = fields.text("topic");
  const int32_t queue = fields.i32("queueId");
  const int64_t index = fields.i64("index");
  const int32_t count = fields.i32("count");
  const std::string group_name = fields.text_or("consumerGroup", "");
  if (queue < 0) fields.reject("the header field queueId is negative");
  if (index < 0) fields.reject("the header field index is negative");
  if (count < 1) fields.reject("the header field count is less than 1");
  if (!fields.ok()) return refuse(request, respond, fields);

  auto config = parts_.topics.find(topic);
  if (config == nullptr || queue >= std::max(config->read_queue_nums, config->write_queue_nums))
    return refuse(request, respond, code::kSystemError, fmt::format("{},{} is not exist!", queue, topic));
  remoting::QueryConsumeQueueResponse body;
  body.min_queue_index = std::max<int64_t>(parts_.store.min_offset(topic, queue), 0);
  body.max_queue_index = std::max<int64_t>(parts_.store.max_offset(topic, queue), 0);
  std::shared_ptr<const Subscription> subscription;
  if (!group_name.empty()) {
    auto group = parts_.consumers.find(group_name);
    subscription = group == nullptr ? nullptr : group->subscription(topic);
    if (subscription == nullptr) {
      body.filter_data = group_name + "@" + topic + " is not online!";
    } else {
      body.subscription_data = body_of(*subscription);
    }
  }
  const auto entries = parts_.store.queue_entries(topic, queue, index, std::min(count, kQueueEntriesMax));
  if (entries.empty())
    return refuse(request, respond, code::kSystemError,
                  fmt::format("Index {} of consume queue {}-{} does not exist, which has {} to {}", index, topic, queue,
                              body.min_queue_index, body.max_queue_index));
  for (const auto& entry : entries) {
    remoting::ConsumeQueueData data;
    data.physic_offset = entry.physical_offset;
    data.physic_size = entry.record_bytes;
    data.tags_code = entry.tags_code;
    data.eval = subscription != nullptr && subscription->may_match(entry.tags_code);
    body.queue_data.push_back(std::move(data));
  }
  accept(request, respond, encode(body));
}

}  // namespace apogee::broker
