#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <string>
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
/// answer that waits is data, not a thread. A slave is a member of the in-sync set from when it has all that the set
/// has confirmed; it leaves when it has lagged for catch_up_ms_max, or timeout_ms after its connection has ended.
/// Thread: any; one lock, a leaf; released answers are called without it.
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

  ReplicaAcks(ReplicationRules rules, std::function<LogOffset()> end, const Logger& logger);

  // The stream's side.

  /// A slave whose log is proven a prefix of ours up to `proven` (a classic peer: listed in the configuration).
  SlaveId connected(std::string address, int64_t broker_id, bool classic, LogOffset proven);
  void sent(SlaveId slave, LogOffset end);
  /// Error: kInvalidArgument when it is beyond what was sent or proven, or goes back; nothing counts then, and the
  /// connection is to be closed.
  [[nodiscard]] Status acknowledged(SlaveId slave, LogOffset end);
  void disconnected(SlaveId slave);

  // The log's side.

  /// Told when confirmed() has grown, on the thread that did it; must be cheap. Before the start.
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
  /// Up to where every member of the in-sync set has the log; without `waits` the log's end.
  [[nodiscard]] LogOffset confirmed() const;

  void set_rules(const ReplicationRules& rules);
  [[nodiscard]] ReplicationRules rules() const;
  [[nodiscard]] std::vector<Slave> slaves() const;
  [[nodiscard]] size_t in_sync() const;  ///< members of the in-sync set, with the master
};

}  // namespace apogee::store
