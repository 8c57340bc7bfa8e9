#pragma once

#include <cstddef>
#include <memory>
#include <string_view>
#include <vector>

#include "broker/broker_config.h"
#include "broker/limits/rate_limits.h"
#include "broker/messages/message_put.h"
#include "broker/request_table.h"
#include "broker/stats/broker_stats.h"
#include "broker/topics/topic_table.h"
#include "common/message/message_id.h"
#include "common/remoting/remoting_server.h"
#include "store/message_store.h"

namespace apogee::broker {

/// The short way of the most frequent requests: 310 and 320, one plain message or a batch of them
/// for a queue of a topic that is there. The messages are checked and written from their frame straight into the log,
/// and the answer in room that is used again and again; in steady state no memory is taken. Whatever is unusual about a
/// request, and whatever is wrong with it, is left to SendHandlers, which answers the plain ones the same. Runs on: the
/// IO loops; each has a part of its own.
class QuickSend {
 public:
  struct Parts {
    const BrokerConfig& config;
    const TopicTable& topics;
    const RateLimits& limits;
    BrokerStats& stats;
    MessagePut& put;
    const RequestTable& requests;
    store::HostAddress store_host;           ///< the address that this broker registers with
    message::UniqueIdGenerator& unique_ids;  ///< for messages without a key
    bool sync_flush = false;
    size_t loops = 1;  ///< IO loops of the server
    NowMs now_ms = system_now_ms;
  };
  explicit QuickSend(Parts parts);
  ~QuickSend();  ///< nothing waits for the disk any more

  /// A remoting::QuickHandler.
  [[nodiscard]] bool take(size_t loop, const remoting::Caller& caller, const remoting::HeaderView& header,
                          std::string_view body, remoting::QuickReply reply);

 private:
  class Lane;
  const Parts parts_;
  std::vector<std::unique_ptr<Lane>> lanes_;  ///< one a loop
};

}  // namespace apogee::broker
