#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "apogee/push_consumer.h"
#include "client/src/consume_counters.h"
#include "client/src/consumer_core.h"
#include "client/src/listener_pool.h"
#include "client/src/process_queue.h"
#include "client/src/pull_request.h"
#include "client/src/trace_writer.h"

namespace apogee {

/// Queues come from ConsumerCore, are locked (orderly), get their offset and are then pulled from, all on the loop.
/// Messages wait in their ProcessQueue; listeners run on the pool and move the queue's offset on.
class PushConsumer::Impl {
 public:
  explicit Impl(PushConsumerConfig config);

  void set_concurrent_listener(ConcurrentListener listener) { concurrent_ = std::move(listener); }
  void set_orderly_listener(OrderlyListener listener) { orderly_listener_ = std::move(listener); }
  Status subscribe(const std::string& topic, const MessageSelector& selector);
  Status unsubscribe(const std::string& topic);
  Status start();
  Status shutdown();
  void set_paused(bool paused);
  [[nodiscard]] std::vector<MessageQueue> assignment() const;
  [[nodiscard]] const std::string& client_id() { return core_.instance().client_id(); }

 private:
  // push_consumer.cc: queues and pulls, on the loop.
  Status check_config() const;
  void on_assigned(const std::string& topic, const std::vector<MessageQueue>& queues);
  void begin_queues(const std::vector<ProcessQueuePtr>& queues);
  void begin_queue(const ProcessQueuePtr& queue);
  void ask_brokers(remoting::RequestCode code, const std::vector<MessageQueue>& queues,
                   const std::function<void(const std::vector<MessageQueue>&, Result<remoting::Command>)>& answered,
                   std::function<void()> done);
  void lock_queues(const std::vector<ProcessQueuePtr>& queues, std::function<void()> done);
  void unlock_queues(const std::vector<MessageQueue>& queues, std::function<void()> done);
  void drop_queue(const ProcessQueuePtr& queue, std::optional<int64_t> reset_offset);
  void release_queue(const ProcessQueuePtr& queue, std::optional<int64_t> reset_offset);
  void lose_queue(const ProcessQueuePtr& queue);
  void forget_lost_queue(const ProcessQueuePtr& queue);
  [[nodiscard]] bool may_commit(const MessageQueue& queue) const;
  void forget_queue(const ProcessQueuePtr& queue, bool begin_again);
  void pull(const ProcessQueuePtr& queue);
  void pull_after(const ProcessQueuePtr& queue, std::chrono::milliseconds delay);
  void pull_soon(const ProcessQueuePtr& queue);  ///< thread: any
  void on_pulled(const ProcessQueuePtr& queue, const ConsumerCore::SubscriptionPtr& subscription,
                 const BrokerPlace& from, int64_t started_ms, Result<remoting::Command> reply);
  void hand_out(const ProcessQueuePtr& queue, const std::vector<ReceivedMessage>& messages);
  void sweep_overdue();
  [[nodiscard]] std::vector<ProcessQueuePtr> queues() const;
  [[nodiscard]] bool needs_lock() const { return orderly_ && core_.clustering(); }
  [[nodiscard]] bool lock_is_valid(const ProcessQueue& queue) const;

  // push_consume.cc: listeners, on the pool.
  void submit_concurrent(const ProcessQueuePtr& queue, std::vector<ReceivedMessage> messages);
  void submit_orderly(const ProcessQueuePtr& queue);
  void consume_concurrently(const ProcessQueuePtr& queue, const std::vector<ReceivedMessage>& messages);
  void consume_orderly(const ProcessQueuePtr& queue);
  bool suspend_orderly(const ProcessQueuePtr& queue, const std::vector<ReceivedMessage>& messages,
                       std::chrono::milliseconds suspend_time);
  void begin_orderly_after(const ProcessQueuePtr& queue, std::chrono::milliseconds delay, bool lock_first);
  [[nodiscard]] remoting::Command send_back_request(const ReceivedMessage& message, int delay_level) const;
  bool send_back(const ReceivedMessage& message, int delay_level);
  bool send_to_retry_topic(const ReceivedMessage& message, int32_t reconsume_times, int delay_level);
  [[nodiscard]] int32_t max_reconsume_times() const;

  // push_requests.cc: requests of brokers, on the loop.
  bool on_request(remoting::Command& request, const remoting::Responder& respond);
  void reset_offsets(const remoting::Command& request);
  void consumer_status(const remoting::Command& request, const remoting::Responder& respond);
  void running_info(const remoting::Command& request, const remoting::Responder& respond);
  void consume_directly(const remoting::Command& request, const remoting::Responder& respond);
  [[nodiscard]] bool is_own_group(const remoting::Command& request, const char* field,
                                  const remoting::Responder& respond) const;

  const PushConsumerConfig config_;
  ConcurrentListener concurrent_;
  OrderlyListener orderly_listener_;
  bool orderly_ = false;
  std::mutex state_mutex_;  // start and shutdown
  bool started_ = false;
  bool shut_down_ = false;
  int64_t started_ms_ = 0;
  std::atomic<bool> stopping_{false};
  std::atomic<bool> paused_{false};
  ConsumeCounters counters_;
  std::unique_ptr<TraceWriter> trace_;  // null: no traces are wanted

  mutable std::mutex mutex_;
  std::map<MessageQueue, ProcessQueuePtr> table_;  // changed on the loop only; guarded by mutex_
  std::set<MessageQueue> wanted_again_;            // dropped, and assigned once more; on the loop only
  bool given_back_ = false;                        // shutdown() has unlocked everything; on the loop only

  ConsumerCore core_;
  ListenerPool pool_;  // ends before the loop
};

}  // namespace apogee
