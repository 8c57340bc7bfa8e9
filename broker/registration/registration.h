#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "broker/broker_config.h"
#include "broker/topics/topic_table.h"
#include "common/loop/event_loop.h"
#include "common/remoting/rpc_client.h"

namespace apogee::broker {

/// Keeps all NameServers informed of this broker and its topics: at start, at each change of a topic, every
/// registerNameServerPeriod, and soon again where the last attempt failed or the connection broke. A NameServer that
/// missed something gets the whole table. Its state lives on the loop; the public functions may be called from any
/// other thread.
class Registration {
 public:
  struct Identity {
    std::string address;     ///< "ip:port" told to clients
    std::string ha_address;  ///< "ip:port" told to slaves
  };
  struct Parts {
    const BrokerConfig& config;
    TopicTable& topics;
    loop::EventLoop& loop;
    remoting::RpcClient& client;
    Identity identity;
    const Logger& logger;
    /// Of a slave: what a NameServer knows of its master, address for clients and for slaves; on the loop.
    std::function<void(const std::string& master, const std::string& ha_address)> on_master = {};
  };
  explicit Registration(Parts parts);
  ~Registration();  ///< after the loop has ended

  /// Begins; `first_round` is called once, on the loop, when every NameServer has answered or failed.
  void start(std::function<void()> first_round);
  /// The TopicTable's listener. `finished` is called on the loop.
  void topics_changed(std::vector<std::string> topics, std::function<void()> finished);
  /// Registers everything again, such as after the broker's permission has changed.
  void register_all_soon();
  /// Tells all NameServers that the broker goes, and waits for at most timeout_ms. No registration afterwards.
  void unregister_all(int64_t timeout_ms);

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

/// The request that registers: with all topics, or with those named. Its topics' perm is masked where the broker's
/// own permission lacks reading or writing.
[[nodiscard]] remoting::Command registration_request(const BrokerConfig& config, const Registration::Identity& identity,
                                                     remoting::TopicConfigSerializeWrapper topics);

}  // namespace apogee::broker
