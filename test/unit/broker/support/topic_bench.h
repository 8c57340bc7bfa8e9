#pragma once

#include <string>
#include <utility>

#include "broker/topics/topic_table.h"
#include "test/unit/broker/support/handler_bench.h"

namespace apogee::broker::test {

/// A topic table that is kept in memory only.
struct TopicBench {
  Logger quiet;
  TopicTable table{{}, quiet};
  TopicBench() { REQUIRE(table.load()); }
  void add(const std::string& topic, int32_t queues, bool order = false) {
    remoting::TopicConfig config;
    config.topic_name = topic;
    config.read_queue_nums = config.write_queue_nums = queues;
    config.order = order;
    REQUIRE(table.put(std::move(config)));
  }
};

}  // namespace apogee::broker::test
