// Groups whose members all get every message, and where a group begins that has no offsets yet.
#include <chrono>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "apogee/pull_consumer.h"
#include "common/remoting/bodies/client_bodies.h"
#include "test/integration/sdk_bench.h"
#include "test/support/raw_requests.h"
#include "test/support/temporary_directory.h"

namespace apogee::test {

using namespace std::chrono_literals;

namespace {

void send(Producer& producer, const std::string& topic, const std::string& body) {
  auto sent = producer.send(Message(topic, body));
  if (!sent) FAIL(sent.error().message);
}

PushConsumerConfig broadcasting(const Cluster& cluster, const TemporaryDirectory& directory, const std::string& name) {
  auto config = consumer_config<PushConsumerConfig>(cluster, "broadcast", name);
  config.model = GroupModel::kBroadcasting;
  config.local_offset_dir = directory.path().string();
  return config;
}

bool has_all(Seen& seen, const std::set<std::string>& bodies) {
  if (eventually([&] { return seen.distinct() == bodies; }, 60s)) return true;
  const auto seen_bodies = seen.distinct();
  std::string apart;
  for (const auto& body : bodies)
    if (seen_bodies.count(body) == 0) apart += " -" + body;
  for (const auto& body : seen_bodies)
    if (bodies.count(body) == 0) apart += " +" + body;
  WARN("missing (-) or too much (+):" << apart);
  return false;
}

/// What a group of its own gets of the topic, until `count` messages are there.
template <typename Change>
std::set<std::string> read_as(const Cluster& cluster, const std::string& group, size_t count, Change change) {
  auto config = consumer_config<PushConsumerConfig>(cluster, group, "one");
  change(config);
  Seen seen;
  auto consumer = listen(config, "Begin", "*", seen);
  CHECK(eventually([&] { return seen.distinct().size() >= count; }, 60s));
  REQUIRE(consumer->shutdown());
  return seen.distinct();
}

}  // namespace

TEST_CASE("broadcast: every member gets every message, and goes on where it was after a restart",
          "[business][broadcast]") {
  Cluster cluster(Cluster::Size{1, 2});
  cluster.create_topic("All", 2);
  TemporaryDirectory directory;
  Producer producer(producer_config(cluster));
  REQUIRE(producer.start());
  std::set<std::string> sent;
  auto send_some = [&](int from, int to) {
    for (int i = from; i < to; ++i) {
      send(producer, "All", std::to_string(i));
      sent.insert(std::to_string(i));
    }
  };
  send_some(0, 40);
  Seen one, two, again;
  auto first = listen(broadcasting(cluster, directory, "one"), "All", "*", one);
  auto second = listen(broadcasting(cluster, directory, "two"), "All", "*", two);
  REQUIRE(has_all(one, sent));
  REQUIRE(has_all(two, sent));
  REQUIRE(first->shutdown());
  size_t files = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(directory.path())) {
    if (entry.path().filename() == "offsets.json") ++files;
  }
  CHECK(files >= 1);
  send_some(40, 60);
  REQUIRE(has_all(two, sent));
  CHECK(one.count() == 40);
  first = listen(broadcasting(cluster, directory, "one"), "All", "*", again);
  std::set<std::string> later;
  for (int i = 40; i < 60; ++i) later.insert(std::to_string(i));
  CHECK(has_all(again, later));
  CHECK(two.count() == 60);  // nobody got anything twice
}

TEST_CASE("broadcast: a message that fails is not redelivered, and the group leaves no offsets at the broker",
          "[business][broadcast]") {
  Cluster cluster;
  cluster.create_topic("Once", 1);
  TemporaryDirectory directory;
  Producer producer(producer_config(cluster));
  REQUIRE(producer.start());
  Seen seen;
  PushConsumer consumer(broadcasting(cluster, directory, "one"));
  consumer.set_concurrent_listener([&](const std::vector<ReceivedMessage>& messages, ConcurrentContext&) {
    seen.add("one", messages);
    return messages.front().body() == "bad" ? ConsumeResult::kLater : ConsumeResult::kSuccess;
  });
  REQUIRE(consumer.subscribe("Once"));
  REQUIRE(consumer.start());
  send(producer, "Once", "bad");
  send(producer, "Once", "good");
  REQUIRE(has_all(seen, {"bad", "good"}));
  REQUIRE(consumer.shutdown());
  CHECK(seen.count() == 2);
  AdminClient admin(admin_config(cluster));
  auto offset = admin.consumer_offset("broadcast", {"Once", Cluster::broker_name(0), 0});
  CHECK((!offset || !offset->has_value()));
}

