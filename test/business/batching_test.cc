// Batches that are too large, messages that are gathered into batches, and the rate limit of a producer.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <numeric>
#include <thread>

#include "test/integration/sdk_bench.h"

namespace apogee::test {

using namespace std::chrono_literals;

namespace {

/// A consumer of the topic that keeps bodies by queue in the order of their coming.
struct Reader {
  Reader(const Cluster& cluster, const std::string& topic)
      : consumer(consumer_config<PushConsumerConfig>(cluster, "batch_readers", "r")) {
    consumer.set_orderly_listener([this](const std::vector<ReceivedMessage>& messages, OrderlyContext& context) {
      std::lock_guard lock(mutex);
      for (const auto& message : messages) {
        by_queue[context.queue].emplace_back(message.body());
        by_id[message.msg_id()] = message.queue_offset();
        ++count;
      }
      return OrderlyResult::kSuccess;
    });
    REQUIRE(consumer.subscribe(topic));
    REQUIRE(consumer.start());
  }
  std::mutex mutex;
  std::map<MessageQueue, std::vector<std::string>> by_queue;
  std::map<std::string, int64_t> by_id;
  std::atomic<int> count{0};
  PushConsumer consumer;
};

/// How many frames the broker got so far.
int64_t frames_in(AdminClient& admin, const Cluster& cluster) {
  auto status = admin.broker_runtime_info(cluster.broker());
  if (!status) FAIL(status.error().message);
  int64_t frames = 0;
  for (const auto& [key, value] : *status) {
    if (key == "framesIn") frames = std::stoll(value);
  }
  return frames;
}

}  // namespace

TEST_CASE("send_batch(): a list that is too large is sent as several batches, to one queue", "[business][batch]") {
  Cluster cluster;
  cluster.create_topic("Large", 4);
  auto config = producer_config(cluster);
  config.message_bytes_max = 64 * 1024;
  Producer producer(config);
  REQUIRE(producer.start());
  std::vector<Message> messages;
  for (int i = 0; i < 300; ++i) {
    messages.emplace_back("Large", std::to_string(1'000 + i) + std::string(1'000, 'x'));
  }
  auto receipt = producer.send_batch(messages);
  if (!receipt) FAIL(receipt.error().message);
  CHECK(receipt->status == SendStatus::kOk);
  REQUIRE(receipt->parts.size() >= 5);
  int64_t next = receipt->queue_offset;
  for (const auto& part : receipt->parts) {
    CHECK(part.queue == receipt->queue);
    CHECK(part.queue_offset == next);
    next += std::count(part.msg_id.begin(), part.msg_id.end(), ',') + 1;
  }
  CHECK(next - receipt->queue_offset == 300);
  CHECK(std::count(receipt->offset_msg_id.begin(), receipt->offset_msg_id.end(), ',') == 299);
  Reader reader(cluster, "Large");
  REQUIRE(eventually([&] { return reader.count == 300; }, 60s));
  std::lock_guard lock(reader.mutex);
  REQUIRE(reader.by_queue.size() == 1);
  const auto& bodies = reader.by_queue.begin()->second;
  CHECK(std::is_sorted(bodies.begin(), bodies.end()));

  messages.emplace_back("Large", std::string(65 * 1024, 'y'));
  CHECK(producer.send_batch(messages).error().code == Errc::kTooLarge);
  CHECK(producer.send_batch({Message("Large", "a"), Message("Other", "b")}).error().code == Errc::kInvalidArgument);
}

TEST_CASE("automatic batching: many threads, each gets its own receipt, consumers see single messages",
          "[business][batch]") {
  constexpr int kThreads = 4, kMessages = 500;
  Cluster cluster;
  cluster.create_topic("Gathered", 4);
  auto config = producer_config(cluster);
  config.auto_batch = true;
  config.batch_linger = 5ms;
  Producer producer(config);
  REQUIRE(producer.start());
  REQUIRE(producer.queues("Gathered"));
  AdminClient admin(admin_config(cluster));
  const int64_t frames_before = frames_in(admin, cluster);

  std::mutex mutex;
  std::map<std::string, int64_t> offsets;  // of the receipts
  std::set<std::string> places;
  std::atomic<int> failed{0}, done{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kMessages; ++i) {
        auto message = Message("Gathered", std::to_string(t) + ":" + std::to_string(10'000 + i));
        message.set_keys("k" + std::to_string(i)).set_property("thread", std::to_string(t));
        producer.send_async(
            message,
            [&](Result<SendReceipt> receipt) {
              std::lock_guard lock(mutex);
              if (receipt) {
                offsets[receipt->msg_id] = receipt->queue_offset;
                places.insert(receipt->offset_msg_id);
              } else {
                ++failed;
              }
              ++done;
            },
            SendOptions::by_key("thread " + std::to_string(t)));
      }
    });
  }
  for (auto& thread : threads) thread.join();
  REQUIRE(eventually([&] { return done == kThreads * kMessages; }, 60s));
  CHECK(failed == 0);
  CHECK(places.size() == kThreads * kMessages);
  CHECK(frames_in(admin, cluster) - frames_before < kThreads * kMessages / 4);

