#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "apogee/result.h"
#include "common/base/logger.h"
#include "common/loop/event_loop.h"
#include "store/ha/replicated_log.h"

namespace apogee::store {

/// The master's end of replication: serves the log to slaves on the HA port. All connections live on one loop, best one
/// of their own, for it waits for the disk when a slave asks for what is not in the page cache. Log bytes leave from
/// the mapping without a copy. What a peer reports counts only once it is proven (ReplicaAcks::connected); whoever says
/// what cannot be is disconnected, with a line that tells the address and the reason.
class HaServer {
 public:
  struct Options {
    std::string bind_address = "0.0.0.0";
    uint16_t port = 10912;  ///< haListenPort; 0: any
    std::string broker_name;
    std::string secret;  ///< haSecret; empty: peers from loopback and `peer_allowed` need none
    /// Whether a peer without a secret is one of this broker group, by its IP address; asked on the loop.
    std::function<bool(const std::string& ip)> peer_allowed;
    std::vector<std::string> classic_peers;  ///< haClassicPeers: IP addresses that may speak the classic stream
    int64_t heartbeat_ms = 5'000;            ///< haSendHeartbeatInterval
    int64_t silence_ms_max = 20'000;         ///< haHousekeepingInterval
    int64_t handshake_ms_max = 15'000;       ///< a classic slave's first report comes up to 10 s late
    int64_t batch_bytes = 256 << 10;         ///< haTransferBatchSize; classic peers: at most 32 KiB
    int64_t window_bytes = 16 << 20;         ///< haWindowBytes: sent and not acknowledged
    /// To each slave: maxHaTransferByteInSecond with haFlowControlEnable; 0 or empty: no limit. Asked on the loop.
    std::function<int64_t()> bytes_per_second;
    /// The same for a slave that is far behind while the log grows, in which producers and the slaves in sync go first;
    /// at least twice what the log grows by, so that it comes near.
    std::function<int64_t()> catch_up_bytes_per_second;
    bool flushed_only = false;  ///< SYNC_FLUSH: what a loss of power may take from the master is with no slave either
    int32_t slaves_max = 64;
  };

  HaServer(Options options, ReplicatedLog& log, loop::EventLoop& loop, const Logger& logger);
  ~HaServer();

  /// Binds and listens. Errors: kAlreadyExists (the port is taken). Thread: not the loop's.
  [[nodiscard]] Status start();
  void stop();  ///< Thread: not the loop's.
  [[nodiscard]] uint16_t port() const;

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace apogee::store
