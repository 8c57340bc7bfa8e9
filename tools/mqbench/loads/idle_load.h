#pragma once

#include <memory>
#include <string>
#include <vector>

#include "tools/mqbench/loads/load.h"
#include "tools/mqbench/net/link.h"

namespace mqbench {

/// Connections that are opened and then do nothing but a heartbeat now and then, as clients send it.
struct IdlePlan {
  std::vector<std::string> addresses;  ///< of each connection: ip:port
  size_t opening = 128;                ///< so many are opened at a time
  double heartbeat_seconds = 30;       ///< between two of one connection
  std::string group = "mqbench";
  std::string client_prefix;
};

/// Results: "connect" (how long each connection took to open) and "heartbeat".
class IdleLoad : public Load, public LinkUser {
 public:
  IdleLoad(Worker& worker, Problems& problems, IdlePlan plan);
  void open() override;
  void start(const Window& window) override;
  void stop(int64_t end) override;
  std::vector<LoadResult> results() override;
  [[nodiscard]] uint64_t done() const override { return heartbeats_.done(); }

 private:
  void on_open(Link& link) override;
  void on_frame(Link& link, const Frame& frame, int64_t now) override;
  void on_closed(Link& link, const std::string& reason) override;
  void open_next();
  void beat();

  Worker& worker_;
  Problems& problems_;
  const IdlePlan plan_;
  std::vector<std::unique_ptr<Link>> links_;
  std::vector<int64_t> since_;  ///< of each link: when it began to connect, then when its last heartbeat left
  size_t open_ = 0, gone_ = 0, lost_ = 0;
  bool running_ = false, stopped_ = false;
  int64_t begun_ = 0, all_open_ = 0;
  size_t next_beat_ = 0;
  int64_t next_beat_at_ = 0, beat_gap_ = 0;
  std::unique_ptr<Worker::Alarm> alarm_;
  Recorded connects_;
  Recorder heartbeats_;
};

}  // namespace mqbench
