#include "apogee/push_consumer.h"

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <map>
#include <mutex>
#include <stdexcept>
#include <thread>

#include "common/remoting/bodies/client_bodies.h"
#include "test/support/catch.h"
#include "test/support/wait.h"
#include "test/unit/client/fake_cluster.h"

namespace {

using apogee::ConcurrentContext;
using apogee::ConsumeResult;
using apogee::Errc;
using apogee::MessageQueue;
using apogee::OrderlyContext;
using apogee::OrderlyResult;
using apogee::PushConsumer;
using apogee::PushConsumerConfig;
using apogee::ReceivedMessage;
using apogee::remoting::Command;
using apogee::remoting::RequestCode;
using apogee::test::eventually;
using apogee::test::FakeCluster;
using apogee::test::time_passes;
using Milliseconds = std::chrono::milliseconds;

PushConsumerConfig config_for(const FakeCluster& cluster) {
  PushConsumerConfig config;
  config.group = "G";
  config.name_servers = cluster.name_servers();
  config.consume_from = apogee::ConsumeFrom::kFirst;
  config.consume_threads = 4;
  config.heartbeat_interval = Milliseconds(10);
  config.rebalance_interval = Milliseconds(200);
  config.offset_persist_interval = Milliseconds(20);
  config.pull_suspend = Milliseconds(200);
  config.pull_error_delay = Milliseconds(20);
  config.lock_retry_delay = Milliseconds(10);
  config.suspend_time = Milliseconds(10);
  config.retry_locally_delay = Milliseconds(20);
  config.flow_control_delay = Milliseconds(5);
  config.shutdown_timeout = Milliseconds(5'000);
  return config;
}

/// What listeners saw, by queue.
struct Seen {
  void add(const ReceivedMessage& message) {
    std::lock_guard lock(mutex);
    bodies.emplace_back(message.body());
    by_queue[message.queue()].emplace_back(message.body());
    last = message;
  }
  size_t count() {
    std::lock_guard lock(mutex);
    return bodies.size();
  }
  size_t count(const std::string& body) {
    std::lock_guard lock(mutex);
    return static_cast<size_t>(std::count(bodies.begin(), bodies.end(), body));
  }
  std::mutex mutex;
  std::vector<std::string> bodies;
  std::map<MessageQueue, std::vector<std::string>> by_queue;
  ReceivedMessage last;
};

apogee::ConcurrentListener keep(Seen& seen) {
  return [&seen](const std::vector<ReceivedMessage>& messages, ConcurrentContext&) {
    for (const auto& message : messages) seen.add(message);
    return ConsumeResult::kSuccess;
  };
}

apogee::OrderlyListener keep_orderly(Seen& seen) {
  return [&seen](const std::vector<ReceivedMessage>& messages, OrderlyContext&) {
    for (const auto& message : messages) seen.add(message);
    return OrderlyResult::kSuccess;
  };
}

}  // namespace

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
  PushConsumer consumer(config_for(cluster));
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
  PushConsumer consumer(config_for(cluster));
  consumer.set_concurrent_listener(keep(seen));
  REQUIRE(consumer.subscribe("T"));
  REQUIRE(consumer.start());
  REQUIRE(eventually([&] { return seen.count("4") == 1; }));
  REQUIRE(eventually([&] { return seen.count() == 2; }));
}

TEST_CASE("a new group begins where the configuration says", "[client][push]") {
  for (auto where : {apogee::ConsumeFrom::kFirst, apogee::ConsumeFrom::kLast, apogee::ConsumeFrom::kTimestamp}) {
    FakeCluster cluster;
    cluster.add_topic("T", 1);
    for (int i = 0; i < 3; ++i) cluster.broker().append("T", 0, std::to_string(i));
    auto config = config_for(cluster);
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
    const size_t old = where == apogee::ConsumeFrom::kFirst ? 3 : where == apogee::ConsumeFrom::kLast ? 0 : 2;
    CHECK(eventually([&] { return seen.count() == old + 1; }));
  }
}

TEST_CASE("tags are filtered again by the client, and their offsets count", "[client][push]") {
  FakeCluster cluster;
  cluster.add_topic("T", 1);
  for (const char* tag : {"A", "B", "A", "C", "B"}) cluster.broker().append("T", 0, tag, tag);
  Seen seen;
  PushConsumer consumer(config_for(cluster));
  consumer.set_concurrent_listener(keep(seen));
  REQUIRE(consumer.subscribe("T", "A || C"));
  REQUIRE(consumer.start());
  REQUIRE(eventually([&] { return seen.count() == 3; }));
  CHECK(seen.count("B") == 0);
  REQUIRE(eventually([&] { return cluster.broker().offset("G", "T", 0).value_or(0) >= 4; }));
}

