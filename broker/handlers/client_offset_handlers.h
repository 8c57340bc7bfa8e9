#pragma once

#include "broker/groups/subscription_groups.h"
#include "broker/offsets/consumer_offsets.h"
#include "broker/topics/topic_table.h"
#include "store/message_store.h"

namespace apogee::broker {

/// Committed offsets as clients ask for and commit them. Runs on: the IO loop.
class ClientOffsetHandlers {
 public:
  struct Parts {
    ConsumerOffsets& offsets;
    SubscriptionGroups& groups;
    TopicTable& topics;
    store::MessageStore& store;
    /// A new group starts at offset 0 only while that message is within this many bytes of the log's end
    /// (accessMessageInMemoryMaxRatio of the memory).
    int64_t hot_bytes;
  };
  explicit ClientOffsetHandlers(Parts parts) : parts_(parts) {}

  void query_offset(const remoting::Caller& caller, remoting::Command request, remoting::Responder respond);   ///< 14
  void update_offset(const remoting::Caller& caller, remoting::Command request, remoting::Responder respond);  ///< 15

 private:
  [[nodiscard]] bool starts_at_zero(std::string_view topic, int32_t queue_id) const;
  Parts parts_;
};

/// Bytes of memory of this machine times a ratio in percent.
int64_t memory_share_bytes(int32_t percent);

}  // namespace apogee::broker
