#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "common/remoting/remoting_server.h"

namespace apogee::broker {

/// Milliseconds, since 1970 unless said otherwise; handed in so that tests own the time. Thread: any.
using NowMs = std::function<int64_t()>;

/// Milliseconds since 1970 by the system clock.
int64_t system_now_ms();
/// Milliseconds since some moment, for durations.
int64_t steady_now_ms();

/// A producer or consumer instance as its heartbeat on one connection showed it.
struct ClientInfo {
  remoting::ConnectionId connection = 0;
  std::string client_id;
  std::string address;  ///< "ip:port" of the peer
  remoting::LanguageCode language = remoting::LanguageCode::kOther;
  int32_t version = 0;
  remoting::SerializeType serialize = remoting::SerializeType::kJson;  ///< of its requests; ours to it use the same
  int64_t last_update_ms = 0;                                          ///< of its last heartbeat
};

/// Describes the sender of `request`. The client id comes from the request's body or header.
ClientInfo client_info(const remoting::Caller& caller, const remoting::Command& request, std::string client_id,
                       int64_t now_ms);

}  // namespace apogee::broker
