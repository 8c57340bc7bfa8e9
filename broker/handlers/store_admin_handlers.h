#pragma once

#include "broker/topics/topic_table.h"
#include "common/remoting/remoting_server.h"
#include "store/message_store.h"

namespace apogee::broker {

/// Cleans the store up when an administrator asks for it. Runs on: reader pool.
class StoreAdminHandlers {
 public:
  struct Parts {
    TopicTable& topics;
    store::MessageStore& store;
    const Logger& logger;
  };
  explicit StoreAdminHandlers(Parts parts) : parts_(parts) {}

  /// Removes queues whose messages have all expired. 306
  void clean_expired_queues(const remoting::Caller& caller, remoting::Command request, remoting::Responder respond);
  /// Removes the queues of topics that the broker does not have any more. 316
  void clean_unused_topics(const remoting::Caller& caller, remoting::Command request, remoting::Responder respond);
  /// Has expired files of the log removed, at whatever hour; answered when that begins. 329
  void delete_expired_files(const remoting::Caller& caller, remoting::Command request, remoting::Responder respond);

 private:
  Parts parts_;
};

}  // namespace apogee::broker
