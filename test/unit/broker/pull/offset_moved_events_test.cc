#include "broker/pull/offset_moved_events.h"

#include "test/support/catch.h"
#include "test/unit/broker/support/memory_store.h"

namespace apogee::broker::test {

TEST_CASE("offsets that were corrected are told, but not without end", "[broker][pull]") {
  MemoryStore store;
  MessagePut put{store};
  std::string lines;
  Logger logger{[&](LogLevel, std::string_view line) { lines.append(line).append("\n"); }};
  int64_t now_us = 1'000'000;
  OffsetMovedEvents events({put, "broker-a", {}, logger, [] { return int64_t{77}; }, [&] { return now_us; }});
  events.tell("G", "T", 2, 7, 3);
  const auto first = store.message(std::string(kOffsetMovedTopic), 0, 0);
  CHECK(first.body ==
        R"({"consumerGroup":"G","messageQueue":{"brokerName":"broker-a","queueId":2,"topic":"T"},"offsetNew":3,)"
        R"("offsetRequest":7})");
  CHECK(first.properties.find("TAGS\x01G") != std::string::npos);
  CHECK(first.properties.find("KEYS\x01G") != std::string::npos);
  CHECK(lines.find("group G asked for offset 7 of T[2], and got 3") != std::string::npos);
  for (int i = 0; i < 1'000; ++i) events.tell("G", "T", 2, i, 3);
  CHECK(store.max_offset(kOffsetMovedTopic, 0) == 100);
  now_us += 100'000;
  events.tell("G", "T", 2, 8, 3);
  events.tell("G", "T", 2, 9, 3);
  CHECK(store.max_offset(kOffsetMovedTopic, 0) == 101);
  CHECK(lines.find("901 more such pulls were not told") != std::string::npos);
  store.next_status = store::PutStatus::kServiceNotAvailable;
  now_us += 100'000;
  events.tell("G", "T", 2, 9, 3);
  CHECK(lines.find("an event was not stored") != std::string::npos);
}

}  // namespace apogee::broker::test
