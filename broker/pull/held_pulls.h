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
    std::function<void()> dropped;  ///< instead of it, when the connection has closed; may be empty
  };

  HeldPulls(Post post, size_t pulls_max) : post_(std::move(post)), pulls_max_(pulls_max) {}

  void set_max(size_t pulls_max) { pulls_max_.store(pulls_max, std::memory_order_relaxed); }

  /// 0 when so many are held that no more may be. The caller then looks at the queue's end once more and calls
  /// wake(id) when that has moved, because the arrival may have been told before.
  [[nodiscard]] Id hold(Pull&& pull);
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
  using KeyView = std::pair<std::string_view, int32_t>;
  struct KeyLess {
    using is_transparent = void;
    static KeyView view(const Key& key) { return {key.first, key.second}; }
    static KeyView view(const KeyView& key) { return key; }
    template <typename A, typename B>
    bool operator()(const A& a, const B& b) const {
      return view(a) < view(b);
    }
  };
  using Ids = std::set<Id>;
  using Pulls = std::map<Id, Pull>;
  using ByQueue = std::map<Key, Ids, KeyLess>;
  using ByDeadline = std::set<std::pair<int64_t, Id>>;
  using ByConnection = std::map<remoting::ConnectionId, Ids>;
  /// Nodes that were taken out, for those that come: in steady state a pull is held without taking memory.
  struct Spare {
    std::vector<Pulls::node_type> pulls;
    std::vector<ByQueue::node_type> queues;
    std::vector<ByDeadline::node_type> deadlines;
    std::vector<ByConnection::node_type> connections;
    std::vector<Ids::node_type> ids;
  };
  struct Shard {
    std::mutex mutex;
    Pulls pulls;  // guarded by mutex, as all here
    ByQueue by_queue;
    ByDeadline by_deadline;
    ByConnection by_connection;
    Spare spare;
    std::vector<Id> looked_at;  ///< of on_arrivals(); kept for its room
  };
  template <typename Map, typename Of>
  static void add_id(Map& map, const Of& key, Id id, std::vector<typename Map::node_type>& spare,
                     std::vector<Ids::node_type>& ids);
  template <typename Map, typename Of>
  static void remove_id(Map& map, const Of& key, Id id, std::vector<typename Map::node_type>& spare,
                        std::vector<Ids::node_type>& ids);
  [[nodiscard]] Shard& shard_of(std::string_view topic, int32_t queue_id);
  /// What is left of a pull that was taken out.
  struct Taken {
    remoting::ConnectionId connection = 0;
    std::function<void()> resume, dropped;
  };
  /// Room of the thread for pulls that it takes out; resume() gives it back.
  static std::vector<Taken> taken_room();
  /// With the shard's lock held.
  static void take(Shard& shard, Pulls::iterator at, std::vector<Taken>& to);
  void resume(std::vector<Taken> pulls);

  Post post_;
  std::atomic<size_t> pulls_max_;
  std::atomic<size_t> held_{0};
  std::atomic<Id> next_id_{1};
  std::atomic<bool> released_{false};
  std::array<Shard, 16> shards_;
};

}  // namespace apogee::broker
