#pragma once

#include <array>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/base/logger.h"
#include "common/loop/tcp_connection.h"
#include "store/ha/ha_frames.h"
#include "store/ha/ha_server.h"
#include "store/ha/repeated_lines.h"
#include "store/ha/replica_acks.h"
#include "store/ha/replicated_log.h"

namespace apogee::store {

/// One connection of a slave to this master, from its first byte on. Thread: the loop's.
class HaSession : public std::enable_shared_from_this<HaSession> {
 public:
  /// What all sessions of a server share; outlives them.
  struct Server {
    const HaServer::Options& options;
    ReplicatedLog& log;
    loop::EventLoop& loop;
    const Logger& logger;
    RepeatedLines& lines;
    /// Whether a slave that has proven who it is may stay; else why not. May end another session.
    std::function<std::optional<std::string>(HaSession& session)> admit;
    std::function<void(HaSession& session)> ended;  ///< once; the session lives until it returns
  };

  HaSession(Server& server, std::unique_ptr<loop::TcpConnection> connection);
  void start();
  /// Sends what there is and may be sent.
  void pump();
  /// Minds the deadlines, and keeps the connection alive.
  void tick();
  /// Ends the connection with a line in the log; again changes nothing.
  void end(const std::string& reason);

  [[nodiscard]] bool proven() const { return phase_ == Phase::kTransfer; }
  [[nodiscard]] const std::string& ip() const { return ip_; }
  [[nodiscard]] const std::string& address() const { return connection_->peer_address(); }
  [[nodiscard]] int64_t broker_id() const { return broker_id_; }  ///< -1: classic, or not known yet
  [[nodiscard]] bool classic() const { return classic_; }

 private:
  using Clock = std::chrono::steady_clock;
  enum class Phase : uint8_t { kHello, kIdentity, kHandshake, kProof, kTransfer, kRefused, kEnded };

  void on_read();
  /// One frame from the front of what has come; how many bytes it took, 0: it is not all there.
  [[nodiscard]] size_t take_frame(std::string_view bytes);
  [[nodiscard]] size_t take_first(std::string_view bytes);
  void on_hello(const HaHello& hello);
  void on_identity(const HaIdentity& identity);
  void on_handshake(const HaHandshake& handshake);
  void on_proof(const HaProof& proof);
  void on_classic_start(LogOffset wanted);
  void on_acknowledged(LogOffset end);
  [[nodiscard]] std::optional<std::string> objection(const HaProof& proof) const;
  void begin_transfer(LogOffset from, LogOffset acknowledged);
  void refuse(const std::string& reason);
  void send(std::string bytes);
  void send_log(SharedBytes bytes);
  /// How many bytes of log may leave now by window, rate and what the kernel has not taken; 0: none.
  [[nodiscard]] int64_t allowance();
  [[nodiscard]] int64_t bytes_per_second(Clock::time_point now);  ///< 0: no limit
  [[nodiscard]] LogOffset send_end() const;
  [[nodiscard]] Epoch epoch_at(LogOffset at, LogOffset* end) const;
  [[nodiscard]] std::string description() const;

  Server& server_;
  std::unique_ptr<loop::TcpConnection> connection_;
  const std::string ip_;
  Phase phase_ = Phase::kHello;
  bool classic_ = false, began_empty_ = false;
  int64_t broker_id_ = -1;
  HaNonce slaves_nonce_{}, masters_nonce_{};
  std::array<char, 1024> inbox_{};
  size_t inbox_bytes_ = 0;

  std::optional<ReplicaAcks::SlaveId> slave_;
  LogOffset next_ = 0, acknowledged_ = 0, told_confirmed_ = 0;
  std::vector<Epoch> epochs_;
  LogOffset grown_end_ = 0;  ///< the log's at grown_at_
  double grows_by_ = 0;      ///< bytes a second
  Clock::time_point grown_at_;
  double tokens_ = 0;  ///< bytes that the rate lets go
  Clock::time_point tokens_at_;
  bool pump_planned_ = false;
  Clock::time_point opened_at_, heard_at_, spoke_at_;
};

}  // namespace apogee::store
