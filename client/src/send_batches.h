#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "apogee/producer.h"
#include "client/src/send_request.h"
#include "common/loop/event_loop.h"

namespace apogee {

/// Gathers messages that many threads send to one place into batches, each of which keeps the order of the calls.
/// Thread: any; batches are handed over on the loop, in the order in which they were closed.
class SendBatches {
 public:
  struct Options {
    int64_t linger_ms = 0;
    size_t bytes_max = 0;
    size_t messages_max = 0;
  };
  /// Messages of one batch agree in these.
  struct Place {
    std::string topic;   ///< with the namespace
    MessageQueue queue;  ///< without broker name: any
    bool wait_store_ok = true;
    friend bool operator<(const Place& a, const Place& b) {
      return std::tie(a.topic, a.queue, a.wait_store_ok) < std::tie(b.topic, b.queue, b.wait_store_ok);
    }
  };
  struct Item {
    PreparedSend prepared;
    std::string topic;  ///< as the application named it
    int64_t timeout_ms = 0;
    int64_t deadline_ms = 0;  ///< steady
    SendCallback done;
  };
  struct Batch {
    Place place;
    std::vector<Item> items;
    size_t bytes = 0;
    uint64_t number = 0;
  };
  using HandOver = std::function<void(Batch)>;

  SendBatches(Options options, loop::EventLoop& loop, HandOver hand_over)
      : options_(options), loop_(loop), hand_over_(std::move(hand_over)) {}

  [[nodiscard]] size_t bytes_max() const { return options_.bytes_max; }
  void add(const Place& place, Item item);
  /// Closes what is open of the topic, and runs the task on the loop after that was handed over.
  void pass_by(const std::string& topic, std::function<void()> task);
  /// What was not handed over yet is answered kClosed; add() answers so from now on.
  void close(const Error& error);

 private:
  void linger(const Place& place, uint64_t number);
  void hand_over(std::map<Place, Batch>::iterator open);
  const Options options_;
  loop::EventLoop& loop_;
  const HandOver hand_over_;
  std::mutex mutex_;
  std::map<Place, Batch> open_;  // guarded by mutex_
  uint64_t next_number_ = 0;     // guarded by mutex_
  bool closed_ = false;          // guarded by mutex_
};

/// Whether the message may share a batch with others: it is not delayed, no part of a transaction, no reply, not
/// compressed, and goes to no retry topic.
[[nodiscard]] bool may_be_gathered(const PreparedSend& send);

/// The items as one request; each gets its own receipt out of the batch's. A single item stays what it is.
struct GatheredSend {
  PreparedSend prepared;
  SendCallback done;
};
[[nodiscard]] GatheredSend gather(SendBatches::Batch batch);

}  // namespace apogee
