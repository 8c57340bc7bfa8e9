#include <fmt/format.h>

#include <algorithm>

#include "client/src/admin/admin_impl.h"
#include "common/base/text.h"
#include "common/remoting/bodies/client_bodies.h"
#include "common/remoting/bodies/group_bodies.h"
#include "common/remoting/bodies/kv_bodies.h"
#include "common/remoting/bodies/request_mode_bodies.h"
#include "common/remoting/bodies/stats_bodies.h"
#include "common/remoting/bodies/topic_bodies.h"

// Figures of brokers and groups, and what groups did with a message.
namespace apogee {

using remoting::Command;
using remoting::RequestCode;
namespace rc = remoting::response_code;

namespace admin {

QueueProgress progress_from(const remoting::OffsetWrapper& offsets) {
  QueueProgress progress;
  progress.broker_offset = offsets.broker_offset;
  progress.consumer_offset = offsets.consumer_offset;
  progress.last_consumed_ms = offsets.last_timestamp;
  progress.in_flight = std::max<int64_t>(offsets.pull_offset.value_or(0) - offsets.consumer_offset, 0);
  return progress;
}

const char* to_string(TrackStatus status) {
  switch (status) {
    case TrackStatus::kConsumed: return "CONSUMED";
    case TrackStatus::kConsumedButFiltered: return "CONSUMED_BUT_FILTERED";
    case TrackStatus::kPull: return "PULL";
    case TrackStatus::kNotConsumedYet: return "NOT_CONSUME_YET";
    case TrackStatus::kNotOnline: return "NOT_ONLINE";
    case TrackStatus::kBroadcast: return "CONSUME_BROADCASTING";
    case TrackStatus::kUnknown: return "UNKNOWN";
  }
  return "UNKNOWN";
}

}  // namespace admin

namespace {

admin::CounterSpan span_from(const remoting::BrokerStatsItem& item) { return {item.sum, item.tps, item.avgpt}; }

/// Whether the group's subscription lets messages of this tag through; true where only the broker could tell.
bool wants_tag(const admin::GroupClients& clients, const ReceivedMessage& message) {
  auto found = clients.subscriptions.find(message.topic());
  if (found == clients.subscriptions.end()) return true;
  const auto& subscription = found->second;
  if (!subscription.expression_type.empty() && subscription.expression_type != "TAG") return true;
  auto built = remoting::build_tag_subscription(message.topic(), subscription.expression, 0);
  if (!built || built->tags_set.empty()) return true;
  return std::find(built->tags_set.begin(), built->tags_set.end(), message.tags()) != built->tags_set.end();
}

}  // namespace

Result<std::optional<admin::Counter>> AdminClient::broker_counter(const std::string& address, const std::string& name,
                                                                  const std::string& key) {
  auto request = Command::request(RequestCode::kViewBrokerStatsData);
  request.ext.set("statsName", name);
  request.ext.set("statsKey", key);
  APOGEE_TRY_ASSIGN(auto answer, impl_->call_any(address, std::move(request)));
  // Brokers tell of a counter that is not there as of any failure.
  if (answer.code == rc::kSystemError) return std::optional<admin::Counter>();
  if (answer.code != rc::kSuccess) return Impl::refusal(address, answer);
  APOGEE_TRY_ASSIGN(auto data, admin::decode_body(address, answer, remoting::decode_broker_stats_data));
  return std::optional<admin::Counter>(
      admin::Counter{span_from(data.stats_minute), span_from(data.stats_hour), span_from(data.stats_day)});
}

Result<std::vector<std::string>> AdminClient::system_topics(const std::string& broker_address) {
  APOGEE_TRY_ASSIGN(auto answer,
                    impl_->call(broker_address, Command::request(RequestCode::kGetSystemTopicListFromBroker)));
  APOGEE_TRY_ASSIGN(auto list, admin::decode_body(broker_address, answer, remoting::decode_topic_list));
  std::sort(list.topic_list.begin(), list.topic_list.end());
  return std::move(list.topic_list);
}

Result<std::map<MessageQueue, admin::ConsumeTimes>> AdminClient::consume_times(const std::string& group,
                                                                               const std::string& topic) {
  APOGEE_TRY_ASSIGN(auto brokers, impl_->brokers_of_topic(topic));
  std::map<MessageQueue, admin::ConsumeTimes> all;
  for (const auto& broker : brokers) {
    auto request = Command::request(RequestCode::kQueryConsumeTimeSpan);
    request.ext.set("topic", topic);
    request.ext.set("group", group);
    APOGEE_TRY_ASSIGN(auto answer, impl_->call(broker.second, std::move(request)));
    APOGEE_TRY_ASSIGN(auto body,
                      admin::decode_body(broker.second, answer, remoting::decode_query_consume_time_span_body));
    for (const auto& span : body.consume_time_span_set) {
      all[span.message_queue] = {span.min_time_stamp, span.max_time_stamp, span.consume_time_stamp,
                                 std::max<int64_t>(span.delay_time, 0)};
    }
  }
  return all;
}

Result<admin::BrokerLag> AdminClient::broker_lag(const std::string& broker_address, bool ordered_only) {
  auto request = Command::request(RequestCode::kGetBrokerConsumeStats);
  request.ext.set("isOrder", ordered_only);
  APOGEE_TRY_ASSIGN(auto answer, impl_->call(broker_address, std::move(request)));
  APOGEE_TRY_ASSIGN(auto list, admin::decode_body(broker_address, answer, remoting::decode_consume_stats_list));
  admin::BrokerLag lag;
  lag.total = list.total_diff;
  for (const auto& groups : list.consume_stats_list) {
    for (const auto& [group, all_stats] : groups) {
      for (const auto& stats : all_stats) {
        for (const auto& [queue, offsets] : stats.offset_table)
          lag.groups[group][queue] = admin::progress_from(offsets);
      }
    }
  }
  return lag;
}

Result<std::map<std::string, std::vector<admin::ProducerClient>>> AdminClient::producers(
    const std::string& broker_address) {
  APOGEE_TRY_ASSIGN(auto answer, impl_->call(broker_address, Command::request(RequestCode::kGetAllProducerInfo)));
  APOGEE_TRY_ASSIGN(auto body, admin::decode_body(broker_address, answer, remoting::decode_producer_table_info));
  std::map<std::string, std::vector<admin::ProducerClient>> all;
  for (const auto& [group, infos] : body.data) {
    auto& members = all[group];
    for (const auto& info : infos) {
      admin::ProducerClient member;
      member.client_id = info.client_id;
      // Java writes "/ip:port".
      member.address = info.remote_ip.rfind('/', 0) == 0 ? info.remote_ip.substr(1) : info.remote_ip;
      member.language = info.language;
      member.version = info.version;
      member.last_seen_ms = info.last_update_timestamp;
      members.push_back(std::move(member));
    }
    std::sort(members.begin(), members.end(), [](const auto& a, const auto& b) { return a.client_id < b.client_id; });
  }
  return all;
}

Status AdminClient::set_consume_mode(const std::string& broker_address, const admin::ConsumeModeChange& change) {
  APOGEE_TRY(check_topic_name(change.topic));
  APOGEE_TRY(check_group_name(change.group));
  remoting::SetMessageRequestModeBody body;
  body.topic = change.topic;
  body.consumer_group = change.group;
  body.mode = change.mode == admin::ConsumeMode::kPop ? remoting::MessageRequestMode::kPop
                                                      : remoting::MessageRequestMode::kPull;
  body.pop_share_queue_num = change.pop_share_queues;
  auto request = Command::request(RequestCode::kSetMessageRequestMode);
  request.body = SharedBytes::from(remoting::encode(body));
  APOGEE_TRY(impl_->call(broker_address, std::move(request)));
  return {};
}

Result<std::vector<admin::MessageTrack>> AdminClient::message_track(const ReceivedMessage& message) {
  APOGEE_TRY_ASSIGN(auto groups, groups_of_topic(message.topic()));
  std::vector<admin::MessageTrack> tracks;
  for (auto& group : groups) {
    auto& track = tracks.emplace_back();
    track.group = std::move(group);
    auto clients = group_clients(track.group);
    if (!clients) {
      const bool offline =
          clients.error().code == Errc::kNotFound || clients.error().response_code == rc::kConsumerNotOnline;
      track.status = offline ? admin::TrackStatus::kNotOnline : admin::TrackStatus::kUnknown;
      track.remark = clients.error().message;
    } else if (clients->message_model == "BROADCASTING") {
      track.status = admin::TrackStatus::kBroadcast;
    } else if (clients->consume_type == "CONSUME_ACTIVELY") {
      track.status = admin::TrackStatus::kPull;
    } else if (auto offset = consumer_offset(track.group, message.queue()); !offset) {
      track.remark = offset.error().message;
    } else if (!*offset || **offset <= message.queue_offset()) {
      track.status = admin::TrackStatus::kNotConsumedYet;
    } else {
      track.status =
          wants_tag(*clients, message) ? admin::TrackStatus::kConsumed : admin::TrackStatus::kConsumedButFiltered;
    }
  }
  return tracks;
}

}  // namespace apogee
