#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "test/support/network.h"
#include "test/support/process.h"
#include "test/support/raw_client.h"
#include "test/support/temporary_directory.h"

namespace apogee::test {

using Settings = std::map<std::string, std::string>;  ///< of mqbroker, by their keys

/// One broker group, a master (node 0) and its slaves (nodes 1, 2, …), with a NameServer, as real processes with
/// configuration files. Time-outs are short. On 127.0.0.1, or each on a machine of a Network, which has "namesrv",
/// "master", "slave-1", …, and "client" for whoever tests.
class ReplicatedCluster {
 public:
  struct Options {
    size_t slaves = 1;
    std::string role = "SYNC_MASTER";
    Settings all = {}, master = {}, slave = {};
    const Network* network = nullptr;
    bool start = true;  ///< everything, the master first
  };
  static constexpr size_t kMaster = 0;
  static constexpr const char* kBrokerName = "broker-a";

  explicit ReplicatedCluster(Options options);

  /// Throws when it does not start. more: settings of this start alone.
  void start(size_t node, const Settings& more = {});
  void stop(size_t node);    ///< SIGTERM; throws unless it ends with 0
  void kill(size_t node);    ///< kill -9
  void pause(size_t node);   ///< SIGSTOP
  void resume(size_t node);  ///< SIGCONT
  void start_namesrv();
  void kill_namesrv();
  /// Throws away what the node has stored; it does not run.
  void lose_disk(size_t node);

  [[nodiscard]] size_t nodes() const { return nodes_.size(); }
  [[nodiscard]] std::string host(size_t node) const { return host_of(machine(node)); }
  [[nodiscard]] uint16_t port(size_t node) const { return nodes_.at(node).port; }
  [[nodiscard]] uint16_t ha_port(size_t node) const { return static_cast<uint16_t>(port(node) + 1); }
  [[nodiscard]] std::string address(size_t node) const { return host(node) + ":" + std::to_string(port(node)); }
  [[nodiscard]] std::string namesrv() const { return host_of("namesrv") + ":" + std::to_string(namesrv_port_); }
  [[nodiscard]] Process& process(size_t node) { return *nodes_.at(node).process; }
  [[nodiscard]] bool runs(size_t node) { return nodes_.at(node).process && process(node).running(); }
  /// A slave that was started, and neither stopped nor killed.
  [[nodiscard]] bool follows(size_t node) const { return nodes_.at(node).follows; }
  [[nodiscard]] std::filesystem::path home(size_t node) const { return directory_.path() / machine(node); }
  [[nodiscard]] std::filesystem::path store(size_t node) const { return home(node) / "store"; }
  [[nodiscard]] std::filesystem::path commit_log(size_t node) const { return store(node) / "commitlog"; }
  /// What the node has logged since its first start.
  [[nodiscard]] std::string log(size_t node) const;
  [[nodiscard]] const std::filesystem::path& directory() const { return directory_.path(); }
  [[nodiscard]] const Network* network() const { return options_.network; }
  static std::string machine(size_t node) { return node == 0 ? "master" : "slave-" + std::to_string(node); }

  /// A connection to a node's port for clients, from the machine of the clients. Throws.
  [[nodiscard]] std::unique_ptr<RawClient> connect(size_t node,
                                                   std::chrono::milliseconds limit = std::chrono::seconds(20)) const;
  /// On the master; throws when it refuses.
  void create_topic(const std::string& topic, int queues);

 private:
  struct Node {
    uint16_t port = 0;
    int starts = 0;
    bool follows = false;
    std::unique_ptr<Process> process;
  };
  [[nodiscard]] std::string host_of(const std::string& machine) const {
    return options_.network ? options_.network->address(machine) : "127.0.0.1";
  }
  std::unique_ptr<Process> launch(const std::string& machine, const std::string& program,
                                  const std::vector<std::string>& arguments, const std::string& output);
  Options options_;
  TemporaryDirectory directory_;
  uint16_t namesrv_port_ = 0;
  int namesrv_starts_ = 0;
  std::unique_ptr<Process> namesrv_;
  std::vector<Node> nodes_;
};

}  // namespace apogee::test
