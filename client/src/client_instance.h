#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "apogee/config.h"
#include "apogee/message_queue.h"
#include "apogee/result.h"
#include "common/base/logger.h"
#include "common/loop/event_loop.h"
#include "common/remoting/bodies/client_bodies.h"
#include "common/remoting/bodies/route_bodies.h"
#include "common/remoting/rpc_client.h"

namespace apogee {

[[nodiscard]] int64_t now_ms();     ///< since 1970
[[nodiscard]] int64_t steady_ms();  ///< for durations and deadlines

/// Where a topic lives: what the NameServer said and what follows from it. Immutable.
struct TopicRoute {
  remoting::TopicRouteData data;
  std::vector<MessageQueue> write_queues;  ///< sorted; of brokers with a master
  std::vector<MessageQueue> read_queues;   ///< sorted
  bool is_default = false;                 ///< of TBW102: the topic does not exist yet
};
using TopicRoutePtr = std::shared_ptr<const TopicRoute>;

/// The queues of a topic, by the rules of producers and consumers. Exposed for tests.
[[nodiscard]] TopicRoute make_topic_route(const std::string& topic, remoting::TopicRouteData data);

/// Splits "host:port;host:port". Error: kInvalidArgument.
[[nodiscard]] Result<std::vector<std::string>> parse_name_servers(const std::string& text);

/// Names as the wire has them (with the namespace's prefix) and as the application has them.
[[nodiscard]] std::string with_namespace(const std::string& name_space, const std::string& name);
[[nodiscard]] std::string without_namespace(const std::string& name_space, const std::string& name);

/// A broker process that is read from.
struct BrokerPlace {
  std::string address;
  bool slave = false;
};

/// What a producer or consumer has in common with every other: one loop thread, the connections, the routes of its
/// topics, heartbeats, and the requests that brokers send. One per producer or consumer.
/// Thread: any, unless said otherwise; callbacks come on the loop.
class ClientInstance {
 public:
  struct Hooks {
    /// Groups and subscriptions of the next heartbeat; the client id is filled in. On the loop.
    std::function<remoting::HeartbeatData()> heartbeat;
    /// Requests of brokers, on the loop. What it leaves alone (false) is refused with code 3.
    std::function<bool(remoting::Command& request, const remoting::Responder& respond)> request;
    /// The queues of a topic are others than before. On the loop.
    std::function<void(const std::string& topic)> route_changed;
    bool heartbeat_to_slaves = false;
  };
  using RouteCallback = std::function<void(Result<TopicRoutePtr>)>;

  ClientInstance(const ClientConfig& config, const char* thread_name);
  ~ClientInstance();

  /// Error: kInvalidArgument.
  Status start(Hooks hooks);
  /// Takes the groups off the brokers, ends the loop and joins it. Not on the loop.
  void shutdown(const std::string& producer_group, const std::string& consumer_group);

  [[nodiscard]] const std::string& client_id() const { return client_id_; }
  [[nodiscard]] const std::string& client_ip() const { return client_ip_; }
  [[nodiscard]] const Logger& logger() const { return logger_; }
  [[nodiscard]] const ClientConfig& config() const { return config_; }
  [[nodiscard]] std::string name_servers_text() const;
  [[nodiscard]] loop::EventLoop& loop() { return thread_.loop(); }
  [[nodiscard]] bool on_loop() { return thread_.loop().on_loop_thread(); }
  [[nodiscard]] remoting::RpcClient& rpc() { return rpc_; }

  /// The route that is known, else null. A topic asked for once is refreshed from then on.
  [[nodiscard]] TopicRoutePtr route(const std::string& topic) const;
  /// Asks the NameServer. default_queues > 0: for an unknown topic the route of TBW102 with at most so many queues a
  /// broker. Errors: kNotFound (no such topic), kNetwork, kTimeout, kBroker, kCorrupt.
  void fetch_route(const std::string& topic, int default_queues, RouteCallback done);
  /// Refresh this topic's route from now on.
  void watch_topic(const std::string& topic, int default_queues);
  void forget_topic(const std::string& topic);

  /// A request to any NameServer; others are tried when one does not answer.
  void call_name_server(remoting::Command request, int64_t timeout_ms, remoting::ReplyCallback done);

  /// "ip:port" of the master of that name.
  [[nodiscard]] std::optional<std::string> broker_address(const std::string& broker_name) const;
  /// As broker_address, but the VIP port when the configuration says so: for sends and administrative requests.
  [[nodiscard]] std::optional<std::string> request_address(const std::string& broker_name) const;
  /// Where to read from: the broker with that id; for a slave that is gone the one with the next id; else any of the
  /// name, the lowest id first. What is doubted counts only while all others are doubted too.
  [[nodiscard]] std::optional<BrokerPlace> place_to_read(const std::string& broker_name, int64_t wanted_id = 0) const;
  /// A request was not answered: others of its name are read from until a heartbeat to it is answered. On the loop.
  void doubt(const std::string& address);
  /// Some broker of the topic, a master if there is one, not one that is doubted if there is another.
  [[nodiscard]] std::optional<std::string> any_broker_of(const std::string& topic) const;

  /// A request to a broker's address, with the default request_timeout when timeout_ms is 0.
  void call(const std::string& address, remoting::Command request, int64_t timeout_ms, remoting::ReplyCallback done);

  /// Sends heartbeats to all brokers; `done` (may be null) when all have answered or failed.
  void heartbeat_now(std::function<void()> done = nullptr);
  /// A heartbeat to those brokers that got none on their present connection. On the loop; what is sent to them on the
  /// loop afterwards comes after it.
  void greet_new_brokers();

 private:
  struct NameServerCall;
  void start_timers();
  void refresh_routes();
  void store_route(const std::string& topic, TopicRoute route);
  void send_heartbeat(const std::string& address, std::function<void()> done);
  void greet_later(const std::string& address);
  [[nodiscard]] std::set<std::string> heartbeat_targets() const;
  void try_name_server(std::shared_ptr<NameServerCall> call);
  void on_request(const remoting::Caller& caller, remoting::Command request, remoting::Responder respond);
  void request_route(const std::string& topic, int default_queues);
  void finish_route(const std::string& topic, Result<TopicRoutePtr> result);
  Status find_client_ip();

  const ClientConfig config_;
  Logger logger_;
  Hooks hooks_;
  std::string client_ip_;
  std::string client_id_;
  std::vector<std::string> name_servers_;  // set by start()

  mutable std::mutex mutex_;
  std::map<std::string, TopicRoutePtr> routes_;                    // guarded by mutex_
  std::map<std::string, int> watched_;                             // topic to default queues; guarded by mutex_
  std::map<std::string, std::map<int64_t, std::string>> brokers_;  // by name; guarded by mutex_
  std::set<std::string> doubted_;                                  // addresses; guarded by mutex_

  // On the loop only.
  std::map<std::string, std::vector<RouteCallback>> route_waiters_;
  std::set<std::string> greeted_brokers_;  // got a heartbeat on their present connection
  std::set<std::string> greeted_later_;    // are to get one soon
  size_t name_server_index_ = 0;

  std::atomic<bool> started_{false};
  std::atomic<bool> stopped_{false};
  loop::LoopThread thread_;
  remoting::RpcClient rpc_;
};

/// A reply of a broker that is not a success, as an Error with its code and remark.
[[nodiscard]] Error broker_error(const remoting::Command& reply, const char* what);

}  // namespace apogee
