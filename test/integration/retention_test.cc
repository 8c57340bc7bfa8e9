#include <algorithm>
#include <condition_variable>
#include <ctime>
#include <filesystem>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "apogee/admin_client.h"
#include "apogee/producer.h"
#include "apogee/push_consumer.h"
#include "test/support/catch.h"
#include "test/support/cluster.h"
#include "test/support/raw_requests.h"
#include "test/support/wait.h"

// The real broker removes expired files of its log.

namespace {

using apogee::test::Cluster;
using apogee::test::eventually;
namespace rc = apogee::remoting::response_code;
using apogee::remoting::Command;
using apogee::remoting::RequestCode;

constexpr int kMessages = 300;

/// An hour that does not come while the test runs.
std::string another_hour() {
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  localtime_r(&now, &local);
  return std::to_string((local.tm_hour + 12) % 24);
}

/// Everything that is full has expired, but goes only when asked for.
std::vector<std::string> options() {
  return {"--mappedFileSizeCommitLog", "65536", "--fileReservedTime", "0", "--deleteWhen", another_hour()};
}

std::string body_of(int number) { return std::to_string(number) + ":" + std::string(1'000, 'b'); }

struct World {
  Cluster cluster{options()};
  apogee::AdminClient admin{admin_config()};
  apogee::MessageQueue queue{"Old", "broker-a", 0};

  apogee::AdminConfig admin_config() const {
    apogee::AdminConfig config;
    config.name_servers = cluster.namesrv();
    return config;
  }
  void send(const std::string& topic, int count) {
    apogee::ProducerConfig config;
    config.name_servers = cluster.namesrv();
    config.group = "retention";
    apogee::Producer producer(config);
    REQUIRE(producer.start());
    for (int i = 0; i < count; ++i) REQUIRE(producer.send(apogee::Message(topic, body_of(i))));
  }
  size_t log_files() const {
    return static_cast<size_t>(
        std::distance(std::filesystem::directory_iterator(cluster.directory() / "store/commitlog"), {}));
  }
};

}  // namespace

TEST_CASE("Retention: expired files go when asked for, and consumers go on at the new minimum", "[integration]") {
  World world;
  world.cluster.create_topic("Old", 1);
  world.send("Old", kMessages);
  REQUIRE(world.log_files() >= 5);
  REQUIRE(world.admin.delete_expired_log_files(world.cluster.broker()));
  REQUIRE(eventually([&] { return world.log_files() <= 2; }));  // the last, and the one made ahead of need
  REQUIRE(eventually([&] { return world.admin.min_offset(world.queue).value() > kMessages - 70; }));
  const int64_t min = world.admin.min_offset(world.queue).value();
  CHECK(min < kMessages);
  CHECK(world.admin.max_offset(world.queue).value() == kMessages);

  apogee::test::RawClient client(world.cluster.broker_port());
  auto reply = client.call(apogee::test::pull_request("late", "Old", 0, 0));
  REQUIRE(reply);
  CHECK(reply->code == rc::kPullOffsetMoved);
  CHECK(reply->ext.get_int<int64_t>("nextBeginOffset") == min);
  CHECK(reply->ext.get_int<int64_t>("minOffset") == min);
  reply = client.call(apogee::test::pull_request("late", "Old", 0, min));
  REQUIRE(reply);
  CHECK(reply->code == rc::kSuccess);

  std::mutex mutex;
  std::condition_variable changed;
  std::set<int64_t> offsets;
  apogee::PushConsumerConfig config;
  config.name_servers = world.cluster.namesrv();
  config.group = "late";
  config.consume_from = apogee::ConsumeFrom::kFirst;
  REQUIRE(world.admin.update_consumer_offset("late", world.queue, 3));  // of a message that has gone
  apogee::PushConsumer consumer(config);
  consumer.set_concurrent_listener(
      [&](const std::vector<apogee::ReceivedMessage>& messages, apogee::ConcurrentContext&) {
        std::lock_guard lock(mutex);
        for (const auto& message : messages) offsets.insert(message.queue_offset());
        changed.notify_all();
        return apogee::ConsumeResult::kSuccess;
      });
  REQUIRE(consumer.subscribe("Old"));
  REQUIRE(consumer.start());
  std::unique_lock lock(mutex);
  CHECK(changed.wait_for(lock, std::chrono::seconds(30),
                         [&] { return offsets.size() == static_cast<size_t>(kMessages - min); }));
  CHECK(*offsets.begin() == min);
}

TEST_CASE("Retention: queues of gone messages and gone topics go, and offsets go on after restarts", "[integration]") {
  World world;
  world.cluster.create_topic("Old", 1);
  world.cluster.create_topic("New", 1);
  world.send("Old", 100);
  world.send("New", 100);
  REQUIRE(world.admin.delete_expired_log_files(world.cluster.broker()));
  REQUIRE(eventually([&] { return world.admin.min_offset(world.queue).value() == 100; }));
  const auto queue_files = world.cluster.directory() / "store/consumequeue";
  REQUIRE(world.admin.clean_expired_queues(world.cluster.broker()));
  CHECK_FALSE(std::filesystem::exists(queue_files / "Old"));
  CHECK(std::filesystem::exists(queue_files / "New"));
  world.cluster.kill_broker();
  world.cluster.start_broker();
  world.send("Old", 1);
  REQUIRE(eventually([&] { return world.admin.max_offset(world.queue).value() == 101; }));
  CHECK(world.admin.min_offset(world.queue).value() == 100);

  // A topic without messages that topics.json does not have any more, as after a restore of an older one.
  world.send("New", 200);
  REQUIRE(world.admin.delete_expired_log_files(world.cluster.broker()));
  REQUIRE(eventually([&] { return world.admin.min_offset(world.queue).value() == 101; }));
  CHECK(std::filesystem::exists(queue_files / "Old"));
  world.cluster.stop_broker();
  std::filesystem::remove(world.cluster.directory() / "store/config/topics.json");
  std::filesystem::remove(world.cluster.directory() / "store/config/topics.json.bak");
  world.cluster.start_broker();
  world.cluster.create_topic("New", 1);
  REQUIRE(world.admin.clean_unused_topics(world.cluster.broker()));
  CHECK_FALSE(std::filesystem::exists(queue_files / "Old"));
  CHECK(std::filesystem::exists(queue_files / "New"));
  world.cluster.stop_broker();
  world.cluster.start_broker();
  world.cluster.create_topic("Old", 1);
  world.send("Old", 1);
  REQUIRE(eventually([&] { return world.admin.max_offset(world.queue).value() == 102; }));
}
