#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <shared_mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "apogee/result.h"
#include "broker/groups/client_info.h"
#include "common/base/logger.h"
#include "common/remoting/bodies/topic_bodies.h"

namespace apogee::broker {

using remoting::TopicConfig;

/// Clients name it when the topic of a message need not exist; the template of topics made by a send.
inline constexpr std::string_view kAutoCreateTopic = "TBW102";
inline constexpr int32_t kTopicQueuesMax = 65'536;

/// Topics that clients may not send to.
[[nodiscard]] bool is_closed_to_senders(std::string_view topic);

/// The broker's topics, kept in config/topics.json in RocketMQ's form. Readers get immutable snapshots. Changes go
/// through one writer thread: what is asked for while a file is being written shares the next one, and nothing is
/// visible or acknowledged before it is on disk. Thread: any.
class TopicTable {
 public:
  using Table = std::map<std::string, std::shared_ptr<const TopicConfig>, std::less<>>;

  struct Options {
    std::string file;  ///< empty: nothing is read or written
    std::string cluster_name = "DefaultCluster";
    std::string broker_name = "broker";
    bool auto_create = true;  ///< autoCreateTopicEnable
    int32_t default_queue_nums = 8;
    bool cluster_topic = true;  ///< clusterTopicEnable
    bool broker_topic = true;   ///< brokerTopicEnable
    std::string trace_topic;    ///< empty unless traceTopicEnable
  };

  /// How far a change has gone when its caller is told.
  enum class Until : uint8_t {
    kSaved,       ///< on disk and visible; the NameServers are being told
    kRegistered,  ///< the change listener is through with it too
  };
  using Done = std::function<void(Status)>;
  /// Told on the writer's thread after topics were added or changed. Calls `finished` once, on any thread, when
  /// the NameServers know them or were waited for long enough.
  using ChangeListener = std::function<void(const std::vector<std::string>& topics, std::function<void()> finished)>;

  TopicTable(Options options, const Logger& logger, NowMs now_ms = system_now_ms);
  ~TopicTable();  ///< changes that were asked for are finished before
  TopicTable(const TopicTable&) = delete;
  TopicTable& operator=(const TopicTable&) = delete;

  /// Told of what is asked for from now on. Before other threads ask for changes.
  void set_change_listener(ChangeListener listener) {
    std::lock_guard lock(queue_mutex_);
    listener_ = std::move(listener);
  }

  /// Reads the file, or its .bak where it is missing or bad; adds the built-in topics that are not there.
  /// Errors: kCorrupt when there is a file but neither it nor the .bak can be read; kIo.
  [[nodiscard]] Status load();

  /// nullptr when there is no such topic.
  [[nodiscard]] std::shared_ptr<const TopicConfig> find(std::string_view topic) const;
  [[nodiscard]] std::shared_ptr<const Table> snapshot() const;
  /// Another one after each change of the table, for those who keep what they have found in it.
  [[nodiscard]] uint64_t generation() const { return generation_.load(std::memory_order_acquire); }
  [[nodiscard]] remoting::DataVersion data_version() const;
  /// Topics and version of one moment.
  [[nodiscard]] remoting::TopicConfigSerializeWrapper contents() const;

  /// Adds or replaces. Blocks on disk and, with kRegistered, on the NameServers: not for IO loops.
  /// Errors: kInvalidArgument naming the field; kIo, kDiskFull (then nothing changed).
  [[nodiscard]] Status put(TopicConfig config, Until until = Until::kRegistered);
  /// The same without blocking; `done` is called once, on any thread.
  void put_async(TopicConfig config, Until until, Done done);
  /// Errors: kNotFound, kPermission (a system topic), kIo.
  [[nodiscard]] Status remove(std::string_view topic);

  /// Makes a topic as its first message asks: from `default_topic` where that may be inherited, with at most
  /// `queue_nums` queues. Does not block; `done` gets success also when the topic exists meanwhile.
  /// Error: kNotFound when the default topic is none, or creation is switched off.
  void create_from_template(std::string_view topic, std::string_view default_topic, int32_t queue_nums,
                            int32_t topic_sys_flag, Done done);
  /// Makes a %RETRY% or %DLQ% topic unless it exists.
  void create_group_topic(std::string_view topic, int32_t queue_nums, int32_t topic_sys_flag, Done done);

  /// A slave's topics are its master's: take_over() changes them and nothing else does (kPermission; the topics of
  /// groups, which the master makes, are just not made).
  void set_read_only(bool on) { read_only_.store(on, std::memory_order_relaxed); }
  /// Makes the table what the master's is, with its version. Blocks on disk. Errors: kIo, kDiskFull (nothing changed).
  [[nodiscard]] Status take_over(remoting::TopicConfigSerializeWrapper master);

  /// Gives the table a new version, so that NameServers take it over again.
  void touch(Done done);

  void set_auto_create(bool on) { auto_create_.store(on, std::memory_order_relaxed); }  ///< autoCreateTopicEnable

  /// The built-in topics and those with the prefix rmq_sys_: users may neither create nor delete them.
  [[nodiscard]] bool is_system_topic(std::string_view topic) const;
  [[nodiscard]] const std::set<std::string, std::less<>>& system_topics() const { return system_topics_; }

 private:
  struct Change {
    std::shared_ptr<const TopicConfig> config;                           // nullptr: remove `topic`
    std::string topic;                                                   // empty: only a new version is wanted
    std::shared_ptr<const remoting::TopicConfigSerializeWrapper> whole;  // the table becomes this
    bool only_if_absent = false;
    Until until = Until::kSaved;
    Done done;
  };
  void add_built_in(Table& table);
  [[nodiscard]] Status read(const std::string& path, Table& table, remoting::DataVersion& version,
                            std::string& other_members) const;
  [[nodiscard]] Status write(const Table& table, const remoting::DataVersion& version) const;
  void submit(Change change);
  void submit_config(TopicConfig config, bool only_if_absent, Until until, Done done);
  void run_writer();
  void apply(std::vector<Change> changes, const ChangeListener& listener);

  const Options options_;
  const Logger& logger_;
  const NowMs now_ms_;
  std::set<std::string, std::less<>> system_topics_;  // constant after construction
  std::string other_members_;                         // of the file; constant after load()
  ChangeListener listener_;                           // guarded by queue_mutex_
  std::atomic<bool> auto_create_;
  std::atomic<bool> read_only_{false};

  mutable std::shared_mutex mutex_;
  std::shared_ptr<const Table> table_;  // guarded by mutex_
  remoting::DataVersion version_;       // guarded by mutex_
  std::atomic<uint64_t> generation_{1};

  std::mutex queue_mutex_;
  std::condition_variable queue_filled_;
  std::vector<Change> queue_;  // guarded by queue_mutex_
  bool stopping_ = false;      // guarded by queue_mutex_
  std::thread writer_;
};

}  // namespace apogee::broker
