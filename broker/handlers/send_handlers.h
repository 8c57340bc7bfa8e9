#pragma once

#include <optional>

#include "broker/groups/subscription_groups.h"
#include "broker/handlers/send_fields.h"
#include "broker/handlers/send_operation.h"
#include "broker/limits/rate_limits.h"
#include "broker/messages/message_put.h"
#include "broker/topics/topic_table.h"
#include "common/remoting/remoting_server.h"
#include "store/message_store.h"

namespace apogee::broker {

/// The wire side of sending: 10, 310 and 320, with one-letter names of the header fields in the last two. A batch is
/// told by the field `batch` or `m`, whatever the code. Runs on: the IO loop.
class SendHandlers {
 public:
  SendHandlers(SendOperation& operation, const BrokerConfig& config, RateLimits& limits)
      : operation_(operation), config_(config), limits_(limits) {}

  void send_message(const remoting::Caller& caller, remoting::Command request, remoting::Responder respond);
  void send_message_v2(const remoting::Caller& caller, remoting::Command request, remoting::Responder respond);
  void send_batch(const remoting::Caller& caller, remoting::Command request, remoting::Responder respond);

 private:
  void send(const remoting::Caller& caller, remoting::Command request, remoting::Responder respond,
            const SendFieldNames& names, bool batch);
  SendOperation& operation_;
  const BrokerConfig& config_;
  RateLimits& limits_;
};

/// 36: a consumer gives a message back, to get it again later (level 3 + times consumed, or the one it asks for) or as
/// a dead letter. Runs on: reader pool (it reads the log, and may make topics).
class SendBackHandler {
 public:
  struct Parts {
    const BrokerConfig& config;
    TopicTable& topics;
    SubscriptionGroups& groups;
    BrokerStats& stats;
    store::MessageStore& store;
    MessagePut& put;
    store::HostAddress store_host;
    std::string broker_ip;
    const Logger& logger;
  };
  explicit SendBackHandler(Parts parts) : parts_(std::move(parts)) {}

  void send_back(const remoting::Caller& caller, remoting::Command request, remoting::Responder respond);

 private:
  struct Wanted;
  void store_copy(const std::shared_ptr<Wanted>& wanted);
  Parts parts_;
  std::atomic<uint32_t> next_queue_{0};
};

}  // namespace apogee::broker
