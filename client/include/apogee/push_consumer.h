#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "apogee/consumer_types.h"
#include "apogee/message.h"
#include "apogee/message_queue.h"
#include "apogee/message_selector.h"
#include "apogee/result.h"

namespace apogee {

struct PushConsumerConfig : ConsumerConfig {
  int consume_threads = 20;
  int consume_batch_max = 1;  ///< messages handed to the listener in one call
  /// After so many redeliveries a message goes to the group's dead letters. -1: 16, or no limit when orderly.
  int max_reconsume_times = -1;
  /// A message that a concurrent listener does not finish in this time is sent back for redelivery.
  std::chrono::milliseconds consume_timeout{15 * 60'000};
  /// shutdown() waits at most so long for running listeners.
  std::chrono::milliseconds shutdown_timeout{30'000};

  // Orderly listeners.
  std::chrono::milliseconds suspend_time{1'000};             ///< before a queue is tried again after kSuspend
  std::chrono::milliseconds lock_interval{20'000};           ///< how often queue locks are renewed
  std::chrono::milliseconds lock_valid{30'000};              ///< how long a lock counts without renewal
  std::chrono::milliseconds lock_retry_delay{1'000};         ///< before asking again for a lock that another member has
  std::chrono::milliseconds continuous_consume_max{60'000};  ///< then a queue lets others have the thread
  /// Concurrent: a message that could neither be finished nor sent back is handed out again after this time.
  std::chrono::milliseconds retry_locally_delay{5'000};
};

enum class ConsumeResult : uint8_t {
  kSuccess,
  kLater,  ///< redeliver the messages (those behind ConcurrentContext::ack_index)
};

struct ConcurrentContext {
  MessageQueue queue;
  /// With kSuccess: index of the last message that is done; those behind it are redelivered.
  int ack_index = INT32_MAX;
  /// Delay level of a redelivery; 0 = by the number of redeliveries so far, -1 = straight to the dead letters.
  int delay_level_when_later = 0;
};

enum class OrderlyResult : uint8_t {
  kSuccess,
  kSuspend,  ///< hand out the same messages again after a while; the queue waits meanwhile
};

struct OrderlyContext {
  MessageQueue queue;
  /// Wait before the same messages are handed out again, 10 to 30000 ms; 0 = PushConsumerConfig::suspend_time.
  std::chrono::milliseconds suspend_time{0};
};

/// Listeners run on the consumer's listener threads, many at a time (an orderly one: one at a time per queue).
/// They may block, and may call anything but the consumer's own shutdown() and destructor: shutdown() is refused there.
/// An exception counts as kLater or kSuspend.
using ConcurrentListener = std::function<ConsumeResult(const std::vector<ReceivedMessage>&, ConcurrentContext&)>;
using OrderlyListener = std::function<OrderlyResult(const std::vector<ReceivedMessage>&, OrderlyContext&)>;

/// Receives the messages of topics as a member of a consumer group. Thread: any.
class PushConsumer {
 public:
  explicit PushConsumer(PushConsumerConfig config);
  ~PushConsumer();  ///< shuts down; not from a listener
  PushConsumer(const PushConsumer&) = delete;
  PushConsumer& operator=(const PushConsumer&) = delete;

  /// One of the two, before start().
  void set_concurrent_listener(ConcurrentListener listener);
  void set_orderly_listener(OrderlyListener listener);

  /// Tags: "*" or "TagA || TagB". Before or after start(); all members of a group must subscribe to the same.
  Status subscribe(const std::string& topic, const std::string& tags = "*");
  /// The same by tags or by SQL92. SQL is shown to a broker of the topic first, by start() or, on a consumer that was
  /// started, by this call: errors kBroker with the broker's remark (code 23: line, column and reason; code 1: the
  /// broker does not filter by SQL), kInvalidArgument when the SQL is empty. A broker that cannot be reached is no
  /// error.
  Status subscribe(const std::string& topic, const MessageSelector& selector);
  Status unsubscribe(const std::string& topic);

  /// Errors: kInvalidArgument for a bad configuration; kAlreadyExists when started. Does not wait for
  /// NameServer or brokers: consuming begins when they are there. A subscription by SQL that is refused and an offset
  /// file that cannot be read (kCorrupt, kIo) are final: kClosed from then on.
  Status start();
  /// Stops pulling, waits for running listeners, commits what was done, gives locks back and leaves the group.
  /// Errors: kInvalidArgument in a listener; kTimeout when listeners did not end in time (everything else
  /// is done then; the threads are joined as soon as the listeners return).
  Status shutdown();

  /// Stops and resumes handing out messages; the queues stay assigned.
  void pause();
  void resume();

  /// Queues that this member has now, sorted.
  [[nodiscard]] std::vector<MessageQueue> assignment() const;
  [[nodiscard]] std::string client_id() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace apogee
