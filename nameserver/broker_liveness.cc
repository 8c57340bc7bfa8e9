#include "nameserver/broker_liveness.h"

namespace apogee::nameserver {

bool BrokerLiveness::heard(const BrokerKey& broker, int64_t now_ms) {
  auto found = entries_.find(broker);
  if (found == entries_.end()) return false;
  found->second.heard_at_ms = now_ms;
  return true;
}

void BrokerLiveness::set_silence_ms_max(const BrokerKey& broker, int64_t silence_ms_max) {
  if (auto found = entries_.find(broker); found != entries_.end()) found->second.silence_ms_max = silence_ms_max;
}

const BrokerLiveness::Entry* BrokerLiveness::find(const BrokerKey& broker) const {
  auto found = entries_.find(broker);
  return found == entries_.end() ? nullptr : &found->second;
}

std::vector<BrokerKey> BrokerLiveness::silent_at(int64_t now_ms) const {
  std::vector<BrokerKey> silent;
  for (const auto& [broker, entry] : entries_)
    if (now_ms - entry.heard_at_ms > entry.silence_ms_max) silent.push_back(broker);
  return silent;
}

std::vector<BrokerKey> BrokerLiveness::of_connection(remoting::ConnectionId connection) const {
  std::vector<BrokerKey> brokers;
  for (const auto& [broker, entry] : entries_)
    if (connection != 0 && entry.connection == connection) brokers.push_back(broker);
  return brokers;
}

}  // namespace apogee::nameserver
