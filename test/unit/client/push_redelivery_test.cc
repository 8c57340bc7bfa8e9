// Push consumers: messages whose listener failed or took too long come again.

#include <mutex>
#include <optional>
#include <stdexcept>

#include "test/support/catch.h"
#include "test/unit/client/consumer_bench.h"

namespace apogee::test {

using remoting::Command;
using remoting::RequestCode;

TEST_CASE("a message that is to come later is sent back and comes again under its topic", "[client][push]") {
  FakeCluster cluster;
  cluster.add_topic("T", 1);
  cluster.broker().append("T", 0, "bad");
  Seen seen;
  PushConsumer consumer(push_config(cluster));
  consumer.set_concurrent_listener([&](const std::vector<ReceivedMessage>& messages, ConcurrentContext&) {
    for (const auto& message : messages) seen.add(message);
    if (messages[0].reconsume_times() == 0) throw std::runtime_error("as wanted");
    return messages[0].reconsume_times() < 2 ? ConsumeResult::kLater : ConsumeResult::kSuccess;
  });
  REQUIRE(consumer.subscribe("T"));
  REQUIRE(consumer.start());
  REQUIRE(eventually([&] { return seen.count("bad") == 3; }));
  {
    std::lock_guard lock(seen.mutex);
    CHECK(seen.last.topic() == "T");
    CHECK(seen.last.queue().topic == "%RETRY%G");
    CHECK(seen.last.reconsume_times() == 2);
  }
  const auto back = cluster.broker().requests(RequestCode::kConsumerSendMsgBack).front();
  CHECK(back.ext.get("group") == "G");
  CHECK(back.ext.get("delayLevel") == "0");
  CHECK(back.ext.get("originTopic") == "T");
  CHECK(back.ext.get("maxReconsumeTimes") == "16");
  CHECK(eventually([&] { return cluster.broker().offset("G", "T", 0) == 1; }));
}

TEST_CASE("only what is behind ack_index is sent back", "[client][push]") {
  FakeCluster cluster;
  cluster.add_topic("T", 1);
  for (int i = 0; i < 4; ++i) cluster.broker().append("T", 0, std::to_string(i));
  auto config = push_config(cluster);
  config.consume_batch_max = 4;
  Seen seen;
  PushConsumer consumer(config);
  consumer.set_concurrent_listener([&](const std::vector<ReceivedMessage>& messages, ConcurrentContext& context) {
    for (const auto& message : messages) seen.add(message);
    if (messages.size() == 4) context.ack_index = 2;
    return ConsumeResult::kSuccess;
  });
  REQUIRE(consumer.subscribe("T"));
  REQUIRE(consumer.start());
  REQUIRE(eventually([&] { return seen.count() == 5; }));
  CHECK(seen.count("3") == 2);
  CHECK(cluster.broker().count(RequestCode::kConsumerSendMsgBack) == 1);
}

TEST_CASE("a message that cannot be sent back goes to the retry topic, or is tried again here", "[client][push]") {
  for (bool resend_works : {true, false}) {
    FakeCluster cluster;
    cluster.add_topic("T", 1);
    cluster.broker().append("T", 0, "bad", "A");
    cluster.broker().set_intercept([&](const Command& request) -> std::optional<Command> {
      const bool back = request.request_code() == RequestCode::kConsumerSendMsgBack;
      const bool send = request.request_code() == RequestCode::kSendMessageV2 && !resend_works;
      if (!back && !send) return std::nullopt;
      return Command::response_to(request, 1, "as told");
    });
    Seen seen;
    PushConsumer consumer(push_config(cluster));
    consumer.set_concurrent_listener([&](const std::vector<ReceivedMessage>& messages, ConcurrentContext&) {
      seen.add(messages[0]);
      return messages[0].reconsume_times() == 0 ? ConsumeResult::kLater : ConsumeResult::kSuccess;
    });
    REQUIRE(consumer.subscribe("T"));
    REQUIRE(consumer.start());
    REQUIRE(eventually([&] { return seen.count("bad") == 2; }));
    std::lock_guard lock(seen.mutex);
    CHECK(seen.last.reconsume_times() == 1);
    CHECK(seen.last.topic() == "T");
    CHECK(seen.last.tags() == "A");
    CHECK(seen.last.queue().topic == (resend_works ? "%RETRY%G" : "T"));
  }
}

TEST_CASE("a message whose listener takes too long is sent back", "[client][push]") {
  FakeCluster cluster;
  cluster.add_topic("T", 1);
  cluster.broker().append("T", 0, "slow");
  auto config = push_config(cluster);
  config.consume_timeout = Milliseconds(40);
  Seen seen;
  PushConsumer consumer(config);
  consumer.set_concurrent_listener([&](const std::vector<ReceivedMessage>& messages, ConcurrentContext&) {
    seen.add(messages[0]);
    if (messages[0].reconsume_times() == 0) eventually([&] { return seen.count() >= 2; });
    return ConsumeResult::kSuccess;
  });
  REQUIRE(consumer.subscribe("T"));
  REQUIRE(consumer.start());
  REQUIRE(eventually([&] { return seen.count() >= 2; }));
  CHECK(cluster.broker().requests(RequestCode::kConsumerSendMsgBack).front().ext.get("delayLevel") == "3");
  CHECK(eventually([&] { return cluster.broker().offset("G", "T", 0) == 1; }));
}

}  // namespace apogee::test