TEST_CASE("a message that is to come later is sent back and comes again under its topic", "[client][push]") {
  FakeCluster cluster;
  cluster.add_topic("T", 1);
  cluster.broker().append("T", 0, "bad");
  Seen seen;
  PushConsumer consumer(config_for(cluster));
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
  auto config = config_for(cluster);
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
    PushConsumer consumer(config_for(cluster));
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
  auto config = config_for(cluster);
  config.consume_timeout = Milliseconds(40);
  Seen seen;
  PushConsumer consumer(config);
  consumer.set_concurrent_listener([&](const std::vector<ReceivedMessage>& messages, ConcurrentContext&) {
    seen.add(messages[0]);
    if (messages[0].reconsume_times() == 0) eventually([&] { return seen.count() == 2; });
    return ConsumeResult::kSuccess;
  });
  REQUIRE(consumer.subscribe("T"));
  REQUIRE(consumer.start());
  REQUIRE(eventually([&] { return seen.count() == 2; }));
  CHECK(cluster.broker().requests(RequestCode::kConsumerSendMsgBack).front().ext.get("delayLevel") == "3");
  CHECK(eventually([&] { return cluster.broker().offset("G", "T", 0) == 1; }));
}

TEST_CASE("pulling stops while too much is cached", "[client][push]") {
  FakeCluster cluster;
  cluster.add_topic("T", 1);
  for (int i = 0; i < 200; ++i) cluster.broker().append("T", 0, std::to_string(i));
  auto config = config_for(cluster);
  config.cached_messages_max = 20;
  config.pull_batch = 10;
  Seen seen;
  std::atomic<bool> open{false};
  PushConsumer consumer(config);
  consumer.set_concurrent_listener([&](const std::vector<ReceivedMessage>& messages, ConcurrentContext&) {
    eventually([&] { return open.load(); });
    seen.add(messages[0]);
    return ConsumeResult::kSuccess;
  });
  REQUIRE(consumer.subscribe("T"));
  REQUIRE(consumer.start());
  auto pulled = [&] {
    int count = 0;
    for (const auto& request : cluster.broker().requests(RequestCode::kPullMessage))
      count += request.ext.get("topic") == "T";
    return count;
  };
  REQUIRE(eventually([&] { return pulled() == 2; }));
  REQUIRE(time_passes(cluster));
  CHECK(pulled() == 2);
  open = true;
  REQUIRE(eventually([&] { return seen.count() == 200; }));
}

TEST_CASE("two members share the queues, and one takes over when the other leaves", "[client][push]") {
  FakeCluster cluster;
  cluster.add_topic("T", 4);
  Seen seen;
  auto first = std::make_unique<PushConsumer>(config_for(cluster));
  PushConsumer second(config_for(cluster));
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

TEST_CASE("orderly: a queue is locked, in order, and tried again in place", "[client][push]") {
  FakeCluster cluster;
  cluster.add_topic("T", 2);
  for (int i = 0; i < 40; ++i) cluster.broker().append("T", i % 2, std::to_string(i));
  auto config = config_for(cluster);
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
  auto config = config_for(cluster);
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
      apogee::test::pause(Milliseconds(1));  // the pace of the sender, nothing is waited for
    }
  });
  PushConsumer stays(config_for(cluster));
  stays.set_orderly_listener(listener);
  REQUIRE(stays.subscribe("T"));
  REQUIRE(stays.start());
  for (int round = 0; round < 2; ++round) {
    PushConsumer guest(config_for(cluster));
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

TEST_CASE("broadcasting: every member gets everything and keeps its offsets in a file", "[client][push]") {
  std::string pattern = (std::filesystem::temp_directory_path() / "apogee-XXXXXX").string();
  const std::string directory = mkdtemp(pattern.data());
  FakeCluster cluster;
  cluster.add_topic("T", 2);
  for (int i = 0; i < 6; ++i) cluster.broker().append("T", i % 2, std::to_string(i));
  auto config = config_for(cluster);
  config.model = apogee::GroupModel::kBroadcasting;
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
      REQUIRE(eventually([&] { return member->count("run " + std::to_string(run)) == 1; }));
      REQUIRE(eventually([&] { return member->count() == (run == 0 ? 7U : 1U); }));
    }
    for (auto& member : members) CHECK(member->shutdown());
  }
  CHECK(std::filesystem::exists(directory + "/127.0.0.1@member0/G/offsets.json"));
  CHECK(cluster.broker().count(RequestCode::kUpdateConsumerOffset) == 0);
  std::filesystem::remove_all(directory);
}

TEST_CASE("an offset outside of the queue is corrected", "[client][push]") {
  FakeCluster cluster;
  cluster.add_topic("T", 1);
  cluster.broker().append("T", 0, "old");
  cluster.broker().set_offset("G", "T", 0, 77);
  Seen seen;
  PushConsumer consumer(config_for(cluster));
  consumer.set_concurrent_listener(keep(seen));
  REQUIRE(consumer.subscribe("T"));
  REQUIRE(consumer.start());
  REQUIRE(eventually([&] { return cluster.broker().offset("G", "T", 0) == 1; }));
  cluster.broker().append("T", 0, "new");
  REQUIRE(eventually([&] { return seen.count("new") == 1; }));
}

