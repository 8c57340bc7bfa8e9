#include "broker/limits/rate_limits.h"

#include "test/support/catch.h"
#include "test/unit/broker/support/handler_bench.h"

using namespace apogee;
using namespace apogee::broker;
using namespace apogee::broker::test;

namespace {

struct Bench {
  FakeClock clock;
  BrokerConfig config;
  RateLimits limits{config, [now_ms = clock.now()] { return now_ms() * 1'000; }};

  std::string publish(const std::string& topic, remoting::ConnectionId connection = 1, int64_t messages = 1) {
    return limits.refuse_publishing(topic, connection, [messages] { return messages; }).value_or("");
  }
  int passed(const std::string& topic, int sends, remoting::ConnectionId connection = 1) {
    int count = 0;
    for (int i = 0; i < sends; ++i) count += publish(topic, connection).empty() ? 1 : 0;
    return count;
  }
};

}  // namespace

TEST_CASE("no limit is no work", "[broker][limits]") {
  Bench bench;
  CHECK(bench.passed("T", 1'000) == 1'000);
  CHECK_FALSE(bench.limits.refuse_consumption("G", 1));
  bench.limits.consumed("G", 1, 1'000);
  CHECK(bench.limits.size() == 0);
}

TEST_CASE("a topic takes what a second gives, then what the time gives", "[broker][limits]") {
  Bench bench;
  bench.config.publish_rate_per_topic = 10;
  CHECK(bench.passed("T", 50) == 10);
  CHECK(bench.publish("T") ==
        "[FLOW_CONTROL]topic T: publishRatePerTopic allows 10 messages per second, try again later");
  CHECK(bench.passed("U", 50) == 10);
  CHECK(bench.passed("%RETRY%G", 50) == 50);
  CHECK(bench.passed("RMQ_SYS_TRACE_TOPIC", 50) == 50);
  bench.clock.advance(300);
  CHECK(bench.passed("T", 50) == 3);
  bench.clock.advance(60'000);
  CHECK(bench.passed("T", 50) == 10);
  bench.config.publish_rate_per_topic = 20;  // while it runs
  bench.clock.advance(1'000);
  CHECK(bench.passed("T", 50) == 20);
}

TEST_CASE("a batch is taken whole, and waited for afterwards", "[broker][limits]") {
  Bench bench;
  bench.config.publish_rate_per_topic = 10;
  CHECK(bench.publish("T", 1, 30).empty());
  bench.clock.advance(2'000);
  CHECK_FALSE(bench.publish("T").empty());
  bench.clock.advance(100);
  CHECK(bench.publish("T").empty());
}

TEST_CASE("a client that is limited takes nothing from the topic", "[broker][limits]") {
  Bench bench;
  bench.config.publish_rate_per_topic = 30;
  bench.config.publish_rate_per_client = 10;
  CHECK(bench.passed("T", 50, 1) == 10);
  CHECK(bench.publish("T", 1).find("publishRatePerClient allows 10") != std::string::npos);
  CHECK(bench.passed("T", 50, 2) == 10);
  CHECK(bench.passed("T", 50, 3) == 10);
  CHECK(bench.publish("T", 4).find("publishRatePerTopic allows 30") != std::string::npos);
  bench.limits.connection_closed(1);
  bench.clock.advance(1'000);
  CHECK(bench.passed("T", 50, 1) == 10);
}

TEST_CASE("consumers and groups pull no more than they may", "[broker][limits]") {
  Bench bench;
  bench.config.consume_rate = 10;
  CHECK_FALSE(bench.limits.refuse_consumption("G", 1));
  bench.limits.consumed("G", 1, 32);
  CHECK(bench.limits.refuse_consumption("G", 1).value_or("").find("group G: maxConsumeRate allows 10") !=
        std::string::npos);
  CHECK_FALSE(bench.limits.refuse_consumption("G", 2));
  CHECK_FALSE(bench.limits.refuse_consumption("H", 1));
  bench.clock.advance(2'200);
  CHECK(bench.limits.refuse_consumption("G", 1));
  bench.clock.advance(200);
  CHECK_FALSE(bench.limits.refuse_consumption("G", 1));
  bench.config.consume_rate_per_group = 5;
  bench.limits.consumed("G", 3, 5);
  CHECK(bench.limits.refuse_consumption("G", 4).value_or("").find("maxConsumeRatePerGroup allows 5") !=
        std::string::npos);
}

TEST_CASE("buckets that are full again are forgotten", "[broker][limits]") {
  Bench bench;
  bench.config.publish_rate_per_topic = 10;
  for (int i = 0; i < 100; ++i) CHECK(bench.publish("T" + std::to_string(i)).empty());
  bench.limits.expire();
  CHECK(bench.limits.size() == 100);
  bench.clock.advance(1'000);
  bench.limits.expire();
  CHECK(bench.limits.size() == 0);
}
