#include "test/support/replicated_cluster.h"

#include <csignal>
#include <fstream>
#include <optional>
#include <sstream>
#include <stdexcept>

#include "test/support/raw_requests.h"

namespace apogee::test {

ReplicatedCluster::ReplicatedCluster(Options options) : options_(std::move(options)), nodes_(1 + options_.slaves) {
  namesrv_port_ = free_port();
  for (auto& node : nodes_) node.port = free_port();
  start_namesrv();
  for (size_t i = 0; options_.start && i < nodes_.size(); ++i) start(i);
}

std::unique_ptr<Process> ReplicatedCluster::launch(const std::string& machine, const std::string& program,
                                                   const std::vector<std::string>& arguments,
                                                   const std::string& output) {
  std::optional<Network::Visit> visit;
  if (options_.network) visit.emplace(*options_.network, machine);
  auto process = std::make_unique<Process>(program, arguments, output);
  if (!process->wait_for_output("boot success", std::chrono::seconds(60)))
    throw std::runtime_error(program + ": " + process->output());
  return process;
}

void ReplicatedCluster::start_namesrv() {
  const auto home = (directory_.path() / "namesrv").string();
  std::filesystem::create_directories(home);
  namesrv_ =
      launch("namesrv", "nameserver/mqnamesrv",
             {"--listenPort", std::to_string(namesrv_port_), "--bindAddress", host_of("namesrv"), "--kvConfigPath",
              home + "/kvConfig.json", "--configStorePath", home + "/namesrv.properties", "--logDir", home + "/logs"},
             home + "/namesrv." + std::to_string(++namesrv_starts_) + ".out");
}

void ReplicatedCluster::kill_namesrv() { namesrv_->kill(); }

void ReplicatedCluster::start(size_t number, const Settings& more) {
  auto& node = nodes_.at(number);
  const bool is_master = number == kMaster;
  std::filesystem::create_directories(home(number));
  Settings settings{
      {"namesrvAddr", namesrv()},
      {"listenPort", std::to_string(node.port)},
      {"bindAddress", host(number)},
      {"brokerIP1", host(number)},
      {"brokerName", kBrokerName},
      {"brokerId", std::to_string(number)},
      {"brokerRole", is_master ? options_.role : "SLAVE"},
      {"storePathRootDir", store(number).string()},
      {"logDir", (home(number) / "logs").string()},
      {"mappedFileSizeCommitLog", "1048576"},
      {"mappedFileSizeConsumeQueue", "20000"},
      {"cleanFileForciblyEnable", "false"},
      {"registerNameServerPeriod", "10000"},
      {"haSendHeartbeatInterval", "300"},
      {"haHousekeepingInterval", "3000"},
      {"haMaxTimeSlaveNotCatchup", "3000"},
      {"slaveTimeout", "2000"},
  };
  for (const auto& group : {options_.all, is_master ? options_.master : options_.slave, more})
    for (const auto& [key, value] : group) settings[key] = value;
  const auto file = home(number) / "broker.conf";
  node.follows = settings.at("brokerRole") == "SLAVE";
  std::ofstream out(file, std::ios::trunc);
  for (const auto& [key, value] : settings) out << key << "=" << value << "\n";
  out.close();
  node.process = launch(machine(number), "broker/mqbroker", {"-c", file.string()},
                        (home(number) / ("broker." + std::to_string(++node.starts) + ".out")).string());
}

void ReplicatedCluster::stop(size_t node) {
  nodes_.at(node).follows = false;
  const int code = process(node).terminate();
  if (code != 0)
    throw std::runtime_error(machine(node) + " ended with " + std::to_string(code) + ": " + process(node).output());
}

void ReplicatedCluster::kill(size_t node) {
  nodes_.at(node).follows = false;
  process(node).kill();
}
void ReplicatedCluster::pause(size_t node) { process(node).signal(SIGSTOP); }
void ReplicatedCluster::resume(size_t node) { process(node).signal(SIGCONT); }
void ReplicatedCluster::lose_disk(size_t node) { std::filesystem::remove_all(store(node)); }

std::string ReplicatedCluster::log(size_t node) const {
  std::ifstream in(home(node) / "logs" / "broker.log");
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

std::unique_ptr<RawClient> ReplicatedCluster::connect(size_t node, std::chrono::milliseconds limit) const {
  std::optional<Network::Visit> visit;
  if (options_.network) visit.emplace(*options_.network, "client");
  return std::make_unique<RawClient>(host(node), port(node), limit);
}

void ReplicatedCluster::create_topic(const std::string& topic, int queues) {
  auto reply = connect(kMaster)->call(create_topic_request(topic, queues));
  if (!reply || reply->code != 0) throw std::runtime_error("topic " + topic + " was not created");
}

}  // namespace apogee::test
