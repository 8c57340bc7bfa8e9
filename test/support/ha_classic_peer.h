#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "test/support/stream_socket.h"

// Both ends of the classic replication stream, written from its description alone (offsets of eight bytes one way;
// start offset, size and bytes of log the other), so that ours is not tested against itself.
namespace apogee::test {

/// A master of Apache RocketMQ 4 as far as its HA port shows it.
class ClassicMaster {
 public:
  struct Options {
    int64_t file_bytes = 4096;  ///< frames do not cross a file; a first report of 0 means the newest file
    size_t frame_bytes = 32 << 10;
    std::chrono::milliseconds heartbeat{100};
    int64_t cut_after_bytes = -1;  ///< of a connection's bytes, wherever that is; -1: never
    int cuts = 1;                  ///< so many connections are cut
  };
  ClassicMaster(Options options, int64_t begin, std::string log);
  ~ClassicMaster();

  [[nodiscard]] uint16_t port() const { return listener_.port(); }
  void append(const std::string& bytes);
  /// The first offset that each connection has reported.
  [[nodiscard]] std::vector<int64_t> first_reports() const;
  [[nodiscard]] int64_t acknowledged() const { return acknowledged_; }  ///< the last report of any connection
  [[nodiscard]] int reports() const { return reports_; }

 private:
  void run();
  void serve(StreamSocket& socket);
  [[nodiscard]] std::string next_frame(int64_t at, bool heartbeat) const;

  const Options options_;
  StreamListener listener_;
  std::atomic<bool> stopping_{false};
  mutable std::mutex mutex_;
  const int64_t begin_;
  std::string log_;                     // guarded by mutex_
  std::vector<int64_t> first_reports_;  // guarded by mutex_
  std::atomic<int64_t> acknowledged_{-1};
  std::atomic<int> reports_{0};
  int cuts_ = 0;
  std::thread thread_;
};

/// A slave of Apache RocketMQ 4: appends raw bytes, wants each frame at its log's end, and reports that end.
class ClassicSlave {
 public:
  struct Options {
    std::chrono::milliseconds first_report_after{0};
    std::chrono::milliseconds heartbeat{100};
    int64_t begin = 0;  ///< an empty log begins where the first frame says, else here
    std::string log = {};
  };
  ClassicSlave(uint16_t master_port, Options options);
  ~ClassicSlave();

  [[nodiscard]] std::string log() const;
  [[nodiscard]] int64_t begin() const;
  [[nodiscard]] int64_t end() const;
  [[nodiscard]] int heartbeats() const { return heartbeats_; }
  [[nodiscard]] int64_t longest_frame() const { return longest_frame_; }
  [[nodiscard]] bool frame_crossed(int64_t file_bytes) const;  ///< whether any frame lay in two files
  [[nodiscard]] bool ended() const { return ended_; }          ///< the master has closed, or has sent what cannot be
  [[nodiscard]] std::string complaint() const;                 ///< what the master has sent that cannot be

 private:
  void run();
  void report();

  const Options options_;
  StreamSocket socket_;
  std::atomic<bool> stopping_{false}, ended_{false};
  std::atomic<int> heartbeats_{0};
  std::atomic<int64_t> longest_frame_{0};
  mutable std::mutex mutex_;
  int64_t begin_;                                    // guarded by mutex_
  std::string log_, complaint_;                      // guarded by mutex_
  std::vector<std::pair<int64_t, int64_t>> frames_;  // guarded by mutex_
  std::thread thread_;
};

}  // namespace apogee::test
