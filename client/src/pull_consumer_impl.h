#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <future>
#include <mutex>
#include <utility>

#include "apogee/pull_consumer.h"
#include "client/src/consumer_core.h"
#include "client/src/pull_request.h"
#include "client/src/trace_writer.h"
#include "common/base/text.h"
#include "common/message/sys_flag.h"

namespace apogee {

/// One queue of a pull consumer. Guarded by the consumer's mutex.
struct FetchQueue {
  explicit FetchQueue(MessageQueue q) : queue(std::move(q)) {}
  const MessageQueue queue;
  std::deque<ReceivedMessage> cached;
  int64_t bytes = 0;
  int64_t next_offset = -1;  ///< to be pulled next
  int64_t position = -1;     ///< to be returned next by a poll
  int64_t done = -1;         ///< everything before was returned, and a poll came afterwards
  int64_t suggested_broker_id = 0;
  uint64_t generation = 0;  ///< one more after each seek: what was under way does not count
  bool paused = false;
  bool waits = false;  ///< its next pull begins when there is room, and the queue is not paused
  bool dropped = false;
  int64_t last_pull_ms = 0;

  void go_to(int64_t offset) {
    ++generation;
    waits = false;
    cached.clear();
    bytes = 0;
    next_offset = position = done = offset;
  }
};
using FetchQueuePtr = std::shared_ptr<FetchQueue>;

/// Fetches ahead into one cache a queue; polls take from it. The fetching runs on the core's loop.
class PullConsumer::Impl {
 public:
  explicit Impl(PullConsumerConfig config) : config_(std::move(config)), core_(config_, "apogee-pull") {}

  Status start();
  Status shutdown();
  Status subscribe(const std::string& topic, const MessageSelector& selector);
  Status unsubscribe(const std::string& topic);
  Status assign(const std::vector<MessageQueue>& queues);
  void set_assignment_listener(AssignmentListener listener) { listener_ = std::move(listener); }
  Result<std::vector<MessageQueue>> queues(const std::string& topic);
  std::vector<MessageQueue> assignment() const;
  Result<std::vector<ReceivedMessage>> poll(std::chrono::milliseconds timeout);
  enum class SeekTo { kOffset, kBegin, kEnd };
  Status seek(const MessageQueue& queue, SeekTo where, int64_t offset);
  int64_t position(const MessageQueue& queue) const;
  Status commit();
  Status commit(const std::map<MessageQueue, int64_t>& offsets);
  Result<int64_t> committed(const MessageQueue& queue);
  Result<int64_t> offset_for_time(const MessageQueue& queue, int64_t time_ms);
  void set_paused(const std::vector<MessageQueue>& queues, bool paused);
  const std::string& client_id() { return core_.instance().client_id(); }

 private:
  enum class Mode { kNone, kSubscribe, kAssign };
  void on_assigned(const std::string& topic, const std::vector<MessageQueue>& queues);
  void replace_queues(const std::string* topic, const std::vector<MessageQueue>& queues);
  void begin(const FetchQueuePtr& queue);
  void begin_after(const FetchQueuePtr& queue, std::chrono::milliseconds delay);
  void pull(const FetchQueuePtr& queue, uint64_t generation);
  void pull_after(const FetchQueuePtr& queue, uint64_t generation, std::chrono::milliseconds delay);
  void on_pulled(const FetchQueuePtr& queue, uint64_t generation, const remoting::SubscriptionData& subscription,
                 const BrokerPlace& from, Result<remoting::Command> reply);
  ConsumerCore::SubscriptionPtr subscription_of(const std::string& topic) const;
  void auto_commit();
  bool on_request(remoting::Command& request, const remoting::Responder& respond);
  void reset_offsets(const remoting::Command& request);
  [[nodiscard]] bool may_pull_locked(const FetchQueue& queue) const;
  void pull_if_waiting_locked(const FetchQueuePtr& queue);
  FetchQueuePtr find_locked(const MessageQueue& wire_queue) const;
  std::vector<FetchQueuePtr> all_queues() const;
  Status ensure_route(const std::string& wire_topic);
  Status check_callable(const char* what);
  /// Runs an asynchronous look-up and waits for it; its own time-outs end it.
  Result<int64_t> wait_for_offset(const std::function<void(ConsumerCore::OffsetCallback)>& ask);
  Status wait_for_commit(const std::vector<MessageQueue>& queues);

  const PullConsumerConfig config_;
  AssignmentListener listener_;
  std::mutex state_mutex_;  // start and shutdown
  bool started_ = false;
  bool shut_down_ = false;
  int64_t started_ms_ = 0;
  std::atomic<bool> running_{false};
  std::atomic<bool> stopping_{false};

  mutable std::mutex mutex_;
  std::condition_variable arrived_;
  Mode mode_ = Mode::kNone;  // guarded by mutex_, as all below
  std::map<MessageQueue, FetchQueuePtr> table_;
  MessageQueue polled_last_;            // polls go round from here
  std::vector<MessageQueue> assigned_;  // assign() before start()

  std::unique_ptr<TraceWriter> trace_;  // null: no traces are wanted
  ConsumerCore core_;
};

}  // namespace apogee
