#pragma once

#include "common/remoting/remoting_server.h"
#include "store/message_store.h"

namespace apogee::broker {

/// Where queues begin and end, and single messages. A queue that does not exist counts as empty.
/// Runs on: reader pool for 29, 32 and 33, which read the log; the IO loop for 30 and 31.
class QueueQueryHandlers {
 public:
  explicit QueueQueryHandlers(store::MessageStore& store) : store_(store) {}

  void offset_by_time(const remoting::Caller& caller, remoting::Command request, remoting::Responder respond);  ///< 29
  void max_offset(const remoting::Caller& caller, remoting::Command request, remoting::Responder respond);      ///< 30
  void min_offset(const remoting::Caller& caller, remoting::Command request, remoting::Responder respond);      ///< 31
  void earliest_time(const remoting::Caller& caller, remoting::Command request, remoting::Responder respond);   ///< 32
  void view_message(const remoting::Caller& caller, remoting::Command request, remoting::Responder respond);    ///< 33

 private:
  store::MessageStore& store_;
};

}  // namespace apogee::broker
