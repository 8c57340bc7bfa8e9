#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "broker/broker_config.h"
#include "broker/replication/master_link.h"
#include "broker/replication/metadata_sync.h"
#include "common/remoting/bodies/ha_bodies.h"
#include "common/remoting/rpc_client.h"
#include "store/message_store.h"

namespace apogee::broker {

/// This broker's part in its broker group: a master serves its log to slaves, a slave follows its master's log and
/// settings. Owns the loop "ha" and what lives there.
class Replication {
 public:
  struct Parts {
    const BrokerConfig& config;
    store::MessageStore& store;
    remoting::RpcClient& client;
    loop::EventLoop& housekeeping;
    const Logger& logger;
  };
  explicit Replication(Parts parts);
  ~Replication();  ///< stops

  /// After the store was started: a master listens, with haListenPort 0 on `port_wanted`, or on
  /// any other when that is taken and `any_port`. Errors: kAlreadyExists (the port is taken); kIo.
  /// own_address: that this broker registers with.
  [[nodiscard]] Status listen(uint16_t port_wanted, bool any_port, std::string own_address);
  [[nodiscard]] uint16_t port() const;  ///< that slaves connect to
  /// A slave begins to follow; `register_soon` makes the NameServers tell again where the master is.
  [[nodiscard]] Status start(MetadataSync::Parts sync, std::function<void()> register_soon);
  /// After the server was stopped and the RpcClient shut down, before the store stops.
  void stop();

  [[nodiscard]] MasterLink& master() { return master_; }
  /// For the store's removal listener: a slave keeps what its master keeps. Thread: any.
  [[nodiscard]] bool may_remove(store::LogOffset new_begin) const;
  void settings_changed();
  /// Whether this is a slave and its master's log comes in. Thread: any.
  [[nodiscard]] bool follows() const;

  [[nodiscard]] remoting::HaRuntimeInfo status() const;
  [[nodiscard]] remoting::EpochEntryCache epochs() const;
  /// For GET_BROKER_RUNTIME_INFO.
  [[nodiscard]] std::map<std::string, std::string> figures() const;

 private:
  struct Impl;
  const Parts parts_;
  MasterLink master_;
  std::shared_ptr<Impl> impl_;
};

}  // namespace apogee::broker
