// Retries and the way to the dead letters: push consumers of the SDK and raw frames against a real broker.
#include <atomic>
#include <condition_variable>
#include <ctime>

#include "common/message/message_id.h"
#include "common/message/property_names.h"
#include "common/remoting/response_code.h"
#include "test/integration/sdk_bench.h"
#include "test/support/raw_requests.h"

namespace apogee::test {

using namespace std::chrono_literals;
namespace property = message::property;
namespace rc = remoting::response_code;

namespace {

// Levels 3 and 4, those of the first retries, are the short ones.
const std::vector<std::string> kLevels = {"--messageDelayLevel", "2s 4s 1s 1s 1s"};

/// One delivery as a listener saw it.
struct Delivery {
  std::string body, topic, offset_id, origin_id, delay, retry_topic;
  int32_t reconsume_times = 0;
};

std::string text_of(const ReceivedMessage& message, std::string_view name) {
  return std::string(message.property(name).value_or("(none)"));
}

/// A group that does with each message what `decide` says.
struct Group {
  using Decide = std::function<ConsumeResult(const ReceivedMessage&, ConcurrentContext&)>;
  std::mutex mutex;
  std::vector<Delivery> deliveries;
  std::unique_ptr<PushConsumer> consumer;

  Group(PushConsumerConfig config, const std::string& topic, const Decide& decide)
      : consumer(std::make_unique<PushConsumer>(std::move(config))) {
    consumer->set_concurrent_listener(
        [this, decide](const std::vector<ReceivedMessage>& messages, ConcurrentContext& context) {
          {
            std::lock_guard lock(mutex);
            const auto& m = messages.front();
            deliveries.push_back({std::string(m.body()), m.topic(), m.offset_msg_id(),
                                  text_of(m, property::kOriginMessageId), text_of(m, property::kDelayLevel),
                                  text_of(m, property::kRetryTopic), m.reconsume_times()});
          }
          return decide(messages.front(), context);
        });
    REQUIRE(consumer->subscribe(topic));
    REQUIRE(consumer->start());
  }
  size_t count(const std::string& body) {
    std::lock_guard lock(mutex);
    size_t found = 0;
    for (const auto& one : deliveries) found += one.body == body ? 1 : 0;
    return found;
  }
  std::vector<Delivery> of(const std::string& body) {
    std::lock_guard lock(mutex);
    std::vector<Delivery> found;
    for (const auto& one : deliveries)
      if (one.body == body) found.push_back(one);
    return found;
  }
};

std::vector<ReceivedMessage> dead_letters(AdminClient& admin, const std::string& group) {
  admin::PullRequest request;
  request.queue = {"%DLQ%" + group, "broker-a", 0};
  auto pulled = admin.pull(request);
  return pulled ? pulled->messages : std::vector<ReceivedMessage>{};
}

TEST_CASE("a message that fails comes again with longer delays, and ends in the dead letters", "[retry]") {
  Cluster cluster(kLevels);
  cluster.create_topic("Retry", 2);
  AdminClient admin(admin_config(cluster));
  auto config = consumer_config<PushConsumerConfig>(cluster, "retry_g", "one");
  config.max_reconsume_times = 2;
  Group group(config, "Retry", [](const ReceivedMessage& message, ConcurrentContext& context) {
    if (message.body() == "good") return ConsumeResult::kSuccess;
    if (message.body() == "dead at once") context.delay_level_when_later = -1;
    if (message.body() == "level 1") {
      if (message.reconsume_times() > 0) return ConsumeResult::kSuccess;
      context.delay_level_when_later = 1;
    }
    return ConsumeResult::kLater;
  });
  Producer producer(producer_config(cluster));
  REQUIRE(producer.start());
  for (const char* body : {"good", "bad", "dead at once", "level 1"})
    REQUIRE(producer.send(Message("Retry", body).set_keys(std::string("key-") + body).set_tags("Tag")));
  CHECK(eventually([&] { return dead_letters(admin, "retry_g").size() == 2; }, 60s));
  CHECK(eventually([&] { return group.count("level 1") == 2; }, 60s));

  CHECK(group.count("good") == 1);
  CHECK(group.count("dead at once") == 1);
  const auto bad = group.of("bad");
  REQUIRE(bad.size() == 3);
  for (size_t i = 0; i < bad.size(); ++i) {
    INFO(i);
    CHECK(bad[i].topic == "Retry");
    CHECK(bad[i].reconsume_times == static_cast<int32_t>(i));
    if (i == 0) continue;
    CHECK(bad[i].origin_id == bad[0].offset_id);
    CHECK(bad[i].retry_topic == "Retry");
    CHECK(bad[i].delay == std::to_string(2 + i));  // 3 + times consumed before
  }
  CHECK(group.of("level 1").at(1).delay == "1");
  for (const auto& letter : dead_letters(admin, "retry_g")) {
    INFO(letter.body());
    CHECK(letter.reconsume_times() == (letter.body() == "bad" ? 3 : 1));
    CHECK(text_of(letter, property::kRetryTopic) == "Retry");
    CHECK(letter.tags() == "Tag");
    if (letter.body() == "bad") CHECK(text_of(letter, property::kOriginMessageId) == bad[0].offset_id);
  }
}

TEST_CASE("the group's retryMaxTimes holds for consumers that do not say", "[retry]") {
  Cluster cluster(kLevels);
  cluster.create_topic("Max", 1);
  AdminClient admin(admin_config(cluster));
  admin::GroupConfig config;
  config.group = "max_g";
  config.retry_times_max = 1;
  REQUIRE(admin.create_group(cluster.broker(), config));
  RawClient client(cluster.broker_port());
  auto call = [&](remoting::Command request) {
    auto answer = client.call(std::move(request));
    REQUIRE(answer);
    return *answer;
  };
  const auto sent = call(send_request({"Max", 0, "body"}));
  REQUIRE(sent.code == rc::kSuccess);
  auto send_back = [&](int64_t offset, const std::string& group) {
    auto request = remoting::Command::request(remoting::RequestCode::kConsumerSendMsgBack);
    request.ext.set("offset", offset);
    request.ext.set("group", group);
    request.ext.set("delayLevel", 0);
    request.ext.set("unitMode", false);
    return call(request);
  };
  const auto id = message::decode_offset_message_id(*sent.ext.get("msgId"));
  REQUIRE(id);
  CHECK(send_back(id->physical_offset, "max_g").code == rc::kSuccess);
  std::vector<ReceivedMessage> retried;
  CHECK(eventually(
      [&] {
        admin::PullRequest request;
        request.queue = {"%RETRY%max_g", "broker-a", 0};
        auto pulled = admin.pull(request);
        if (pulled) retried = pulled->messages;
        return !retried.empty();
      },
      60s));
  REQUIRE(retried.size() == 1);
  CHECK(retried[0].reconsume_times() == 1);
  CHECK(send_back(retried[0].physical_offset(), "max_g").code == rc::kSuccess);
  CHECK(eventually([&] { return dead_letters(admin, "max_g").size() == 1; }, 60s));
  CHECK(send_back(id->physical_offset, "nobody").code == rc::kSubscriptionGroupNotExist);
  const auto gone = send_back(90'000'000, "max_g");
  CHECK(gone.code == rc::kSystemError);
  CHECK(gone.remark == "look message by offset failed, 90000000");
}

TEST_CASE("a message that expired meanwhile is sent back by its consumer itself", "[retry]") {
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  localtime_r(&now, &local);
  auto options = kLevels;
  options.insert(options.end(), {"--mappedFileSizeCommitLog", "65536", "--fileReservedTime", "0", "--deleteWhen",
                                 std::to_string((local.tm_hour + 12) % 24)});
  Cluster cluster(options);
  cluster.create_topic("Expired", 1);
  cluster.create_topic("Filler", 1);
  AdminClient admin(admin_config(cluster));
  std::atomic<bool> holding{true}, held{false};
  Group group(consumer_config<PushConsumerConfig>(cluster, "expired_g", "one"), "Expired",
              [&](const ReceivedMessage& message, ConcurrentContext&) {
                if (message.reconsume_times() > 0) return ConsumeResult::kSuccess;
                held = true;
                eventually([&] { return !holding; }, 120s);
                return ConsumeResult::kLater;
              });
  Producer producer(producer_config(cluster));
  REQUIRE(producer.start());
  REQUIRE(producer.send(Message("Expired", "slow").set_keys("k").set_property("user", "v")));
  CHECK(eventually([&] { return held.load(); }, 60s));
  for (int i = 0; i < 300; ++i) REQUIRE(producer.send(Message("Filler", std::string(1'000, 'f'))));
  const MessageQueue queue{"Expired", "broker-a", 0};
  CHECK(admin.message_by_offset(queue, 0));
  REQUIRE(admin.delete_expired_log_files(cluster.broker()));
  CHECK(eventually([&] { return !admin.message_by_offset(queue, 0); }, 60s));
  holding = false;
  CHECK(eventually([&] { return group.count("slow") == 2; }, 60s));
  const auto slow = group.of("slow");
  REQUIRE(slow.size() == 2);
  CHECK(slow[1].reconsume_times == 1);
  CHECK(slow[1].topic == "Expired");
  CHECK(slow[1].origin_id == slow[0].offset_id);
  CHECK(slow[1].delay == "3");
}

TEST_CASE("the retry topic is deleted under a running group", "[retry]") {
  Cluster cluster(kLevels);
  cluster.create_topic("Under", 1);
  AdminClient admin(admin_config(cluster));
  Group group(consumer_config<PushConsumerConfig>(cluster, "under_g", "one"), "Under",
              [](const ReceivedMessage& message, ConcurrentContext& context) {
                context.delay_level_when_later = 2;  // four seconds: long enough for the deletion
                return message.reconsume_times() == 0 ? ConsumeResult::kLater : ConsumeResult::kSuccess;
              });
  Producer producer(producer_config(cluster));
  REQUIRE(producer.start());
  REQUIRE(producer.send(Message("Under", "one")));
  CHECK(eventually([&] { return group.count("one") == 1; }, 60s));
  CHECK(eventually([&] { return admin.delete_topic_on_broker(cluster.broker(), "%RETRY%under_g").has_value(); }, 60s));
  CHECK(eventually([&] { return group.count("one") == 2; }, 60s));
  CHECK(group.of("one").at(1).reconsume_times == 1);
}

TEST_CASE("an orderly consumer tries in place up to its maximum, then goes on behind a dead letter", "[retry]") {
  Cluster cluster(kLevels);
  cluster.create_topic("Orderly", 1);
  AdminClient admin(admin_config(cluster));
  auto config = consumer_config<PushConsumerConfig>(cluster, "orderly_g", "one");
  config.max_reconsume_times = 2;
  config.suspend_time = 20ms;
  std::mutex mutex;
  std::vector<std::string> seen;
  PushConsumer consumer(config);
  consumer.set_orderly_listener([&](const std::vector<ReceivedMessage>& messages, OrderlyContext&) {
    std::lock_guard lock(mutex);
    for (const auto& message : messages)
      seen.push_back(std::string(message.body()) + "/" + std::to_string(message.reconsume_times()));
    return messages.front().body() == "poison" ? OrderlyResult::kSuspend : OrderlyResult::kSuccess;
  });
  REQUIRE(consumer.subscribe("Orderly"));
  REQUIRE(consumer.start());
  Producer producer(producer_config(cluster));
  REQUIRE(producer.start());
  for (const char* body : {"a", "poison", "b", "c"}) REQUIRE(producer.send(Message("Orderly", body)));
  auto last = [&] {
    std::lock_guard lock(mutex);
    return !seen.empty() && seen.back() == "c/0";
  };
  CHECK(eventually(last, 60s));
  {
    std::lock_guard lock(mutex);
    CHECK(seen == std::vector<std::string>{"a/0", "poison/0", "poison/1", "poison/2", "b/0", "c/0"});
  }
  CHECK(eventually([&] { return dead_letters(admin, "orderly_g").size() == 1; }, 60s));
  const auto letters = dead_letters(admin, "orderly_g");
  REQUIRE(letters.size() == 1);
  CHECK(letters[0].body() == "poison");
  CHECK(text_of(letters[0], property::kRetryTopic) == "Orderly");
}

TEST_CASE("kill -9 while messages wait to be tried again", "[retry][crash]") {
  Cluster cluster(kLevels);
  cluster.create_topic("RetryKilled", 2);
  constexpr size_t kMessages = 20;
  Group group(consumer_config<PushConsumerConfig>(cluster, "retry_killed_g", "one"), "RetryKilled",
              [](const ReceivedMessage& message, ConcurrentContext&) {
                return message.reconsume_times() < 2 ? ConsumeResult::kLater : ConsumeResult::kSuccess;
              });
  Producer producer(producer_config(cluster));
  REQUIRE(producer.start());
  for (size_t i = 0; i < kMessages; ++i) REQUIRE(producer.send(Message("RetryKilled", "m" + std::to_string(i))));
  auto tried = [&](int32_t times) {
    std::lock_guard lock(group.mutex);
    std::set<std::string> bodies;
    for (const auto& one : group.deliveries)
      if (one.reconsume_times == times) bodies.insert(one.body);
    return bodies.size();
  };
  for (int32_t times : {0, 1}) {
    CHECK(eventually([&] { return tried(times) == kMessages; }, 60s));
    cluster.kill_broker();
    cluster.start_broker();
  }
  CHECK(eventually([&] { return tried(2) == kMessages; }, 90s));
}

}  // namespace
}  // namespace apogee::test
