#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "common/loop/tcp_connection.h"
#include "common/remoting/header_view.h"
#include "common/remoting/remoting_server.h"

namespace apogee::remoting {

/// Counters of all connections of one server or client. Thread: any.
struct TransportCounters {
  std::atomic<uint64_t> connections_open{0}, connections_accepted{0}, frames_in{0}, frames_out{0}, bad_frames{0},
      oversize_frames{0};
  std::atomic<size_t> inflight_bytes{0};  ///< of requests that are not answered yet
};

/// Commands on one connection, the same on both ends: cuts the stream into frames, hands requests out,
/// matches responses to our own calls and their deadlines. Belongs to the connection's loop.
class RemotingConnection {
 public:
  struct Limits {
    size_t frame_bytes_max = 16u << 20;
    size_t unsent_bytes_max = 256u << 20;
    size_t inflight_bytes_max = 64u << 20;         ///< of this connection
    size_t total_inflight_bytes_max = 512u << 20;  ///< of all that share the counters
  };
  struct Callbacks {
    /// A request and the bytes of its frame. The receiver calls release() with them once it is answered.
    std::function<void(Command request, size_t frame_bytes)> on_request;
    /// Once; the connection is closed, and its own pending calls have failed. It may be destroyed here.
    std::function<void(const Error& reason)> on_close;
    /// Looks at a request before its frame is decoded, and answers it with send_frame() or later; false: it is none of
    /// his. May be empty. The views are gone afterwards.
    std::function<bool(const HeaderView& header, std::string_view body, size_t frame_bytes)> on_frame = nullptr;
  };

  RemotingConnection(loop::EventLoop& loop, std::unique_ptr<loop::TcpConnection> tcp, Limits limits,
                     std::shared_ptr<TransportCounters> counters);
  ~RemotingConnection();  ///< pending calls fail with kClosed
  RemotingConnection(const RemotingConnection&) = delete;
  RemotingConnection& operator=(const RemotingConnection&) = delete;

  void start(Callbacks callbacks);
  /// Sends a response or a one-way request as it is. `written`, if given, comes once, on the loop, when the
  /// kernel has taken all of it, or with the reason why it will not.
  using Written = std::function<void(Status)>;
  void send(const Command& command, Written written = nullptr);
  /// The same with a whole encoded frame, which is copied.
  void send_frame(std::string_view frame) { send_frame(frame, nullptr); }
  /// The same, and behind it the parts of `body`, which are taken out and not copied; nullptr: none.
  void send_frame(std::string_view frame, std::vector<SharedBytes>* body);
  /// Puts the bytes of a request that is answered later on the budget; for on_frame.
  void hold(size_t frame_bytes);
  /// Sends a request under an opaque of its own; `done` comes once, on the loop.
  void call(Command request, int64_t timeout_ms, ReplyCallback done);
  /// Takes the bytes of an answered request off the budget; reading goes on when there is room again.
  void release(size_t frame_bytes);
  /// Fails the pending calls and closes, without on_close.
  void close(const Error& reason);

  [[nodiscard]] const std::string& peer_address() const { return peer_; }
  [[nodiscard]] int64_t idle_ms() const;  ///< since the last byte in or out
  [[nodiscard]] size_t unsent_bytes() const { return tcp_ ? tcp_->unsent_bytes() : 0; }
  [[nodiscard]] bool has_pending() const { return !pending_.empty(); }

 private:
  using Clock = std::chrono::steady_clock;
  struct Pending {
    Clock::time_point deadline;
    ReplyCallback done;
  };
  std::pair<char*, size_t> room_to_read();
  void on_read(size_t bytes);
  bool cut_frame();
  void keep_rest();
  void check_unsent();
  void fail(const Error& reason);
  void fail_pending(const Error& reason);
  void tell_written();
  void arm_deadline(Clock::time_point deadline);
  void expire();
  [[nodiscard]] bool over_budget() const;

  loop::EventLoop& loop_;
  std::unique_ptr<loop::TcpConnection> tcp_;
  const Limits limits_;
  const std::shared_ptr<TransportCounters> counters_;
  const std::string peer_;
  std::shared_ptr<Callbacks> callbacks_ = std::make_shared<Callbacks>();

  // What was read and not cut yet is chunk_[begin_, end_). It is read into room of the loop; what is left of a frame
  // when all others are cut moves to a chunk of our own, and from there to the room of the next read, unless it is
  // large: then it is read on where it is. Frames share these chunks. An idle connection holds nothing.
  std::shared_ptr<char[]> chunk_;
  size_t chunk_bytes_ = 0, begin_ = 0, end_ = 0;
  bool reads_to_room_ = false, paused_ = false, cutting_ = false;
  size_t inflight_bytes_ = 0;

  std::deque<std::pair<uint64_t, Written>> unwritten_;  ///< byte of the stream with which each is written
  std::unordered_map<int32_t, Pending> pending_;
  int32_t next_opaque_ = 1;
  loop::EventLoop::TimerId deadline_timer_ = 0;
  Clock::time_point armed_for_{};
  int64_t last_activity_ms_;                                    ///< of the loop's clock
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  ///< false once destroyed, for callbacks that destroy us
};

}  // namespace apogee::remoting
