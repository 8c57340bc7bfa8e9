#pragma once

#include <memory>
#include <string>
#include <vector>

#include "tools/mqbench/loads/load.h"
#include "tools/mqbench/net/link.h"
#include "tools/mqbench/run/targets.h"
#include "tools/mqbench/wire/frame_builder.h"

namespace mqbench {

/// How one worker reads queues: one pull under way for each, over a few connections.
struct PullPlan {
  std::string name;           ///< of what the pulls are called in the report
  std::string delivery_name;  ///< when not empty: send to receive, of the messages of `run` only
  std::string group = "mqbench";
  uint32_t run = 0;
  struct Queue {
    QueueTarget target;
    int64_t from = 0;
    int64_t until = -1;  ///< the load has finished with the queue when it is there; -1: not before finish_at()
  };
  std::vector<Queue> queues;
  std::vector<BrokerTarget> brokers;
  size_t connections = 1;  ///< to each broker
  int batch = 32;
  int64_t suspend_ms = 15'000;
  std::string subscription = "*";
  bool sql = false;  ///< the subscription is an SQL92 expression, not tags
  HeaderType header = HeaderType::kJson;
  bool foreign_is_wrong = true;  ///< bodies of others than mqbench are a problem
  bool keep_received = true;     ///< message by message, to find what is missing or comes twice
  bool repeat = false;           ///< a queue that was read to its end is read again
};

/// Pulls, and checks each message: place in the queue, body, and that it did not come before.
class PullLoad : public Load, public LinkUser {
 public:
  PullLoad(Worker& worker, Problems& problems, PullPlan plan);
  void open() override;
  void start(const Window& window) override;
  void stop(int64_t end) override;
  std::vector<LoadResult> results() override;
  [[nodiscard]] uint64_t done() const override { return pulls_.done(); }
  /// Each queue is read to this offset, then the load finishes; in the order of the plan. Thread: the worker's.
  void finish_at(const std::vector<int64_t>& ends);
  /// After the end: how many messages came.
  [[nodiscard]] uint64_t received() const { return counts_.messages; }
  /// After the end.
  void add_received(Ledger& ledger) const;

 private:
  struct Cursor {
    size_t link = 0;
    RequestFrame request;  ///< whole, with an offset of fixed width
    size_t offset_at = 0;
    int64_t next = 0;
    int64_t until = -1;
    int64_t sent_at = 0;
    bool waiting = false;  ///< a pull is under way
    bool done = false;
    int failures = 0;
    int64_t not_before = 0;
  };
  void on_open(Link& link) override;
  void on_frame(Link& link, const Frame& frame, int64_t now) override;
  void on_closed(Link& link, const std::string& reason) override;
  /// Not everything is wanted: what is counted is the messages that the broker examined.
  [[nodiscard]] bool filters() const { return plan_.sql || plan_.subscription != "*"; }
  void pull(Cursor& cursor, int64_t now);
  void pull_those_due();
  /// Returns how many messages; checks them.
  uint64_t take_messages(size_t index, std::string_view body, int64_t now, uint64_t& body_bytes);
  void take_message(size_t index, std::string_view body, int64_t now);
  void settle(Cursor& cursor);
  void finish_when_done();
  void wrong(size_t index, int64_t offset, const std::string& what);

  Worker& worker_;
  Problems& problems_;
  const PullPlan plan_;
  std::vector<std::unique_ptr<Link>> links_;
  std::vector<Cursor> cursors_;
  std::unique_ptr<Worker::Alarm> alarm_;
  size_t open_ = 0, gone_ = 0;
  bool running_ = false, stopped_ = false;
  Recorder pulls_, deliveries_;
  Ledger received_;
  ProducerKey last_producer_ = 0;
  SequenceSet* last_set_ = nullptr;
  struct Counts {
    uint64_t messages = 0, foreign = 0, damaged = 0, twice = 0, misplaced = 0, pulls = 0, empty_pulls = 0;
  } counts_;
};

}  // namespace mqbench
