#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "broker/broker_config.h"
#include "broker/handlers/pull_handlers.h"
#include "broker/request_table.h"
#include "common/base/logger.h"
#include "common/remoting/remoting_server.h"

namespace apogee::broker {

/// The short way of 11 with a JSON header: the fields are read where they lie, the pull is the same PullOperation, and
/// its answer is written in room that is used again and again; in steady state no memory is taken, also for a pull
/// that is held. A header that is unusual in any way, and one that asks for nothing that can be, is left to
/// PullHandlers. Runs on: the IO loops; each has a part of its own.
class QuickPull {
 public:
  struct Parts {
    PullOperation& operation;
    const BrokerConfig& config;
    const RequestTable& requests;
    const Logger& logger;
    uint16_t vip_port = 0;  ///< pulls that come in by it are refused, the long way
    size_t loops = 1;       ///< IO loops of the server
  };
  explicit QuickPull(Parts parts);
  ~QuickPull();  ///< none of its pulls is held or read any more

  /// A remoting::QuickHandler.
  [[nodiscard]] bool take(size_t loop, const remoting::Caller& caller, const remoting::HeaderView& header,
                          remoting::QuickReply reply);

 private:
  class Lane;
  const Parts parts_;
  std::vector<std::unique_ptr<Lane>> lanes_;  ///< one a loop
};

}  // namespace apogee::broker
