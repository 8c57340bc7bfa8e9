#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "apogee/result.h"
#include "common/base/logger.h"
#include "store/message_store.h"

namespace apogee::store {

enum class Replicated : uint8_t {
  kYes,
  kTimeout,  ///< FLUSH_SLAVE_TIMEOUT
  kNoSlave,  ///< SLAVE_NOT_AVAILABLE: fewer slaves than wanted are there, or near enough
};

/// What the slaves of this master have, the in-sync set that follows from it, and the answers that wait for them. An
/// answer that waits is data, not a thread. A slave is a member of the in-sync set from when it has all that was ever
/// confirmed; it leaves when it has lagged for catch_up_ms_max, or timeout_ms after its connection has ended. While the
/// master is alone in the set, what is confirmed stands still for some ms when a slave comes near, so that it gets in
/// under load too.
/// Thread: any; one lock, a leaf but for `whole_end`'s; released answers and the confirm listener are called without
/// it.
class ReplicaAcks {
 public:
  using SlaveId = uint64_t;
  using Released = std::function<void(Replicated replicated)>;
  struct Slave {
    std::string address;  ///< "ip:port" of its connection
    int64_t broker_id = 0;
    bool classic = false;
    bool in_sync = false;
    LogOffset acknowledged = 0, sent = 0;
    int64_t caught_up_ms_ago = 0;  ///< since it had everything there was
    int64_t bytes_per_second = 0;  ///< sent, over the last seconds
  };

  /// Up to where records are whole in front of `to`, when one ends at `from`; cheap, and takes no lock but a leaf.
  using WholeEnd = std::function<LogOffset(LogOffset from, LogOffset to)>;

  /// Without `whole_end` slaves are taken to acknowledge whole records; those of Apache RocketMQ do not.
  ReplicaAcks(ReplicationRules rules, std::function<LogOffset()> end, WholeEnd whole_end, const Logger& logger);

  // The stream's side.

  /// A slave whose log is proven a prefix of ours up to `proven` (a classic peer: listed in the configuration). One
  /// broker counts once: an earlier connection of the same broker id (of a classic peer: IP address) counts no more.
  SlaveId connected(std::string address, int64_t broker_id, bool classic, LogOffset proven);
  void sent(SlaveId slave, LogOffset end);
  /// Errors: kInvalidArgument when it is beyond what was sent or proven, or goes back; kNotFound when another
  /// connection has taken this one's place. Nothing counts then, and the connection is to be closed.
  [[nodiscard]] Status acknowledged(SlaveId slave, LogOffset end);
  void disconnected(SlaveId slave);

  // The log's side.

  /// Told when slaves have let confirmed() grow, on the thread that did it; must be cheap. Before the start.
  void set_confirm_listener(std::function<void()> grown);
  /// False: too few brokers are in sync to take a message at all; why, for a remark.
  [[nodiscard]] bool admits(std::string* why) const;
  /// Calls back when enough brokers have the log up to `end`; at once when no slave is to be waited for or none is
  /// there; with kTimeout after rules().timeout_ms, from expire().
  void wait_for(LogOffset end, Released released);
  /// Releases what has waited too long, and shrinks the in-sync set. Called each 100 ms or so.
  void expire();
  /// Releases everything (kTimeout), also what comes later: the log stops.
  void stop();
  /// Up to where every member of the in-sync set has the log, where a record ends; without `waits`, and after stop(),
  /// the log's end. Never goes back. Takes no lock but on a SYNC_MASTER that is alone in the set.
  [[nodiscard]] LogOffset confirmed() const;
  /// rules().waits, without a lock.
  [[nodiscard]] bool waits() const { return waits_.load(std::memory_order_relaxed); }
  /// Whether confirmed() follows the log's end by itself. Takes no lock.
  [[nodiscard]] bool follows_end() const { return !waits() || limit_.load() == kNoLimit; }

  void set_rules(const ReplicationRules& rules);
  [[nodiscard]] ReplicationRules rules() const;
  [[nodiscard]] std::vector<Slave> slaves() const;
  [[nodiscard]] size_t in_sync() const;  ///< members of the in-sync set, with the master

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr LogOffset kNoLimit = std::numeric_limits<LogOffset>::max();
  struct Member {
    Slave slave;
    bool connected = true;
    Clock::time_point left_at;       // when not connected
    Clock::time_point caught_up_at;  // it had all that was there then
    // What was there at a time: acknowledged, it was caught up then.
    LogOffset mark_end = 0;
    Clock::time_point mark_at;
    LogOffset rated_sent = 0;
    Clock::time_point rated_at;
  };
  struct Waiting {
    Clock::time_point deadline;
    Released released;
  };
  using Answers = std::vector<std::pair<Released, Replicated>>;
  [[nodiscard]] static bool same_broker(const Slave& one, const Slave& other);
  [[nodiscard]] size_t in_sync_locked() const;
  [[nodiscard]] size_t available_locked(LogOffset end) const;
  [[nodiscard]] LogOffset replicated_locked() const;
  [[nodiscard]] LogOffset confirmed_locked() const;
  void try_join_locked(Member& member, Clock::time_point now);
  [[nodiscard]] bool set_limit_locked();
  void release_locked(Answers& answers);
  void finish(Answers answers, bool grown) const;

  const std::function<LogOffset()> end_;
  const WholeEnd whole_end_;
  const Logger& logger_;
  std::function<void()> grown_;
  std::atomic<bool> waits_;
  std::atomic<LogOffset> limit_{kNoLimit};  // set under mutex_: what the members, or one that is coming, have
  mutable std::mutex mutex_;
  mutable LogOffset told_ = 0;                 // guarded by mutex_: the greatest confirmed() while there was no limit
  LogOffset last_limit_ = 0;                   // guarded by mutex_: that was one
  ReplicationRules rules_;                     // guarded by mutex_
  std::map<SlaveId, Member> members_;          // guarded by mutex_
  SlaveId next_id_ = 1;                        // guarded by mutex_
  std::multimap<LogOffset, Waiting> waiting_;  // guarded by mutex_
  LogOffset frozen_ = kNoLimit;                // guarded by mutex_: confirmed() waits there for a slave to get in
  Clock::time_point frozen_until_;             // guarded by mutex_
  Clock::time_point next_freeze_;              // guarded by mutex_
  bool stopped_ = false;                       // guarded by mutex_
};

}  // namespace apogee::store
