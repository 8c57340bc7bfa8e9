#pragma once

#include <memory>
#include <string>
#include <vector>

#include "test/support/process.h"
#include "test/support/raw_client.h"
#include "test/support/temporary_directory.h"

namespace apogee::test {

/// A real mqnamesrv and a real mqbroker on free ports of 127.0.0.1, in a directory of their own.
class Cluster {
 public:
  /// broker_options: further options of mqbroker. Throws when something does not start.
  explicit Cluster(std::vector<std::string> broker_options = {});

  void start_broker();
  void stop_broker();  ///< SIGTERM; throws unless it ends with 0
  void kill_broker();  ///< kill -9

  [[nodiscard]] uint16_t broker_port() const { return broker_port_; }
  [[nodiscard]] uint16_t namesrv_port() const { return namesrv_port_; }
  [[nodiscard]] std::string namesrv() const { return "127.0.0.1:" + std::to_string(namesrv_port_); }
  [[nodiscard]] std::string broker() const { return "127.0.0.1:" + std::to_string(broker_port_); }
  [[nodiscard]] Process& broker_process() { return *broker_; }
  [[nodiscard]] const std::filesystem::path& directory() const { return directory_.path(); }
  /// On the broker, by a raw request; throws when it is refused.
  void create_topic(const std::string& topic, int queues);

 private:
  TemporaryDirectory directory_;
  std::vector<std::string> broker_options_;
  uint16_t namesrv_port_, broker_port_;
  int starts_ = 0;
  std::unique_ptr<Process> namesrv_, broker_;
};

}  // namespace apogee::test