TEST_CASE("requests of the broker", "[client][push]") {
  FakeCluster cluster;
  cluster.add_topic("T", 1);
  auto& broker = cluster.broker();
  for (int i = 0; i < 5; ++i) broker.append("T", 0, std::to_string(i));
  Seen seen;
  PushConsumer consumer(config_for(cluster));
  consumer.set_concurrent_listener(keep(seen));
  REQUIRE(consumer.subscribe("T"));
  REQUIRE(consumer.start());
  REQUIRE(eventually([&] { return seen.count() == 5 && broker.offset("G", "T", 0) == 5; }));

  SECTION("reset of offsets, as map and as list") {
    for (bool list : {false, true}) {
      const size_t before = seen.count();
      auto request = Command::request(RequestCode::kResetConsumerClientOffset);
      request.ext.set("topic", "T");
      request.ext.set("group", "G");
      const apogee::remoting::ResetOffsetBody body{{{{"T", "broker-a", 0}, 2}}};
      request.body = apogee::SharedBytes::from(list ? encode_as_list(body) : encode(body));
      broker.ask_members("G", request, true);
      REQUIRE(eventually([&] { return seen.count() == before + 3; }));
      CHECK(eventually([&] { return broker.offset("G", "T", 0) == 5; }));
    }
  }
  SECTION("status") {
    auto request = Command::request(RequestCode::kGetConsumerStatusFromClient);
    request.ext.set("topic", "T");
    request.ext.set("group", "G");
    auto reply = broker.ask_members("G", request, false);
    REQUIRE(reply);
    auto body = apogee::remoting::decode_get_consumer_status_body(reply->body.bytes);
    REQUIRE(body);
    CHECK(body->message_queue_table.at({"T", "broker-a", 0}) == 5);
  }
  SECTION("running info") {
    auto request = Command::request(RequestCode::kGetConsumerRunningInfo);
    request.ext.set("consumerGroup", "G");
    request.ext.set("clientId", consumer.client_id());
    auto reply = broker.ask_members("G", request, false);
    REQUIRE(reply);
    auto body = apogee::remoting::decode_consumer_running_info(reply->body.bytes);
    REQUIRE(body);
    CHECK(body->properties.at("PROP_CONSUMEORDERLY") == "false");
    CHECK(body->properties.at("PROP_CONSUME_TYPE") == "CONSUME_PASSIVELY");
    CHECK(body->properties.at("PROP_NAMESERVER_ADDR") == cluster.name_servers() + ";");
    CHECK(body->properties.at("PROP_THREADPOOL_CORE_SIZE") == "4");
    CHECK(body->properties.count("PROP_CONSUMER_START_TIMESTAMP") == 1);
    CHECK(body->subscription_set.size() == 2);
    CHECK(body->mq_table.at({"T", "broker-a", 0}).commit_offset == 5);
    CHECK(body->status_table.at("T").consume_failed_msgs == 0);
    request.ext.set("consumerGroup", "other");
    CHECK(broker.ask_members("G", request, false)->code == 1);
  }
  SECTION("a message to be consumed directly") {
    broker.set_intercept(nullptr);
    auto pull = Command::request(RequestCode::kConsumeMessageDirectly);
    pull.ext.set("consumerGroup", "G");
    pull.ext.set("brokerName", "broker-a");
    pull.body = apogee::SharedBytes::from("not a message");
    CHECK(broker.ask_members("G", pull, false)->code == 1);
  }
  SECTION("what is not supported is refused") {
    auto request = Command::request(RequestCode::kPushReplyMessageToClient);
    auto reply = broker.ask_members("G", request, false);
    REQUIRE(reply);
    CHECK(reply->code == 3);
    CHECK(reply->remark->find("326") != std::string::npos);
  }
}

TEST_CASE("shutdown waits for listeners and commits what they did", "[client][push]") {
  FakeCluster cluster;
  cluster.add_topic("T", 1);
  cluster.broker().append("T", 0, "slow");
  auto config = config_for(cluster);
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

TEST_CASE("a paused consumer hands out nothing", "[client][push]") {
  FakeCluster cluster;
  cluster.add_topic("T", 1);
  Seen seen;
  PushConsumer consumer(config_for(cluster));
  consumer.set_concurrent_listener(keep(seen));
  REQUIRE(consumer.subscribe("T"));
  REQUIRE(consumer.start());
  REQUIRE(eventually([&] { return consumer.assignment().size() == 1; }));
  consumer.pause();
  cluster.broker().append("T", 0, "x");
  REQUIRE(time_passes(cluster));
  CHECK(seen.count() == 0);
  consumer.resume();
  CHECK(eventually([&] { return seen.count() == 1; }));
}

TEST_CASE("topics can be added and left while running", "[client][push]") {
  FakeCluster cluster;
  cluster.add_topic("T", 1);
  cluster.add_topic("U", 1);
  Seen seen;
  PushConsumer consumer(config_for(cluster));
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
  auto config = config_for(cluster);
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
