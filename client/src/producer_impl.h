#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "apogee/producer.h"
#include "client/src/client_instance.h"
#include "client/src/latency_faults.h"
#include "client/src/pending_requests.h"
#include "client/src/publish_rate.h"
#include "client/src/send_batches.h"
#include "client/src/send_request.h"
#include "client/src/trace_writer.h"

namespace apogee {

/// One send from its call to its result. Touched by the calling thread until the first attempt is under way, then on
/// the loop only.
struct Send {
  PreparedSend prepared;
  std::string topic;  ///< as the application named it
  SendOptions options;
  Message message;  ///< for a selector only
  SendCallback done;
  bool oneway = false;
  bool may_retry = true;  ///< no queue was chosen
  bool wait_store_ok = true;
  int64_t deadline_ms = 0;  ///< steady
  int attempts = 0;
  int postponed = 0;  ///< of these, answered with the flow-control code
  std::string last_broker;
  std::string preferred_broker;  ///< of the first attempt, when any queue will do
  std::atomic<bool> finished{false};
};
using SendPtr = std::shared_ptr<Send>;

[[nodiscard]] Error producer_closed();

/// The parts of a producer: producer.cc starts, stops and offers them to the application; producer_send.cc chooses
/// queues and sends; producer_batch.cc splits and gathers; producer_request.cc waits for replies and answers brokers.
class Producer::Impl {
 public:
  explicit Impl(ProducerConfig config);

  Status start();
  Status shutdown();
  void send(const Message& message, SendOptions options, bool oneway, SendCallback done);
  void send_list(const std::vector<Message>& messages, SendOptions options, SendCallback done);
  Result<SendReceipt> wait_for(const char* method, const std::function<void(SendCallback)>& start);
  Status cancel_timer(const SendReceipt& receipt);
  Result<std::string> recall(const std::string& topic, const std::string& handle);
  Status send_oneway(const Message& message, const SendOptions& options);
  Result<std::vector<MessageQueue>> queues(const std::string& topic);
  void request(const Message& message, SendOptions options, RequestCallback done);
  Result<ReceivedMessage> request_and_wait(const Message& message, const SendOptions& options);
  std::future<Result<ReceivedMessage>> request_future(const Message& message, const SendOptions& options);
  [[nodiscard]] const std::string& client_id() const { return instance_.client_id(); }

  // For TransactionProducer.
  /// Gets a broker's questions for the state of a transaction, on the loop. Before start().
  void set_check_handler(std::function<void(remoting::Command)> handler) { check_handler_ = std::move(handler); }
  [[nodiscard]] ClientInstance& instance() { return instance_; }
  [[nodiscard]] const std::string& group() const { return group_; }  ///< with the namespace; after start()
  [[nodiscard]] TraceWriter* trace() { return trace_.get(); }        ///< nullptr: no traces are wanted; after start()

 private:
  struct BatchRun;
  void submit(PreparedSend prepared, const Message& first, SendOptions options, bool oneway, SendCallback done);
  [[nodiscard]] SendCallback traced(std::vector<TraceRecord> records, SendCallback done);
  bool register_send(const SendPtr& send);
  void send_next_part(const std::shared_ptr<BatchRun>& run);
  void gather_or_dispatch(const SendPtr& send);
  void send_gathered(SendBatches::Batch batch);
  [[nodiscard]] std::chrono::milliseconds timeout_of(const SendOptions& options) const;
  void dispatch(const SendPtr& send);
  void attempt(const SendPtr& send, const TopicRoute& route);
  void on_reply(const SendPtr& send, const MessageQueue& queue, int64_t started_ms, Result<remoting::Command> reply);
  bool send_later(const SendPtr& send);
  bool retry(const SendPtr& send, const Error& error);
  void finish(const SendPtr& send, Result<SendReceipt> result);
  Result<MessageQueue> choose(const SendPtr& send, const TopicRoute& route);
  uint32_t next_index(const std::string& topic);
  [[nodiscard]] std::vector<MessageQueue> named(const std::vector<MessageQueue>& queues) const;
  void prepare_for_replies(const std::string& topic, std::function<void()> then);
  bool on_request(remoting::Command& request, const remoting::Responder& respond);  ///< on the loop
  void on_pushed_reply(const remoting::Command& request, const remoting::Responder& respond);

  const ProducerConfig config_;
  std::string group_;
  LatencyFaults faults_;
  std::unique_ptr<message::UniqueIdGenerator> ids_;
  std::atomic<bool> running_{false};
  std::mutex state_mutex_;  // start and shutdown
  bool started_ = false;

  std::mutex mutex_;
  std::map<std::string, uint32_t> next_index_;   // guarded by mutex_
  std::set<SendPtr> outstanding_;                // guarded by mutex_
  std::mt19937 random_{std::random_device()()};  // guarded by mutex_
  PendingRequests requests_;
  std::function<void(remoting::Command)> check_handler_;
  std::unique_ptr<TraceWriter> trace_;  // null: no traces are wanted

  ClientInstance instance_;
  PublishRate rate_;
  SendBatches batches_;
};

}  // namespace apogee
