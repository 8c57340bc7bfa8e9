#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "broker/locks/queue_locks.h"
#include "broker/replication/acting_progress.h"
#include "broker/replication/escape.h"
#include "broker/request_table.h"
#include "broker/schedule/delay_service.h"
#include "broker/timers/timer_service.h"
#include "broker/transactions/transactions.h"

namespace apogee::broker {

/// Of a slave with enableSlaveActingMaster: does what must go on while its master is away. NameServers are asked each
/// syncBrokerMemberGroupPeriod who is there; without a master the slave with the smallest id acts, as long as a
/// NameServer lists it and no master's log comes in. With enableRemoteEscape due delay-level messages and timers are
/// sent to another master of the cluster, and so are undecided half messages, which that master then asks for. How far
/// that went is kept in config/actingMaster.json, and told to the returning master, which stops the acting thereby.
/// README.md, "Acting master", says what a crash can repeat.
class ActingMaster {
 public:
  struct Parts {
    const BrokerConfig& config;
    store::MessageStore& store;
    TopicTable& topics;
    SubscriptionGroups& groups;
    ConsumerOffsets& offsets;
    const ProducerGroups& producers;
    BrokerStats& stats;
    loop::EventLoop& loop;  ///< that of `client`
    remoting::RpcClient& client;
    std::vector<int64_t> delays_ms;  ///< of the delay levels
    std::string address;             ///< by which this broker registers
    std::function<bool()> follows;   ///< whether a master's log comes in now; empty: never known
    const Logger& logger;
  };
  struct Figures {
    bool acting = false;
    int64_t terms = 0;  ///< how often it began
    int64_t escaped_delayed = 0, escaped_timers = 0, escaped_half = 0, refused = 0;
  };

  explicit ActingMaster(Parts parts);
  ~ActingMaster();  ///< stops
  ActingMaster(const ActingMaster&) = delete;
  ActingMaster& operator=(const ActingMaster&) = delete;

  void start();
  /// Before the RpcClient is shut down and the store stops.
  void stop();
  /// Looks at once, as after NOTIFY_MIN_BROKER_ID_CHANGE. Thread: any.
  void wake();
  /// The returning master asks: acting ends, and begins again only after that master was seen and is gone, or did not
  /// come for 30 s. Answers how far it went since the last master. Blocks for a put under way. Thread: any.
  [[nodiscard]] ActingProgress hand_over();
  [[nodiscard]] Figures figures() const;  ///< Thread: any.
  [[nodiscard]] std::map<std::string, std::string> texts() const;

  /// Adds NOTIFY_MIN_BROKER_ID_CHANGE, and "takeOver" to EXCHANGE_BROKER_HA_INFO, which is there.
  void add_rows(RequestTable& table);

 private:
  struct Members {
    bool answered = false;  ///< by any NameServer
    bool listed = false;    ///< this broker, by its id and address
    bool master = false;
    int64_t min_id = INT64_MAX;
  };
  struct Duties;
  void run();
  void look();
  [[nodiscard]] Members ask_members();
  /// With work_mutex_ held, and mutex_ only where it does not wait for another broker.
  void escape_halves();
  // With both held.
  void begin_locked();
  void end_locked(const char* why);
  [[nodiscard]] bool read_halves_locked();
  void note_progress_locked();
  [[nodiscard]] Figures figures_locked() const;

  const Parts parts_;
  Escape escape_;
  const std::string progress_file_, delay_file_, timers_file_, timers_dir_;

  std::mutex work_mutex_;  // before mutex_: one look, or one hand-over, at a time
  mutable std::mutex mutex_;
  std::unique_ptr<Duties> duties_;  // as all down to wake_mutex_ guarded by mutex_; made and ended with both held
  ActingProgress progress_;         // of this and earlier terms, since the last master
  ActingProgress saved_;
  bool acted_ = false;  // there is progress that the master does not know
  bool handed_over_ = false;
  int64_t not_before_ms_ = 0;  // after a hand-over; steady clock
  int64_t missing_looks_ = 0, unanswered_since_ms_ = -1;
  Figures figures_;

  std::mutex wake_mutex_;
  std::condition_variable wanted_;
  bool woken_ = false, stopping_ = false;  // guarded by wake_mutex_
  std::thread thread_;
};

/// The header field by which a returning master asks for the progress; its answer has a body (see encode()).
inline constexpr const char* kTakeOverField = "takeOver";

/// Of a master with enableSlaveActingMaster, before it reads its progress: takes over what a slave did meanwhile, into
/// the files of delay levels and timers (then timersdb is removed, to be built again), the offset of half messages and
/// the queue locks.
/// Waits ten seconds at most for a slave that does not answer. Errors: kIo, kDiskFull.
struct TakeOver {
  const BrokerConfig& config;
  store::MessageStore& store;
  ConsumerOffsets& offsets;
  QueueLocks& locks;
  const Logger& logger;
};
[[nodiscard]] Status take_over(const TakeOver& parts);

}  // namespace apogee::broker
