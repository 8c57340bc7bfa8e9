#pragma once

#include <map>
#include <mutex>
#include <string>

#include "apogee/producer.h"
#include "common/remoting/command.h"

namespace apogee {

/// Requests of a producer that wait for their replies, by correlation id. Thread: any; callbacks come without the lock.
class PendingRequests {
 public:
  void add(const std::string& correlation_id, RequestCallback done);
  /// False: nobody waits for it any more.
  bool finish(const std::string& correlation_id, Result<ReceivedMessage> result);
  void finish_all(const Error& error);

 private:
  std::mutex mutex_;
  std::map<std::string, RequestCallback> waiting_;  // guarded by mutex_
};

/// The reply in a PUSH_REPLY_MESSAGE_TO_CLIENT, with its correlation id in the property CORRELATION_ID.
/// Errors: kCorrupt, kTooLarge (when decompressed).
[[nodiscard]] Result<ReceivedMessage> read_pushed_reply(const remoting::Command& request);

}  // namespace apogee
