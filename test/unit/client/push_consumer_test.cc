#include "apogee/push_consumer.h"

#include <atomic>
#include <filesystem>
#include <fstream>
#include <memory>
#include <mutex>
#include <thread>

#include "common/remoting/response_code.h"
#include "test/support/catch.h"
#include "test/support/temporary_directory.h"
#include "test/support/wait.h"
#include "test/unit/client/consumer_bench.h"

namespace apogee::test {

using remoting::RequestCode;

TEST_CASE("a push consumer checks its configuration", "[client][push]") {
  PushConsumerConfig config;
  config.name_servers = "127.0.0.1:1";
  PushConsumer without_listener(config);
  CHECK(without_listener.start().error().code == Errc::kInvalidArgument);
  PushConsumer without_group(config);
  Seen seen;
  without_group.set_concurrent_listener(keep(seen));
  CHECK(without_group.start().error().code == Errc::kInvalidArgument);
  CHECK(without_group.subscribe("bad topic!").error().code == Errc::kInvalidArgument);
  CHECK(without_group.subscribe("T", "||").error().code == Errc::kInvalidArgument);
}

TEST_CASE("messages arrive, and what was done is committed", "[client][push]") {
  FakeCluster cluster(2);
  cluster.add_topic("T", 2);
  for (int i = 0; i < 10; ++i) {
    cluster.broker(static_cast<size_t>(i % 2)).append("T", i % 4 / 2, "early " + std::to_string(i), "A");
  }
  Seen seen;
  PushConsumer consumer(push_config(cluster));
  consumer.set_concurrent_listener(keep(seen));
  REQUIRE(consumer.subscribe("T"));
  REQUIRE(consumer.start());
  CHECK(consumer.start().error().code == Errc::kAlreadyExists);
  REQUIRE(eventually([&] { return seen.count() == 10; }));
  cluster.broker().append("T", 1, "late");  // while the pull is held
  REQUIRE(eventually([&] { return seen.count("late") == 1; }));
  CHECK(consumer.assignment().size() == 4);
  CHECK(eventually([&] { return cluster.broker().offset("G", "T", 0) == 3; }));
  CHECK(consumer.shutdown());
  CHECK(consumer.shutdown());
  CHECK(cluster.broker().offset("G", "T", 1) == 3);
  CHECK(cluster.broker().members("G") == 0);
}

TEST_CASE("consuming goes on where the group was", "[client][push]") {
  FakeCluster cluster;
  cluster.add_topic("T", 1);
  for (int i = 0; i < 5; ++i) cluster.broker().append("T", 0, std::to_string(i));
  cluster.broker().set_offset("G", "T", 0, 3);
  Seen seen;
  PushConsumer consumer(push_config(cluster));
  consumer.set_concurrent_listener(keep(seen));
  REQUIRE(consumer.subscribe("T"));
  REQUIRE(consumer.start());
  REQUIRE(eventually([&] { return seen.count("4") == 1; }));
  REQUIRE(eventually([&] { return seen.count() == 2; }));
}

TEST_CASE("a new group begins where the configuration says", "[client][push]") {
  for (auto where : {ConsumeFrom::kFirst, ConsumeFrom::kLast, ConsumeFrom::kTimestamp}) {
    FakeCluster cluster;
    cluster.add_topic("T", 1);
    for (int i = 0; i < 3; ++i) cluster.broker().append("T", 0, std::to_string(i));
    auto config = push_config(cluster);
    config.consume_from = where;
    Seen seen;
    PushConsumer consumer(config);
    consumer.set_concurrent_listener(keep(seen));
    REQUIRE(consumer.subscribe("T"));
    REQUIRE(consumer.start());
    REQUIRE(eventually(
        [&] { return cluster.broker().count(RequestCode::kPullMessage) > 0 && !consumer.assignment().empty(); }));
    REQUIRE(eventually([&] { return cluster.broker().offset("G", "T", 0).has_value(); }));
    cluster.broker().append("T", 0, "new");
    REQUIRE(eventually([&] { return seen.count("new") == 1; }));
    const size_t old = where == ConsumeFrom::kFirst ? 3 : where == ConsumeFrom::kLast ? 0 : 2;
    CHECK(eventually([&] { return seen.count() == old + 1; }));
  }
}

TEST_CASE("tags are filtered again by the client, and their offsets count", "[client][push]") {
  FakeCluster cluster;
  cluster.add_topic("T", 1);
  for (const char* tag : {"A", "B", "A", "C", "B"}) cluster.broker().append("T", 0, tag, tag);
  Seen seen;
  PushConsumer consumer(push_config(cluster));
  consumer.set_concurrent_listener(keep(seen));
  REQUIRE(consumer.subscribe("T", "A || C"));
  REQUIRE(consumer.start());
  REQUIRE(eventually([&] { return seen.count() == 3; }));
  CHECK(seen.count("B") == 0);
  REQUIRE(eventually([&] { return cluster.broker().offset("G", "T", 0).value_or(0) >= 4; }));
}

TEST_CASE("two members share the queues, and one takes over when the other leaves", "[client][push]") {
  FakeCluster cluster;
  cluster.add_topic("T", 4);
  Seen seen;
  auto first = std::make_unique<PushConsumer>(push_config(cluster));
  PushConsumer second(push_config(cluster));
  for (auto* consumer : {first.get(), &second}) {
    consumer->set_concurrent_listener(keep(seen));
    REQUIRE(consumer->subscribe("T"));
    REQUIRE(consumer->start());
  }
  REQUIRE(eventually([&] { return first->assignment().size() == 2 && second.assignment().size() == 2; }));
  CHECK(first->client_id() != second.client_id());
  for (int i = 0; i < 8; ++i) cluster.broker().append("T", i % 4, std::to_string(i));
  REQUIRE(eventually([&] { return seen.count() == 8; }));
  first.reset();
  REQUIRE(eventually([&] { return second.assignment().size() == 4; }));
  for (int i = 8; i < 16; ++i) cluster.broker().append("T", i % 4, std::to_string(i));
  REQUIRE(eventually([&] { return seen.count() >= 16; }));
  CHECK(seen.count() == 16);
}

namespace {

/// A group of one topic of three messages, each of whose members gets everything and keeps its offsets below the
/// directory.
PushConsumerConfig broadcasting_config(FakeCluster& cluster, const std::string& directory) {
  cluster.add_topic("T", 1);
  for (int i = 0; i < 3; ++i) cluster.broker().append("T", 0, std::to_string(i));
  auto config = push_config(cluster);
  config.model = GroupModel::kBroadcasting;
  config.client_ip = "127.0.0.1";
  config.local_offset_dir = directory;
  config.instance_name = "member";
  return config;
}

}  // namespace

TEST_CASE("broadcasting: every member gets everything and keeps its offsets in a file", "[client][push]") {
  const TemporaryDirectory made;
  const std::string directory = made.path();
  FakeCluster cluster;
  cluster.add_topic("T", 2);
  for (int i = 0; i < 6; ++i) cluster.broker().append("T", i % 2, std::to_string(i));
  auto config = push_config(cluster);
  config.model = GroupModel::kBroadcasting;
  config.local_offset_dir = directory;
  for (int run = 0; run < 2; ++run) {
    std::vector<std::unique_ptr<Seen>> seen;
    std::vector<std::unique_ptr<PushConsumer>> members;
    for (int i = 0; i < 2; ++i) {
      config.instance_name = "member" + std::to_string(i);
      seen.push_back(std::make_unique<Seen>());
      members.push_back(std::make_unique<PushConsumer>(config));
      members.back()->set_concurrent_listener(keep(*seen.back()));
      REQUIRE(members.back()->subscribe("T"));
      REQUIRE(members.back()->start());
    }
    cluster.broker().append("T", 0, "run " + std::to_string(run));
    for (auto& member : seen) {
      CAPTURE(run);
      REQUIRE(eventually([&] { return member->count("run " + std::to_string(run)) == 1; }));
      REQUIRE(eventually([&] { return member->count() == (run == 0 ? 7U : 1U); }));
    }
    for (auto& member : members) CHECK(member->shutdown());
  }
  CHECK(std::filesystem::exists(directory + "/127.0.0.1@member0/G/offsets.json"));
  CHECK(cluster.broker().count(RequestCode::kUpdateConsumerOffset) == 0);
}

TEST_CASE("nothing is consumed before a start is through", "[client][push]") {
  const TemporaryDirectory directory;
  FakeCluster cluster;
  auto config = broadcasting_config(cluster, directory.path());
  std::atomic<bool> accepted = true;
  cluster.broker().set_intercept([&](const remoting::Command& request) -> std::optional<remoting::Command> {
    if (request.request_code() != RequestCode::kCheckClientConfig) return std::nullopt;
    pause(std::chrono::milliseconds(200));  // the route is known meanwhile, and rebalancing would begin
    if (accepted) return remoting::Command::response_to(request, remoting::response_code::kSuccess);
    return remoting::Command::response_to(request, remoting::response_code::kSubscriptionParseFailed, "no");
  });
  const auto consume = [&](Seen& seen, size_t messages) {
    PushConsumer consumer(config);
    consumer.set_concurrent_listener(keep(seen));
    REQUIRE(consumer.subscribe("T", MessageSelector::by_sql("a IS NULL")));
    if (messages == 0) {
      CHECK_FALSE(consumer.start());
    } else {
      REQUIRE(consumer.start());
    }
    CHECK(eventually([&] { return seen.count() >= messages; }));
  };
  Seen first;
  consume(first, 3);
  cluster.broker().append("T", 0, "late");
  accepted = false;
  const int pulls = cluster.broker().count(RequestCode::kPullMessage);
  Seen refused;
  consume(refused, 0);
  CHECK(cluster.broker().count(RequestCode::kPullMessage) == pulls);
  accepted = true;
  Seen second;
  consume(second, 1);
  CHECK(second.bodies == std::vector<std::string>{"late"});
}

TEST_CASE("a start that failed is final, and says so when it is tried again", "[client][push]") {
  const TemporaryDirectory directory;
  FakeCluster cluster;
  auto config = broadcasting_config(cluster, directory.path());
  const std::filesystem::path file = std::string(directory.path()) + "/127.0.0.1@member/G/offsets.json";
  std::filesystem::create_directories(file.parent_path());
  std::ofstream(file) << "garbage";
  cluster.broker().set_intercept([&](const remoting::Command& request) -> std::optional<remoting::Command> {
    if (request.request_code() != RequestCode::kCheckClientConfig) return std::nullopt;
    return remoting::Command::response_to(request, remoting::response_code::kSubscriptionParseFailed, "no");
  });
  Seen seen;
  for (const bool by_file : {true, false}) {
    PushConsumer consumer(config);
    consumer.set_concurrent_listener(keep(seen));
    REQUIRE(consumer.subscribe("T", by_file ? MessageSelector::by_tags("*") : MessageSelector::by_sql("a IS NULL")));
    const auto failed = consumer.start();
    REQUIRE_FALSE(failed);
    CHECK((failed.error().code == Errc::kCorrupt) == by_file);
    CHECK(consumer.start().error().code == Errc::kClosed);
  }
  std::filesystem::remove(file);
  PushConsumer another(config);
  another.set_concurrent_listener(keep(seen));
  REQUIRE(another.subscribe("T"));
  REQUIRE(another.start());
  CHECK(eventually([&] { return seen.count() == 3; }));
}

TEST_CASE("an offset outside of the queue is corrected", "[client][push]") {
  FakeCluster cluster;
  cluster.add_topic("T", 1);
  cluster.broker().append("T", 0, "old");
  cluster.broker().set_offset("G", "T", 0, 77);
  Seen seen;
  PushConsumer consumer(push_config(cluster));
  consumer.set_concurrent_listener(keep(seen));
  REQUIRE(consumer.subscribe("T"));
  REQUIRE(consumer.start());
  REQUIRE(eventually([&] { return cluster.broker().offset("G", "T", 0) == 1; }));
  cluster.broker().append("T", 0, "new");
  REQUIRE(eventually([&] { return seen.count("new") == 1; }));
}

TEST_CASE("shutdown waits for listeners and commits what they did", "[client][push]") {
  FakeCluster cluster;
  cluster.add_topic("T", 1);
  cluster.broker().append("T", 0, "slow");
  auto config = push_config(cluster);
  config.offset_persist_interval = std::chrono::hours(1);
  std::atomic<bool> running{false};
  std::atomic<bool> go_on{false};
  std::atomic<Errc> inside{Errc::kInternal};
  PushConsumer consumer(config);
  consumer.set_concurrent_listener([&](const std::vector<ReceivedMessage>&, ConcurrentContext&) {
    inside = consumer.shutdown().error().code;
    running = true;
    eventually([&] { return go_on.load(); });
    return ConsumeResult::kSuccess;
  });
  REQUIRE(consumer.subscribe("T"));
  REQUIRE(consumer.start());
  REQUIRE(eventually([&] { return running.load(); }));
  CHECK(inside == Errc::kInvalidArgument);
  std::atomic<bool> stopped{false};
  std::thread stopper([&] { stopped = consumer.shutdown().has_value(); });
  REQUIRE(time_passes(cluster));
  CHECK(cluster.broker().offset("G", "T", 0).value_or(0) == 0);
  go_on = true;
  stopper.join();
  CHECK(stopped);
  CHECK(cluster.broker().offset("G", "T", 0) == 1);
}

TEST_CASE("topics can be added and left while running", "[client][push]") {
  FakeCluster cluster;
  cluster.add_topic("T", 1);
  cluster.add_topic("U", 1);
  Seen seen;
  PushConsumer consumer(push_config(cluster));
  consumer.set_orderly_listener(keep_orderly(seen));
  REQUIRE(consumer.subscribe("T"));
  REQUIRE(consumer.start());
  REQUIRE(eventually([&] { return consumer.assignment().size() == 1; }));
  REQUIRE(consumer.subscribe("U"));
  REQUIRE(eventually([&] { return consumer.assignment().size() == 2; }));
  cluster.broker().append("U", 0, "u");
  REQUIRE(eventually([&] { return seen.count("u") == 1; }));
  REQUIRE(consumer.unsubscribe("T"));
  REQUIRE(eventually([&] { return consumer.assignment() == std::vector<MessageQueue>{{"U", "broker-a", 0}}; }));
}

TEST_CASE("names have their namespace on the wire only", "[client][push]") {
  FakeCluster cluster;
  cluster.add_topic("ns%T", 1);
  cluster.broker().append("ns%T", 0, "x");
  auto config = push_config(cluster);
  config.name_space = "ns";
  Seen seen;
  PushConsumer consumer(config);
  consumer.set_concurrent_listener(keep(seen));
  REQUIRE(consumer.subscribe("T"));
  REQUIRE(consumer.start());
  REQUIRE(eventually([&] { return seen.count() == 1; }));
  CHECK(consumer.assignment() == std::vector<MessageQueue>{{"T", "broker-a", 0}});
  CHECK(eventually([&] { return cluster.broker().offset("ns%G", "ns%T", 0) == 1; }));
  std::lock_guard lock(seen.mutex);
  CHECK(seen.last.topic() == "T");
}

}  // namespace apogee::test
