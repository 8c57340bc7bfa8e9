#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <future>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "apogee/config.h"
#include "apogee/message.h"
#include "apogee/message_queue.h"
#include "apogee/result.h"

namespace apogee {

struct ProducerConfig : ClientConfig {
  /// Must be set. Producers of one group do the same work.
  std::string group;

  /// From the call of a send to its result, all retries and route look-ups included.
  std::chrono::milliseconds send_timeout{3'000};
  /// Of one attempt within send_timeout; 0: an attempt may take all the time that is left.
  std::chrono::milliseconds attempt_timeout{0};
  /// Further attempts after a failed one, if possible on another broker. A message sent to a queue that
  /// the caller chose (queue, sharding key, selector) is never sent elsewhere, and so is not retried.
  int retries = 2;
  /// Also retry when the broker stored the message but answered with another status than kOk.
  bool retry_another_broker_when_not_store_ok = false;

  /// Bodies of at least so many bytes are compressed (not in batches); 0 = never.
  size_t compress_body_bytes_min = 4'096;
  int compress_level = 5;  ///< of zlib, 1 to 9
  size_t message_bytes_max = 4 * 1024 * 1024;

  /// Avoid brokers that answered slowly or not at all, for a time that depends on how slow they were.
  bool latency_fault_avoidance = false;

  /// Gather messages of any sends, sync or async and of all threads, that go to the same topic (and queue, where one
  /// was chosen) into batches. Each sender gets a receipt of its own, each consumer the messages one by one; when a
  /// batch fails, all its senders hear of it. Never gathered are one-way sends, delayed messages, transactions,
  /// replies, bodies that are compressed and messages of batch_bytes_max or more; these pass after what was gathered
  /// before them.
  bool auto_batch = false;
  std::chrono::milliseconds batch_linger{2};  ///< how long a batch waits for more; 0: not at all
  size_t batch_bytes_max = 32 * 1024;
  int batch_messages_max = 1'000;

  /// Messages a second that this producer sends at most; 0: no limit. A send that comes too soon waits for its turn
  /// within its timeout: the sync ones in their call, the async ones in a queue. When its turn would be later than its
  /// timeout, or publish_waiting_max sends wait, it is refused at once with kBusy.
  double publish_rate_max = 0;
  int publish_burst = 0;  ///< messages that may go at once after a pause; 0: as many as in a tenth of a second
  int publish_waiting_max = 10'000;

  /// Write what became of each message to the trace topic, as RocketMQ's clients do; in the background, with a producer
  /// and a thread of its own. Traces that cannot be written in time are dropped; brokers with traceOn=false get none.
  bool enable_trace = false;
  std::string trace_topic = "RMQ_SYS_TRACE_TOPIC";

  /// Queues that the broker gives to a topic that it creates by itself on the first send.
  int default_topic_queues = 4;
};

enum class SendStatus : uint8_t {
  kOk,
  kFlushDiskTimeout,   ///< stored, not yet on disk
  kFlushSlaveTimeout,  ///< stored, no replica confirmed in time
  kSlaveNotAvailable,  ///< stored, there is no replica that could confirm
};
const char* to_string(SendStatus status);  ///< "SEND_OK", "FLUSH_DISK_TIMEOUT", ...

struct SendReceipt {
  SendStatus status = SendStatus::kOk;
  std::string msg_id;         ///< given by the producer, kept over retries; of a batch joined with commas
  std::string offset_msg_id;  ///< where the message is stored; of a batch joined with commas
  MessageQueue queue;
  int64_t queue_offset = 0;  ///< of a batch the first
  std::string transaction_id;
  std::string region_id;
  int64_t deliver_at_ms = 0;  ///< since 1970, of a message with an instant (set_deliver_at, ..._after); 0: none
  bool trace_on = true;       ///< whether the broker wants traces
  /// Of a message with an instant, from brokers with recallMessageEnable: what recall() takes it back by.
  std::string recall_handle;
  /// Of a list that send_batch() had to split: the receipt of each part; the fields above are of all of them.
  std::vector<SendReceipt> parts;
};

/// Called once per send, on the producer's own thread. It must not block: other results wait for it. It
/// may call every ..._async, ..._future and send_oneway; a blocking call made in it is refused.
using SendCallback = std::function<void(Result<SendReceipt>)>;

/// As SendCallback, of a request.
using RequestCallback = std::function<void(Result<ReceivedMessage>)>;

/// Returns the index of the wanted queue. Called on the sending thread or on the producer's own thread.
using QueueSelector = std::function<size_t(const std::vector<MessageQueue>& queues, const Message& message)>;

/// Where a message goes and how long it may take. At most one of queue, sharding_key and selector counts,
/// in this order; without any, queues take turns.
struct SendOptions {
  MessageQueue queue;  ///< used when its broker name is not empty
  /// Messages of one key go to one queue, as long as the number of queues stays the same.
  std::string sharding_key;
  QueueSelector selector;
  std::chrono::milliseconds timeout{0};  ///< 0: ProducerConfig::send_timeout

