#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "common/remoting/remoting_server.h"
#include "store/message_store.h"

namespace apogee::broker {

/// Pulls that found nothing and wait for messages of their queue. Each is taken out exactly once: woken by an arrival
/// that may match, expired, or dropped because its connection closed. No thread waits. Thread: any; a lock per shard,
/// held for map operations and tag comparisons only.
class HeldPulls {
 public:
  /// Runs a task soon, where the connection's pulls are answered; never within the call.
  using Post = std::function<void(remoting::ConnectionId connection, std::function<void()> task)>;
  using Id = uint64_t;

  struct Pull {
    remoting::ConnectionId connection = 0;
    std::string topic;
    int32_t queue_id = 0;
    store::QueueOffset offset = 0;  ///< the queue's end when it found nothing
    int64_t deadline_ms = 0;        ///< of the clock that expire() is given
    store::TagsCodeFilter filter;   ///< empty: all
    std::function<void()> resume;   ///< runs the pull again and answers it
  };

  HeldPulls(Post post, size_t pulls_max) : post_(std::move(post)), pulls_max_(pulls_max) {}

  void set_max(size_t pulls_max) { pulls_max_.store(pulls_max, std::memory_order_relaxed); }

  /// 0 when so many are held that no more may be. The caller then looks at the queue's end once more and calls
  /// wake(id) when that has moved, because the arrival may have been told before.
  [[nodiscard]] Id hold(Pull pull);
  /// Resumes one pull; nothing when it is gone already.
  void wake(std::string_view topic, int32_t queue_id, Id id);

  /// The store's ArrivalListener.
  void on_arrivals(const std::vector<store::Arrival>& arrivals);
  /// Resumes what is due; call several times a second.
  void expire(int64_t now_ms);
  void connection_closed(remoting::ConnectionId connection);
  /// Resumes all that are held, and holds no more: for stopping.
  void release_all();

  [[nodiscard]] size_t size() const { return held_.load(std::memory_order_relaxed); }

 private:
  using Key = std::pair<std::string, int32_t>;
  struct Shard {
    std::mutex mutex;
    std::map<Id, Pull> pulls;  // guarded by mutex, as all here
    std::map<Key, std::set<Id>> by_queue;
    std::set<std::pair<int64_t, Id>> by_deadline;
    std::unordered_map<remoting::ConnectionId, std::set<Id>> by_connection;
  };
  [[nodiscard]] Shard& shard_of(std::string_view topic, int32_t queue_id);
  /// With the shard's lock held.
  Pull take(Shard& shard, std::map<Id, Pull>::iterator at);
  void resume(std::vector<Pull> pulls);

  Post post_;
  std::atomic<size_t> pulls_max_;
  std::atomic<size_t> held_{0};
  std::atomic<Id> next_id_{1};
  std::atomic<bool> released_{false};
  std::array<Shard, 16> shards_;
};

}  // namespace apogee::broker
