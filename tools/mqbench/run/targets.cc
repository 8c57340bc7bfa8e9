#include "tools/mqbench/run/targets.h"

#include <fmt/core.h>

#include <algorithm>
#include <memory>
#include <stdexcept>

#include "common/remoting/bodies/route_bodies.h"
#include "tools/mqbench/net/control_client.h"
#include "tools/mqbench/net/link.h"

namespace mqbench {

namespace {

constexpr int kUpdateAndCreateTopic = 17, kGetMaxOffset = 30, kGetMinOffset = 31, kGetClusterInfo = 106;

std::vector<int64_t> offsets(const Targets& targets, int code) {
  std::vector<int64_t> all(targets.queues.size());
  for (size_t broker = 0; broker < targets.brokers.size(); ++broker) {
    ControlClient client(targets.brokers[broker].address);
    for (size_t i = 0; i < targets.queues.size(); ++i) {
      const auto& queue = targets.queues[i];
      if (queue.broker != broker) continue;
      auto reply = client.need(fmt::format("offset of {} queue {}", queue.topic, queue.queue), code,
                               {{"topic", queue.topic}, {"queueId", std::to_string(queue.queue)}});
      all[i] = std::max<int64_t>(0, std::strtoll(reply.fields["offset"].c_str(), nullptr, 10));
    }
  }
  return all;
}

}  // namespace

std::vector<BrokerTarget> find_brokers(const TargetOptions& options) {
  if (!options.broker.empty()) return {{options.broker_name, resolve_address(options.broker)}};
  if (options.namesrv.empty()) throw std::runtime_error("say where: --broker HOST:PORT or --namesrv HOST:PORT");
  ControlClient client(options.namesrv);
  const auto reply = client.need("asking for the cluster", kGetClusterInfo, {});
  auto cluster = apogee::remoting::decode_cluster_info(reply.body);
  if (!cluster) throw std::runtime_error(fmt::format("{}: {}", options.namesrv, cluster.error().message));
  std::vector<BrokerTarget> brokers;
  for (const auto& [name, broker] : cluster->broker_addr_table) {
    if (!options.broker_name.empty() && name != options.broker_name) continue;
    const auto master = broker.broker_addrs.find(0);
    if (master != broker.broker_addrs.end()) brokers.push_back({name, resolve_address(master->second)});
  }
  if (brokers.empty())
    throw std::runtime_error(options.broker_name.empty()
                                 ? options.namesrv + " knows no master broker"
                                 : fmt::format("{} knows no master {}", options.namesrv, options.broker_name));
  return brokers;
}

Targets find_targets(const TargetOptions& options) {
  Targets targets;
  targets.brokers = find_brokers(options);
  std::vector<std::unique_ptr<ControlClient>> clients;
  if (options.create)
    for (const auto& broker : targets.brokers) clients.push_back(std::make_unique<ControlClient>(broker.address));
  for (int64_t i = 0; i < options.topics; ++i) {
    const auto topic = options.topics == 1 ? options.topic : fmt::format("{}-{}", options.topic, i);
    for (const auto& client : clients)
      client->need("creating " + topic, kUpdateAndCreateTopic,
                   {{"topic", topic},
                    {"defaultTopic", "TBW102"},
                    {"readQueueNums", std::to_string(options.queues)},
                    {"writeQueueNums", std::to_string(options.queues)},
                    {"perm", "6"},
                    {"topicFilterType", "SINGLE_TAG"},
                    {"topicSysFlag", "0"},
                    {"order", "false"}});
    for (int64_t queue = 0; queue < options.queues; ++queue)
      for (size_t broker = 0; broker < targets.brokers.size(); ++broker)
        targets.queues.push_back({broker, topic, static_cast<int>(queue)});
  }
  return targets;
}

std::vector<int64_t> queue_ends(const Targets& targets) { return offsets(targets, kGetMaxOffset); }
std::vector<int64_t> queue_begins(const Targets& targets) { return offsets(targets, kGetMinOffset); }

}  // namespace mqbench
