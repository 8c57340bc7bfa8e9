#pragma once

#include "broker/broker_config.h"
#include "broker/groups/client_info.h"
#include "broker/messages/message_put.h"
#include "broker/stats/broker_stats.h"
#include "broker/topics/topic_table.h"
#include "common/remoting/remoting_server.h"

namespace apogee::broker {

/// 370: takes a timer back by the handle that the answer to its send gave, by storing the message that cancels it. As
/// in RocketMQ 0 says that this is stored, not that there was such a timer. Runs on: the IO loop.
class RecallHandler {
 public:
  struct Parts {
    const BrokerConfig& config;
    TopicTable& topics;
    BrokerStats& stats;
    MessagePut& put;
    store::HostAddress store_host;  ///< the address that this broker registers with
    NowMs now_ms = system_now_ms;
  };
  explicit RecallHandler(Parts parts) : parts_(std::move(parts)) {}

  void recall(const remoting::Caller& caller, remoting::Command request, remoting::Responder respond);

 private:
  const Parts parts_;
};

}  // namespace apogee::broker
