#pragma once

#include "broker/broker_config.h"
#include "common/remoting/remoting_server.h"
#include "store/message_store.h"

namespace apogee::broker {

/// Names of header fields in answers to QUERY_MESSAGE that only we send; other clients pass over them. The remark
/// says the same for people.
inline constexpr const char* kQueryTruncatedField = "queryTruncated";    ///< "true": there are more messages
inline constexpr const char* kIndexIncompleteField = "indexIncomplete";  ///< why messages may be missing

/// Messages by key: 12. Runs on: reader pool, the index may touch the disk.
class MessageQueryHandlers {
 public:
  MessageQueryHandlers(store::MessageStore& store, const BrokerConfig& config) : store_(store), config_(config) {}

  void query_message(const remoting::Caller& caller, remoting::Command request, remoting::Responder respond);

 private:
  store::MessageStore& store_;
  const BrokerConfig& config_;
};

}  // namespace apogee::broker
