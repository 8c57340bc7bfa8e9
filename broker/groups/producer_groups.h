#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "broker/groups/client_info.h"

namespace apogee::broker {

/// Who produces: groups and the connections whose heartbeats named them. Thread: any; one lock, for map
/// operations only.
class ProducerGroups {
 public:
  explicit ProducerGroups(NowMs now_ms = system_now_ms, int64_t member_life_ms = 120'000);

  void register_producer(std::string_view group, const ClientInfo& client);
  void unregister(std::string_view group, remoting::ConnectionId connection);
  /// Removes what was registered by a connection.
  void connection_closed(remoting::ConnectionId connection);
  /// Removes members whose last heartbeat is older than the life; call every 10 s. Returns how many.
  size_t expire();

  /// Empty when nobody is there.
  [[nodiscard]] std::vector<ClientInfo> members(std::string_view group) const;
  /// Any connection on which this client id registered as a producer.
  [[nodiscard]] std::optional<ClientInfo> find_client(std::string_view client_id) const;
  [[nodiscard]] std::map<std::string, std::vector<ClientInfo>> all() const;

 private:
  template <typename Gone>
  size_t remove_members(Gone gone);

  NowMs now_ms_;
  int64_t member_life_ms_;
  mutable std::mutex mutex_;
  std::map<std::string, std::vector<ClientInfo>, std::less<>> groups_;  // guarded by mutex_
};

}  // namespace apogee::broker
