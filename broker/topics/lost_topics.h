#pragma once

#include <vector>

#include "broker/topics/topic_table.h"
#include "store/message_store.h"

namespace apogee::broker {

/// Topics that have messages in the store, and no configuration: a broker lost its topics.json, or a slave its master
/// before it heard of the topic. As they are made again: with the queues that there are, for reading and writing.
/// Each is told about once it is made.
[[nodiscard]] std::vector<TopicConfig> lost_topics(store::MessageStore& store, const TopicTable& topics);
void warn_of(const TopicConfig& lost, const Logger& logger);

/// Makes them. Errors: kIo, kDiskFull.
[[nodiscard]] Status restore_lost_topics(store::MessageStore& store, TopicTable& topics, const Logger& logger);

}  // namespace apogee::broker
