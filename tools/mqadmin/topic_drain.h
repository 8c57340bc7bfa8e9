#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "apogee/admin_client.h"
#include "common/base/token_bucket.h"

namespace mqadmin {

struct DrainOptions {
  std::string topic;   ///< whose backlog is copied
  std::string group;   ///< whose offsets tell where the backlog begins
  std::string target;  ///< where the copies go
  /// Messages of one value of this property keep their order. Empty: the sharding key, else KEYS, else the queue that
  /// the message comes from.
  std::string key_property;
  double rate = 1'000;                        ///< copies a second; 0 = as fast as it goes
  std::chrono::milliseconds give_up{30'000};  ///< a message that cannot be copied for so long ends the drain
};

/// One queue whose backlog is copied.
struct DrainQueue {
  apogee::MessageQueue queue;
  int64_t committed = 0;  ///< of the group; everything before it is copied or was consumed
  int64_t begin = 0;      ///< of the first message that is still there
  int64_t end = 0;        ///< of the first message that came after the drain began
};

struct DrainPlan {
  std::vector<DrainQueue> queues;
  std::vector<apogee::MessageQueue> targets;
  int64_t messages = 0;        ///< between begin and end
  int64_t expired = 0;         ///< between committed and begin: they are gone
  int64_t copied_already = 0;  ///< of `messages`, by a drain that was interrupted
};

struct DrainResult {
  int64_t copied = 0;
  int64_t copied_already = 0;
  bool complete = false;
  double seconds = 0;
  std::optional<apogee::Error> error;  ///< why it is not complete; nothing when `progress` ended it
};

/// Copies the backlog of a group in a topic into another topic.
///
/// Order: each key has one queue of the target, and the copies for a queue are sent one after the other, each
/// acknowledged before the next.
/// Progress: the group's own offset. It moves over a message when the message and all before it in its queue are
/// copied. So a drain that ends early, however it ends, goes on with the next call. What was copied beyond the offset
/// is then found in the target: each copy has the property DRAIN_FROM, and offsets of the group DRAIN_... in the target
/// tell where to begin to look. That group is made when a drain begins and removed when it is complete. A broker that
/// is killed may forget the last seconds of offsets; marks are half a minute older than the group's offsets for that.
/// Thread: the one that calls, besides its own senders.
class TopicDrain {
 public:
  static constexpr const char* kFromProperty = "DRAIN_FROM";

  TopicDrain(apogee::AdminClient& client, DrainOptions options);
  ~TopicDrain();
  TopicDrain(const TopicDrain&) = delete;
  TopicDrain& operator=(const TopicDrain&) = delete;

  /// Looks what there is to do; changes nothing. Errors: kInvalidArgument; kNotFound for a topic or for a group without
  /// offsets; kBusy when the group has members.
  [[nodiscard]] apogee::Result<DrainPlan> plan();

  /// progress: told now and then how many messages of how many are done; false ends the drain. Errors in the result:
  /// as of plan(); what the broker answered when a message could not be copied; kPermission when somebody else moves
  /// the group's offset.
  [[nodiscard]] DrainResult run(const DrainPlan& plan,
                                const std::function<bool(int64_t done, int64_t total)>& progress);

 private:
  struct Copy;
  struct Source;
  struct Lane;
  struct Mark;

  [[nodiscard]] std::string mark_group() const;
  [[nodiscard]] static std::string from_of(const apogee::MessageQueue& queue);
  /// from: from_of() the queue that the message, or the message that it is a copy of, comes from.
  [[nodiscard]] size_t target_of(const apogee::ReceivedMessage& message, const std::string& from) const;
  [[nodiscard]] apogee::Status check_nobody_consumes();
  [[nodiscard]] apogee::Status find_copies(const DrainPlan& plan);
  [[nodiscard]] apogee::Status find_copies_in(size_t target, int64_t from,
                                              const std::map<std::string, int64_t>& committed);
  [[nodiscard]] apogee::Result<int64_t> oldest_message_ms(const DrainPlan& plan);
  /// Addresses of the masters that have the topic.
  [[nodiscard]] apogee::Result<std::set<std::string>> masters_of(const std::string& topic);
  [[nodiscard]] apogee::Status begin_marks();
  [[nodiscard]] apogee::Status move_marks();
  [[nodiscard]] apogee::Status remove_marks();
  [[nodiscard]] apogee::Status work(const std::function<bool(int64_t done, int64_t total)>& progress, int64_t total);
  /// Reads on where there is room; whether anything came.
  [[nodiscard]] apogee::Result<bool> read_on();
  /// Moves the group's offsets over what is copied.
  [[nodiscard]] apogee::Status commit();
  /// Makes sure that the brokers have all offsets: one that was killed may have forgotten some.
  [[nodiscard]] apogee::Status settle();
  [[nodiscard]] bool all_done();
  void send_all(Lane& lane);
  [[nodiscard]] apogee::Status send(const Copy& copy);
  void stop_lanes();

  apogee::AdminClient& client_;
  DrainOptions options_;
  apogee::TokenBucket pace_;  // guarded by mutex_
  std::vector<apogee::MessageQueue> targets_;
  /// Offsets copied before this run, beyond the committed ones, by from_of() of their queue.
  std::map<std::string, std::set<int64_t>> copied_before_;
  std::vector<std::unique_ptr<Source>> sources_;
  std::deque<Mark> marks_;

  std::mutex mutex_;  // guards what follows, the lanes' queues and the sources' copies
  std::condition_variable changed_;
  std::vector<std::unique_ptr<Lane>> lanes_;
  std::optional<apogee::Error> failure_;
  bool stopping_ = false;
  int64_t copied_ = 0;
  int64_t copied_already_ = 0;
  size_t bytes_ = 0;  ///< of messages that are read and not copied
};

}  // namespace mqadmin
