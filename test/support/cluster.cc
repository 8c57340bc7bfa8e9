#include "test/support/cluster.h"

#include <stdexcept>

namespace apogee::test {

Cluster::Cluster(std::vector<std::string> broker_options)
    : broker_options_(std::move(broker_options)), namesrv_port_(free_port()), broker_port_(free_port()) {
  auto home = directory_.path().string();
  namesrv_ = std::make_unique<Process>(
      "nameserver/mqnamesrv",
      std::vector<std::string>{"--listenPort", std::to_string(namesrv_port_), "--bindAddress", "127.0.0.1",
                               "--kvConfigPath", home + "/kvConfig.json", "--configStorePath",
                               home + "/namesrv.properties", "--logDir", home + "/logs"},
      home + "/namesrv.out");
  if (!namesrv_->wait_for_output("boot success")) throw std::runtime_error("mqnamesrv: " + namesrv_->output());
  start_broker();
}

void Cluster::start_broker() {
  auto home = directory_.path().string();
  std::vector<std::string> options{"-n",
                                   namesrv(),
                                   "--listenPort",
                                   std::to_string(broker_port_),
                                   "--bindAddress",
                                   "127.0.0.1",
                                   "--brokerIP1",
                                   "127.0.0.1",
                                   "--brokerName",
                                   "broker-a",
                                   "--storePathRootDir",
                                   home + "/store",
                                   "--logDir",
                                   home + "/logs",
                                   "--mappedFileSizeCommitLog",
                                   "16777216",
                                   "--cleanFileForciblyEnable",
                                   "false"};
  options.insert(options.end(), broker_options_.begin(), broker_options_.end());
  broker_ =
      std::make_unique<Process>("broker/mqbroker", options, home + "/broker." + std::to_string(++starts_) + ".out");
  if (!broker_->wait_for_output("boot success")) throw std::runtime_error("mqbroker: " + broker_->output());
}

void Cluster::stop_broker() {
  int code = broker_->terminate();
  if (code != 0) throw std::runtime_error("mqbroker ended with " + std::to_string(code) + ": " + broker_->output());
}

void Cluster::kill_broker() { broker_->kill(); }

void Cluster::create_topic(const std::string& topic, int queues) {
  auto request = remoting::Command::request(remoting::RequestCode::kUpdateAndCreateTopic);
  request.ext.set("topic", topic);
  request.ext.set("defaultTopic", "TBW102");
  request.ext.set("readQueueNums", queues);
  request.ext.set("writeQueueNums", queues);
  request.ext.set("perm", 6);
  request.ext.set("topicFilterType", "SINGLE_TAG");
  request.ext.set("topicSysFlag", 0);
  request.ext.set("order", false);
  auto reply = RawClient(broker_port_).call(std::move(request));
  if (!reply || reply->code != 0) throw std::runtime_error("topic " + topic + " was not created");
}

}  // namespace apogee::test
