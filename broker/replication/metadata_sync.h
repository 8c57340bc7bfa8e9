#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "broker/filter/consumer_filters.h"
#include "broker/groups/subscription_groups.h"
#include "broker/locks/queue_locks.h"
#include "broker/offsets/consumer_offsets.h"
#include "broker/replication/master_link.h"
#include "broker/schedule/delay_service.h"
#include "broker/topics/topic_table.h"
#include "common/remoting/rpc_client.h"
#include "store/message_store.h"

namespace apogee::broker {

/// Brings to a slave what is not in the log: topics, groups, consumer offsets, filters, and how far delayed and timed
/// messages are delivered. A thread of its own asks the master, each slaveSyncInterval for what has changed (a master
/// of Apache RocketMQ, which cannot tell, each 10 s for all of it), and puts it on disk before it asks again. Progress
/// is taken over when the slave's log has come to where the master's ended: else a message that counts as delivered
/// might be in neither queue.
/// Topics and groups come at once when the master says that they have changed (SettingNotices), and it is told when
/// they are on disk here. The queues of topics that the master has deleted go when the log is here up to where it did
/// that; topics that the log has and the master, now lost, had no time to tell of are made again of their queues.
/// Offsets that consumers committed here while the master was away are brought to it, never to set it back.
class MetadataSync {
 public:
  struct Parts {
    const BrokerConfig& config;
    const MasterLink& master;
    remoting::RpcClient& client;
    store::MessageStore& store;
    TopicTable& topics;
    SubscriptionGroups& groups;
    ConsumerOffsets& offsets;
    ConsumerFilters& filters;
    QueueLocks& locks;
    DelayService& delays;
    std::string timer_checkpoint_file;
    std::string own_offsets_file;  ///< config/slaveOffsets.json
    const Logger& logger;
    NowMs now_ms = steady_now_ms;
  };
  struct Figures {
    bool reachable = false;              ///< the last round went through
    int64_t synced_ms_ago = -1;          ///< since a round went through; -1: never
    int64_t changes = 0;                 ///< tables taken over
    int64_t own_offsets = 0;             ///< that the master does not have yet
    int64_t pushed_offsets = 0;          ///< that were brought to the master
    store::LogOffset master_begin = -1;  ///< of its log; -1: not known
  };
  explicit MetadataSync(Parts parts);
  ~MetadataSync();  ///< stops

  /// Reads what was this slave's own before a restart, and starts the thread. Error: kCorrupt.
  [[nodiscard]] Status start();
  /// The RpcClient should be shut down before, for requests under way are waited for.
  void stop();
  /// Asks at once, as after another master was found. Thread: any.
  void wake();
  /// Asks for everything that is due; what the thread does, for tests without it.
  void round();
  [[nodiscard]] Figures figures() const;  ///< Thread: any.

 private:
  /// A table of the master.
  struct Item {
    remoting::RequestCode code;
    const char* what;
    bool progress = false;  ///< taken over when the log is there
    bool confirm = false;   ///< the master waits until it is told that the table is here
    std::function<Status(const remoting::Command& answer)> apply;
    std::string version;  ///< of the latest answer; empty: of a master that has none
    int64_t next_ms = 0;
    bool unsupported = false;
    std::optional<remoting::Command> held;  ///< progress that waits for the log
    store::LogOffset held_for = 0;
    int64_t held_since_ms = 0;
    bool failing = false;
  };
  void run();
  void forget_master(const std::string& address);
  [[nodiscard]] Status ask(Item& item, const std::string& address);
  [[nodiscard]] Status ask_once(Item& item, const std::string& address);
  [[nodiscard]] Status ask_runtime_info(const std::string& address);
  [[nodiscard]] Status take_topics(const remoting::Command& answer);
  void sweep_up_to(const remoting::Command& answer);
  void remove_deleted();
  void restore_lost();
  void take(Item& item, const remoting::Command& answer);
  void release_held();
  [[nodiscard]] Status take_offsets(const remoting::Command& answer);
  [[nodiscard]] Status push_own(const std::string& address);
  void save_own();

  const Parts parts_;
  std::vector<Item> items_;  // the thread's, as down to mutex_
  std::string asked_;        // address of the master that the versions are of
  int64_t next_info_ms_ = 0, next_sweep_ms_ = 0;
  store::LogOffset sweep_end_ =
      -1;  // topics that are not in the table have no messages in front of this; -1: not known
  std::map<std::string, store::LogOffset> deleted_;  // topics that the master deleted before its log ended there
  ConsumerOffsets::Table saved_own_;
  ConsumerOffsets::Table master_offsets_;  // as told with the latest answer

  std::atomic<int64_t> synced_ms_{-1}, changes_{0}, own_{0}, pushed_{0}, master_begin_{-1};
  std::atomic<bool> reachable_{false};
  std::mutex mutex_;
  std::condition_variable wanted_;
  bool woken_ = false, stopping_ = false;  // guarded by mutex_
  std::thread thread_;
};

}  // namespace apogee::broker
