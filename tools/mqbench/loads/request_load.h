#pragma once

#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "tools/mqbench/loads/load.h"
#include "tools/mqbench/measure/schedule.h"
#include "tools/mqbench/net/link.h"

namespace mqbench {

/// How requests are sent over the connections of one worker.
struct RequestPlan {
  std::string name;
  std::vector<std::string> addresses;  ///< of each connection: ip:port
  uint32_t first_connection = 0;       ///< the number of the first one in the whole run
  size_t window = 1;                   ///< requests without answer on one connection, at most 65,536
  bool one_way = false;
  double rate = 0;  ///< messages a second of all workers; 0: closed-loop
  uint32_t share = 0, shares = 1;
  uint64_t messages_per_request = 1;
  uint64_t bytes_per_request = 0;  ///< of bodies
  uint64_t messages = 0;           ///< of this load, a multiple of messages_per_request; 0: until it is stopped
};

/// Sends requests that each get one answer, closed-loop (whenever a connection has room) or open-loop (when one is
/// due, on the connection that has had room for longest; latency counts from when it was due). What the requests are is
/// said by a class derived from it.
class RequestLoad : public Load, public LinkUser {
 public:
  RequestLoad(Worker& worker, Problems& problems, RequestPlan plan);
  void open() override;
  void start(const Window& window) override;
  void stop(int64_t end) override;
  std::vector<LoadResult> results() override;
  [[nodiscard]] uint64_t done() const override { return recorder_.done(); }
  [[nodiscard]] uint64_t unanswered() const override { return in_flight_shown_.load(std::memory_order_relaxed); }

 protected:
  struct Lane {
    std::unique_ptr<Link> link;
    uint32_t number = 0;         ///< in the whole run
    uint64_t next_sequence = 0;  ///< of messages
    size_t cursor = 0;           ///< for whoever writes the requests
    struct Slot {
      uint32_t opaque = 0;  ///< 0: free
      int64_t intended = 0;
      uint64_t first_sequence = 0;
    };
    std::vector<Slot> slots;
    std::vector<uint16_t> free;
    uint32_t generation = 0;
    bool queued = false;  ///< stands in with_room_
  };
  /// Writes one request to the lane's link; its messages have the sequences from `first_sequence`.
  virtual void write_request(Lane& lane, uint32_t opaque, uint64_t first_sequence, int64_t intended, int64_t now) = 0;
  /// Stored (code 0) or refused.
  virtual void answered(Lane& /*lane*/, uint64_t /*first_sequence*/, int /*code*/) {}
  [[nodiscard]] Worker& worker() { return worker_; }
  [[nodiscard]] std::vector<Lane>& lanes() { return lanes_; }
  [[nodiscard]] const RequestPlan& plan() const { return plan_; }

 private:
  void on_open(Link& link) override;
  void on_frame(Link& link, const Frame& frame, int64_t now) override;
  void on_read_end(Link& link, int64_t now) override;
  void on_writable(Link& link) override;
  void on_closed(Link& link, const std::string& reason) override;
  [[nodiscard]] bool all_sent() const { return plan_.messages != 0 && sent_ >= plan_.messages; }
  [[nodiscard]] bool has_room(const Lane& lane) const;
  void send(Lane& lane, int64_t intended, int64_t now);
  void pump(Lane& lane, int64_t now);
  void pump_schedule(int64_t now);
  void offer(Lane& lane);
  void finish_when_done();

  Worker& worker_;
  Problems& problems_;
  const RequestPlan plan_;
  std::vector<Lane> lanes_;
  size_t open_ = 0, gone_ = 0;
  bool running_ = false, stopped_ = false;
  uint64_t in_flight_ = 0;
  std::atomic<uint64_t> in_flight_shown_{0};
  Schedule schedule_;
  std::unique_ptr<Worker::Alarm> alarm_;
  int64_t alarm_at_ = 0;
  std::deque<uint32_t> with_room_;  // open-loop: lanes that may send
  Recorder recorder_;
  uint64_t sent_ = 0, answered_ = 0;  // messages, in the whole run
};

}  // namespace mqbench
