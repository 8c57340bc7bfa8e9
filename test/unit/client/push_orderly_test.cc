// Push consumers with orderly listeners.

#include <algorithm>
#include <atomic>
#include <map>
#include <mutex>
#include <thread>

#include "test/support/catch.h"
#include "test/support/wait.h"
#include "test/unit/client/consumer_bench.h"

namespace apogee::test {

using remoting::RequestCode;

TEST_CASE("orderly: a queue is locked, in order, and tried again in place", "[client][push]") {
  FakeCluster cluster;
  cluster.add_topic("T", 2);
  for (int i = 0; i < 40; ++i) cluster.broker().append("T", i % 2, std::to_string(i));
  auto config = push_config(cluster);
  config.consume_batch_max = 3;
  Seen seen;
  std::atomic<int> refusals{0};
  PushConsumer consumer(config);
  consumer.set_orderly_listener([&](const std::vector<ReceivedMessage>& messages, OrderlyContext&) {
    if (messages[0].queue_offset() == 6 && messages[0].reconsume_times() < 2) {
      ++refusals;
      return OrderlyResult::kSuspend;
    }
    for (const auto& message : messages) seen.add(message);
    return OrderlyResult::kSuccess;
  });
  REQUIRE(consumer.subscribe("T"));
  REQUIRE(consumer.start());
  REQUIRE(eventually([&] { return seen.count() == 40; }));
  CHECK(refusals == 4);
  {
    std::lock_guard lock(seen.mutex);
    for (const auto& [queue, bodies] : seen.by_queue) {
      int next = queue.queue_id;
      for (const auto& body : bodies) {
        CHECK(body == std::to_string(next));
        next += 2;
      }
    }
  }
  CHECK(cluster.broker().locks().count({"T", "broker-a", 0}) == 1);
  CHECK(consumer.shutdown());
  CHECK(cluster.broker().locks().empty());
  CHECK(cluster.broker().offset("G", "T", 0) == 20);
}

TEST_CASE("orderly: a message beyond its redeliveries leaves the queue", "[client][push]") {
  FakeCluster cluster;
  cluster.add_topic("T", 1);
  for (const char* body : {"bad", "good"}) cluster.broker().append("T", 0, body);
  auto config = push_config(cluster);
  config.max_reconsume_times = 2;
  Seen seen;
  PushConsumer consumer(config);
  consumer.set_orderly_listener([&](const std::vector<ReceivedMessage>& messages, OrderlyContext&) {
    if (messages[0].queue().topic != "T") return OrderlyResult::kSuccess;
    seen.add(messages[0]);
    return messages[0].body() == "bad" ? OrderlyResult::kSuspend : OrderlyResult::kSuccess;
  });
  REQUIRE(consumer.subscribe("T"));
  REQUIRE(consumer.start());
  REQUIRE(eventually([&] { return seen.count("good") == 1; }));
  CHECK(seen.count("bad") == 3);
  const auto sent = cluster.broker().requests(RequestCode::kSendMessageV2);
  REQUIRE(sent.size() == 1);
  CHECK(sent[0].ext.get("b") == "%RETRY%G");
  CHECK(sent[0].ext.get("j") == "3");
  CHECK(sent[0].ext.get("l") == "2");
}

TEST_CASE("orderly: who loses its lock commits nothing more, and begins again where the other one ended",
          "[client][push]") {
  FakeCluster cluster;
  cluster.add_topic("T", 1);
  fill(cluster, 0, 5);
  auto config = push_config(cluster);
  config.lock_interval = Milliseconds(20);
  Seen seen;
  std::atomic<bool> busy{false}, go{false};
  PushConsumer consumer(config);
  consumer.set_orderly_listener([&](const std::vector<ReceivedMessage>& messages, OrderlyContext&) {
    seen.add(messages[0]);
    if (messages[0].body() != "2" || go) return OrderlyResult::kSuccess;
    busy = true;
    return eventually([&] { return go.load(); }) ? OrderlyResult::kSuccess : OrderlyResult::kSuspend;
  });
  REQUIRE(consumer.subscribe("T"));
  REQUIRE(consumer.start());
  REQUIRE(eventually([&] { return busy.load() && cluster.broker().offset("G", "T", 0) == 2; }));
  const MessageQueue queue{"T", "broker-a", 0};
  cluster.broker().set_lock("G", queue, "other");
  cluster.broker().set_offset("G", "T", 0, 4);
  REQUIRE(eventually([&] { return consumer.assignment().empty(); }));
  go = true;
  REQUIRE(eventually([&] { return consumer.assignment().size() == 1; }));  // waits for the lock
  CHECK(cluster.broker().offset("G", "T", 0) == 4);
  CHECK(seen.count() == 3);
  cluster.broker().set_lock("G", queue, "");
  REQUIRE(eventually([&] { return cluster.broker().offset("G", "T", 0) == 5; }));
  CHECK(seen.bodies == std::vector<std::string>{"0", "1", "2", "4"});
}

TEST_CASE("orderly: a queue that is given away keeps its lock while its listener runs", "[client][push]") {
  FakeCluster cluster;
  cluster.add_topic("T", 1);
  fill(cluster, 0, 2);
  auto config = push_config(cluster);
  config.lock_interval = Milliseconds(10);
  std::atomic<bool> busy{false}, go{false};
  PushConsumer consumer(config);
  consumer.set_orderly_listener([&](const std::vector<ReceivedMessage>&, OrderlyContext&) {
    busy = true;
    return eventually([&] { return go.load(); }) ? OrderlyResult::kSuccess : OrderlyResult::kSuspend;
  });
  REQUIRE(consumer.subscribe("T"));
  REQUIRE(consumer.start());
  REQUIRE(eventually([&] { return busy.load(); }));
  const MessageQueue queue{"T", "broker-a", 0};
  REQUIRE(consumer.unsubscribe("T"));
  REQUIRE(eventually([&] { return consumer.assignment().empty(); }));
  auto renewals = [&] {
    const auto all = cluster.broker().requests(RequestCode::kLockBatchMq);
    return std::count_if(all.begin(), all.end(), [](const auto& request) {
      return request.body.bytes.find("\"topic\":\"T\"") != std::string_view::npos;
    });
  };
  const auto before = renewals();
  CHECK(eventually([&] { return renewals() > before + 3; }));
  CHECK(cluster.broker().locks().count(queue) == 1);
  go = true;
  CHECK(eventually([&] { return cluster.broker().locks().count(queue) == 0; }));
  CHECK(cluster.broker().offset("G", "T", 0) == 1);
}

TEST_CASE("orderly: queues move between members without being consumed twice at a time", "[client][push]") {
  FakeCluster cluster;
  cluster.add_topic("T", 4);
  Seen seen;
  std::mutex mutex;
  std::map<int, int> running;
  std::atomic<bool> overlap{false};
  auto listener = [&](const std::vector<ReceivedMessage>& messages, OrderlyContext& context) {
    {
      std::lock_guard lock(mutex);
      if (++running[context.queue.queue_id] > 1) overlap = true;
    }
    for (const auto& message : messages) seen.add(message);
    std::lock_guard lock(mutex);
    --running[context.queue.queue_id];
    return OrderlyResult::kSuccess;
  };
  std::atomic<bool> stop{false};
  std::atomic<int> sent{0};
  std::thread sender([&] {
    while (!stop) {
      const int number = sent++;
      cluster.broker().append("T", number % 4, std::to_string(number));
      pause(Milliseconds(1));  // the pace of the sender, nothing is waited for
    }
  });
  PushConsumer stays(push_config(cluster));
  stays.set_orderly_listener(listener);
  REQUIRE(stays.subscribe("T"));
  REQUIRE(stays.start());
  for (int round = 0; round < 2; ++round) {
    PushConsumer guest(push_config(cluster));
    guest.set_orderly_listener(listener);
    REQUIRE(guest.subscribe("T"));
    REQUIRE(guest.start());
    REQUIRE(eventually([&] { return guest.assignment().size() == 2 && stays.assignment().size() == 2; }));
    const size_t before = seen.count();
    REQUIRE(eventually([&] { return seen.count() > before + 50; }));
    REQUIRE(guest.shutdown());
    REQUIRE(eventually([&] { return stays.assignment().size() == 4; }));
  }
  stop = true;
  sender.join();
  REQUIRE(eventually([&] { return seen.count() >= static_cast<size_t>(sent); }));
  CHECK_FALSE(overlap);
  CHECK(seen.count() == static_cast<size_t>(sent));
  std::lock_guard lock(seen.mutex);
  for (const auto& [queue, bodies] : seen.by_queue) {
    int next = queue.queue_id;
    for (const auto& body : bodies) {
      REQUIRE(body == std::to_string(next));
      next += 4;
    }
  }
}

}  // namespace apogee::test
