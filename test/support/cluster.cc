#include "test/support/cluster.h"

#include <stdexcept>

#include "test/support/raw_requests.h"

namespace apogee::test {

Cluster::Cluster(Size size, std::vector<std::string> broker_options)
    : broker_options_(std::move(broker_options)), namesrvs_(size.name_servers), brokers_(size.brokers) {
  for (auto* members : {&namesrvs_, &brokers_}) {
    for (auto& member : *members) member.port = free_port();
  }
  for (size_t i = 0; i < namesrvs_.size(); ++i) start_namesrv(i);
  for (size_t i = 0; i < brokers_.size(); ++i) start_broker(i);
}

void Cluster::start_namesrv(size_t number) {
  auto& member = namesrvs_.at(number);
  // The first of each keeps the short names.
  const auto home = (directory_.path() / (number == 0 ? "" : "namesrv-" + std::to_string(number))).string();
  std::filesystem::create_directories(home);
  member.process = std::make_unique<Process>(
      "nameserver/mqnamesrv",
      std::vector<std::string>{"--listenPort", std::to_string(member.port), "--bindAddress", "127.0.0.1",
                               "--kvConfigPath", home + "/kvConfig.json", "--configStorePath",
                               home + "/namesrv.properties", "--logDir", home + "/logs"},
      home + "/namesrv.out");
  if (!member.process->wait_for_output("boot success"))
    throw std::runtime_error("mqnamesrv: " + member.process->output());
}

std::string Cluster::namesrv() const {
  std::string all;
  for (const auto& member : namesrvs_)
    all += (all.empty() ? "127.0.0.1:" : ";127.0.0.1:") + std::to_string(member.port);
  return all;
}

void Cluster::start_broker(size_t number) {
  auto& member = brokers_.at(number);
  const auto name = broker_name(number);
  const auto home = (directory_.path() / (number == 0 ? "" : name)).string();
  std::filesystem::create_directories(home);
  std::vector<std::string> options{"-n",
                                   namesrv(),
                                   "--listenPort",
                                   std::to_string(member.port),
                                   "--bindAddress",
                                   "127.0.0.1",
                                   "--brokerIP1",
                                   "127.0.0.1",
                                   "--brokerName",
                                   name,
                                   "--storePathRootDir",
                                   home + "/store",
                                   "--logDir",
                                   home + "/logs",
                                   "--mappedFileSizeCommitLog",
                                   "16777216",
                                   "--cleanFileForciblyEnable",
                                   "false"};
  options.insert(options.end(), broker_options_.begin(), broker_options_.end());
  member.process = std::make_unique<Process>("broker/mqbroker", options,
                                             home + "/broker." + std::to_string(++member.starts) + ".out");
  if (!member.process->wait_for_output("boot success"))
    throw std::runtime_error("mqbroker: " + member.process->output());
}

void Cluster::stop_broker(size_t number) {
  auto& process = broker_process(number);
  int code = process.terminate();
  if (code != 0) throw std::runtime_error("mqbroker ended with " + std::to_string(code) + ": " + process.output());
}

void Cluster::kill_broker(size_t number) { broker_process(number).kill(); }
void Cluster::kill_namesrv(size_t number) { namesrvs_.at(number).process->kill(); }

void Cluster::create_topic(const std::string& topic, int queues) {
  const auto request = create_topic_request(topic, queues);
  for (const auto& broker : brokers_) {
    auto reply = RawClient(broker.port).call(request);
    if (!reply || reply->code != 0) throw std::runtime_error("topic " + topic + " was not created");
  }
}

}  // namespace apogee::test
