#pragma once

#include <string>

#include "common/base/logger.h"
#include "common/remoting/command_codec.h"
#include "common/remoting/remoting_server.h"
#include "nameserver/config.h"
#include "nameserver/handlers/request_fields.h"
#include "nameserver/kv_config.h"
#include "nameserver/route_table.h"

namespace apogee::nameserver {

/// What clients and tools ask about topics and brokers. Thread: any.
class RouteHandlers {
 public:
  /// now_ms: `needWaitForService` counts from the time at construction.
  RouteHandlers(RouteTable& routes, const KvConfig& kv, const NameServerConfig& config, ClockMs now_ms,
                const Logger& logger)
      : routes_(routes),
        kv_(kv),
        config_(config),
        now_ms_(std::move(now_ms)),
        logger_(logger),
        started_at_ms_(now_ms_()),
        answer_tail_(remoting::json_header_tail()) {}

  using Caller = remoting::Caller;
  using Command = remoting::Command;
  Command route(const Caller& caller, const Command& request) const;  // GET_ROUTEINFO_BY_TOPIC
  /// A remoting::QuickHandler of route(), for requests with a plain JSON header whose topic is there; the others are
  /// left to it. Takes no memory in steady state.
  [[nodiscard]] bool quick_route(const remoting::HeaderView& header, remoting::QuickReply reply) const;
  Command cluster_info(const Caller& caller, const Command& request) const;       // GET_BROKER_CLUSTER_INFO
  Command all_topics(const Caller& caller, const Command& request) const;         // GET_ALL_TOPIC_LIST_FROM_NAMESERVER
  Command topics_of_cluster(const Caller& caller, const Command& request) const;  // GET_TOPICS_BY_CLUSTER
  Command system_topics(const Caller& caller, const Command& request) const;      // GET_SYSTEM_TOPIC_LIST_FROM_NS
  Command unit_topics(const Caller& caller, const Command& request) const;        // the three GET_..UNIT.._LIST
  Command delete_topic(const Caller& caller, const Command& request) const;       // DELETE_TOPIC_IN_NAMESRV
  Command wipe_write_permission(const Caller& caller, const Command& request) const;  // WIPE_WRITE_PERM_OF_BROKER
  Command add_write_permission(const Caller& caller, const Command& request) const;   // ADD_WRITE_PERM_OF_BROKER

 private:
  RouteTable& routes_;
  const KvConfig& kv_;
  const NameServerConfig& config_;
  ClockMs now_ms_;
  const Logger& logger_;
  const int64_t started_at_ms_;
  const std::string answer_tail_;  ///< of a header, behind the opaque
};

}  // namespace apogee::nameserver
