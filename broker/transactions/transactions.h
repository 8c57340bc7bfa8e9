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
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "apogee/result.h"
#include "broker/broker_config.h"
#include "broker/groups/producer_groups.h"
#include "broker/messages/message_put.h"
#include "broker/offsets/consumer_offsets.h"
#include "broker/relay/client_calls.h"
#include "broker/stats/broker_stats.h"
#include "broker/transactions/half_message.h"
#include "broker/transactions/offset_floor.h"
#include "common/base/logger.h"
#include "store/message_store.h"

namespace apogee::broker {

/// What END_TRANSACTION says, whatever protocol it came by.
struct EndTransaction {
  enum class Decision : uint8_t { kUnknown, kCommit, kRollback };
  std::string group;
  store::QueueOffset half_offset = 0;  ///< where the half message, or a copy of it, is in the half queue
  store::LogOffset log_offset = 0;     ///< and in the log
  Decision decision = Decision::kUnknown;
  bool from_check = false;     ///< it answers a question of ours
  std::string transaction_id;  ///< empty: not given
  bool awaited = false;        ///< somebody waits for the answer
};

/// Transactional messages: half messages wait unseen until their producer decides; producers that do not are asked.
///
/// A transaction is known by where its first half message is in the half queue. Undecided ones are in a table in
/// memory; what is in the half queue and not in the table is decided, and stays so: each transaction is decided once,
/// by whichever request comes first. All of that is read from the log again at a start, see recover(). README.md,
/// "Transactions", says what a crash can undo.
/// Thread: any, unless said otherwise; one lock, which is not held while anything else is called. Nothing blocks on
/// disk but end() and start(), which read the log.
class Transactions {
 public:
  struct Parts {
    const BrokerConfig& config;
    store::MessageStore& store;
    MessagePut& put;
    ConsumerOffsets& offsets;
    const ProducerGroups& producers;
    BrokerStats& stats;
    ClientCalls calls;
    store::HostAddress store_host;
    const Logger& logger;
    NowMs now_ms = system_now_ms;
  };
  struct Figures {
    int64_t undecided = 0, ops_waiting = 0;  ///< now; ops_waiting: decisions whose op messages are not yet stored
    int64_t committed = 0, rolled_back = 0, ignored = 0, checks = 0, given_up = 0;  ///< since the start
  };
  struct Answer {
    int32_t code = 0;
    std::string remark;
  };
  using Done = std::function<void(Answer)>;

  explicit Transactions(Parts parts);
  ~Transactions();  ///< stops
  Transactions(const Transactions&) = delete;
  Transactions& operator=(const Transactions&) = delete;

  /// Once, before requests are let in: recover(), then the thread that asks producers. Errors: those of recover().
  [[nodiscard]] Status start();
  /// Ends the thread and stores the op messages that wait. The store still runs.
  void stop();

  /// Why no further half message is taken now; nullopt: it is.
  [[nodiscard]] std::optional<std::string> busy() const;
  /// Stores a message, drafted as it was sent, as a half message. Views are read during the call only.
  void prepare(const store::MessageDraft& draft, store::PutCallback done);
  /// Commits, rolls back, or neither. `done` is called once, on this thread or one of the store's.
  void end(const EndTransaction& request, Done done);
  [[nodiscard]] Figures figures() const;
  [[nodiscard]] std::map<std::string, std::string> texts() const;  ///< the figures, for brokerStatus

  // What the thread does, for tests that do it themselves.

  /// Reads which transactions are undecided: half and op messages from where CID_RMQ_SYS_TRANS was, then the end of
  /// the log for commits that have no op message yet. Error: kTimeout (the queues do not catch up with the log).
  [[nodiscard]] Status recover();
  /// Of each undecided transaction the newest copy of its half message: where it is in the half queue and in the log.
  [[nodiscard]] std::map<store::QueueOffset, store::LogOffset> undecided() const;
  /// Asks for, renews or gives up the undecided messages that are due.
  void check_round();
  /// Stores op messages that waited long enough (all: every one), commits the progress in both queues.
  void tick(bool all);