TEST_CASE("consume from first, last and a timestamp: where a group without offsets begins", "[business][begin]") {
  Cluster cluster;
  cluster.create_topic("Begin", 1);
  Producer producer(producer_config(cluster));
  REQUIRE(producer.start());
  // Two messages, then, by the broker's clock at least 5 ms later, two more.
  std::set<std::string> all;
  for (auto body : {"a", "b"}) send(producer, "Begin", body), all.insert(body);
  const auto before = std::chrono::system_clock::now();
  REQUIRE(eventually([&] { return std::chrono::system_clock::now() - before > 5ms; }));
  const int64_t middle_ms =
      std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch())
          .count();
  for (auto body : {"c", "d"}) send(producer, "Begin", body), all.insert(body);
  AdminClient admin(admin_config(cluster));
  const MessageQueue queue{"Begin", Cluster::broker_name(0), 0};
  REQUIRE(eventually([&] { return admin.max_offset(queue) && *admin.max_offset(queue) == 4; }, 60s));

  CHECK(read_as(cluster, "from_first", 4, [](auto& config) { config.consume_from = ConsumeFrom::kFirst; }) == all);
  CHECK(read_as(cluster, "from_middle", 2, [&](auto& config) {
          config.consume_from = ConsumeFrom::kTimestamp;
          config.consume_timestamp_ms = middle_ms;
        }) == std::set<std::string>{"c", "d"});
  CHECK(read_as(cluster, "from_old", 4, [](auto& config) { config.consume_from = ConsumeFrom::kTimestamp; }) == all);
  // A queue of which everything is still there is young: also who wants the last begins at the first (as in RocketMQ).
  CHECK(read_as(cluster, "from_last_of_a_young_queue", 4,
                [](auto& config) { config.consume_from = ConsumeFrom::kLast; }) == all);

  // Broadcasting has no offsets at the broker, so the last is the last.
  TemporaryDirectory directory;
  auto config = broadcasting(cluster, directory, "one");
  config.consume_from = ConsumeFrom::kLast;
  Seen seen;
  auto consumer = listen(config, "Begin", "*", seen);
  REQUIRE(eventually([&] { return consumer->assignment().size() == 1; }, 60s));
  int number = 0;
  REQUIRE(eventually(
      [&] {
        send(producer, "Begin", "new " + std::to_string(number++));
        return seen.count() > 0;
      },
      60s));
  for (const auto& body : seen.distinct()) CHECK(body.rfind("new ", 0) == 0);

  // A pull consumer looks for its beginning by the same rules.
  auto pull_config = consumer_config<PullConsumerConfig>(cluster, "pull_middle", "one");
  pull_config.consume_from = ConsumeFrom::kTimestamp;
  pull_config.consume_timestamp_ms = middle_ms;
  PullConsumer pulling(pull_config);
  REQUIRE(pulling.subscribe("Begin"));
  REQUIRE(pulling.start());
  std::vector<std::string> polled;
  REQUIRE(eventually(
      [&] {
        auto messages = pulling.poll(1s);
        REQUIRE(messages);
        for (const auto& message : *messages) polled.emplace_back(message.body());
        return polled.size() >= 2;
      },
      60s));
  CHECK(polled.front() == "c");
}

TEST_CASE("raw frames: a broadcasting client pulls everything while another does, and its heartbeat says so",
          "[business][broadcast]") {
  Cluster cluster;
  cluster.create_topic("Raw", 1);
  RawClient one(cluster.broker_port()), two(cluster.broker_port());
  remoting::HeartbeatData data;
  remoting::ConsumerData group;
  group.group_name = "raw_broadcast";
  group.message_model = remoting::MessageModel::kBroadcasting;
  data.consumer_data_set.push_back(group);
  for (auto* client : {&one, &two}) {
    data.client_id = client == &one ? "10.0.0.1@one" : "10.0.0.2@two";
    auto heartbeat = remoting::Command::request(remoting::RequestCode::kHeartBeat);
    heartbeat.body = SharedBytes::from(remoting::encode(data));
    REQUIRE(client->call(std::move(heartbeat))->code == 0);
  }
  for (auto body : {"x", "y"}) {
    RawSend message;
    message.topic = "Raw";
    message.body = body;
    REQUIRE(one.call(send_request(std::move(message)))->code == 0);
  }
  for (auto* client : {&one, &two}) {
    CHECK(eventually(
        [&] {
          auto pulled = client->call(pull_request("raw_broadcast", "Raw", 0, 0));
          return pulled && pulled->code == 0 && pulled->ext.get("nextBeginOffset") == "2";
        },
        60s));
  }
  AdminClient admin(admin_config(cluster));
  auto members = admin.group_clients("raw_broadcast", cluster.broker());
  REQUIRE(members);
  CHECK(members->clients.size() == 2);
}

}  // namespace apogee::test
