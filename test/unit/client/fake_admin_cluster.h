#pragma once

#include <string>

#include "apogee/admin_client.h"
#include "common/remoting/bodies/route_bodies.h"
#include "test/unit/client/fake_server.h"

namespace apogee::test {

/// A NameServer and a broker that has the topic "T" with two queues.
struct FakeAdminCluster {
  FakeServer namesrv;
  FakeServer broker;

  FakeAdminCluster() {
    remoting::BrokerData data;
    data.cluster = "C";
    data.broker_name = "a";
    data.broker_addrs[0] = broker.address();
    remoting::ClusterInfo info;
    info.broker_addr_table["a"] = data;
    info.cluster_addr_table["C"] = {"a"};
    namesrv.on(remoting::RequestCode::kGetBrokerClusterInfo, remoting::encode(info));
    remoting::TopicRouteData route;
    route.broker_datas = {data};
    route.queue_datas = {{"a", 2, 2, 6, 0}};
    std::string route_text = remoting::encode(route);
    namesrv.on(remoting::RequestCode::kGetRouteinfoByTopic, [route_text](const remoting::Command& request) {
      auto topic = request.ext.get("topic").value_or("");
      if (topic != "T" && topic != "%RETRY%g") {
        return remoting::Command::response_to(request, remoting::response_code::kTopicNotExist,
                                              "no topic " + std::string(topic));
      }
      auto answer = remoting::Command::response_to(request, remoting::response_code::kSuccess);
      answer.body = SharedBytes::from(route_text);
      return answer;
    });
  }
  [[nodiscard]] AdminConfig config() const {
    AdminConfig config;
    config.name_servers = namesrv.address();
    return config;
  }
};

}  // namespace apogee::test
