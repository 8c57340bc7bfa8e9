#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "apogee/result.h"
#include "broker/groups/subscription_groups.h"
#include "broker/messages/message_put.h"
#include "broker/topics/topic_table.h"
#include "common/base/logger.h"
#include "common/remoting/bodies/group_bodies.h"
#include "store/message_store.h"

namespace apogee::broker {

/// Delivers messages that wait for their delay level to be over. Each level is a queue in which messages lie in the
/// order they are due, and the entry of each says when; so the one thread here sleeps until the first of the heads is
/// due, or until a message comes into a level that was empty. What waits costs nothing.
/// A message is delivered in order within its level, at least once: a put that fails is tried again, and what was
/// delivered after the last save() is delivered again after a crash. A message that the store refuses for what it is
/// (because maxMessageSize became smaller, say) is tried three times, then passed over with an error line that names
/// it.
class DelayService {
 public:
  struct Parts {
    store::MessageStore& store;
    MessagePut& put;
    TopicTable& topics;
    SubscriptionGroups& groups;
    std::vector<int64_t> delays_ms;  ///< of levels 1, 2, ...
    std::string file;                ///< config/delayOffset.json; empty: nothing is read or written
    const Logger& logger;
    NowMs now_ms = system_now_ms;
  };
  explicit DelayService(Parts parts);
  ~DelayService();  ///< stops

  /// Reads how far each level is delivered, from the file or its .bak, and brings that into what the queues hold.
  /// After the store was opened. Errors: kCorrupt when neither can be read; kIo.
  [[nodiscard]] Status load();
  /// Delivers from now on; messages get this broker's address.
  void start(store::HostAddress store_host);
  /// Ends the thread; nothing is delivered after that.
  void stop();

  /// Of a slave, instead of start(): takes over how far the master has delivered, and writes the file at once.
  /// Errors: kIo, kDiskFull.
  [[nodiscard]] Status follow(const remoting::DelayOffsetTable& master);

  /// For the store's arrival listener. Does not block.
  void on_arrivals(const std::vector<store::Arrival>& arrivals);
  /// Looks at every level again, as after a change of the clock. Thread: any.
  void wake();

  /// Level to the queue offset of the next message to be delivered, of levels that ever had one. Thread: any.
  [[nodiscard]] remoting::DelayOffsetTable offsets() const;
  /// Writes the file when the last snapshot is `interval_ms` old (0: at once) and everything that was delivered by
  /// then is on disk, so that a power loss takes no message away that counts as delivered. Call every 200 ms, and
  /// with 0 after the store was stopped. Blocks on disk. Thread: any. Errors: kIo, kDiskFull.
  [[nodiscard]] Status save(int64_t interval_ms);
  /// For MessageStore::set_removal_listener: whether nothing in front of this offset of the log waits, nor would again
  /// after a crash. A file that holds such a message stays until the message is delivered. Thread: any.
  [[nodiscard]] bool may_remove(store::LogOffset new_begin) const;
  /// For GET_BROKER_RUNTIME_INFO: "scheduleMessageOffset_LEVEL" is "next offset,max offset"; scheduleMessagesSkipped is
  /// how many could not be delivered. Thread: any.
  [[nodiscard]] std::map<std::string, std::string> figures() const;
  [[nodiscard]] int64_t delivered_total() const { return delivered_.load(std::memory_order_relaxed); }

 private:
  struct Level {
    int32_t queue_id = 0;
    int64_t delay_ms = -1;           ///< -1: configured no more, its messages are still delivered
    std::atomic<int64_t> offset{0};  ///< of the next message
    std::atomic<bool> empty{false};  ///< an arrival is to be told; cleared by whoever tells
    int64_t next_ms = 0;             ///< when to look again; of the thread
    int64_t failing_since_ms = 0;    ///< 0: the last put went well; of the thread
    int64_t failure_logged_ms = 0;   ///< of the thread
    int refusals_for_good = 0;       ///< of the present message; of the thread
    [[nodiscard]] int32_t number() const { return queue_id + 1; }
  };
  /// What became of one put; given back on any thread.
  struct Outcome {
    std::mutex mutex;
    std::condition_variable there;
    std::optional<store::PutResult> result;  // guarded by mutex
  };

  [[nodiscard]] Result<remoting::DelayOffsetTable> read() const;
  void run();
  void look(Level& level);
  void look_at_end(Level& level);
  [[nodiscard]] bool deliver(Level& level, const store::QueueEntry& entry);
  void recovered(Level& level);
  [[nodiscard]] bool topic_is_there(Level& level, const std::string& topic);
  [[nodiscard]] store::PutResult put_and_wait(const store::MessageDraft& draft);
  void note_failure(Level& level, const std::string& topic, const std::string& why);

  const Parts parts_;
  std::deque<Level> levels_;  // as many as ever after load()
  store::HostAddress store_host_;
  std::set<std::string> missing_topics_;  // that were logged; of the thread
  std::atomic<int64_t> delivered_{0}, skipped_{0};
  Outcome outcome_;

  std::mutex mutex_;
  std::condition_variable wanted_;
  bool woken_ = false;  // guarded by mutex_
  std::atomic<bool> stopping_{false};
  std::thread thread_;

  mutable std::mutex save_mutex_;
  std::optional<remoting::DelayOffsetTable> snapshot_;  // to be written; guarded by save_mutex_
  store::LogOffset snapshot_end_ = 0;                   // what must be on disk before; guarded by save_mutex_
  int64_t snapshot_ms_ = 0;                             // guarded by save_mutex_
  std::map<int32_t, int64_t> saved_;                    // as the file is; guarded by save_mutex_
};

}  // namespace apogee::broker
