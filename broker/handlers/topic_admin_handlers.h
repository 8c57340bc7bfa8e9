#pragma once

#include <string>

#include "broker/offsets/consumer_offsets.h"
#include "broker/stats/broker_stats.h"
#include "broker/topics/topic_table.h"
#include "common/remoting/bodies/topic_bodies.h"
#include "store/message_store.h"

namespace apogee::broker {

/// Creates, changes, deletes and lists topics. Runs on: reader pool (the table is saved before the answer).
class TopicAdminHandlers {
 public:
  struct Parts {
    TopicTable& topics;
    ConsumerOffsets& offsets;
    BrokerStats& stats;
    store::MessageStore& store;
    const Logger& logger;
  };
  explicit TopicAdminHandlers(Parts parts) : parts_(parts) {}

  void update_topic(const remoting::Caller& caller, remoting::Command request, remoting::Responder respond);  ///< 17
  void update_topic_list(const remoting::Caller& caller, remoting::Command request,
                         remoting::Responder respond);  ///< 18
  void all_topic_config(const remoting::Caller& caller, remoting::Command request,
                        remoting::Responder respond);                                                          ///< 21
  void delete_topic(const remoting::Caller& caller, remoting::Command request, remoting::Responder respond);   ///< 215
  void system_topics(const remoting::Caller& caller, remoting::Command request, remoting::Responder respond);  ///< 305
  void topic_config(const remoting::Caller& caller, remoting::Command request, remoting::Responder respond);   ///< 351

 private:
  [[nodiscard]] Status check(const remoting::TopicConfig& config) const;
  [[nodiscard]] Status merge_attributes(remoting::TopicConfig& config) const;
  Parts parts_;
};

}  // namespace apogee::broker
