#include <fmt/format.h>

#include <algorithm>

#include "apogee/allocation.h"
#include "common/base/text.h"
#include "tools/mqadmin/commands/commands.h"

// Topics.
namespace mqadmin {

namespace {

using apogee::MessageQueue;

std::string describe(const apogee::admin::TopicConfig& config) {
  return fmt::format(
      "TopicConfig [topicName={}, readQueueNums={}, writeQueueNums={}, perm={}, topicFilterType=SINGLE_TAG, "
      "topicSysFlag={}, order={}]",
      config.topic, config.read_queues, config.write_queues,
      std::string((config.perm & apogee::admin::kPermRead) != 0 ? "R" : "-") +
          ((config.perm & apogee::admin::kPermWrite) != 0 ? "W" : "-") +
          ((config.perm & apogee::admin::kPermInherit) != 0 ? "X" : "-"),
      config.sys_flag, config.order);
}

void write_queue(JsonWriter& json, const MessageQueue& queue) {
  json.begin_object()
      .member("brokerName", queue.broker_name)
      .member("queueId", queue.queue_id)
      .member("topic", queue.topic)
      .end_object();
}

void write_route(JsonWriter& json, const apogee::admin::TopicRoute& route) {
  json.begin_object().key("brokerDatas").begin_array();
  for (const auto& broker : route.brokers) {
    json.begin_object().key("brokerAddrs").begin_object();
    for (const auto& [id, address] : broker.addresses) json.member(std::to_string(id), address);
    json.end_object().member("brokerName", broker.name).member("cluster", broker.cluster).end_object();
  }
  json.end_array();
  if (!route.order_config.empty()) json.member("orderTopicConf", route.order_config);
  json.key("queueDatas").begin_array();
  for (const auto& queue : route.queues) {
    json.begin_object()
        .member("brokerName", queue.broker_name)
        .member("perm", queue.perm)
        .member("readQueueNums", queue.read_queues)
        .member("topicSysFlag", queue.sys_flag)
        .member("writeQueueNums", queue.write_queues)
        .end_object();
  }
  json.end_array().end_object();
}

void print_route_table(Invocation& in, const apogee::admin::TopicRoute& route) {
  Table table({{"#ClusterName", "cluster", 45},
               {"#BrokerName", "brokerName", 32},
               {"#BrokerAddrs", "brokerAddrs", 50},
               {"#ReadQueue", "readQueues", 10},
               {"#WriteQueue", "writeQueues", 11},
               {"#Perm", "perm", 5}});
  int64_t read_total = 0;
  int64_t write_total = 0;
  for (const auto& queue : route.queues) {
    auto broker = std::find_if(route.brokers.begin(), route.brokers.end(),
                               [&queue](const auto& b) { return b.name == queue.broker_name; });
    std::string addresses;
    std::string cluster;
    if (broker != route.brokers.end()) {
      cluster = broker->cluster;
      for (const auto& [id, address] : broker->addresses) {
        addresses += fmt::format("{}{}={}", addresses.empty() ? "" : ", ", id, address);
      }
    }
    table.row({cluster, queue.broker_name, "{" + addresses + "}", queue.read_queues, queue.write_queues, queue.perm});
    read_total += queue.read_queues;
    write_total += queue.write_queues;
  }
  table.row({"Total:", static_cast<int64_t>(route.queues.size()), "", read_total, write_total, ""});
  in.out.rows(table);
}

/// The name of the broker at an address. Error: kNotFound.
Result<std::string> broker_name_at(Invocation& in, const std::string& address) {
  APOGEE_TRY_ASSIGN(auto cluster, in.client().cluster());
  for (const auto& [name, broker] : cluster.brokers) {
    for (const auto& entry : broker.addresses) {
      if (entry.second == address) return name;
    }
  }
  return Error{Errc::kNotFound, fmt::format("the NameServer knows no broker at {}", address)};
}

Status list_topics_of_clusters(Invocation& in) {
  APOGEE_TRY_ASSIGN(auto cluster, in.client().cluster());
  Table table({{"#Cluster Name", "cluster", 20}, {"#Topic", "topic", 64}, {"#Consumer Group", "consumerGroup", 64}});
  for (const auto& entry : cluster.clusters) {
    APOGEE_TRY_ASSIGN(auto topics, in.client().topics_of_cluster(entry.first));
    Progress progress("topics", static_cast<int64_t>(topics.size()));
    for (const auto& topic : topics) {
      progress.advance();
      if (apogee::is_retry_topic(topic) || apogee::is_dlq_topic(topic)) continue;
      auto groups = in.client().groups_of_topic(topic);
      // A topic may have been deleted since it was listed.
      if (!groups && groups.error().code != Errc::kNotFound) return std::move(groups).error();
      if (!groups || groups->empty()) {
        table.row({entry.first, topic, ""});
        continue;
      }
      for (const auto& group : *groups) table.row({entry.first, topic, group});
    }
  }
  in.out.table(table);
  return {};
}

}  // namespace

Status run_update_topic(Invocation& in) {
  apogee::admin::TopicConfig config;
  config.topic = in.get('t');
  APOGEE_TRY_ASSIGN(auto read_queues, in.number('r', 8, 1, 65'535));
  APOGEE_TRY_ASSIGN(auto write_queues, in.number('w', 8, 1, 65'535));
  APOGEE_TRY_ASSIGN(auto perm, in.number('p', 6, 0, 7));
  APOGEE_TRY_ASSIGN(auto unit, in.truth('u', false));
  APOGEE_TRY_ASSIGN(auto unit_subscribers, in.truth('s', false));
  APOGEE_TRY_ASSIGN(config.order, in.truth('o', false));
  config.read_queues = static_cast<int32_t>(read_queues);
  config.write_queues = static_cast<int32_t>(write_queues);
  config.perm = static_cast<int32_t>(perm);
  config.sys_flag = (unit ? 1 : 0) | (unit_subscribers ? 2 : 0);

  JsonWriter json;
  json.begin_object().member("topic", config.topic).key("brokers").begin_array();
  auto created = [&in, &json](const std::string& address) {
    in.out.line(fmt::format("create topic to {} success.", address));
    json.value(address);
  };
  if (in.has('b')) {
    std::string address = in.get('b');
    APOGEE_TRY(in.client().create_topic(address, config));
    if (config.order) {
      APOGEE_TRY_ASSIGN(auto name, broker_name_at(in, address));
      APOGEE_TRY(in.client().update_order_config(config.topic, {{name, config.write_queues}}, false));
    }
    created(address);
  } else {
    Progress progress("brokers");
    auto done = [&](const std::string& address, size_t count, size_t total) {
      progress.hide();
      created(address);
      progress.set(static_cast<int64_t>(count), static_cast<int64_t>(total));
    };
    APOGEE_TRY(in.client().create_topic_in_cluster(in.get('c'), config, done));
    progress.hide();
  }
  in.out.line(describe(config));
  json.end_array()
      .member("readQueueNums", config.read_queues)
      .member("writeQueueNums", config.write_queues)
      .member("perm", config.perm)
      .member("order", config.order)
      .member("topicSysFlag", config.sys_flag)
      .end_object();
  in.out.write(json);
  return {};
}

Status run_delete_topic(Invocation& in) {
  std::string topic = in.get('t');
  std::string cluster = in.get('c');
  Progress progress("brokers");
  APOGEE_TRY(in.client().delete_topic(cluster, topic, [&progress](const std::string&, size_t count, size_t total) {
    progress.set(static_cast<int64_t>(count), static_cast<int64_t>(total));
  }));
  progress.hide();
  in.out.line(fmt::format("delete topic [{}] from cluster [{}] success.", topic, cluster));
  in.out.line(fmt::format("delete topic [{}] from NameServer success.", topic));
  in.out.write(JsonWriter().begin_object().member("topic", topic).member("cluster", cluster).end_object());
  return {};
}

Status run_topic_list(Invocation& in) {
  if (in.has('c')) return list_topics_of_clusters(in);
  APOGEE_TRY_ASSIGN(auto topics, in.client().topics());
  Table table({{"#Topic", "topic"}}, false);
  for (const auto& topic : topics) table.row({topic});
  in.out.table(table);
  return {};
}

Status run_topic_route(Invocation& in) {
  APOGEE_TRY_ASSIGN(auto route, in.client().topic_route(in.get('t')));
  if (in.has('l')) {
    print_route_table(in, route);
  } else {
    JsonWriter pretty(4);
    write_route(pretty, route);
    in.out.line(pretty.text());
  }
  JsonWriter json;
  write_route(json, route);
  in.out.write(json);
  return {};
}

Status run_topic_status(Invocation& in) {
  APOGEE_TRY_ASSIGN(auto stats, in.client().topic_stats(in.get('t')));
  Table table({{"#Broker Name", "brokerName", 32},
               {"#QID", "queueId", 4},
               {"#Min Offset", "minOffset", 20},
               {"#Max Offset", "maxOffset", 20},
               {"#Last Updated", "lastUpdatedMs"}});
  for (const auto& [queue, range] : stats) {
    table.row({queue.broker_name, queue.queue_id, range.min_offset, range.max_offset,
               time_cell(range.last_update_ms, "", true)});
  }
  in.out.table(table);
  return {};
}

Status run_topic_cluster_list(Invocation& in) {
  APOGEE_TRY_ASSIGN(auto clusters, in.client().clusters_of_topic(in.get('t')));
  Table table({{"#Cluster Name", "cluster"}}, false);
  for (const auto& cluster : clusters) table.row({cluster});
  in.out.table(table);
  return {};
}

Status run_allocate_mq(Invocation& in) {
  std::vector<std::string> clients;
  const std::string list = in.get('i');
  for (auto part : apogee::split(list, ",")) {
    part = apogee::trim(part);
    if (!part.empty()) clients.emplace_back(part);
  }
  std::sort(clients.begin(), clients.end());
  clients.erase(std::unique(clients.begin(), clients.end()), clients.end());
  if (clients.empty()) return Error{Errc::kInvalidArgument, "-i names no address"};
  APOGEE_TRY_ASSIGN(auto queues, in.client().queues_of_topic(in.get('t')));
  auto strategy = apogee::allocate_averagely();
  JsonWriter json;
  json.begin_object().key("result").begin_object();
  for (const auto& client : clients) {
    json.key(client).begin_array();
    for (const auto& queue : strategy.allocate("allocateMQ", client, queues, clients)) write_queue(json, queue);
    json.end_array();
  }
  json.end_object().end_object();
  in.out.line(json.text());
  in.out.write(json);
  return {};
}

}  // namespace mqadmin