  static SendOptions to(MessageQueue queue) {
    SendOptions options;
    options.queue = std::move(queue);
    return options;
  }
  static SendOptions by_key(std::string key) {
    SendOptions options;
    options.sharding_key = std::move(key);
    return options;
  }
  static SendOptions by(QueueSelector selector) {
    SendOptions options;
    options.selector = std::move(selector);
    return options;
  }
};

/// Sends messages. Thread: any, after start(); several producers may live in one process. Errors of all
/// sends: kInvalidArgument, kTooLarge (checked before anything is sent), kNotFound (no route), kTimeout
/// (the message may have been stored), kNetwork, kBroker with the response code and the broker's remark,
/// kBusy (publish_rate_max), kClosed. Sends of one thread to one queue are stored in the order of the calls once the
/// route is known (call queues() first), also with send_async.
class Producer {
 public:
  explicit Producer(ProducerConfig config);
  ~Producer();  ///< shuts down; not from a callback
  Producer(const Producer&) = delete;
  Producer& operator=(const Producer&) = delete;

  /// Error: kInvalidArgument for a bad configuration. Does not wait for a NameServer.
  Status start();
  /// Results still outstanding become kClosed. Refused (kInvalidArgument) from a callback.
  Status shutdown();

  [[nodiscard]] Result<SendReceipt> send(const Message& message, const SendOptions& options = {});
  void send_async(const Message& message, SendCallback done, const SendOptions& options = {});
  [[nodiscard]] std::future<Result<SendReceipt>> send_future(const Message& message, const SendOptions& options = {});
  /// Returns when the message was handed to the connection; nobody knows whether it was stored.
  [[nodiscard]] Status send_oneway(const Message& message, const SendOptions& options = {});

  /// Takes a message back that waits for its instant; `receipt` is that of its send. Success says that the
  /// cancellation is stored, also when the message went out at the same moment or was cancelled before.
  /// Errors: those of a send; kInvalidArgument when the receipt names no instant; kBroker with code 13 when the
  /// instant is over.
  [[nodiscard]] Status cancel_timer(const SendReceipt& receipt);

  /// The same by the handle of the send's receipt, which may come from another producer or process.
  /// Returns the id of the message. Errors: kInvalidArgument for a handle of another topic, or for none at all;
  /// kNotFound (no route to the handle's broker), kTimeout, kNetwork, kClosed; kBroker with code 16 (the broker has
  /// recallMessageEnable=false), 17 (no such topic) or 604 (the instant is over). Refused in a callback.
  [[nodiscard]] Result<std::string> recall(const std::string& topic, const std::string& handle);

  /// They must have one topic and one wait_store_ok, and go to one queue. All messages or none, unless they have more
  /// than message_bytes_max bytes: then they are sent as several batches one after the other, of which each is stored
  /// wholly or not; the error of a later one says how many messages were stored before it.
  [[nodiscard]] Result<SendReceipt> send_batch(const std::vector<Message>& messages, const SendOptions& options = {});
  void send_batch_async(const std::vector<Message>& messages, SendCallback done, const SendOptions& options = {});

  /// Sends a message and waits for the reply, which its consumer makes with reply_to(). The timeout (of the options,
  /// else send_timeout) is that of both together. Errors: those of a send; kTimeout also when no reply came in time:
  /// whether the message was consumed is not known then. A reply that comes later is dropped.
  [[nodiscard]] Result<ReceivedMessage> request(const Message& message, const SendOptions& options = {});
  void request_async(const Message& message, RequestCallback done, const SendOptions& options = {});
  [[nodiscard]] std::future<Result<ReceivedMessage>> request_future(const Message& message,
                                                                    const SendOptions& options = {});

  /// The queues that messages of the topic can be sent to, sorted by broker name and queue id.
  [[nodiscard]] Result<std::vector<MessageQueue>> queues(const std::string& topic);

  [[nodiscard]] std::string client_id() const;

 private:
  friend class TransactionProducer;
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace apogee
