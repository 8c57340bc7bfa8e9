#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "apogee/result.h"
#include "common/base/logger.h"
#include "common/loop/event_loop.h"
#include "store/ha/replicated_log.h"

namespace apogee::store {

/// What a master tells outside of the classic stream, which cannot show a slave that is ahead.
struct MasterLog {
  LogOffset begin = 0, end = 0;
};

/// The slave's end of replication: follows one master, whose records it checks (place, lengths, CRC) and appends as
/// whole records; reassembles what the stream cuts. Lives on a loop, which never blocks; truncation runs elsewhere.
/// Where the log ahead of the master's may have been acknowledged, or the logs have parted, it stays refused and says
/// so each minute. No room, or a store that is busy, ends the connection; it goes on from the log's end when there is
/// room.
class HaClient {
 public:
  enum class State : uint8_t {
    kIdle,  ///< no master is known
    kConnecting,
    kHandshake,
    kTransfer,
    kRefused,  ///< by the master, or because the logs part; told in `why`, tried again
  };
  struct Figures {
    State state = State::kIdle;
    std::string master;  ///< "host:port"
    std::string why;     ///< of kRefused, or of the last end of a connection
    LogOffset end = 0, master_end = 0, confirmed = 0;
    int64_t received_bytes = 0, bytes_per_second = 0;
    int64_t caught_up_ms_ago = -1;  ///< since this slave had all that the master had; -1: never
    int64_t reconnects = 0, damaged_ranges = 0, mended_ranges = 0;  ///< found here or in what came; fetched again
  };
  struct Options {
    std::string broker_name;
    int64_t broker_id = 1;
    std::string secret;                ///< haSecret
    bool classic = false;              ///< the master's address is in haClassicPeers: it speaks the classic stream
    bool acknowledge_on_disk = false;  ///< haAckOnDisk: what is acknowledged is synced
    bool truncate_ahead = false;       ///< haTruncateAhead: what the master lacks goes, even if it was acknowledged
    int64_t heartbeat_ms = 5'000;
    int64_t silence_ms_max = 20'000;
    int64_t reconnect_ms = 5'000;  ///< after a failure; the first attempts come sooner
    /// Asks the master outside of the stream (broker: its runtime info, and VIEW_MESSAGE_BY_ID); called on the loop,
    /// answers there. Classic masters, and damaged ranges of any.
    std::function<void(std::function<void(Result<MasterLog>)>)> ask_log;
    std::function<void(LogOffset at, std::function<void(Result<std::string> record)>)> ask_record;
    /// On a thread that may block. A task that is dropped (destroyed without being run) has failed.
    std::function<void(std::function<void()>)> run_elsewhere;
    int64_t scrub_bytes_per_second = 0;  ///< haScrubBytesPerSecond: of the log that was there at the start; 0: none
  };

  HaClient(Options options, ReplicatedLog& log, loop::EventLoop& loop, const Logger& logger);
  ~HaClient();  ///< stops

  /// Follows this master from now on ("host:port" of its HA port; empty: none). The same one again changes nothing.
  /// Thread: any.
  void follow(std::string master, bool classic);
  void stop();                            ///< Thread: not the loop's.
  [[nodiscard]] Figures figures() const;  ///< Thread: any.

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace apogee::store
