#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "apogee/result.h"

namespace apogee::remoting {

struct QueueData {
  std::string broker_name;
  int32_t read_queue_nums = 0;
  int32_t write_queue_nums = 0;
  int32_t perm = 0;
  int32_t topic_sys_flag = 0;
  friend bool operator==(const QueueData& a, const QueueData& b) {
    return a.broker_name == b.broker_name && a.read_queue_nums == b.read_queue_nums &&
           a.write_queue_nums == b.write_queue_nums && a.perm == b.perm && a.topic_sys_flag == b.topic_sys_flag;
  }
};

/// The brokers of one name: broker id (0 = master) to "ip:port".
struct BrokerData {
  std::string cluster;
  std::string broker_name;
  std::map<int64_t, std::string> broker_addrs;
  bool enable_acting_master = false;  ///< a slave may act for the master; written when true
  friend bool operator==(const BrokerData& a, const BrokerData& b) {
    return a.cluster == b.cluster && a.broker_name == b.broker_name && a.broker_addrs == b.broker_addrs;
  }
};

struct TopicRouteData {
  std::string order_topic_conf;  ///< "broker:queues;broker:queues"; omitted when empty
  std::vector<QueueData> queue_datas;
  std::vector<BrokerData> broker_datas;
  std::map<std::string, std::vector<std::string>> filter_server_table;  ///< always empty from this server
  friend bool operator==(const TopicRouteData& a, const TopicRouteData& b) {
    return a.order_topic_conf == b.order_topic_conf && a.queue_datas == b.queue_datas &&
           a.broker_datas == b.broker_datas && a.filter_server_table == b.filter_server_table;
  }
};
/// Standard JSON: integer keys are quoted.
std::string encode(const TopicRouteData& body);
/// Integer keys are bare, as the NameServer answers clients older than V4_9_4.
std::string encode_for_old_clients(const TopicRouteData& body);
[[nodiscard]] Result<TopicRouteData> decode_topic_route_data(std::string_view json);

/// Integer keys are bare for everyone.
struct ClusterInfo {
  std::map<std::string, BrokerData> broker_addr_table;                 ///< by broker name
  std::map<std::string, std::vector<std::string>> cluster_addr_table;  ///< cluster to broker names
};
std::string encode(const ClusterInfo& body);
[[nodiscard]] Result<ClusterInfo> decode_cluster_info(std::string_view json);

/// Body of the answer to GET_BROKER_MEMBER_GROUP.
struct BrokerMemberGroup {
  std::string cluster;
  std::string broker_name;
  std::map<int64_t, std::string> broker_addrs;
};
std::string encode(const BrokerMemberGroup& body);  ///< with the enclosing "brokerMemberGroup"
[[nodiscard]] Result<BrokerMemberGroup> decode_broker_member_group(std::string_view json);

}  // namespace apogee::remoting
