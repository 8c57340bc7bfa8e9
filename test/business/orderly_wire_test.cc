// Orderly consumption as a client of another make does it, in raw frames; and the broker killed under orderly load.
#include <atomic>
#include <thread>

#include "common/message/message_record.h"
#include "common/remoting/bodies/client_bodies.h"
#include "test/integration/sdk_bench.h"
#include "test/support/random.h"
#include "test/support/raw_requests.h"

namespace apogee::test {

using namespace std::chrono_literals;
using remoting::Command;
using remoting::RequestCode;

namespace {

constexpr const char* kTopic = "RawOrder";
constexpr const char* kGroup = "raw_orderly";

/// A member of kGroup that locks a queue, pulls, commits and unlocks, one request at a time.
class RawOrderly {
 public:
  RawOrderly(const Cluster& cluster, std::string client_id)
      : client_(cluster.broker_port()), client_id_(std::move(client_id)) {
    remoting::HeartbeatData heartbeat;
    heartbeat.client_id = client_id_;
    remoting::ConsumerData consumer;
    consumer.group_name = kGroup;
    auto subscription = remoting::build_tag_subscription(kTopic, "*", 1);
    REQUIRE(subscription);
    consumer.subscription_data_set.push_back(*subscription);
    heartbeat.consumer_data_set.push_back(consumer);
    auto request = Command::request(RequestCode::kHeartBeat);
    request.body = SharedBytes::from(remoting::encode(heartbeat));
    call(std::move(request));
  }
  std::vector<MessageQueue> lock(const std::vector<MessageQueue>& queues) {
    auto reply = call(batch(RequestCode::kLockBatchMq, queues));
    auto granted = remoting::decode_lock_batch_response(reply.body.bytes);
    REQUIRE(granted);
    return granted->lock_ok_mq_set;
  }
  void unlock(const std::vector<MessageQueue>& queues) { call(batch(RequestCode::kUnlockBatchMq, queues)); }
  std::optional<int64_t> committed(const MessageQueue& queue) {
    auto reply = client_.call(of_queue(RequestCode::kQueryConsumerOffset, queue));
    REQUIRE(reply);
    return reply->code == 0 ? reply->ext.get_int<int64_t>("offset") : std::nullopt;
  }
  void commit(const MessageQueue& queue, int64_t offset) {
    auto request = of_queue(RequestCode::kUpdateConsumerOffset, queue);
    request.ext.set("commitOffset", offset);
    call(std::move(request));
  }
  std::vector<std::string> pull(const MessageQueue& queue, int64_t offset) {
    auto reply = client_.call(pull_request(kGroup, kTopic, queue.queue_id, offset));
    REQUIRE(reply);
    std::vector<std::string> bodies;
    for (std::string_view rest = reply->body.bytes; reply->code == 0 && !rest.empty();) {
      auto record = message::decode_record(rest);
      REQUIRE(record);
      bodies.emplace_back(record->body);
      rest.remove_prefix(record->bytes.size());
    }
    return bodies;
  }

