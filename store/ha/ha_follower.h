#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/loop/tcp_connection.h"
#include "store/ha/ha_client.h"
#include "store/ha/ha_frames.h"
#include "store/ha/log_agreement.h"
#include "store/ha/replicated_log.h"

namespace apogee::store {

/// One connection of a slave to its master, from its first byte on: the handshake, the master's frames and the
/// acknowledgements. Thread: the loop's.
class HaFollower : public std::enable_shared_from_this<HaFollower> {
 public:
  enum class End : uint8_t { kBroken, kRefused, kParted };
  struct Listener {
    std::function<void(LogOffset master_end)> following;  ///< log bytes come from now on, from the log's end on
    std::function<void(const HaTransfer& header)> frame;  ///< of a classic one the epoch is 0 and `confirmed` -1
    std::function<void(std::string_view bytes)> bytes;    ///< of log, in order
    /// The same received where they are to be: room for up to so many (none: `bytes` is called), then how many came.
    std::function<std::pair<char*, size_t>(size_t wanted)> room;
    std::function<void(size_t bytes)> received;
    /// The log's end is to be cut off first; the connection has ended.
    std::function<void(LogOffset end, LogOffset master_end)> truncate;
    std::function<void(End end, const std::string& why)> ended;  ///< once, unless `truncate` was called
    std::function<bool()> full;                                  ///< nothing more is to be read for now
  };

  HaFollower(const HaClient::Options& options, ReplicatedLog& log, Listener listener);

  /// Our stream. `parted_at`: as LogSide has it.
  void start(std::unique_ptr<loop::TcpConnection> connection, LogOffset parted_at);
  /// The classic stream: wants the log from `from` on, which may be 0 with an empty log.
  void start_classic(std::unique_ptr<loop::TcpConnection> connection, LogOffset from);
  /// Tells the master that the log is here up to `end`; what it knows already is not told again.
  void acknowledge(LogOffset end);
  void resume_reading();
  /// Minds silence, and keeps the connection alive.
  void tick();
  /// Ends without telling the listener; again changes nothing.
  void close();
  void fail(const std::string& why) { end(End::kBroken, why); }

 private:
  using Clock = std::chrono::steady_clock;
  enum class Phase : uint8_t { kChallenge, kWelcome, kReply, kTransfer, kEnded };

  void listen();
  [[nodiscard]] std::pair<char*, size_t> read_buffer();
  void on_read(size_t bytes);
  [[nodiscard]] bool take_inbox();  ///< false: it has ended
  [[nodiscard]] size_t take(std::string_view bytes);
  [[nodiscard]] size_t take_challenge(std::string_view bytes);
  [[nodiscard]] size_t take_master_frame(std::string_view bytes);
  [[nodiscard]] size_t take_classic(std::string_view bytes);
  void on_challenge(const HaChallenge& challenge);
  void on_frame(const HaWelcome& welcome);
  void on_frame(const HaRefusal& refusal);
  void on_frame(const HaHandshakeReply& reply);
  void on_frame(const HaTransfer& transfer);
  void prove(LogOffset master_end);
  [[nodiscard]] bool log_is_empty() const { return log_.end() == log_.begin(); }
  void end(End end, const std::string& why);
  void send(std::string bytes);

  const HaClient::Options& options_;
  ReplicatedLog& log_;
  Listener listener_;
  std::unique_ptr<loop::TcpConnection> connection_;
  Phase phase_ = Phase::kChallenge;
  bool classic_ = false, paused_ = false;
  LogOffset parted_at_ = INT64_MAX;
  bool proof_is_open_ = false;  ///< the master has not answered it
  HaNonce nonce_{};
  std::string objection_;  ///< why this master is not followed, whatever it says
  LogOffset master_begin_ = 0;
  LogOffset acknowledged_ = 0;
  std::optional<LogOffset> expected_;  ///< where the next frame begins; nullopt: the first one tells
  int64_t frame_left_ = 0;             ///< bytes of log that the current frame still has
  std::string inbox_;
  size_t inbox_bytes_ = 0;
  bool direct_ = false;  ///< the bytes that are read now do not come by the inbox
  Clock::time_point heard_at_, spoke_at_;
};

}  // namespace apogee::store
