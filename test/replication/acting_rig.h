#pragma once

// A broker group whose slave acts for its master, beside a master of another name.

#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "common/remoting/bodies/kv_bodies.h"
#include "test/support/catch.h"
#include "test/support/raw_requests.h"
#include "test/support/replicated_cluster.h"
#include "test/support/wait.h"

namespace apogee::test::acting {

using remoting::Command;
using remoting::RequestCode;

inline constexpr auto kLong = std::chrono::seconds(60);
inline constexpr const char* kTopic = "Acting";
inline constexpr int32_t kQueues = 2;

using RawAsk = std::function<std::optional<Command>(const Command& request)>;

inline std::optional<Command> ask(const std::string& address, const Command& request) {
  const auto colon = address.rfind(':');
  try {
    RawClient client(address.substr(0, colon), static_cast<uint16_t>(std::stoi(address.substr(colon + 1))),
                     std::chrono::seconds(20));
    auto answer = client.call(request);
    return answer ? std::optional(std::move(*answer)) : std::nullopt;
  } catch (const std::exception&) {
    return std::nullopt;  // it starts or is gone
  }
}

inline int64_t max_offset(const std::string& address, const std::string& topic, int32_t queue) {
  auto request = Command::request(RequestCode::kGetMaxOffset);
  request.ext.set("topic", topic);
  request.ext.set("queueId", queue);
  const auto answer = ask(address, request);
  return answer && answer->code == 0 ? answer->ext.get_int<int64_t>("offset").value_or(-1) : -1;
}

inline int64_t messages(const std::string& address) {
  int64_t sum = 0;
  for (int32_t queue = 0; queue < kQueues; ++queue) sum += std::max<int64_t>(0, max_offset(address, kTopic, queue));
  return sum;
}

inline std::string figure(const std::string& address, const std::string& name) {
  const auto answer = ask(address, Command::request(RequestCode::kGetBrokerRuntimeInfo));
  if (!answer || answer->code != 0) return "";
  auto table = remoting::decode_kv_table(answer->body.bytes);
  return table && table->table.count(name) != 0 ? table->table.at(name) : "";
}

inline void send(const std::string& address, const std::string& body, const std::string& properties) {
  const auto answer = ask(address, send_request({kTopic, 1, body, properties}));
  REQUIRE(answer);
  INFO(answer->remark.value_or(""));
  REQUIRE(answer->code == 0);
}

inline int64_t now_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch())
      .count();
}

inline const Settings kActing{{"enableSlaveActingMaster", "true"},      {"enableRemoteEscape", "true"},
                              {"brokerNotActiveTimeoutMillis", "2000"}, {"brokerHeartbeatInterval", "200"},
                              {"syncBrokerMemberGroupPeriod", "200"},   {"messageDelayLevel", "12s 1h"},
                              {"transactionCheckInterval", "600000"}};

/// The NameServer names a slave in its master's place.
inline void let_slaves_act(const RawAsk& ask_namesrv) {
  auto settings = Command::request(RequestCode::kUpdateNamesrvConfig);
  settings.body = SharedBytes::from(std::string("supportActingMaster=true\nscanNotActiveBrokerInterval=200\n"));
  const auto set = ask_namesrv(settings);
  REQUIRE(set);
  REQUIRE(set->code == 0);
}
inline void let_slaves_act(const ReplicatedCluster& cluster) {
  let_slaves_act([&](const Command& request) { return ask(cluster.namesrv(), request); });
}

/// The master of another broker name.
struct OtherMaster {
  explicit OtherMaster(const ReplicatedCluster& cluster, const Settings& more = {})
      : address("127.0.0.1:" + std::to_string(port)) {
    const auto home = cluster.directory() / "other";
    std::filesystem::create_directories(home);
    Settings settings = more;
    settings.merge(Settings(kActing));
    settings.merge(Settings{{"namesrvAddr", cluster.namesrv()},
                            {"listenPort", std::to_string(port)},
                            {"bindAddress", "127.0.0.1"},
                            {"brokerIP1", "127.0.0.1"},
                            {"brokerName", "broker-b"},
                            {"storePathRootDir", (home / "store").string()},
                            {"logDir", (home / "logs").string()},
                            {"mappedFileSizeCommitLog", "1048576"}});
    const auto file = home / "broker.conf";
    std::ofstream out(file);
    for (const auto& [key, value] : settings) out << key << "=" << value << "\n";
    out.close();
    process = std::make_unique<Process>("broker/mqbroker", std::vector<std::string>{"-c", file.string()},
                                        (home / "broker.out").string());
    REQUIRE(process->wait_for_output("boot success", kLong));
  }
  uint16_t port = free_port();
  std::string address;
  std::unique_ptr<Process> process;
};

}  // namespace apogee::test::acting
