#include "broker/topics/lost_topics.h"

#include <algorithm>
#include <utility>

#include "common/base/text.h"

namespace apogee::broker {

namespace {

bool has_messages(store::MessageStore& store, const std::string& topic, int32_t queues) {
  for (int32_t queue = 0; queue < queues; ++queue)
    if (store.min_offset(topic, queue) < store.max_offset(topic, queue)) return true;
  return false;
}

}  // namespace

std::vector<TopicConfig> lost_topics(store::MessageStore& store, const TopicTable& topics) {
  std::vector<TopicConfig> lost;
  const auto table = topics.snapshot();
  for (const auto& name : store.topics()) {
    if (table->find(name) != table->end() || topics.is_system_topic(name) || !check_topic_name(name)) continue;
    const int32_t queues = std::min(store.queue_count(name), kTopicQueuesMax);
    if (!has_messages(store, name, queues)) continue;  // cleanUnusedTopic takes its queues away
    TopicConfig config;
    config.topic_name = name;
    config.read_queue_nums = config.write_queue_nums = queues;
    config.perm = remoting::perm::kRead | remoting::perm::kWrite;
    lost.push_back(std::move(config));
  }
  return lost;
}

void warn_of(const TopicConfig& lost, const Logger& logger) {
  logger.warn(
      "topic {} has messages and no configuration: it is made again, with the {} queues that there are and permission "
      "{}",
      lost.topic_name, lost.read_queue_nums, lost.perm);
}

Status restore_lost_topics(store::MessageStore& store, TopicTable& topics, const Logger& logger) {
  for (auto& config : lost_topics(store, topics)) {
    warn_of(config, logger);
    APOGEE_TRY(topics.put(std::move(config), TopicTable::Until::kSaved));
  }
  return {};
}

}  // namespace apogee::broker