  Reader reader(cluster, "Gathered");
  REQUIRE(eventually([&] { return reader.count == kThreads * kMessages; }, 60s));
  std::lock_guard lock(reader.mutex);
  CHECK(reader.by_id == offsets);
  for (int t = 0; t < kThreads; ++t) {
    std::vector<std::string> mine;
    size_t queues = 0;
    for (const auto& [queue, bodies] : reader.by_queue) {
      const size_t before = mine.size();
      for (const auto& body : bodies) {
        if (body.rfind(std::to_string(t) + ":", 0) == 0) mine.push_back(body);
      }
      if (mine.size() > before) ++queues;
    }
    CHECK(queues == 1);
    CHECK(mine.size() == kMessages);
    CHECK(std::is_sorted(mine.begin(), mine.end()));
  }
}

TEST_CASE("automatic batching: sync sends, large bodies and one-way sends in between keep their order",
          "[business][batch]") {
  Cluster cluster;
  cluster.create_topic("Mixed", 1);
  auto config = producer_config(cluster);
  config.auto_batch = true;
  config.batch_linger = 1ms;
  config.compress_body_bytes_min = 2'000;
  Producer producer(config);
  REQUIRE(producer.start());
  REQUIRE(producer.queues("Mixed"));
  const MessageQueue queue{"Mixed", Cluster::broker_name(0), 0};
  std::vector<std::future<Result<SendReceipt>>> futures;
  for (int i = 0; i < 200; ++i) {
    std::string body = std::to_string(1'000 + i);
    if (i % 10 == 3) body += std::string(3'000, 'c');
    if (i % 50 == 7) body += std::string(40'000, 'l');
    if (i % 20 == 9) {
      REQUIRE(producer.send_oneway(Message("Mixed", body), SendOptions::to(queue)));
    } else if (i % 25 == 11) {
      REQUIRE(producer.send(Message("Mixed", body), SendOptions::to(queue)));
    } else {
      futures.push_back(producer.send_future(Message("Mixed", body), SendOptions::to(queue)));
    }
  }
  for (auto& future : futures) CHECK(future.get());
  Reader reader(cluster, "Mixed");
  REQUIRE(eventually([&] { return reader.count == 200; }, 60s));
  std::lock_guard lock(reader.mutex);
  const auto& bodies = reader.by_queue.begin()->second;
  CHECK(std::is_sorted(bodies.begin(), bodies.end()));

  // What is not sent yet when the producer is shut down is answered.
  config.batch_linger = 60s;
  Producer slow(config);
  REQUIRE(slow.start());
  auto left = slow.send_future(Message("Mixed", "left"));
  REQUIRE(slow.shutdown());
  CHECK(left.get().error().code == Errc::kClosed);
}

TEST_CASE("publish rate: sends wait for their turn, and are refused when it comes too late", "[business][rate]") {
  Cluster cluster;
  cluster.create_topic("Paced", 1);
  auto config = producer_config(cluster);
  config.publish_rate_max = 200;
  config.publish_burst = 5;
  Producer producer(config);
  REQUIRE(producer.start());
  REQUIRE(producer.queues("Paced"));
  const auto begun = std::chrono::steady_clock::now();
  std::vector<std::future<Result<SendReceipt>>> futures;
  for (int i = 0; i < 60; ++i) futures.push_back(producer.send_future(Message("Paced", std::to_string(1'000 + i))));
  for (int i = 0; i < 45; ++i) REQUIRE(producer.send(Message("Paced", std::to_string(2'000 + i))));
  for (auto& future : futures) CHECK(future.get());
  // 100 messages beyond the burst take half a second at least; how much more is the machine's affair.
  CHECK(std::chrono::steady_clock::now() - begun >= 490ms);

  std::vector<Message> many(2'000, Message("Paced", "m"));
  REQUIRE(producer.send_batch(many));
  SendOptions hasty;
  hasty.timeout = 100ms;
  auto refused = producer.send(Message("Paced", "late"), hasty);
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == Errc::kBusy);
  CHECK(producer.send_future(Message("Paced", "late"), hasty).get().error().code == Errc::kBusy);
}

}  // namespace apogee::test
