#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/base/logger.h"
#include "common/remoting/remoting_server.h"

namespace apogee::broker {

/// The remark of SYSTEM_ERROR while requests cannot be served yet; brokers that are told so ask again.
inline constexpr const char* kBrokerStarting = "the broker is starting";

/// Where a handler runs.
enum class RunsOn : uint8_t {
  kIoLoop,   ///< on the connection's loop; must not block on disk
  kReaders,  ///< on the reader pool
};

/// The requests that this broker answers: a row a code. Every request of the server goes through dispatch().
/// Rows are added before the server starts. Thread: any afterwards.
class RequestTable {
 public:
  /// Hands a task to the reader pool; false when the pool is full or has stopped.
  using Post = std::function<bool(std::function<void()>)>;
  struct Figure {
    remoting::RequestCode code;
    uint64_t requests, refused;  ///< refused: answered with anything but 0, 19, 20 or 21
  };

  RequestTable(Post readers, const Logger& logger);
  ~RequestTable();

  /// Why a request is not served, though there is a row for it.
  struct Refusal {
    int32_t code = 0;
    std::string remark;
  };
  using Gate = std::function<std::optional<Refusal>(remoting::RequestCode)>;
  /// Asked for each request that has a row; must be quick.
  void set_gate(Gate gate) { gate_ = std::move(gate); }
  /// Puts a handler around that of a row; nothing happens when there is none.
  using Wrap = std::function<remoting::RequestHandler(remoting::RequestHandler)>;
  void wrap(remoting::RequestCode code, const Wrap& wrap);

  void add(remoting::RequestCode code, RunsOn runs_on, remoting::RequestHandler handler);
  /// Requests that come in by this port get 3 where the VIP port does not serve them: pulls and POP. 0: no such port.
  void set_vip_port(uint16_t port) { vip_port_ = port; }

  /// Answers what it cannot serve: unknown code 3, busy pool 2, an exception of a handler 1.
  void dispatch(const remoting::Caller& caller, remoting::Command request, remoting::Responder respond) const;

  [[nodiscard]] std::vector<Figure> figures() const;
  /// The counters of a row that there is, for who answers some of its requests himself.
  [[nodiscard]] std::atomic<uint64_t>& requests_of(remoting::RequestCode code) const;
  [[nodiscard]] std::atomic<uint64_t>& refused_of(remoting::RequestCode code) const;
  [[nodiscard]] uint64_t unsupported_total() const { return unsupported_.load(std::memory_order_relaxed); }

 private:
  struct Row;
  Post readers_;
  const Logger& logger_;
  uint16_t vip_port_ = 0;
  Gate gate_;                                     // constant after the start, as the rows
  std::map<int32_t, std::unique_ptr<Row>> rows_;  // constant after the start
  mutable std::atomic<uint64_t> unsupported_{0};
};

}  // namespace apogee::broker
