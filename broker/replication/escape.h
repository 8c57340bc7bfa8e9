#pragma once

#include <cstdint>
#include <memory>

#include "broker/broker_config.h"
#include "common/base/logger.h"
#include "common/loop/event_loop.h"
#include "common/remoting/rpc_client.h"
#include "store/message_store.h"

namespace apogee::broker {

/// Sends a slave's messages to another master of its cluster, because a slave writes nothing to its log: to one that
/// has the topic, else to any, which makes the topic if it may. They keep body, properties, key, born time and tries;
/// the born host becomes this broker. At least once: an answer may be lost.
class Escape {
 public:
  struct Parts {
    const BrokerConfig& config;
    loop::EventLoop& loop;  ///< that of `client`
    remoting::RpcClient& client;
    const Logger& logger;
  };
  enum class Kind : uint8_t { kMessage, kHalf };

  explicit Escape(const Parts& parts);
  /// Views in the draft are read during the call only. `done` is called once, on the loop or on this thread, within a
  /// few seconds; stored: another master has it. The place of a stored message is told as 0. Thread: any.
  void send(const store::MessageDraft& draft, Kind kind, store::PutCallback done);

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace apogee::broker
