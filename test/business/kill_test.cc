// kill -9 of the broker under batches, traces and broadcasting groups.
#include <algorithm>
#include <thread>

#include "test/business/transaction_bench.h"
#include "test/support/temporary_directory.h"

namespace apogee::test {

using namespace std::chrono_literals;

namespace {

/// Sends until the broker takes it.
template <typename Send>
void send_surely(Send send) {
  REQUIRE(eventually([&] { return static_cast<bool>(send()); }, 60s));
}

void restart(Cluster& cluster) {
  cluster.kill_broker();
  cluster.start_broker();
}

}  // namespace

TEST_CASE("kill -9 of the broker under batches: each is there wholly or not at all", "[business][batch][crash]") {
  constexpr int kInBatch = 20, kKills = 3;
  Cluster cluster;
  cluster.create_topic("Batches", 1);
  auto config = producer_config(cluster);
  config.send_timeout = 3s;
  config.attempt_timeout = 1s;
  Producer producer(config);
  REQUIRE(producer.start());
  std::atomic<int> begun{0};
  std::atomic<bool> over{false};
  std::set<int> acknowledged;
  std::thread sender([&] {
    for (int batch = 0; !over; begun = ++batch) {
      std::vector<Message> messages;
      for (int i = 0; i < kInBatch; ++i)
        messages.emplace_back("Batches", std::to_string(batch) + ":" + std::string(200, static_cast<char>('a' + i)));
      if (producer.send_batch(messages)) acknowledged.insert(batch);
    }
  });
  for (int kill = 0; kill < kKills; ++kill) {
    const int before = begun;
    CHECK(eventually([&] { return begun >= before + 50; }, 60s));
    restart(cluster);
  }
  const int before = begun;
  CHECK(eventually([&] { return begun >= before + 5; }, 60s));
  over = true;
  sender.join();
  std::map<int, std::vector<std::string>> stored;  // by batch, in the order of the queue
  for (const auto& body : bodies_of(cluster.broker_port(), "Batches"))
    stored[std::stoi(body)].push_back(body.substr(body.find(':') + 1));
  bool whole = true;
  for (const auto& [batch, parts] : stored) {
    whole = whole && parts.size() % kInBatch == 0;
    for (size_t i = 0; whole && i < parts.size(); ++i) whole = parts[i][0] == static_cast<char>('a' + i % kInBatch);
    if (!whole) FAIL_CHECK("batch " << batch << " has " << parts.size() << " messages");
  }
  for (int batch : acknowledged)
    if (stored.count(batch) == 0) FAIL_CHECK("batch " << batch << " was acknowledged and is not there");
  CHECK(acknowledged.size() >= 50 * kKills / 2);
}

TEST_CASE("kill -9 of the broker: traces from before are found, and others are written afterwards",
          "[business][trace][crash]") {
  Cluster cluster({"--traceTopicEnable", "true"});
  cluster.create_topic("Traced", 1);
  auto config = producer_config(cluster);
  config.enable_trace = true;
  Producer producer(config);
  REQUIRE(producer.start());
  AdminClient admin(admin_config(cluster));
  auto traced = [&](const std::string& id) {
    return eventually(
        [&] {
          auto trace = admin.message_trace({id});
          return trace && trace->records.size() == 1;
        },
        60s);
  };
  auto before = producer.send(Message("Traced", "before"));
  REQUIRE(before);
  REQUIRE(traced(before->msg_id));
  restart(cluster);
  CHECK(traced(before->msg_id));
  std::string after;
  send_surely([&] {
    auto sent = producer.send(Message("Traced", "after"));
    if (sent) after = sent->msg_id;
    return sent.has_value();
  });
  CHECK(traced(after));
  CHECK(producer.shutdown());
}

TEST_CASE("kill -9 of the broker under a broadcasting group: every member gets every message",
          "[business][broadcast][crash]") {
  constexpr int kMessages = 60, kKills = 2;
  Cluster cluster;
  cluster.create_topic("All", 2);
  TemporaryDirectory directory;
  auto member = [&](const std::string& name) {
    auto config = consumer_config<PushConsumerConfig>(cluster, "broadcast", name);
    config.model = GroupModel::kBroadcasting;
    config.local_offset_dir = directory.path().string();
    return config;
  };
  Seen one, two;
  auto first = listen(member("one"), "All", "*", one);
  auto second = listen(member("two"), "All", "*", two);
  auto config = producer_config(cluster);
  config.send_timeout = 3s;
  Producer producer(config);
  REQUIRE(producer.start());
  std::set<std::string> sent;
  for (int i = 0; i < kMessages; ++i) {
    if (i > 0 && i % (kMessages / (kKills + 1)) == 0) restart(cluster);
    const std::string body = std::to_string(i);
    send_surely([&] { return producer.send(Message("All", body)).has_value(); });
    sent.insert(body);
  }
  CHECK(eventually([&] { return one.distinct() == sent; }, 60s));
  CHECK(eventually([&] { return two.distinct() == sent; }, 60s));
  REQUIRE(first->shutdown());
  // It goes on where its own file says, not at the beginning.
  Seen again;
  auto third = listen(member("one"), "All", "*", again);
  send_surely([&] { return producer.send(Message("All", "last")).has_value(); });
  CHECK(eventually([&] { return again.distinct().count("last") == 1; }, 60s));
  CHECK(again.distinct().size() == 1);
}

}  // namespace apogee::test
