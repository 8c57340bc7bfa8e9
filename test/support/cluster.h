#pragma once

#include <memory>
#include <string>
#include <vector>

#include "test/support/process.h"
#include "test/support/raw_client.h"
#include "test/support/temporary_directory.h"

namespace apogee::test {

/// Real mqnamesrvs and real mqbrokers, all masters of one cluster, on free ports of 127.0.0.1 in a directory of their
/// own. The brokers are called broker-a, broker-b …; where no number is given, the first one is meant.
class Cluster {
 public:
  struct Size {
    size_t name_servers = 1;
    size_t brokers = 1;
  };
  /// broker_options: further options of mqbroker. Throws when something does not start.
  explicit Cluster(std::vector<std::string> broker_options = {}) : Cluster(Size{}, std::move(broker_options)) {}
  explicit Cluster(Size size, std::vector<std::string> broker_options = {});

  void start_broker(size_t number = 0);
  void stop_broker(size_t number = 0);  ///< SIGTERM; throws unless it ends with 0
  void kill_broker(size_t number = 0);  ///< kill -9
  void kill_namesrv(size_t number = 0);

  [[nodiscard]] uint16_t broker_port(size_t number = 0) const { return brokers_.at(number).port; }
  [[nodiscard]] uint16_t namesrv_port() const { return namesrvs_.front().port; }
  /// All of them, as clients want it: "127.0.0.1:1;127.0.0.1:2".
  [[nodiscard]] std::string namesrv() const;
  [[nodiscard]] std::string broker(size_t number = 0) const {
    return "127.0.0.1:" + std::to_string(broker_port(number));
  }
  [[nodiscard]] static std::string broker_name(size_t number) {
    return std::string("broker-") + static_cast<char>('a' + number);
  }
  [[nodiscard]] Process& broker_process(size_t number = 0) { return *brokers_.at(number).process; }
  [[nodiscard]] const std::filesystem::path& directory() const { return directory_.path(); }
  /// On every broker, by raw requests; throws when one is refused.
  void create_topic(const std::string& topic, int queues);

 private:
  struct Member {
    uint16_t port = 0;
    int starts = 0;
    std::unique_ptr<Process> process;
  };
  void start_namesrv(size_t number);
  TemporaryDirectory directory_;
  std::vector<std::string> broker_options_;
  std::vector<Member> namesrvs_, brokers_;
};

}  // namespace apogee::test
