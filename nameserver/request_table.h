#pragma once

#include <functional>
#include <map>

#include "common/base/logger.h"
#include "common/remoting/remoting_server.h"
#include "nameserver/handlers/config_handlers.h"
#include "nameserver/handlers/registration_handlers.h"
#include "nameserver/handlers/route_handlers.h"

namespace apogee::nameserver {

/// Where a handler runs.
enum class RunsOn : uint8_t {
  kIoLoop,        ///< on the connection's loop; touches no file
  kHousekeeping,  ///< on the housekeeping loop, one after another; may write a file
};

/// The requests that the NameServer answers: a row a code. Thread: any, after the start.
class RequestTable {
 public:
  /// Hands a task to the housekeeping loop; false when it has ended.
  using Post = std::function<bool(std::function<void()>)>;

  RequestTable(const RegistrationHandlers& registration, const RouteHandlers& routes, const ConfigHandlers& config,
               Post housekeeping, const Logger& logger);

  /// Answers every request: unknown codes with 3, an exception of a library with 1.
  void dispatch(const remoting::Caller& caller, remoting::Command request, remoting::Responder respond) const;
  /// The same for a row's handler, at once and on this thread.
  [[nodiscard]] remoting::Command answer(const remoting::Caller& caller, const remoting::Command& request) const;

 private:
  struct Row {
    RunsOn runs_on;
    std::function<remoting::Command(const remoting::Caller&, const remoting::Command&)> handle;
  };
  std::map<remoting::RequestCode, Row> rows_;
  Post housekeeping_;
  const Logger& logger_;
};

}  // namespace apogee::nameserver
