#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "apogee/consumer_types.h"
#include "apogee/message.h"
#include "apogee/message_queue.h"
#include "apogee/message_selector.h"
#include "apogee/result.h"

namespace apogee {

struct PullConsumerConfig : ConsumerConfig {
  bool auto_commit = true;
  std::chrono::milliseconds auto_commit_interval{5'000};
  int poll_batch_max = 1'000;  ///< messages that one poll returns at most
};

/// Called on the consumer's own thread when subscribed queues come or go; must not block.
using AssignmentListener = std::function<void(const std::string& topic, const std::vector<MessageQueue>& queues)>;

/// Receives messages on the caller's thread: poll(), process, commit(). The messages are fetched ahead in the
/// background. Either subscribe() to topics as a member of a group, or assign() queues; not both.
/// Thread: any, but poll() hands each message to one caller only.
class PullConsumer {
 public:
  explicit PullConsumer(PullConsumerConfig config);
  ~PullConsumer();  ///< shuts down
  PullConsumer(const PullConsumer&) = delete;
  PullConsumer& operator=(const PullConsumer&) = delete;

  /// Errors: as of PushConsumer::start().
  Status start();
  /// Commits (when auto_commit is on), leaves the group and ends polls that wait. Refused in a callback.
  Status shutdown();

  /// Tags: "*" or "TagA || TagB". Error: kInvalidArgument after assign().
  Status subscribe(const std::string& topic, const std::string& tags = "*");
  /// The same by tags or by SQL92. SQL is shown to a broker of the topic first, by start() or, on a consumer that was
  /// started, by this call: errors kBroker with the broker's remark (code 23: line, column and reason; code 1: the
  /// broker does not filter by SQL), kInvalidArgument when the SQL is empty. A broker that cannot be reached is no
  /// error.
  Status subscribe(const std::string& topic, const MessageSelector& selector);
  Status unsubscribe(const std::string& topic);
  /// Replaces the queues assigned before. Error: kInvalidArgument after subscribe().
  Status assign(const std::vector<MessageQueue>& queues);
  void set_assignment_listener(AssignmentListener listener);  ///< before start()

  /// All readable queues of a topic.
  [[nodiscard]] Result<std::vector<MessageQueue>> queues(const std::string& topic);
  /// Queues that this consumer has now, sorted.
  [[nodiscard]] std::vector<MessageQueue> assignment() const;

  /// Messages of one or more queues, in order within a queue; empty when none came in time. Asking again tells
  /// that the messages returned before are done: they are what a commit commits. Error: kClosed.
  [[nodiscard]] Result<std::vector<ReceivedMessage>> poll(std::chrono::milliseconds timeout);

  /// The next poll goes on at this offset. Errors: kInvalidArgument when the queue is not assigned or the offset
  /// is outside of what the broker has; kTimeout, kNetwork, kBroker.
  Status seek(const MessageQueue& queue, int64_t offset);
  Status seek_to_begin(const MessageQueue& queue);
  Status seek_to_end(const MessageQueue& queue);
  /// Offset of the next message that a poll returns; -1 when it is not known yet or the queue is not assigned.
  [[nodiscard]] int64_t position(const MessageQueue& queue) const;

  /// Commits everything that polls returned so far, and waits for the brokers.
  Status commit();
  Status commit(const std::map<MessageQueue, int64_t>& offsets);
  /// The committed offset. Error: kNotFound when there is none.
  [[nodiscard]] Result<int64_t> committed(const MessageQueue& queue);
  /// Offset of the first message stored at or after this time (ms since 1970).
  [[nodiscard]] Result<int64_t> offset_for_time(const MessageQueue& queue, int64_t time_ms);

  void pause(const std::vector<MessageQueue>& queues);
  void resume(const std::vector<MessageQueue>& queues);

  [[nodiscard]] std::string client_id() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace apogee
