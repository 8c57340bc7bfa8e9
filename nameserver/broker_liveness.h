#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "common/remoting/bodies/topic_bodies.h"
#include "common/remoting/remoting_server.h"

namespace apogee::nameserver {

/// A broker process: an address within a cluster.
struct BrokerKey {
  std::string cluster;
  std::string address;
  friend bool operator<(const BrokerKey& a, const BrokerKey& b) {
    return a.cluster != b.cluster ? a.cluster < b.cluster : a.address < b.address;
  }
  friend bool operator==(const BrokerKey& a, const BrokerKey& b) {
    return a.cluster == b.cluster && a.address == b.address;
  }
};

inline constexpr int64_t kBrokerSilenceMsMax = 120'000;

/// When brokers were last heard of, and by which connection. Times are ms of one clock that never goes back.
/// Thread: guarded by the lock of the RouteTable that owns it.
class BrokerLiveness {
 public:
  struct Entry {
    int64_t heard_at_ms = 0;
    int64_t silence_ms_max = kBrokerSilenceMsMax;
    remoting::DataVersion data_version;
    remoting::ConnectionId connection = 0;
    std::string ha_server_address;
  };
  void put(const BrokerKey& broker, Entry entry) { entries_[broker] = std::move(entry); }
  /// False when the broker is not known.
  bool heard(const BrokerKey& broker, int64_t now_ms);
  void set_silence_ms_max(const BrokerKey& broker, int64_t silence_ms_max);
  bool remove(const BrokerKey& broker) { return entries_.erase(broker) != 0; }
  [[nodiscard]] const Entry* find(const BrokerKey& broker) const;
  [[nodiscard]] std::vector<BrokerKey> silent_at(int64_t now_ms) const;
  [[nodiscard]] std::vector<BrokerKey> of_connection(remoting::ConnectionId connection) const;

 private:
  std::map<BrokerKey, Entry> entries_;
};

}  // namespace apogee::nameserver
