#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "test/support/replicated_cluster.h"

namespace apogee::test {

/// What the sender of a message was told about it.
struct Acknowledged {
  std::string id;  ///< as its sender named it, at the beginning of the body
  uint64_t body_hash = 0;
  int64_t log_offset = -1;
  int code = 0;  ///< SEND_OK 0, FLUSH_SLAVE_TIMEOUT 12, …: the message is stored, as far as the master can tell
};

/// What senders know: every message that was stored by queue and offset. Thread: any.
class Ledger {
 public:
  using Queue = std::map<int64_t, Acknowledged>;  ///< by queue offset

  void sent(const std::string& id, uint64_t body_hash);
  void acknowledged(int32_t queue, int64_t offset, Acknowledged message);
  /// Two messages that were given one place. Right where the master has lost some that it never called safe.
  [[nodiscard]] std::vector<std::string> contradictions() const;

  [[nodiscard]] size_t count(int code) const;
  [[nodiscard]] std::map<int32_t, Queue> queues() const;
  [[nodiscard]] bool was_sent(const std::string& id, uint64_t body_hash) const;
  /// The place in the log of the last message that was answered so; -1: none.
  [[nodiscard]] int64_t last_log_offset(int code) const;

 private:
  mutable std::mutex mutex_;
  std::unordered_map<std::string, uint64_t> sent_;
  std::map<int32_t, Queue> queues_;
  std::map<int, size_t> counts_;
  std::map<int, int64_t> last_offsets_;
  std::vector<std::string> contradictions_;
};

/// Senders that go on whatever happens: what was not answered is sent again, under the same id, on a new connection.
class Load {
 public:
  struct Options {
    std::string topic = "Replicated";
    int32_t queues = 4;
    int senders = 4;
    int64_t body_bytes_max = 1'500;
    std::chrono::milliseconds answer_limit = std::chrono::seconds(8);
    std::chrono::milliseconds pace = {};  ///< between two messages of a sender
    size_t node = ReplicatedCluster::kMaster;
  };
  Load(const ReplicatedCluster& cluster, Ledger& ledger) : Load(cluster, ledger, Options{}) {}
  Load(const ReplicatedCluster& cluster, Ledger& ledger, Options options);
  ~Load() { stop(); }

  void stop();  ///< returns when all have ended
  /// Waits until so many more messages than now have been acknowledged with SEND_OK.
  [[nodiscard]] bool more(size_t count, std::chrono::milliseconds limit = std::chrono::seconds(60)) const;
  /// From now on the time to the next SEND_OK that was sent after this is measured.
  void bad_day_ends();
  [[nodiscard]] int64_t resumed_after_ms() const { return resumed_after_ms_; }  ///< -1: not yet

 private:
  void send_all(int number);
  void answered(std::chrono::steady_clock::time_point sent_at);
  const ReplicatedCluster& cluster_;
  Ledger& ledger_;
  const Options options_;
  std::atomic<bool> stopping_{false};
  std::atomic<int64_t> ended_at_ms_{-1}, resumed_after_ms_{-1};
  std::vector<std::thread> threads_;
};

/// The part of a body that names the message.
[[nodiscard]] std::string id_in(std::string_view body);

}  // namespace apogee::test