 private:
  enum class State : uint8_t { kOpen, kDeciding, kDecided };
  struct Entry {
    store::QueueOffset offset = 0;  ///< of the newest copy
    store::LogOffset physical = 0;
    store::LogOffset commit_at = -1;  ///< where the message for consumers was stored
    /// A further copy, stored while the transaction was being decided; a start has to find the older one, because the
    /// commit may lie between the two.
    store::QueueOffset also = -1;
    int64_t born_ms = 0;
    int32_t immunity_s = -1;
    State state = State::kOpen;
    bool copying = false;  ///< a copy for the end of the half queue is being stored
  };
  /// A half message that is decided, to be told to the op topic; root < 0: of a further copy.
  struct Op {
    store::QueueOffset root = 0, offset = 0;
    store::LogOffset commit_at = -1;
  };
  using Ops = std::vector<Op>;
  enum class Due : uint8_t { kNo, kAsk, kRenew };

  void run();
  [[nodiscard]] std::optional<Answer> refusal(const EndTransaction& request, const HalfMessage& half) const;
  void commit(const HalfMessage& half, bool awaited, Done done);
  void roll_back(const HalfMessage& half, bool awaited, Done done);
  /// The only way from kOpen; false when another was faster.
  [[nodiscard]] bool claim(store::QueueOffset root);
  void decided_locked(store::QueueOffset root, Entry& entry);
  void push_op_locked(const Op& op);
  [[nodiscard]] bool ops_due_locked(bool all, int64_t now) const;
  void store_ops(bool all);
  void op_stored(Ops ops, int64_t begun, const store::PutResult& result);
  void save_progress();

  [[nodiscard]] Due due_locked(const Entry& entry, int64_t now, int64_t log_end) const;
  void look_after(store::QueueOffset root, int64_t now, int64_t log_end);
  void renew(const HalfMessage& half, bool ask);
  void renewed(const HalfMessage& half, const StoredCopy& copy, bool ask, int64_t begun,
               const store::PutResult& result);
  void ask_producer(const HalfMessage& half, const StoredCopy& copy, const store::PutResult& place);
  void give_up(const HalfMessage& half, const char* why);
  void forget_unreadable(store::QueueOffset root, store::LogOffset physical);

  [[nodiscard]] Status wait_for_queues() const;
  [[nodiscard]] store::QueueOffset begin_of(std::string_view topic) const;
  /// Every record of queue 0 of the topic, in order.
  void read_queue(std::string_view topic, store::QueueOffset from, store::QueueOffset to,
                  const std::function<void(SharedBytes)>& use) const;
  void read_ops(std::unordered_set<store::QueueOffset>& done, store::LogOffset& covered);
  void read_halves(const std::unordered_set<store::QueueOffset>& done);
  void find_commits(store::LogOffset covered);
  void commit_found(const SharedBytes& record);

  Parts parts_;
  mutable std::mutex mutex_;
  std::condition_variable wake_;
  // Guarded by mutex_:
  std::unordered_map<store::QueueOffset, Entry> table_;  // by root; decided ones until their op message is stored
  size_t decided_ = 0;                                   // of table_
  store::LogOffset oldest_read_ = INT64_MAX;             // undecided half message, of recover()
  OffsetFloor halves_;                                   // holds the newest copy of each that is in the table
  OffsetFloor op_messages_;                              // holds those of ops_undone_
  OffsetFloor log_{0};  // holds commits whose op message is not stored; always where a record begins
  std::map<store::QueueOffset, store::QueueOffset> ops_undone_;  // op message to the highest half offset that it tells
  Ops ops_;                                                      // decisions to be stored
  size_t op_bytes_ = 0;                                          // of ops_, as text
  int64_t ops_since_ms_ = 0;                                     // of the first in ops_
  int64_t ops_not_before_ms_ = 0;                                // after a failure
  bool ops_urgent_ = false;
  size_t ops_under_way_ = 0;
  std::map<store::QueueOffset, Done> waiters_;              // by root: for the op message of a rollback
  store::QueueOffset half_progress_ = 0, op_progress_ = 0;  // as last committed
  Figures figures_;
  bool stopping_ = false;

  std::atomic<uint32_t> next_producer_{0};
  std::thread thread_;
};

}  // namespace apogee::broker
