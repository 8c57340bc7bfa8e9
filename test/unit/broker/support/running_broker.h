#pragma once

#include <functional>
#include <memory>
#include <string>

#include "broker/broker.h"
#include "test/support/catch.h"

namespace apogee::broker::test {

/// A whole broker in this process, on a free port of 127.0.0.1, that registers nowhere.
struct RunningBroker {
  Logger quiet;
  BrokerConfig config;
  config::ConfigTable table;
  std::unique_ptr<Broker> broker;

  explicit RunningBroker(const std::string& root, store::FlushDiskType flush = store::FlushDiskType::kAsync,
                         int disk_used_percent_max = 100, const std::function<void(BrokerConfig&)>& change = nullptr) {
    add_rows(table, config);
    config.broker_name = "broker-a";
    config.bind_address = config.broker_ip1 = "127.0.0.1";
    config.listen_port = 0;
    config.namesrv_addr.set("");
    config.store_root = root;
    config.commit_log_file_bytes = 64 << 20;
    config.flush_disk_type = flush;
    config.disk_used_percent_max = disk_used_percent_max;
    if (change) change(config);
    broker = std::make_unique<Broker>(config, table, "", quiet);
    REQUIRE(broker->start());
  }
};

}  // namespace apogee::broker::test
