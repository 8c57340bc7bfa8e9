// Delay levels: the SDK, raw frames, and a broker that is stopped and killed while messages wait.
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <thread>

#include "apogee/pull_consumer.h"
#include "common/message/batch.h"
#include "common/remoting/bodies/group_bodies.h"
#include "common/remoting/response_code.h"
#include "test/integration/sdk_bench.h"
#include "test/support/raw_requests.h"

namespace apogee::test {

using namespace std::chrono_literals;
namespace rc = remoting::response_code;

namespace {

std::vector<std::string> levels(const std::string& text) {
  return {"--messageDelayLevel", text, "--flushDelayOffsetInterval", "1000"};
}

/// What arrived in a topic of one queue, by its place there.
struct Arrived {
  struct One {
    std::string body;
    int64_t at_ms = 0;
  };
  std::mutex mutex;
  std::map<int64_t, One> by_offset;
  std::set<std::string> distinct;
  std::unique_ptr<PushConsumer> consumer;

  Arrived(const Cluster& cluster, const std::string& topic)
      : consumer(std::make_unique<PushConsumer>(consumer_config<PushConsumerConfig>(cluster, topic + "_g", "one"))) {
    consumer->set_concurrent_listener([this](const std::vector<ReceivedMessage>& messages, ConcurrentContext&) {
      std::lock_guard lock(mutex);
      for (const auto& message : messages) {
        by_offset[message.queue_offset()] = {std::string(message.body()), wall_ms()};
        distinct.emplace(message.body());
      }
      return ConsumeResult::kSuccess;
    });
    REQUIRE(consumer->subscribe(topic));
    REQUIRE(consumer->start());
  }
  size_t distinct_count() {
    std::lock_guard lock(mutex);
    return distinct.size();
  }
};

/// "LEVEL:NUMBER"; the numbers of each level rise, apart from repetitions of what was there before.
bool in_order_within_levels(const std::map<int64_t, Arrived::One>& arrived) {
  std::map<std::string, int64_t> last;
  std::set<std::string> seen;
  for (const auto& [offset, one] : arrived) {
    if (!seen.insert(one.body).second) continue;
    const auto colon = one.body.find(':');
    int64_t& previous = last.emplace(one.body.substr(0, colon), -1).first->second;
    const int64_t number = std::stoll(one.body.substr(colon + 1));
    if (number <= previous) return false;
    previous = number;
  }
  return true;
}

TEST_CASE("delayed messages arrive when they are due, in order within a level", "[delay]") {
  Cluster cluster(levels("1s 2s 3s"));
  cluster.create_topic("Delay", 1);
  Arrived arrived(cluster, "Delay");
  Producer producer(producer_config(cluster));
  REQUIRE(producer.start());
  REQUIRE(eventually([&] { return !arrived.consumer->assignment().empty(); }, 60s));
  constexpr int kMessages = 300;
  std::map<std::string, int64_t> due;
  for (int i = 0; i < kMessages; ++i) {
    const int level = i % 3 + 1;
    const std::string body = std::to_string(level) + ":" + std::to_string(i);
    const int64_t before = wall_ms();
    REQUIRE(producer.send(Message("Delay", body).set_tags("T").set_property("user", "v").set_delay_level(level)));
    due[body] = before + level * 1'000;
    pause(1ms);
  }
  REQUIRE(producer.send(Message("Delay", "0:0")));  // level 0 does not wait
  CHECK(eventually([&] { return arrived.distinct_count() == kMessages + 1; }, 60s));
  std::lock_guard lock(arrived.mutex);
  CHECK(arrived.by_offset.size() == kMessages + 1);  // each of them once
  CHECK(in_order_within_levels(arrived.by_offset));
  std::vector<int64_t> late;
  for (const auto& [offset, one] : arrived.by_offset)
    if (one.body != "0:0") late.push_back(one.at_ms - due.at(one.body));
  std::sort(late.begin(), late.end());
  CHECK(late.front() >= 0);  // `due` counts from before the send, so that it is never after the broker's
  std::printf(
      "delay: %zu messages, late by ms (send and delivery to a consumer included): p50 %lld, p99 %lld, max %lld\n",
      late.size(), static_cast<long long>(late[late.size() / 2]), static_cast<long long>(late[late.size() * 99 / 100]),
      static_cast<long long>(late.back()));
}

TEST_CASE("what a broker says to delay levels that are none", "[delay]") {
  Cluster cluster(levels("1s 2s"));
  cluster.create_topic("Levels", 1);
  RawClient client(cluster.broker_port());
  auto call = [&](remoting::Command request) {
    auto answer = client.call(std::move(request));
    REQUIRE(answer);
    return *answer;
  };
  auto send = [&](const std::string& level) {
    RawSend message{"Levels", 0, "body of " + level};
    const std::string properties = "DELAY\x01" + level;
    message.properties = properties;
    return call(send_request(message));
  };
  for (const char* bad : {"-1", "-2147483648", "2147483648", "99999999999999999999", "one", "1.5", "0x1"}) {
    const auto answer = send(bad);
    INFO(bad << ": " << answer.remark.value_or(""));
    CHECK(answer.code == rc::kMessageIllegal);
    CHECK(answer.remark.value_or("").find("delay level (DELAY)") != std::string::npos);
  }
  std::string body;
  message::BatchMessage part;
  part.body = "x";
  message::append_batch_message(body, part);
  RawSend batch{"Levels", 0, body};
  batch.batch = true;
  batch.properties =
      "DELAY\x01"
      "1";
  CHECK(call(send_request(batch)).code == rc::kMessageIllegal);
  CHECK(send("0").code == rc::kSuccess);
  CHECK(send("99").code == rc::kSuccess);  // above the last level: as the last
  CHECK(call(send_request({"SCHEDULE_TOPIC_XXXX", 0, "x"})).code == rc::kNoPermission);
  auto pull = [&](int64_t offset) { return call(pull_request("raw", "Levels", 0, offset)); };
  CHECK(eventually([&] { return pull(0).code == rc::kSuccess; }, 60s));
  CHECK(eventually([&] { return pull(1).code == rc::kSuccess; }, 60s));
  auto progress = remoting::decode_delay_offset_table(
      call(remoting::Command::request(remoting::RequestCode::kGetAllDelayOffset)).body.bytes);
  REQUIRE(progress);
  CHECK(progress->offset_table == std::map<int32_t, int64_t>{{2, 1}});

  Process broker("broker/mqbroker",
                 {"--messageDelayLevel", "1s 5parsecs", "--listenPort", "0", "--namesrvAddr", "", "--bindAddress",
                  "127.0.0.1", "--storePathRootDir", (cluster.directory() / "refused").string()},
                 (cluster.directory() / "refused.out").string());
  CHECK(broker.wait() == 1);
  CHECK(broker.output().find("messageDelayLevel: \"5parsecs\" is no delay") != std::string::npos);
}

TEST_CASE("messages wait while the broker is stopped, and come once", "[delay]") {
  Cluster cluster(levels("1s 3s"));
  cluster.create_topic("Stopped", 1);
  Arrived arrived(cluster, "Stopped");
  Producer producer(producer_config(cluster));
  REQUIRE(producer.start());
  for (int i = 0; i < 20; ++i) {
    const int level = i % 2 + 1;
    REQUIRE(producer.send(Message("Stopped", std::to_string(level) + ":" + std::to_string(i)).set_delay_level(level)));
  }
  CHECK(eventually([&] { return arrived.distinct_count() >= 10; }, 60s));
  cluster.stop_broker();
  cluster.start_broker();
  CHECK(eventually([&] { return arrived.distinct_count() == 20; }, 60s));
  std::lock_guard lock(arrived.mutex);
  CHECK(arrived.by_offset.size() == 20);
  CHECK(in_order_within_levels(arrived.by_offset));
}

TEST_CASE("kill -9 while delayed messages wait and are delivered", "[delay][crash]") {
  const int kills = std::getenv("APOGEE_SOAK") != nullptr ? 30 : 3;
  Cluster cluster(levels("1s 2s 3s"));
  cluster.create_topic("Killed", 1);
  auto config = producer_config(cluster);
  Producer producer(config);
  REQUIRE(producer.start());
  std::atomic<bool> stop{false};
  std::set<std::string> acknowledged;  // of the sender until it has ended
  std::atomic<size_t> sent{0};
  std::thread sender([&] {
    for (int i = 0; !stop; ++i) {
      const int level = i % 3 + 1;
      const std::string body = std::to_string(level) + ":" + std::to_string(i);
      if (!producer.send(Message("Killed", body).set_delay_level(level))) continue;
      acknowledged.insert(body);
      ++sent;
      pause(2ms);
    }
  });
  for (int i = 0; i < kills; ++i) {
    const size_t before = sent;
    CHECK(eventually([&] { return sent > before + 200; }, 60s));
    pause(1'200ms);  // so that every kill has deliveries of level 1 behind it, and others before it
    cluster.kill_broker();
    cluster.start_broker();
  }
  stop = true;
  sender.join();
  Arrived arrived(cluster, "Killed");
  auto missing = [&] {
    std::lock_guard lock(arrived.mutex);
    std::vector<std::string> not_there;
    std::set_difference(acknowledged.begin(), acknowledged.end(), arrived.distinct.begin(), arrived.distinct.end(),
                        std::back_inserter(not_there));
    return not_there;
  };
  CHECK(eventually([&] { return missing().empty(); }, 90s));
  CHECK(missing() == std::vector<std::string>{});
  std::lock_guard lock(arrived.mutex);
  CHECK(in_order_within_levels(arrived.by_offset));
  std::printf("delay: %d kills, %zu messages acknowledged, %zu delivered, %zu of them repeated\n", kills,
              acknowledged.size(), arrived.by_offset.size(), arrived.by_offset.size() - arrived.distinct.size());
}

}  // namespace
}  // namespace apogee::test