 private:
  Command call(Command request) {
    auto reply = client_.call(std::move(request));
    REQUIRE(reply);
    REQUIRE(reply->code == 0);
    return std::move(*reply);
  }
  [[nodiscard]] Command batch(RequestCode code, const std::vector<MessageQueue>& queues) const {
    remoting::LockBatchRequest body;
    body.consumer_group = kGroup;
    body.client_id = client_id_;
    body.mq_set = queues;
    auto request = Command::request(code);
    request.body = SharedBytes::from(remoting::encode(body));
    return request;
  }
  static Command of_queue(RequestCode code, const MessageQueue& queue) {
    auto request = Command::request(code);
    request.ext.set("consumerGroup", kGroup);
    request.ext.set("topic", queue.topic);
    request.ext.set("queueId", queue.queue_id);
    return request;
  }
  RawClient client_;
  std::string client_id_;
};

}  // namespace

TEST_CASE("Order: raw frames: a queue goes from member to member with its lock and its offset",
          "[business][order][wire]") {
  Cluster cluster({"--rebalanceLockMaxLiveTime", "2000"});
  cluster.create_topic(kTopic, 2);
  RawClient sender(cluster.broker_port());
  std::vector<std::string> wanted;
  for (int i = 0; i < 60; ++i) {
    wanted.push_back(std::to_string(i));
    auto sent = sender.call(send_request({kTopic, 0, wanted.back()}));
    REQUIRE(sent);
    REQUIRE(sent->code == 0);
  }
  const MessageQueue first{kTopic, "broker-a", 0}, second{kTopic, "broker-a", 1};
  std::vector<std::string> handled;
  RawOrderly one(cluster, "10.0.0.1@one"), two(cluster, "10.0.0.2@two");
  auto handle = [&](RawOrderly& member, int64_t offset, size_t count) {
    auto bodies = member.pull(first, offset);
    REQUIRE(bodies.size() >= count);
    handled.insert(handled.end(), bodies.begin(), bodies.begin() + static_cast<std::ptrdiff_t>(count));
    member.commit(first, offset + static_cast<int64_t>(count));
  };
  CHECK(one.lock({first}) == std::vector<MessageQueue>{first});
  CHECK(two.lock({first, second}) == std::vector<MessageQueue>{second});
  two.unlock({first});  // not its own
  CHECK(two.lock({first}).empty());
  handle(one, 0, 20);
  one.unlock({first});
  REQUIRE(two.lock({first}) == std::vector<MessageQueue>{first});
  REQUIRE(two.committed(first) == 20);
  handle(two, 20, 20);
  CHECK(one.lock({first}).empty());
  // `two` falls silent: its lock is free when its life is over, and what it had committed holds.
  REQUIRE(eventually([&] { return !one.lock({first}).empty(); }, 60s));
  REQUIRE(one.committed(first) == 40);
  handle(one, 40, 20);
  CHECK(handled == wanted);
}

TEST_CASE("Order: each queue stays in order while the broker is killed under orderly load",
          "[business][order][crash]") {
  Cluster cluster({"--rebalanceLockMaxLiveTime", "6000"});
  constexpr int kQueues = 3;
  cluster.create_topic(kTopic, kQueues);
  const int rounds = is_soak() ? 40 : 3;
  Random random(run_seed("order-crash"));
  std::mutex mutex;
  std::map<int, std::vector<int64_t>> seen;  // by queue: the numbers in its messages
  std::map<int, int> busy;
  std::atomic<bool> overlap{false};
  auto listener = [&](const std::vector<ReceivedMessage>& messages, OrderlyContext& context) {
    const int queue = context.queue.queue_id;
    {
      std::lock_guard lock(mutex);
      if (++busy[queue] > 1) overlap = true;
      for (const auto& each : messages) seen[queue].push_back(std::stoll(std::string(each.body())));
    }
    pause(1ms);  // the pace of the work
    std::lock_guard lock(mutex);
    --busy[queue];
    return OrderlyResult::kSuccess;
  };
  std::vector<std::unique_ptr<PushConsumer>> members;
  for (const char* name : {"one", "two"}) {
    auto config = consumer_config<PushConsumerConfig>(cluster, kGroup, name);
    config.lock_interval = 300ms;
    config.lock_valid = 3'000ms;
    config.lock_retry_delay = 100ms;
    members.push_back(std::make_unique<PushConsumer>(config));
    members.back()->set_orderly_listener(listener);
    REQUIRE(members.back()->subscribe(kTopic));
    REQUIRE(members.back()->start());
  }
  std::atomic<bool> stop{false};
  std::map<int, std::set<int64_t>> sent;  // what was acknowledged; of the sender until it is joined
  std::thread sender([&] {
    Producer producer(producer_config(cluster));
    if (!producer.start()) return;
    for (int64_t number = 0; !stop; ++number) {
      const int queue = static_cast<int>(number % kQueues);
      auto receipt = producer.send(Message(kTopic, std::to_string(number)),
                                   SendOptions::by([queue](const std::vector<MessageQueue>& queues, const Message&) {
                                     return static_cast<size_t>(queue) % queues.size();
                                   }));
      if (receipt) sent[receipt->queue.queue_id].insert(number);
      pause(1ms);
    }
  });
  for (int round = 0; round < rounds; ++round) {
    pause(std::chrono::milliseconds(random.between(500, 1'500)));
    cluster.kill_broker();
    cluster.start_broker();
  }
  pause(500ms);
  stop = true;
  sender.join();
  auto complete = [&] {
    std::lock_guard lock(mutex);
    for (const auto& [queue, numbers] : sent) {
      const std::set<int64_t> got(seen[queue].begin(), seen[queue].end());
      if (!std::includes(got.begin(), got.end(), numbers.begin(), numbers.end())) return false;
    }
    return true;
  };
  CHECK(eventually(complete, 60s));
  members.clear();
  CHECK_FALSE(overlap);
  // A number is behind all numbers handled before, or was handled before: a repeat goes back and comes up again.
  std::lock_guard lock(mutex);
  size_t handled = 0, repeats = 0;
  for (const auto& [queue, numbers] : seen) {
    std::vector<int64_t> order;  // of the first time
    size_t at = 0;               // where in it the next one belongs
    bool in_order = true;
    for (const int64_t number : numbers) {
      ++handled;
      if (at < order.size() && order[at] == number) {
        ++at, ++repeats;
        continue;
      }
      const auto known = std::lower_bound(order.begin(), order.end(), number);
      if (known != order.end() && *known == number) {  // back to the committed offset
        at = static_cast<size_t>(known - order.begin()) + 1;
        ++repeats;
        continue;
      }
      in_order = in_order && at == order.size() && (order.empty() || number > order.back());
      order.push_back(number);
      at = order.size();
    }
    INFO("queue " << queue);
    CHECK(in_order);
  }
  WARN("order: " << rounds << " kills of the broker, " << handled << " messages handled, " << repeats << " again");
}

}  // namespace apogee::test
