#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "apogee/message.h"
#include "apogee/producer.h"
#include "apogee/result.h"

namespace apogee {

/// What is to become of a message whose transaction was begun.
enum class TransactionState : uint8_t {
  kCommit,    ///< consumers get it
  kRollback,  ///< nobody gets it
  kUnknown,   ///< the broker asks again later
};
const char* to_string(TransactionState state);  ///< "COMMIT_MESSAGE", "ROLLBACK_MESSAGE", "UNKNOW", as in Java

/// The application's side of a transaction. What throws counts as kUnknown.
struct TransactionListener {
  /// The broker keeps the message, unseen by consumers: do the local work now. On the thread of the send.
  /// receipt.transaction_id names the transaction: keep it with the work's outcome, for check().
  std::function<TransactionState(const Message& message, const SendReceipt& receipt)> execute;
  /// The broker does not know how a transaction of this group ended, perhaps one of another producer: look it up by
  /// message.msg_id(), which is the transaction id. It may come while execute() still runs, more than once, and after
  /// a crash for work that was never done. On a thread of the producer's own, where blocking is allowed.
  std::function<TransactionState(const ReceivedMessage& message)> check;
};

struct TransactionProducerConfig : ProducerConfig {
  int check_threads = 1;
  /// Questions that wait for a thread; a broker asks again what is dropped.
  size_t check_queue_max = 2'000;
  /// Brokers of these topics may ask from the start on; those of other topics do from the first send on. Empty: the
  /// brokers that make topics by themselves.
  std::vector<std::string> topics;
};

struct TransactionOptions : SendOptions {
  /// The broker does not ask about this transaction before; 0: as it is configured (transactionTimeOut). After this
  /// time an answer of execute() comes too late: brokers of 5.3 and ours decide by check() then.
  std::chrono::seconds check_immunity{0};
};

struct TransactionReceipt {
  SendReceipt sent;
  /// What was told to the broker. kRollback without execute() having been called: the message was stored with another
  /// status than kOk.
  TransactionState state = TransactionState::kUnknown;
};

/// Sends messages that consumers see only when some local work succeeded. Thread: any, after start().
class TransactionProducer {
 public:
  TransactionProducer(TransactionProducerConfig config, TransactionListener listener);
  ~TransactionProducer();  ///< shuts down; not from the listener
  TransactionProducer(const TransactionProducer&) = delete;
  TransactionProducer& operator=(const TransactionProducer&) = delete;

  /// Errors: those of Producer::start(); kInvalidArgument for a listener without execute or check.
  Status start();
  /// Waits for checks that run (10 s at most), and leaves the group; the broker asks other members what is open.
  /// Refused (kInvalidArgument) from check().
  Status shutdown();

  /// Sends the message unseen, calls execute() and tells the broker what it returned. An error is one of
  /// Producer::send(): execute() was not called, and with kTimeout or kNetwork the broker may ask about it later.
  /// What execute() decided is told once, without waiting for an answer: when that gets lost, the broker asks.
  /// A send is not tried again unless the broker refused it, so that no transaction has two messages.
  [[nodiscard]] Result<TransactionReceipt> send_in_transaction(const Message& message,
                                                               const TransactionOptions& options = {});
  /// Sends without a transaction.
  [[nodiscard]] Result<SendReceipt> send(const Message& message, const SendOptions& options = {});

  [[nodiscard]] std::string client_id() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace apogee
