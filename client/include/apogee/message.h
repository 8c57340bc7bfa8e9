#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "apogee/message_queue.h"
#include "apogee/result.h"

namespace apogee {

/// A message to be sent. A plain value; the setters return the object, so that they can be chained.
/// Whether names and sizes are legal is checked when the message is sent.
class Message {
 public:
  Message() = default;
  Message(std::string topic, std::string body) : topic_(std::move(topic)), body_(std::move(body)) {}

  Message& set_topic(std::string topic) { return topic_ = std::move(topic), *this; }
  Message& set_body(std::string body) { return body_ = std::move(body), *this; }
  /// One tag; consumers filter by it.
  Message& set_tags(std::string tag) { return tags_ = std::move(tag), *this; }
  /// Keys by which a message can be found again, separated by one space.
  Message& set_keys(std::string keys) { return keys_ = std::move(keys), *this; }
  Message& set_key_list(const std::vector<std::string>& keys);
  /// An application's own property. Reserved names (KEYS, TAGS, UNIQ_KEY, ...) are refused by the send.
  Message& set_property(std::string name, std::string value) {
    return properties_[std::move(name)] = std::move(value), *this;
  }
  /// A number that is handed to consumers as it is.
  Message& set_flag(int32_t flag) { return flag_ = flag, *this; }
  /// false: the broker answers without waiting for disk or replicas, whatever its mode is. Default true.
  Message& set_wait_store_ok(bool wait) { return wait_store_ok_ = wait, *this; }
  /// Consumers get the message when the delay of this level is over: 1 is the first of the broker's messageDelayLevel
  /// (1s 5s 10s 30s 1m 2m ... 10m 20m 30m 1h 2h unless configured otherwise), one above the last is the last, 0 no
  /// delay (default). A negative one is refused by the send, and so is a batch with a delayed message.
  Message& set_delay_level(int32_t level) { return delay_level_ = level, *this; }
  /// Consumers get the message at this instant, in milliseconds since 1970 by the broker's clock; at once when it is
  /// over. The broker refuses (kBroker, 13) what is farther away than its timerMaxDelaySec, three days unless
  /// configured otherwise. Not with a delay level, and not in a batch. See Producer::cancel_timer.
  Message& set_deliver_at(int64_t ms_since_1970) {
    return deliver_at_ms_ = ms_since_1970, deliver_after_.reset(), *this;
  }
  /// The same, counted from when the message is sent, by this machine's clock.
  Message& set_deliver_after(std::chrono::milliseconds delay) {
    return deliver_after_ = delay, deliver_at_ms_.reset(), *this;
  }

  [[nodiscard]] const std::string& topic() const { return topic_; }
  [[nodiscard]] const std::string& body() const { return body_; }
  [[nodiscard]] const std::string& tags() const { return tags_; }
  [[nodiscard]] const std::string& keys() const { return keys_; }
  [[nodiscard]] const std::map<std::string, std::string>& properties() const { return properties_; }
  [[nodiscard]] int32_t flag() const { return flag_; }
  [[nodiscard]] bool wait_store_ok() const { return wait_store_ok_; }
  [[nodiscard]] int32_t delay_level() const { return delay_level_; }
  [[nodiscard]] std::optional<int64_t> deliver_at_ms() const { return deliver_at_ms_; }
  [[nodiscard]] std::optional<std::chrono::milliseconds> deliver_after() const { return deliver_after_; }

 private:
  std::string topic_;
  std::string body_;
  std::string tags_;
  std::string keys_;
  std::map<std::string, std::string> properties_;
  friend struct MessageAccess;
  std::map<std::string, std::string> system_properties_;  // of the SDK's own
  std::string preferred_broker_;
  int32_t flag_ = 0;
  int32_t delay_level_ = 0;
  std::optional<int64_t> deliver_at_ms_;
  std::optional<std::chrono::milliseconds> deliver_after_;
  bool wait_store_ok_ = true;
};

/// A message as a broker stored it. Copies share one immutable state, so they are cheap; views live as
/// long as any copy of the message. Thread: any.
class ReceivedMessage {
 public:
  struct Data;

  ReceivedMessage();
  explicit ReceivedMessage(std::shared_ptr<const Data> data);

  /// The topic as the application named it: without namespace, and of a retried message the original one.
  [[nodiscard]] const std::string& topic() const;
  /// Decompressed.
  [[nodiscard]] std::string_view body() const;
  [[nodiscard]] std::string_view tags() const;
  [[nodiscard]] std::string_view keys() const;
  /// Any property, reserved ones too.
  [[nodiscard]] std::optional<std::string_view> property(std::string_view name) const;
  [[nodiscard]] std::map<std::string, std::string> properties() const;

  /// The id that the producer gave to the message, else offset_msg_id().
  [[nodiscard]] const std::string& msg_id() const;
  /// Names the place where this copy of the message is stored.
  [[nodiscard]] const std::string& offset_msg_id() const;
  /// The queue that the message was read from; of a retried message one of the retry topic.
  [[nodiscard]] const MessageQueue& queue() const;
  [[nodiscard]] int64_t queue_offset() const;
  [[nodiscard]] int64_t physical_offset() const;
  [[nodiscard]] int64_t born_time_ms() const;           ///< ms since 1970, the producer's clock
  [[nodiscard]] int64_t store_time_ms() const;          ///< ms since 1970, the broker's clock
  [[nodiscard]] const std::string& born_host() const;   ///< "ip:port"
  [[nodiscard]] const std::string& store_host() const;  ///< "ip:port"
  /// How often the message was handed to the group before.
  [[nodiscard]] int32_t reconsume_times() const;
  [[nodiscard]] int32_t flag() const;
  [[nodiscard]] int32_t sys_flag() const;
  [[nodiscard]] int32_t store_size() const;  ///< bytes of the record on the broker's disk
  [[nodiscard]] int32_t body_crc() const;    ///< of the body as it was stored

  [[nodiscard]] const Data& data() const { return *data_; }

 private:
  std::shared_ptr<const Data> data_;
};

/// The answer to a message that came from Producer::request(), to be sent with any producer; its broker pushes it to
/// the client that waits. Tags, keys and properties may be added. Error: kInvalidArgument: the message wants no reply.
[[nodiscard]] Result<Message> reply_to(const ReceivedMessage& request, std::string body);

}  // namespace apogee
