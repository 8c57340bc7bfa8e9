#include "apogee/admin_client.h"

#include <fmt/format.h>

#include <algorithm>

#include "client/src/admin/admin_impl.h"
#include "common/base/text.h"
#include "common/config/properties_file.h"
#include "common/remoting/bodies/kv_bodies.h"
#include "common/remoting/bodies/stats_bodies.h"
#include "common/remoting/bodies/topic_bodies.h"

// Clusters, brokers, NameServers and topics.
namespace apogee {

using remoting::Command;
using remoting::RequestCode;

namespace {

constexpr const char* kOrderSpace = "ORDER_TOPIC_CONFIG";

admin::Broker broker_from(const remoting::BrokerData& data) {
  return {data.cluster, data.broker_name, {data.broker_addrs.begin(), data.broker_addrs.end()}};
}

Command kv_request(RequestCode code, const std::string& space, const std::string& key) {
  auto request = Command::request(code);
  request.ext.set("namespace", space);
  request.ext.set("key", key);
  return request;
}

/// "a:4;b:8" as numbers of queues by broker name.
std::map<std::string, std::string> parse_order_config(std::string_view text) {
  std::map<std::string, std::string> queues;
  for (auto part : split(text, ";")) {
    auto colon = part.rfind(':');
    if (colon != std::string_view::npos) queues[std::string(part.substr(0, colon))] = part.substr(colon + 1);
  }
  return queues;
}

}  // namespace

AdminClient::AdminClient(AdminConfig config) : impl_(std::make_unique<Impl>(std::move(config))) {}
AdminClient::~AdminClient() = default;

// Brokers and clusters.

Result<admin::Cluster> AdminClient::cluster() {
  APOGEE_TRY_ASSIGN(auto info, impl_->cluster_info());
  admin::Cluster cluster;
  for (const auto& [name, data] : info.broker_addr_table) cluster.brokers[name] = broker_from(data);
  for (auto& [name, brokers] : info.cluster_addr_table) {
    std::sort(brokers.begin(), brokers.end());
    cluster.clusters[name] = std::move(brokers);
  }
  return cluster;
}

Result<std::vector<std::string>> AdminClient::master_addresses(const std::string& cluster_name) {
  APOGEE_TRY_ASSIGN(auto all, cluster());
  auto found = all.clusters.find(cluster_name);
  if (found == all.clusters.end()) {
    std::string known;
    for (const auto& entry : all.clusters) known += (known.empty() ? "" : ", ") + entry.first;
    return Error{Errc::kNotFound, fmt::format("there is no cluster {}; the NameServer knows: {}", cluster_name,
                                              known.empty() ? "none" : known)};
  }
  std::vector<std::string> addresses;
  for (const auto& name : found->second) {
    auto master = all.brokers[name].addresses.find(0);
    if (master != all.brokers[name].addresses.end()) addresses.push_back(master->second);
  }
  if (addresses.empty()) {
    return Error{Errc::kNotFound, fmt::format("the cluster {} has no master at the moment", cluster_name)};
  }
  return addresses;
}

Result<std::string> AdminClient::broker_address(const std::string& broker_name) {
  return impl_->address_of(broker_name);
}

Result<AdminClient::Properties> AdminClient::broker_runtime_info(const std::string& address) {
  APOGEE_TRY_ASSIGN(auto answer, impl_->call(address, Command::request(RequestCode::kGetBrokerRuntimeInfo)));
  APOGEE_TRY_ASSIGN(auto table, admin::decode_body(address, answer, remoting::decode_kv_table));
  return std::move(table.table);
}

Result<AdminClient::Properties> AdminClient::broker_config(const std::string& address) {
  APOGEE_TRY_ASSIGN(auto answer, impl_->call(address, Command::request(RequestCode::kGetBrokerConfig)));
  return admin::parse_config_text(address, answer.body.bytes);
}

Status AdminClient::update_broker_config(const std::string& address, const std::string& key, const std::string& value) {
  if (key.empty()) return Error{Errc::kInvalidArgument, "the key is empty"};
  auto request = Command::request(RequestCode::kUpdateBrokerConfig);
  request.body = SharedBytes::from(config::to_properties_text({{key, value}}));
  APOGEE_TRY(impl_->call(address, std::move(request)));
  return {};
}

// NameServers.

const std::vector<std::string>& AdminClient::namesrv_addresses() const { return impl_->namesrvs; }

Result<AdminClient::Properties> AdminClient::namesrv_config(const std::string& namesrv) {
  APOGEE_TRY_ASSIGN(auto answer, impl_->call(namesrv, Command::request(RequestCode::kGetNamesrvConfig)));
  return admin::parse_config_text(namesrv, answer.body.bytes);
}

Status AdminClient::update_namesrv_config(const std::string& key, const std::string& value) {
  if (key.empty()) return Error{Errc::kInvalidArgument, "the key is empty"};
  auto request = Command::request(RequestCode::kUpdateNamesrvConfig);
  request.body = SharedBytes::from(config::to_properties_text({{key, value}}));
  return impl_->call_every_namesrv(request);
}

Status AdminClient::put_kv(const std::string& space, const std::string& key, const std::string& value) {
  auto request = kv_request(RequestCode::kPutKvConfig, space, key);
  request.ext.set("value", value);
  return impl_->call_every_namesrv(request);
}

Status AdminClient::delete_kv(const std::string& space, const std::string& key) {
  return impl_->call_every_namesrv(kv_request(RequestCode::kDeleteKvConfig, space, key));
}

Result<std::string> AdminClient::kv(const std::string& space, const std::string& key) {
  APOGEE_TRY_ASSIGN(auto answer, impl_->call_namesrv(kv_request(RequestCode::kGetKvConfig, space, key)));
  return std::string(answer.ext.get("value").value_or(""));
}

Result<AdminClient::Properties> AdminClient::kv_list(const std::string& space) {
  auto request = Command::request(RequestCode::kGetKvlistByNamespace);
  request.ext.set("namespace", space);
  APOGEE_TRY_ASSIGN(auto answer, impl_->call_namesrv(request));
  APOGEE_TRY_ASSIGN(auto table, admin::decode_body("the NameServer", answer, remoting::decode_kv_table));
  return std::move(table.table);
}

Result<int32_t> AdminClient::wipe_write_perm(const std::string& namesrv, const std::string& broker_name) {
  auto request = Command::request(RequestCode::kWipeWritePermOfBroker);
  request.ext.set("brokerName", broker_name);
  APOGEE_TRY_ASSIGN(auto answer, impl_->call(namesrv, std::move(request)));
  return answer.ext.get_int<int32_t>("wipeTopicCount").value_or(0);
}

Result<int32_t> AdminClient::add_write_perm(const std::string& namesrv, const std::string& broker_name) {
  auto request = Command::request(RequestCode::kAddWritePermOfBroker);
  request.ext.set("brokerName", broker_name);
  APOGEE_TRY_ASSIGN(auto answer, impl_->call(namesrv, std::move(request)));
  return answer.ext.get_int<int32_t>("addTopicCount").value_or(0);
}

// Topics.

Result<std::vector<std::string>> AdminClient::topics() {
  APOGEE_TRY_ASSIGN(auto answer, impl_->call_namesrv(Command::request(RequestCode::kGetAllTopicListFromNameserver)));
  APOGEE_TRY_ASSIGN(auto list, admin::decode_body("the NameServer", answer, remoting::decode_topic_list));
  std::sort(list.topic_list.begin(), list.topic_list.end());
  return std::move(list.topic_list);
}

Result<std::vector<std::string>> AdminClient::topics_of_cluster(const std::string& cluster) {
  auto request = Command::request(RequestCode::kGetTopicsByCluster);
  request.ext.set("cluster", cluster);
  APOGEE_TRY_ASSIGN(auto answer, impl_->call_namesrv(request));
  APOGEE_TRY_ASSIGN(auto list, admin::decode_body("the NameServer", answer, remoting::decode_topic_list));
  std::sort(list.topic_list.begin(), list.topic_list.end());
  return std::move(list.topic_list);
}

Result<std::vector<std::string>> AdminClient::clusters_of_topic(const std::string& topic) {
  APOGEE_TRY_ASSIGN(auto data, impl_->route(topic));
  std::vector<std::string> clusters;
  for (const auto& broker : data.broker_datas) clusters.push_back(broker.cluster);
  std::sort(clusters.begin(), clusters.end());
  clusters.erase(std::unique(clusters.begin(), clusters.end()), clusters.end());
  return clusters;
}

Result<admin::TopicRoute> AdminClient::topic_route(const std::string& topic) {
  APOGEE_TRY_ASSIGN(auto data, impl_->route(topic));
  admin::TopicRoute route;
  route.order_config = data.order_topic_conf;
  for (const auto& queue : data.queue_datas) {
    route.queues.push_back(
        {queue.broker_name, queue.read_queue_nums, queue.write_queue_nums, queue.perm, queue.topic_sys_flag});
  }
  for (const auto& broker : data.broker_datas) route.brokers.push_back(broker_from(broker));
  auto by_name = [](const auto& a, const auto& b) { return a.broker_name < b.broker_name; };
  std::sort(route.queues.begin(), route.queues.end(), by_name);
  std::sort(route.brokers.begin(), route.brokers.end(),
            [](const admin::Broker& a, const admin::Broker& b) { return a.name < b.name; });
  return route;
}

Result<std::vector<MessageQueue>> AdminClient::queues_of_topic(const std::string& topic) {
  APOGEE_TRY_ASSIGN(auto data, impl_->route(topic));
  std::vector<MessageQueue> queues;
  for (const auto& queue : data.queue_datas) {
    if ((queue.perm & admin::kPermRead) == 0) continue;
    for (int32_t id = 0; id < queue.read_queue_nums; ++id) queues.push_back({topic, queue.broker_name, id});
  }
  std::sort(queues.begin(), queues.end());
  return queues;
}

Result<std::map<std::string, admin::TopicConfig>> AdminClient::topic_configs(const std::string& broker_address) {
  APOGEE_TRY_ASSIGN(auto answer, impl_->call(broker_address, Command::request(RequestCode::kGetAllTopicConfig)));
  APOGEE_TRY_ASSIGN(auto table,
                    admin::decode_body(broker_address, answer, remoting::decode_topic_config_serialize_wrapper));
  std::map<std::string, admin::TopicConfig> configs;
  for (const auto& [name, config] : table.topic_config_table) {
    configs[name] = {name,        config.read_queue_nums, config.write_queue_nums,
                     config.perm, config.order,           config.topic_sys_flag};
  }
  return configs;
}

Status AdminClient::create_topic(const std::string& broker_address, const admin::TopicConfig& config) {
  APOGEE_TRY(check_topic_name(config.topic));
  auto request = Command::request(RequestCode::kUpdateAndCreateTopic);
  request.ext.set("topic", config.topic);
  request.ext.set("defaultTopic", "TBW102");
  request.ext.set("readQueueNums", config.read_queues);
  request.ext.set("writeQueueNums", config.write_queues);
  request.ext.set("perm", config.perm);
  request.ext.set("topicFilterType", "SINGLE_TAG");
  request.ext.set("topicSysFlag", config.sys_flag);
  request.ext.set("order", config.order);
  APOGEE_TRY(impl_->call(broker_address, std::move(request)));
  return {};
}

Status AdminClient::create_topic_in_cluster(const std::string& cluster_name, const admin::TopicConfig& config,
                                            const BrokerDone& done) {
  APOGEE_TRY_ASSIGN(auto masters, master_addresses(cluster_name));
  for (size_t i = 0; i < masters.size(); ++i) {
    APOGEE_TRY(create_topic(masters[i], config));
    if (done) done(masters[i], i + 1, masters.size());
  }
  if (!config.order) return {};
  APOGEE_TRY_ASSIGN(auto all, cluster());
  std::map<std::string, int32_t> queues;
  for (const auto& name : all.clusters[cluster_name]) queues[name] = config.write_queues;
  return update_order_config(config.topic, queues, true);
}

Status AdminClient::update_order_config(const std::string& topic, const std::map<std::string, int32_t>& queues,
                                        bool replace) {
  std::map<std::string, std::string> all;
  if (!replace) {
    auto before = kv(kOrderSpace, topic);
    if (!before && before.error().code != Errc::kNotFound) return std::move(before).error();
    if (before) all = parse_order_config(*before);
  }
  for (const auto& [broker, count] : queues) all[broker] = std::to_string(count);
  std::string text;
  for (const auto& [broker, count] : all) text += fmt::format("{}{}:{}", text.empty() ? "" : ";", broker, count);
  return put_kv(kOrderSpace, topic, text);
}

Result<std::string> AdminClient::order_config(const std::string& topic) { return kv(kOrderSpace, topic); }

Status AdminClient::delete_order_config(const std::string& topic) { return delete_kv(kOrderSpace, topic); }

Status AdminClient::delete_topic_on_broker(const std::string& broker_address, const std::string& topic) {
  auto request = Command::request(RequestCode::kDeleteTopicInBroker);
  request.ext.set("topic", topic);
  APOGEE_TRY(impl_->call(broker_address, std::move(request)));
  return {};
}

Status AdminClient::delete_topic_on_namesrv(const std::string& topic, const std::string& cluster) {
  auto request = Command::request(RequestCode::kDeleteTopicInNamesrv);
  request.ext.set("topic", topic);
  if (!cluster.empty()) request.ext.set("clusterName", cluster);
  return impl_->call_every_namesrv(request);
}

Status AdminClient::delete_topic(const std::string& cluster, const std::string& topic, const BrokerDone& done) {
  APOGEE_TRY_ASSIGN(auto masters, master_addresses(cluster));
  for (size_t i = 0; i < masters.size(); ++i) {
    APOGEE_TRY(delete_topic_on_broker(masters[i], topic));
    if (done) done(masters[i], i + 1, masters.size());
  }
  APOGEE_TRY(delete_topic_on_namesrv(topic, cluster));
  return delete_kv(kOrderSpace, topic);
}

Result<std::map<MessageQueue, admin::QueueRange>> AdminClient::topic_stats(const std::string& topic) {
  APOGEE_TRY_ASSIGN(auto brokers, impl_->brokers_of_topic(topic));
  std::map<MessageQueue, admin::QueueRange> all;
  for (const auto& broker : brokers) {
    auto request = Command::request(RequestCode::kGetTopicStatsInfo);
    request.ext.set("topic", topic);
    APOGEE_TRY_ASSIGN(auto answer, impl_->call(broker.second, std::move(request)));
    APOGEE_TRY_ASSIGN(auto table, admin::decode_body(broker.second, answer, remoting::decode_topic_stats_table));
    for (const auto& [queue, offsets] : table.offset_table) {
      all[queue] = {offsets.min_offset, offsets.max_offset, offsets.last_update_timestamp};
    }
  }
  return all;
}

Result<std::vector<std::string>> AdminClient::groups_of_topic(const std::string& topic) {
  APOGEE_TRY_ASSIGN(auto brokers, impl_->brokers_of_topic(topic));
  std::vector<std::string> groups;
  for (const auto& broker : brokers) {
    auto request = Command::request(RequestCode::kQueryTopicConsumeByWho);
    request.ext.set("topic", topic);
    APOGEE_TRY_ASSIGN(auto answer, impl_->call(broker.second, std::move(request)));
    APOGEE_TRY_ASSIGN(auto list, admin::decode_body(broker.second, answer, remoting::decode_group_list));
    groups.insert(groups.end(), list.group_list.begin(), list.group_list.end());
  }
  std::sort(groups.begin(), groups.end());
  groups.erase(std::unique(groups.begin(), groups.end()), groups.end());
  return groups;
}

}  // namespace apogee
