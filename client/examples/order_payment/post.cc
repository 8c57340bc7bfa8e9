#include "post.h"

#include <thread>

namespace shop {

using namespace std::chrono_literals;

namespace {

/// A broker that restarts is back after a second or two: look for it more often than the defaults do, which are made
/// for thousands of clients.
template <typename Config>
Config client_config(const Settings& settings) {
  Config config;
  config.name_servers = settings.namesrv;
  config.route_refresh_interval = 1s;
  config.heartbeat_interval = 1s;
  return config;
}

}  // namespace

std::string notice_group(const std::string& subscriber) { return "shop_" + subscriber; }

apogee::AdminConfig admin_config(const Settings& settings) {
  apogee::AdminConfig config;
  config.name_servers = settings.namesrv;
  return config;
}

apogee::PushConsumerConfig consumer_config(const Settings& settings, const std::string& group) {
  auto config = client_config<apogee::PushConsumerConfig>(settings);
  config.group = group;
  config.consume_from = apogee::ConsumeFrom::kFirst;  // what was sent before the group first started counts too
  config.consume_threads = 4;
  config.offset_persist_interval = 500ms;  // less to be consumed again after a crash of this process
  config.pull_error_delay = 500ms;
  // What a filter leaves out counts as consumed when the pull that passes over it ends. At the end of this program the
  // queues shall look empty soon.
  config.pull_suspend = 2s;
  config.retry_locally_delay = 500ms;
  config.rebalance_interval = 2s;
  config.shutdown_timeout = 10s;
  return config;
}

apogee::TransactionProducerConfig producer_config(const Settings& settings) {
  auto config = client_config<apogee::TransactionProducerConfig>(settings);
  config.group = "shop";
  config.topics = {kOrders};  // answer questions about its transactions from the start on, also about those of others
  return config;
}

apogee::Status create_topics(apogee::AdminClient& admin) {
  APOGEE_TRY_ASSIGN(const auto cluster, admin.cluster());
  if (cluster.clusters.empty()) return apogee::Error{apogee::Errc::kNotFound, "no broker is registered"};
  for (const auto& [name, brokers] : cluster.clusters) {
    for (const char* topic : {kOrders, kDeadlines, kWarehouse, kNotices}) {
      apogee::admin::TopicConfig config;
      config.topic = topic;
      config.read_queues = config.write_queues = 4;
      APOGEE_TRY(admin.create_topic_in_cluster(name, config));
    }
    // The other groups are made by their first member, if the broker's autoCreateSubscriptionGroup allows it.
    apogee::admin::GroupConfig labels;
    labels.group = kLabelGroup;
    labels.retry_times_max = kLabelRetries;
    APOGEE_TRY(admin.create_group_in_cluster(name, labels));
  }
  return {};
}

bool may_pass(const apogee::Error& error) {
  using apogee::Errc;
  return error.code != Errc::kInvalidArgument && error.code != Errc::kTooLarge && error.code != Errc::kClosed;
}

void wait_a_little() { std::this_thread::sleep_for(100ms); }

Post::Post(const Settings& settings)
    : until_(settings.until), producer_([&] {
        auto config = client_config<apogee::ProducerConfig>(settings);
        config.group = "shop_post";
        return config;
      }()) {}

apogee::Result<apogee::SendReceipt> Post::deliver(const apogee::Message& message, const apogee::SendOptions& options) {
  for (;;) {
    auto receipt = producer_.send(message, options);
    if (receipt || !may_pass(receipt.error()) || Clock::now() >= until_) return receipt;
    wait_a_little();
  }
}

}  // namespace shop
