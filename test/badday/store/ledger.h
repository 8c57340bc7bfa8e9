#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "store/message_store.h"
#include "test/support/random.h"

namespace apogee::store {

/// What a sender knows: what it sent, and what it was promised. Thread: any.
class Ledger {
 public:
  struct Sent {
    int64_t id = 0;
    std::string topic;
    int32_t queue_id = 0;
    int32_t sys_flag = 0;
    std::string body;  ///< begins with the id and a bar
    std::string properties;
    [[nodiscard]] bool takes_queue_offset() const;
    [[nodiscard]] int64_t record_bytes() const;
  };
  struct Place {
    int64_t id = 0;
    LogOffset offset = -1;
    QueueOffset queue_offset = -1;
  };
  /// What must be found again, whatever happens.
  struct Promise {
    std::vector<Place> places;
    int64_t epoch_begin = 0;  ///< of the messages with a lower id, those in `places` are there and no others
  };

  /// A new message of random bytes; noted before it is sent. The reference stays valid.
  const Sent& write(const std::string& topic, int32_t queue_id, int32_t sys_flag, size_t body_bytes,
                    test::Random& random);
  /// promised: it will be found again.
  void placed(const Place& place, bool promised);
  /// Messages placed in front of it will be found again as well.
  void durable_to(LogOffset end);

  /// Its messages are in the log, but need not be in a queue.
  void deleted(const std::string& topic);
  [[nodiscard]] bool is_deleted(const std::string& topic) const;

  [[nodiscard]] Promise promise() const;
  /// Back to what was promised when the power failed.
  void take_back_to(const Promise& promise);
  /// From now on these messages are what the store has, for good.
  void go_on_with(std::vector<Place> found);

  /// nullptr: nothing with this body was ever sent.
  [[nodiscard]] const Sent* find(std::string_view body) const;
  [[nodiscard]] const Sent& sent(int64_t id) const;
  [[nodiscard]] std::vector<std::pair<std::string, int32_t>> queues() const;

 private:
  mutable std::mutex mutex_;
  std::deque<Sent> sent_;                                   // guarded by mutex_; by id
  std::vector<Place> places_;                               // guarded by mutex_; of this epoch
  Promise promise_;                                         // guarded by mutex_
  std::set<std::string> deleted_;                           // guarded by mutex_
  LogOffset durable_to_ = 0;                                // guarded by mutex_
  std::map<std::pair<std::string, int32_t>, bool> queues_;  // guarded by mutex_
};

/// How senders behave.
struct Traffic {
  int senders = 1;
  int messages = 60;  ///< of all senders
  int topics = 3, queues = 2;
  int outstanding = 4;  ///< of one sender
  size_t body_bytes_max = 2'000;
  bool sync_flush = true;
  std::function<void()> between;  ///< called by each sender in front of each message
};
/// Sends and waits for all answers. Returns how many were not stored.
int send_traffic(MessageStore& store, Ledger& ledger, const Traffic& traffic, uint64_t seed);

/// What can be read of a store.
struct Reading {
  std::map<int64_t, Ledger::Place> in_log;  ///< by message id
  std::map<int64_t, QueueOffset> in_queue;
  int64_t gaps = 0;  ///< offsets of queues that have no message
  std::vector<std::string> problems;
  [[nodiscard]] std::vector<Ledger::Place> places() const;
};
/// Whether a record there may differ from what was sent.
using Excuse = std::function<bool(LogOffset offset, int64_t bytes)>;

/// Reads log and queues to their ends. Problems: what was never sent or is not as it was sent, what is there twice,
/// entries that lead nowhere, queues that stand still, messages of the log that their queue has not.
[[nodiscard]] Reading read_everything(MessageStore& store, const Ledger& ledger, const Excuse& excuse = nullptr);
/// Adds what was promised and is not there, or is there and had gone.
void check_promise(const Ledger::Promise& promise, Reading& reading);

/// Small files, so that short runs have many; without what is not in the file layer.
[[nodiscard]] StoreOptions bad_day_options(test::Random& random);

}  // namespace apogee::store
