#include <fmt/format.h>

#include <algorithm>

#include "client/src/admin/admin_impl.h"
#include "common/base/text.h"
#include "common/remoting/bodies/group_bodies.h"
#include "common/remoting/bodies/stats_bodies.h"

// Consumer groups, clients and offsets.
namespace apogee {

using remoting::Command;
using remoting::RequestCode;

namespace {

admin::Subscription subscription_from(const remoting::SubscriptionData& data) {
  return {data.topic, data.sub_string, data.expression_type, data.sub_version};
}

admin::Client client_from(const remoting::Connection& connection) {
  return {connection.client_id, connection.client_addr, connection.language, connection.version};
}

admin::GroupConfig config_from(const remoting::SubscriptionGroupConfig& config) {
  return {config.group_name,
          config.consume_enable,
          config.consume_from_min_enable,
          config.consume_broadcast_enable,
          config.retry_queue_nums,
          config.retry_max_times,
          config.broker_id,
          config.which_broker_when_consume_slowly,
          config.notify_consumer_ids_changed_enable,
          config.consume_message_orderly,
          config.consume_timeout_minute,
          config.group_sys_flag,
          config.attributes};
}

bool nobody_there(const Error& error) {
  return error.code == Errc::kNotFound || error.response_code == remoting::response_code::kSystemError;
}

}  // namespace

namespace admin {

std::string version_name(int32_t version) {
  // From V4_1_0_SNAPSHOT on each minor version has ten patch levels, each with a snapshot before it.
  constexpr int32_t kFirst = 232;
  if (version < kFirst) return fmt::format("V3({})", version);
  int32_t minor_index = (version - kFirst) / 20 + 1;
  return fmt::format("V{}_{}_{}{}", 4 + minor_index / 10, minor_index % 10, (version - kFirst) % 20 / 2,
                     version % 2 == 0 ? "_SNAPSHOT" : "");
}

}  // namespace admin

// Groups.

Result<std::map<std::string, admin::GroupConfig>> AdminClient::groups(const std::string& broker_address) {
  APOGEE_TRY_ASSIGN(auto answer,
                    impl_->call(broker_address, Command::request(RequestCode::kGetAllSubscriptiongroupConfig)));
  APOGEE_TRY_ASSIGN(auto table,
                    admin::decode_body(broker_address, answer, remoting::decode_subscription_group_wrapper));
  std::map<std::string, admin::GroupConfig> configs;
  for (const auto& [name, config] : table.subscription_group_table) {
    configs[name] = config_from(config);
  }
  return configs;
}

Result<admin::GroupConfig> AdminClient::group_config(const std::string& broker_address, const std::string& group) {
  APOGEE_TRY(check_group_name(group));
  auto request = Command::request(RequestCode::kGetSubscriptiongroupConfig);
  request.ext.set("group", group);
  APOGEE_TRY_ASSIGN(auto answer, impl_->call_any(broker_address, std::move(request)));
  if (answer.code == remoting::response_code::kSuccess) {
    APOGEE_TRY_ASSIGN(auto config,
                      admin::decode_body(broker_address, answer, remoting::decode_subscription_group_config));
    if (config.group_name.empty()) config.group_name = group;
    return config_from(config);
  }
  if (answer.code != remoting::response_code::kRequestCodeNotSupported) return Impl::refusal(broker_address, answer);
  // Brokers of 4.x tell of all groups only.
  APOGEE_TRY_ASSIGN(auto all, groups(broker_address));
  auto found = all.find(group);
  if (found == all.end()) return Error{Errc::kNotFound, fmt::format("{} has no group {}", broker_address, group)};
  return std::move(found->second);
}

Status AdminClient::create_group(const std::string& broker_address, const admin::GroupConfig& config) {
  APOGEE_TRY(check_group_name(config.group));
  remoting::SubscriptionGroupConfig body;
  body.group_name = config.group;
  body.consume_enable = config.consume_enable;
  body.consume_from_min_enable = config.consume_from_min_enable;
  body.consume_broadcast_enable = config.consume_broadcast_enable;
  body.retry_queue_nums = config.retry_queues;
  body.retry_max_times = config.retry_times_max;
  body.broker_id = config.broker_id;
  body.which_broker_when_consume_slowly = config.broker_id_when_slow;
  body.notify_consumer_ids_changed_enable = config.notify_consumer_ids_changed;
  body.consume_message_orderly = config.consume_orderly;
  body.consume_timeout_minute = config.consume_timeout_minutes;
  body.group_sys_flag = config.sys_flag;
  body.attributes = config.attributes;
  auto request = Command::request(RequestCode::kUpdateAndCreateSubscriptiongroup);
  request.body = SharedBytes::from(remoting::encode(body));
  APOGEE_TRY(impl_->call(broker_address, std::move(request)));
  return {};
}

Status AdminClient::create_group_in_cluster(const std::string& cluster, const admin::GroupConfig& config,
                                            const BrokerDone& done) {
  APOGEE_TRY_ASSIGN(auto masters, master_addresses(cluster));
  for (size_t i = 0; i < masters.size(); ++i) {
    APOGEE_TRY(create_group(masters[i], config));
    if (done) done(masters[i], i + 1, masters.size());
  }
  return {};
}

Status AdminClient::delete_group(const std::string& broker_address, const std::string& group, bool remove_offsets) {
  auto request = Command::request(RequestCode::kDeleteSubscriptiongroup);
  request.ext.set("groupName", group);
  request.ext.set("removeOffset", remove_offsets);  // as 4.9 reads it
  request.ext.set("cleanOffset", remove_offsets);   // as 5.x reads it
  APOGEE_TRY(impl_->call(broker_address, std::move(request)));
  return {};
}

Status AdminClient::delete_group_in_cluster(const std::string& cluster, const std::string& group, bool remove_offsets,
                                            const BrokerDone& done) {
  APOGEE_TRY_ASSIGN(auto masters, master_addresses(cluster));
  for (size_t i = 0; i < masters.size(); ++i) {
    APOGEE_TRY(delete_group(masters[i], group, remove_offsets));
    if (done) done(masters[i], i + 1, masters.size());
  }
  for (const auto& topic : {retry_topic_of(group), dlq_topic_of(group)}) {
    for (const auto& master : masters) {
      auto deleted = delete_topic_on_broker(master, topic);
      // A group that nobody ever joined has neither topic.
      if (!deleted && deleted.error().code != Errc::kNotFound) return deleted;
    }
    APOGEE_TRY(delete_topic_on_namesrv(topic, cluster));
  }
  return {};
}

namespace {

/// Why a group's retry topic was not found: brokers make it when the first member joins.
Error no_group(const std::string& group, Error error) {
  if (error.code != Errc::kNotFound) return error;
  error.message = fmt::format("the group {} never had a member: there is no topic {}", group, retry_topic_of(group));
  return error;
}

}  // namespace

Result<admin::GroupProgress> AdminClient::group_progress(const std::string& group, const std::string& topic) {
  auto brokers = impl_->brokers_of_topic(retry_topic_of(group));
  if (!brokers && brokers.error().code == Errc::kNotFound && !topic.empty()) brokers = impl_->brokers_of_topic(topic);
  if (!brokers) {
    return no_group(group, std::move(brokers).error());
  }
  admin::GroupProgress all;
  for (const auto& broker : *brokers) {
    auto request = Command::request(RequestCode::kGetConsumeStats);
    request.ext.set("consumerGroup", group);
    if (!topic.empty()) request.ext.set("topic", topic);
    APOGEE_TRY_ASSIGN(auto answer, impl_->call(broker.second, std::move(request)));
    APOGEE_TRY_ASSIGN(auto stats, admin::decode_body(broker.second, answer, remoting::decode_consume_stats));
    all.consume_tps += stats.consume_tps;
    for (const auto& [queue, offsets] : stats.offset_table) {
      all.queues[queue] = admin::progress_from(offsets);
    }
  }
  return all;
}

Result<admin::GroupClients> AdminClient::group_clients(const std::string& group, const std::string& broker_address) {
  std::vector<std::pair<std::string, std::string>> brokers{{"", broker_address}};
  if (broker_address.empty()) {
    auto found = impl_->brokers_of_topic(retry_topic_of(group));
    if (!found) return no_group(group, std::move(found).error());
    brokers = std::move(*found);
  }
  // Every broker knows all members; one that was just started may not know them yet.
  Error last;
  for (const auto& broker : brokers) {
    auto request = Command::request(RequestCode::kGetConsumerConnectionList);
    request.ext.set("consumerGroup", group);
    auto answer = impl_->call(broker.second, std::move(request));
    if (!answer) {
      last = std::move(answer).error();
      continue;
    }
    APOGEE_TRY_ASSIGN(auto body, admin::decode_body(broker.second, *answer, remoting::decode_consumer_connection));
    admin::GroupClients clients;
    for (const auto& connection : body.connection_set) clients.clients.push_back(client_from(connection));
    std::sort(clients.clients.begin(), clients.clients.end(),
              [](const admin::Client& a, const admin::Client& b) { return a.client_id < b.client_id; });
    for (const auto& [topic, data] : body.subscription_table) clients.subscriptions[topic] = subscription_from(data);
    clients.consume_type = remoting::to_string(body.consume_type);
    clients.message_model = remoting::to_string(body.message_model);
    clients.consume_from_where = remoting::to_string(body.consume_from_where);
    return clients;
  }
  return last;
}

Result<std::vector<admin::Client>> AdminClient::producer_clients(const std::string& group, const std::string& topic) {
  APOGEE_TRY_ASSIGN(auto brokers, impl_->brokers_of_topic(topic));
  std::map<std::string, admin::Client> by_id;
  std::optional<Error> refused;
  for (const auto& broker : brokers) {
    auto request = Command::request(RequestCode::kGetProducerConnectionList);
    request.ext.set("producerGroup", group);
    auto answer = impl_->call(broker.second, std::move(request));
    if (!answer) {
      if (!nobody_there(answer.error())) return std::move(answer).error();
      refused = std::move(answer).error();
      continue;
    }
    APOGEE_TRY_ASSIGN(auto body, admin::decode_body(broker.second, *answer, remoting::decode_producer_connection));
    for (const auto& connection : body.connection_set) by_id[connection.client_id] = client_from(connection);
  }
  if (by_id.empty() && refused) return std::move(*refused);
  std::vector<admin::Client> clients;
  clients.reserve(by_id.size());
  for (auto& entry : by_id) clients.push_back(std::move(entry.second));
  return clients;
}

Result<admin::ConsumerState> AdminClient::consumer_state(const std::string& group, const std::string& client_id,
                                                         bool with_stacks, const std::string& broker_address) {
  std::vector<std::pair<std::string, std::string>> brokers{{"", broker_address}};
  if (broker_address.empty()) {
    APOGEE_TRY_ASSIGN(brokers, impl_->brokers_of_topic(retry_topic_of(group)));
  }
  Error last;
  for (const auto& broker : brokers) {
    auto request = Command::request(RequestCode::kGetConsumerRunningInfo);
    request.ext.set("consumerGroup", group);
    request.ext.set("clientId", client_id);
    request.ext.set("jstackEnable", with_stacks);
    auto answer = impl_->call(broker.second, std::move(request));
    if (!answer) {
      last = std::move(answer).error();
      continue;
    }
    APOGEE_TRY_ASSIGN(auto body, admin::decode_body(client_id, *answer, remoting::decode_consumer_running_info));
    admin::ConsumerState state;
    state.properties = std::move(body.properties);
    for (const auto& data : body.subscription_set) state.subscriptions.push_back(subscription_from(data));
    std::sort(state.subscriptions.begin(), state.subscriptions.end(),
              [](const admin::Subscription& a, const admin::Subscription& b) { return a.topic < b.topic; });
    for (const auto& [queue, info] : body.mq_table) {
      state.queues[queue] = {info.commit_offset,
                             info.cached_msg_min_offset,
                             info.cached_msg_max_offset,
                             info.cached_msg_count,
                             info.cached_msg_size_in_mib,
                             info.locked,
                             info.dropped,
                             info.last_pull_timestamp,
                             info.last_consume_timestamp,
                             info.last_lock_timestamp};
    }
    for (const auto& [topic, figures] : body.status_table) {
      state.topics[topic] = {figures.pull_rt,        figures.pull_tps,           figures.consume_rt,
                             figures.consume_ok_tps, figures.consume_failed_tps, figures.consume_failed_msgs};
    }
    state.stacks = std::move(body.jstack);
    return state;
  }
  return last;
}

Result<std::map<std::string, std::map<MessageQueue, int64_t>>> AdminClient::consumer_status(
    const std::string& group, const std::string& topic, const std::string& client_id) {
  APOGEE_TRY_ASSIGN(auto brokers, impl_->brokers_of_topic(topic));
  auto request = Command::request(RequestCode::kInvokeBrokerToGetConsumerStatus);
  request.ext.set("group", group);
  request.ext.set("topic", topic);
  if (!client_id.empty()) request.ext.set("clientAddr", client_id);
  const auto& address = brokers.front().second;
  APOGEE_TRY_ASSIGN(auto answer, impl_->call(address, std::move(request)));
  APOGEE_TRY_ASSIGN(auto body, admin::decode_body(address, answer, remoting::decode_get_consumer_status_body));
  return std::move(body.consumer_table);
}

// Offsets.

Result<int64_t> AdminClient::min_offset(const MessageQueue& queue) {
  APOGEE_TRY_ASSIGN(auto answer, impl_->call_broker_of(queue, Command::request(RequestCode::kGetMinOffset)));
  return answer.ext.get_int<int64_t>("offset").value_or(0);
}

Result<int64_t> AdminClient::max_offset(const MessageQueue& queue) {
  APOGEE_TRY_ASSIGN(auto answer, impl_->call_broker_of(queue, Command::request(RequestCode::kGetMaxOffset)));
  return answer.ext.get_int<int64_t>("offset").value_or(0);
}

Result<int64_t> AdminClient::offset_by_time(const MessageQueue& queue, int64_t timestamp_ms) {
  auto request = Command::request(RequestCode::kSearchOffsetByTimestamp);
  request.ext.set("timestamp", timestamp_ms);
  APOGEE_TRY_ASSIGN(auto answer, impl_->call_broker_of(queue, std::move(request)));
  return answer.ext.get_int<int64_t>("offset").value_or(0);
}

Result<int64_t> AdminClient::earliest_message_ms(const MessageQueue& queue) {
  APOGEE_TRY_ASSIGN(auto answer, impl_->call_broker_of(queue, Command::request(RequestCode::kGetEarliestMsgStoretime)));
  return answer.ext.get_int<int64_t>("timestamp").value_or(-1);
}

Result<std::optional<int64_t>> AdminClient::consumer_offset(const std::string& group, const MessageQueue& queue) {
  auto request = Command::request(RequestCode::kQueryConsumerOffset);
  request.ext.set("consumerGroup", group);
  request.ext.set("setZeroIfNotFound", false);
  auto answer = impl_->call_broker_of(queue, std::move(request));
  if (!answer) {
    if (answer.error().response_code == remoting::response_code::kQueryNotFound) return std::optional<int64_t>();
    return std::move(answer).error();
  }
  return answer->ext.get_int<int64_t>("offset");
}

Status AdminClient::update_consumer_offset(const std::string& group, const MessageQueue& queue, int64_t offset) {
  auto request = Command::request(RequestCode::kUpdateConsumerOffset);
  request.ext.set("consumerGroup", group);
  request.ext.set("commitOffset", offset);
  APOGEE_TRY(impl_->call_broker_of(queue, std::move(request)));
  return {};
}

Result<std::map<MessageQueue, int64_t>> AdminClient::reset_offset_by_time(const admin::OffsetReset& reset) {
  APOGEE_TRY_ASSIGN(auto brokers, impl_->brokers_of_topic(reset.topic));
  std::map<MessageQueue, int64_t> all;
  for (const auto& [name, address] : brokers) {
    auto request = Command::request(RequestCode::kInvokeBrokerToResetOffset);
    // Java brokers send the form for C++ clients to every client when C++ asks.
    request.language = remoting::LanguageCode::kJava;
    request.ext.set("topic", reset.topic);
    request.ext.set("group", reset.group);
    request.ext.set("timestamp", reset.timestamp_ms);
    request.ext.set("isForce", reset.force);
    auto answer = impl_->call(address, std::move(request));
    if (answer) {
      APOGEE_TRY_ASSIGN(auto body, admin::decode_body(address, *answer, remoting::decode_reset_offset_body));
      all.insert(body.offset_table.begin(), body.offset_table.end());
      continue;
    }
    if (answer.error().response_code != remoting::response_code::kConsumerNotOnline) return std::move(answer).error();

    // Nobody is there to be told, so the stored offsets are changed.
    APOGEE_TRY_ASSIGN(auto queues, queues_of_topic(reset.topic));
    for (const auto& queue : queues) {
      if (queue.broker_name != name) continue;
      int64_t target = 0;
      if (reset.timestamp_ms < 0) {
        APOGEE_TRY_ASSIGN(target, max_offset(queue));
      } else {
        APOGEE_TRY_ASSIGN(target, offset_by_time(queue, reset.timestamp_ms));
      }
      APOGEE_TRY_ASSIGN(auto current, consumer_offset(reset.group, queue));
      if (!reset.force && current && *current < target) {
        target = *current;
      } else {
        APOGEE_TRY(update_consumer_offset(reset.group, queue, target));
      }
      all[queue] = target;
    }
  }
  return all;
}

Status AdminClient::clone_group_offset(const std::string& from_group, const std::string& to_group,
                                       const std::string& topic, bool offline) {
  APOGEE_TRY_ASSIGN(auto brokers, impl_->brokers_of_topic(topic));
  for (const auto& broker : brokers) {
    auto request = Command::request(RequestCode::kCloneGroupOffset);
    request.ext.set("srcGroup", from_group);
    request.ext.set("destGroup", to_group);
    request.ext.set("topic", topic);
    request.ext.set("offline", offline);
    APOGEE_TRY(impl_->call(broker.second, std::move(request)));
  }
  return {};
}

}  // namespace apogee
