// The SDK against the real programs.
#include <algorithm>
#include <map>
#include <mutex>
#include <set>

#include "apogee/pull_consumer.h"
#include "test/integration/sdk_bench.h"

namespace apogee::test {

using namespace std::chrono_literals;

TEST_CASE("SDK: sync, async, future, one-way and batch sends all arrive", "[integration]") {
  Cluster cluster;
  cluster.create_topic("Sends", 4);
  Producer producer(producer_config(cluster));
  REQUIRE(producer.start());
  auto sent = producer.send(Message("Sends", "sync").set_keys("k1").set_tags("T").set_property("p", "v"));
  if (!sent) FAIL(sent.error().message);
  CHECK(sent->status == SendStatus::kOk);
  CHECK(sent->msg_id.size() == 32);
  std::atomic<int> answered{0};
  for (int i = 0; i < 20; ++i)
    producer.send_async(Message("Sends", "async " + std::to_string(i)),
                        [&](Result<SendReceipt> r) { answered += r ? 1 : 0; });
  REQUIRE(producer.send_future(Message("Sends", "future")).get());
  REQUIRE(producer.send_oneway(Message("Sends", "oneway")));
  REQUIRE(producer.send_batch({Message("Sends", "batch 0"), Message("Sends", "batch 1")}));
  REQUIRE(producer.send(Message("Sends", std::string(100'000, 'c'))));
  CHECK(eventually([&] { return answered == 20; }));
  Seen seen;
  auto consumer = listen(consumer_config<PushConsumerConfig>(cluster, "sends_group", "one"), "Sends", "*", seen);
  CHECK(eventually([&] { return seen.distinct().size() == 26; }));
  auto bodies = seen.distinct();
  for (const char* body : {"sync", "future", "oneway", "batch 0", "batch 1", "async 19"}) CHECK(bodies.contains(body));
  CHECK(bodies.contains(std::string(100'000, 'c')));
  auto nowhere = producer.send(Message("bad topic!", "x"));
  REQUIRE(!nowhere);
  CHECK(nowhere.error().code == Errc::kInvalidArgument);
}

TEST_CASE("SDK: tags are filtered, two members share a group, and one that leaves hands over", "[integration]") {
  Cluster cluster;
  cluster.create_topic("Shared", 8);
  Producer producer(producer_config(cluster));
  REQUIRE(producer.start());
  Seen seen;
  auto first =
      listen(consumer_config<PushConsumerConfig>(cluster, "shared_group", "first"), "Shared", "Wanted || Also", seen);
  auto second =
      listen(consumer_config<PushConsumerConfig>(cluster, "shared_group", "second"), "Shared", "Wanted || Also", seen);
  REQUIRE(eventually([&] { return first->assignment().size() >= 4 && second->assignment().size() >= 4; }));
  CHECK(eventually([&] {
    auto of = [](PushConsumer& c) {
      int n = 0;
      for (auto& queue : c.assignment()) n += queue.topic == "Shared";
      return n;
    };
    return of(*first) == 4 && of(*second) == 4;
  }));
  auto send = [&](const std::string& body, const char* tag) {
    auto sent = producer.send(Message("Shared", body).set_tags(tag));
    if (!sent) FAIL(sent.error().message);
  };
  for (int i = 0; i < 80; ++i) {
    send("wanted " + std::to_string(i), i % 2 ? "Wanted" : "Also");
    send("unwanted " + std::to_string(i), "Other");
  }
  CHECK(eventually([&] { return seen.distinct().size() == 80; }));
  CHECK(seen.of("first") > 0);
  CHECK(seen.of("second") > 0);
  REQUIRE(second->shutdown());
  CHECK(eventually([&] {
    int n = 0;
    for (auto& queue : first->assignment()) n += queue.topic == "Shared";
    return n == 8;
  }));
  for (int i = 80; i < 120; ++i) send("wanted " + std::to_string(i), "Wanted");
  CHECK(eventually([&] { return seen.distinct().size() == 120; }));
  for (auto& body : seen.distinct()) CHECK(body.starts_with("wanted"));
}

TEST_CASE("SDK: an orderly group sees each sharding key in the order of sending", "[integration]") {
  Cluster cluster;
  cluster.create_topic("Ordered", 4);
  std::mutex mutex;
  std::map<std::string, std::vector<int>> seen;
  int handled = 0;
  auto make = [&](const char* name) {
    auto consumer = std::make_unique<PushConsumer>(consumer_config<PushConsumerConfig>(cluster, "ordered_group", name));
    consumer->set_orderly_listener([&](const std::vector<ReceivedMessage>& messages, OrderlyContext& context) {
      std::lock_guard lock(mutex);
      if (++handled % 50 == 0) {
        context.suspend_time = 20ms;
        return OrderlyResult::kSuspend;
      }
      for (const auto& each : messages) seen[std::string(each.keys())].push_back(std::stoi(std::string(each.body())));
      return OrderlyResult::kSuccess;
    });
    REQUIRE(consumer->subscribe("Ordered"));
    REQUIRE(consumer->start());
    return consumer;
  };
  auto one = make("one"), two = make("two");
  Producer producer(producer_config(cluster));
  REQUIRE(producer.start());
  for (int i = 0; i < 200; ++i) {
    std::string key = "order-" + std::to_string(i % 10);
    auto sent = producer.send(Message("Ordered", std::to_string(i)).set_keys(key), SendOptions::by_key(key));
    if (!sent) FAIL(sent.error().message);
  }
  CHECK(eventually(
      [&] {
        std::lock_guard lock(mutex);
        size_t total = 0;
        for (auto& [key, values] : seen) total += values.size();
        return total >= 200;
      },
      40s));
  std::lock_guard lock(mutex);
  CHECK(seen.size() == 10);
  for (auto& [key, values] : seen) CHECK(std::is_sorted(values.begin(), values.end()));
}

TEST_CASE("SDK: broadcasting gives every member everything", "[integration]") {
  Cluster cluster;
  cluster.create_topic("Everyone", 2);
  Seen one_seen, two_seen;
  auto config = [&](const char* name) {
    auto c = consumer_config<PushConsumerConfig>(cluster, "everyone_group", name);
    c.model = GroupModel::kBroadcasting;
    c.local_offset_dir = (cluster.directory() / "offsets").string();
    return c;
  };
  auto one = listen(config("one"), "Everyone", "*", one_seen);
  auto two = listen(config("two"), "Everyone", "*", two_seen);
  Producer producer(producer_config(cluster));
  REQUIRE(producer.start());
  for (int i = 0; i < 20; ++i) REQUIRE(producer.send(Message("Everyone", std::to_string(i))));
  CHECK(eventually([&] { return one_seen.distinct().size() == 20 && two_seen.distinct().size() == 20; }));
}

TEST_CASE("SDK: a message that is sent back comes again", "[integration]") {
  Cluster cluster({"--messageDelayLevel", "1s 1s 1s 1s"});  // retries begin with level 3
  cluster.create_topic("Again", 1);
  std::mutex mutex;
  std::vector<int> times;
  std::set<std::string> topics;
  PushConsumer consumer(consumer_config<PushConsumerConfig>(cluster, "again_group", "one"));
  consumer.set_concurrent_listener([&](const std::vector<ReceivedMessage>& messages, ConcurrentContext&) {
    std::lock_guard lock(mutex);
    topics.emplace(messages[0].topic());
    times.push_back(messages[0].reconsume_times());
    return times.size() < 3 ? ConsumeResult::kLater : ConsumeResult::kSuccess;
  });
  REQUIRE(consumer.subscribe("Again"));
  REQUIRE(consumer.start());
  Producer producer(producer_config(cluster));
  REQUIRE(producer.start());
  REQUIRE(producer.send(Message("Again", "once more")));
  CHECK(eventually(
      [&] {
        std::lock_guard lock(mutex);
        return times.size() >= 3;
      },
      40s));
  std::lock_guard lock(mutex);
  CHECK(times == std::vector<int>{0, 1, 2});
  CHECK(topics == std::set<std::string>{"Again"});
}

TEST_CASE("SDK: a pull consumer polls, seeks, commits and begins where it committed", "[integration]") {
  Cluster cluster;
  cluster.create_topic("Pulled", 1);
  Producer producer(producer_config(cluster));
  REQUIRE(producer.start());
  for (int i = 0; i < 30; ++i) REQUIRE(producer.send(Message("Pulled", std::to_string(i))));
  auto config = consumer_config<PullConsumerConfig>(cluster, "pulled_group", "one");
  config.auto_commit = false;
  auto read = [](PullConsumer& consumer, size_t wanted) {
    std::vector<std::string> bodies;
    eventually([&] {
      auto messages = consumer.poll(500ms);
      REQUIRE(messages);
      for (auto& each : *messages) bodies.emplace_back(each.body());
      return bodies.size() >= wanted;
    });
    return bodies;
  };
  MessageQueue queue;
  {
    PullConsumer consumer(config);
    REQUIRE(consumer.start());
    auto queues = consumer.queues("Pulled");
    REQUIRE(queues);
    REQUIRE(queues->size() == 1);
    queue = queues->front();
    REQUIRE(consumer.assign({queue}));
    auto bodies = read(consumer, 30);
    REQUIRE(bodies.size() == 30);
    CHECK(bodies.back() == "29");
    REQUIRE(consumer.seek(queue, 10));
    auto again = read(consumer, 20);
    REQUIRE(again.size() == 20);
    CHECK(again.front() == "10");
    REQUIRE(consumer.commit({{queue, 25}}));
    REQUIRE(consumer.shutdown());
  }
  PullConsumer consumer(config);
  REQUIRE(consumer.start());
  REQUIRE(consumer.assign({queue}));
  auto rest = read(consumer, 5);
  REQUIRE(rest.size() == 5);
  CHECK(rest.front() == "25");
}

TEST_CASE("SDK: producers and consumers go on after the broker was killed", "[integration][crash]") {
  Cluster cluster;
  cluster.create_topic("Killed", 2);
  Seen seen;
  auto consumer = listen(consumer_config<PushConsumerConfig>(cluster, "killed_group", "one"), "Killed", "*", seen);
  Producer producer(producer_config(cluster));
  REQUIRE(producer.start());
  std::set<std::string> acknowledged;
  for (int i = 0; i < 60; ++i) {
    if (i == 30) {
      cluster.kill_broker();
      cluster.start_broker();
    }
    std::string body = "message " + std::to_string(i);
    bool sent = eventually([&] { return producer.send(Message("Killed", body)).has_value(); }, 60s);
    REQUIRE(sent);
    acknowledged.insert(body);
  }
  CHECK(eventually([&] { return seen.distinct() == acknowledged; }, 60s));
}

}  // namespace apogee::test
