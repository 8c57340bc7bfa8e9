#pragma once

#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "apogee/admin_client.h"
#include "common/base/logger.h"
#include "common/loop/event_loop.h"
#include "common/message/message_id.h"
#include "common/remoting/bodies/client_bodies.h"
#include "common/remoting/bodies/route_bodies.h"
#include "common/remoting/bodies/stats_bodies.h"
#include "common/remoting/rpc_client.h"

namespace apogee {

/// Moves requests; what is asked and what the answers mean stands in the other files of this folder.
struct AdminClient::Impl {
  explicit Impl(AdminConfig given);
  ~Impl();

  /// Asks one server and turns every code but 0 into an Error that says who answered what.
  [[nodiscard]] Result<remoting::Command> call(const std::string& address, remoting::Command request);
  /// The answer whatever its code; errors of the network name the address.
  [[nodiscard]] Result<remoting::Command> call_any(const std::string& address, remoting::Command request);
  /// Asks the NameServers in turn until one answers.
  [[nodiscard]] Result<remoting::Command> call_namesrv(const remoting::Command& request);
  /// Asks every NameServer; the first error ends it.
  [[nodiscard]] Status call_every_namesrv(const remoting::Command& request);
  [[nodiscard]] Result<remoting::Command> call_broker_of(const MessageQueue& queue, remoting::Command request);
  /// What call() makes of an answer.
  static Error refusal(const std::string& address, const remoting::Command& answer);

  [[nodiscard]] Result<remoting::ClusterInfo> cluster_info();
  [[nodiscard]] Result<remoting::TopicRouteData> route(const std::string& topic);
  /// The masters (or the lowest ids) of a topic: broker name and address. kNotFound when there is none.
  [[nodiscard]] Result<std::vector<std::pair<std::string, std::string>>> brokers_of_topic(const std::string& topic);
  [[nodiscard]] Result<std::string> address_of(const std::string& broker_name);

  AdminConfig config;
  Logger logger;
  std::vector<std::string> namesrvs;
  message::UniqueIdGenerator ids;

  std::mutex mutex;
  std::map<std::string, std::string> broker_addresses;  ///< by name, as last heard; guarded by mutex

  loop::LoopThread thread;
  remoting::RpcClient rpc;
};

namespace admin {

/// Runs a decoder over an answer's body; the error names the peer.
template <typename Decode>
auto decode_body(const std::string& from, const remoting::Command& answer, Decode decode)
    -> decltype(decode(std::string_view())) {
  auto decoded = decode(answer.body.bytes);
  if (!decoded) {
    return Error{Errc::kCorrupt, from + " sent a body that cannot be read: " + decoded.error().message};
  }
  return decoded;
}

/// The address to talk to for a broker name: its master, or the slave with the lowest id; "" when it has none.
std::string main_address(const remoting::BrokerData& broker);

QueueProgress progress_from(const remoting::OffsetWrapper& offsets);

/// The queues that a message may go to, of brokers that have a master; of each broker at most so many. Sorted.
std::vector<MessageQueue> writable_queues(const remoting::TopicRouteData& route, const std::string& topic,
                                          int32_t queues_max);

/// What brokers answer to a send whose message is stored; nullopt for everything else.
std::optional<SendStatus> stored_status(int32_t response_code);

/// The configuration that a server answered. Error: kCorrupt, naming the server.
Result<std::map<std::string, std::string>> parse_config_text(const std::string& from, std::string_view text);

}  // namespace admin
}  // namespace apogee
