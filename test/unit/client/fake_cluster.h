#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "apogee/message_queue.h"
#include "common/base/logger.h"
#include "common/loop/event_loop.h"
#include "common/remoting/remoting_server.h"

namespace apogee::test {

/// Waits until the condition holds; false after ten seconds.
bool eventually(const std::function<bool()>& condition);

/// A broker in memory, with as much of one as clients need: it stores, delivers (holding pulls), keeps offsets, members
/// and locks. `intercept` sees every request first and may answer it; what it returns is sent.
class FakeBroker {
 public:
  using Intercept = std::function<std::optional<remoting::Command>(const remoting::Command& request)>;

  explicit FakeBroker(std::string name);
  ~FakeBroker();
  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] std::string address() const;
  void set_intercept(Intercept intercept);
  /// Requests of this code are not answered at all.
  void ignore(remoting::RequestCode code);
  /// What pulls are answered as suggestWhichBrokerId.
  void suggest(int64_t broker_id);
  void stop();

  [[nodiscard]] int count(remoting::RequestCode code);
  /// The requests of this code, in their order.
  [[nodiscard]] std::vector<remoting::Command> requests(remoting::RequestCode code);
  int64_t append(const std::string& topic, int queue, const std::string& body, const std::string& tag = "",
                 int reconsume_times = 0, const std::string& properties = "");
  [[nodiscard]] size_t stored(const std::string& topic);
  [[nodiscard]] std::optional<int64_t> offset(const std::string& group, const std::string& topic, int queue);
  void set_offset(const std::string& group, const std::string& topic, int queue, int64_t offset);
  [[nodiscard]] size_t members(const std::string& group);
  [[nodiscard]] std::map<MessageQueue, std::string> locks();
  /// As if the owner had asked for it, whoever has it now; empty: nobody has it.
  void set_lock(const std::string& group, const MessageQueue& queue, const std::string& owner);
  /// A request of the broker to every member of the group; the first reply, if one is wanted.
  std::optional<remoting::Command> ask_members(const std::string& group, remoting::Command request, bool oneway);
  /// A one-way request to every producer that a heartbeat told of.
  void ask_producers(const remoting::Command& request);

 private:
  struct Held {
    remoting::Command request;
    remoting::Responder respond;
  };
  using QueueKey = std::pair<std::string, int>;
  void handle(const remoting::Caller& caller, remoting::Command request, remoting::Responder respond);
  remoting::Command answer(const remoting::Caller& caller, const remoting::Command& request);
  remoting::Command pull_locked(const remoting::Command& request, bool* found);
  int64_t append_locked(const std::string& topic, int queue, const std::string& body, const std::string& properties,
                        int sys_flag, int reconsume_times, std::vector<Held>* wake);
  void wake(std::vector<Held> held);
  void notify_members(const std::string& group);

  const std::string name_;
  Logger logger_;
  remoting::RemotingServer server_;
  loop::LoopThread timers_{"fake-timers"};
  std::mutex mutex_;
  Intercept intercept_;
  std::set<int32_t> ignored_;
  int64_t suggested_ = 0;
  std::vector<remoting::Command> seen_;
  std::map<QueueKey, std::vector<std::string>> records_;
  std::vector<std::pair<std::string, QueueKey>> places_;  // physical offset / 1000
  std::map<QueueKey, std::map<uint64_t, Held>> held_;
  uint64_t next_held_ = 0;
  std::map<std::pair<std::string, QueueKey>, int64_t> offsets_;
  std::map<std::string, std::map<std::string, remoting::ConnectionId>> members_;
  std::set<remoting::ConnectionId> producers_;
  std::map<std::pair<std::string, MessageQueue>, std::string> locks_;
};

class FakeCluster;
/// Some rounds of a client's loop: several heartbeats come in. The client's heartbeat_interval has to be short.
bool time_passes(FakeCluster& cluster);

/// A NameServer for the brokers, whose topics all have so many queues on each of them.
class FakeCluster {
 public:
  explicit FakeCluster(int brokers = 1);
  ~FakeCluster();
  [[nodiscard]] std::string name_servers() const;
  [[nodiscard]] FakeBroker& broker(size_t index = 0) { return *brokers_[index]; }
  void add_topic(const std::string& topic, int queues);
  /// Routes have these addresses of the first broker name, by id, in place of its own.
  void set_addresses(std::map<int64_t, std::string> addresses);
  [[nodiscard]] int route_requests(const std::string& topic);

 private:
  Logger logger_;
  std::vector<std::unique_ptr<FakeBroker>> brokers_;
  std::mutex mutex_;
  std::map<std::string, int> topics_;
  std::map<int64_t, std::string> addresses_;
  std::map<std::string, int> asked_;
  remoting::RemotingServer server_;
};

}  // namespace apogee::test
