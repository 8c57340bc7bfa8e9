// Messages for an instant: the SDK, clients of another make, log files that go, and a broker that dies.
#include <algorithm>
#include <filesystem>
#include <iostream>
#include <thread>

#include "common/message/batch.h"
#include "common/message/properties.h"
#include "common/message/property_names.h"
#include "test/integration/sdk_bench.h"
#include "test/support/random.h"
#include "test/support/raw_requests.h"

namespace apogee::test {

using namespace std::chrono_literals;
namespace property = message::property;

namespace {

constexpr const char* kTopic = "Timed";

/// A message as a consumer got it.
struct Got {
  int64_t queue_offset = 0, store_ms = 0, due_ms = 0;
  std::string body;
};

/// A consumer of the one queue of kTopic; what it got, by queue offset.
class Receiver {
 public:
  explicit Receiver(const Cluster& cluster)
      : consumer_(consumer_config<PushConsumerConfig>(cluster, "timed_readers", "t1")) {
    consumer_.set_concurrent_listener([this](const std::vector<ReceivedMessage>& messages, ConcurrentContext&) {
      std::lock_guard lock(mutex_);
      for (const auto& each : messages) {
        const auto due = each.property(property::kTimerOutMs);
        got_[each.queue_offset()] = {each.queue_offset(), each.store_time_ms(), due ? std::stoll(std::string(*due)) : 0,
                                     std::string(each.body())};
      }
      return ConsumeResult::kSuccess;
    });
    REQUIRE(consumer_.subscribe(kTopic));
    REQUIRE(consumer_.start());
  }
  std::vector<Got> got() {
    std::lock_guard lock(mutex_);
    std::vector<Got> all;
    for (const auto& [offset, message] : got_) all.push_back(message);
    return all;
  }
  std::vector<std::string> bodies() {
    std::vector<std::string> all;
    for (const auto& message : got()) all.push_back(message.body);
    return all;
  }
  bool waits_for(size_t distinct) {
    return eventually(
        [&] {
          const auto all = bodies();
          return std::set<std::string>(all.begin(), all.end()).size() >= distinct;
        },
        60s);
  }

 private:
  std::mutex mutex_;
  std::map<int64_t, Got> got_;  // guarded by mutex_
  PushConsumer consumer_;
};

std::string timer_properties(std::initializer_list<std::pair<std::string_view, std::string>> properties) {
  std::string text;
  for (const auto& [name, value] : properties) message::append_property(text, name, value);
  return text;
}

remoting::Command raw(RawClient& client, const std::string& body, const std::string& properties, bool batch = false) {
  RawSend send{kTopic, 0, body, properties};
  send.batch = batch;
  auto reply = client.call(send_request(std::move(send)), 60s);
  REQUIRE(reply);
  return *reply;
}

}  // namespace

TEST_CASE("Timers: messages come at their instants and in their order, cancelled ones do not", "[timer]") {
  Cluster cluster;
  cluster.create_topic(kTopic, 1);
  Producer producer(producer_config(cluster));
  REQUIRE(producer.start());
  Receiver receiver(cluster);
  const int64_t base = wall_ms() + 2'000;
  constexpr int kCount = 60;
  std::map<int, SendReceipt> receipts;
  for (int i = 0; i < kCount; ++i) {
    const int place = i * 37 % kCount;  // in another order than they are due
    auto receipt = producer.send(Message(kTopic, std::to_string(place)).set_deliver_at(base + place * 7));
    REQUIRE(receipt);
    CHECK(receipt->deliver_at_ms == base + place * 7);
    receipts[place] = *receipt;
  }
  std::vector<std::string> wanted;
  for (int i = 0; i < kCount; ++i) {
    if (i % 10 == 3) {
      REQUIRE(producer.cancel_timer(receipts[i]));
    } else {
      wanted.push_back(std::to_string(i));
    }
  }
  auto relative = producer.send(Message(kTopic, "after").set_deliver_after(4s));
  REQUIRE(relative);
  wanted.emplace_back("after");
  auto gone = producer.send(Message(kTopic, "never").set_deliver_after(3s));
  REQUIRE(gone);
  REQUIRE(producer.cancel_timer(*gone));
  REQUIRE(receiver.waits_for(wanted.size()));
  CHECK(receiver.bodies() == wanted);
  std::vector<int64_t> late;
  for (const auto& message : receiver.got()) {
    CHECK(message.store_ms >= message.due_ms);
    late.push_back(message.store_ms - message.due_ms);
  }
  std::sort(late.begin(), late.end());
  std::cout << "timers: " << late.size() << " delivered, late by " << late[late.size() / 2] << " ms (p50), "
            << late[late.size() * 99 / 100] << " ms (p99)\n";
  // What is over cannot be taken back.
  auto refused = producer.cancel_timer(receipts[0]);
  REQUIRE_FALSE(refused);
  CHECK(refused.error().response_code == 13);
  auto table = AdminClient(admin_config(cluster)).broker_runtime_info(cluster.broker());
  REQUIRE(table);
  CHECK((*table)["timerCancelledTotal"] == "7");
}

TEST_CASE("Timers: frames of clients of another make", "[timer][wire]") {
  Cluster cluster({"--timerMaxDelaySec", "600"});
  cluster.create_topic(kTopic, 1);
  RawClient client(cluster.broker_port());
  Receiver receiver(cluster);
  const std::string due = std::to_string(wall_ms() + 3'000);
  CHECK(raw(client, "sec", timer_properties({{"UNIQ_KEY", "K1"}, {"TIMER_DELAY_SEC", "2"}})).code == 0);
  CHECK(raw(client, "ms", timer_properties({{"UNIQ_KEY", "K2"}, {"TIMER_DELAY_MS", "1000"}})).code == 0);
  CHECK(raw(client, "at", timer_properties({{"UNIQ_KEY", "K3"}, {"TIMER_DELIVER_MS", due}})).code == 0);
  CHECK(raw(client, "now", timer_properties({{"UNIQ_KEY", "K4"}, {"TIMER_DELIVER_MS", "1"}})).code == 0);
  for (const auto& [key, target] : {std::pair("K5", "K5"), std::pair("K6", "Timed+K6")}) {
    CHECK(raw(client, "cancelled", timer_properties({{"UNIQ_KEY", key}, {"TIMER_DELIVER_MS", due}})).code == 0);
    CHECK(raw(client, "-", timer_properties({{"TIMER_DEL_UNIQKEY", target}, {"TIMER_DELIVER_MS", due}})).code == 0);
  }
  auto refused = [&](const std::string& properties, int32_t code, const std::string& in_remark, bool batch = false) {
    std::string body = "bad";
    if (batch) {
      body.clear();
      message::append_batch_message(body, {0, "bad", {}});
    }
    const auto reply = raw(client, body, properties, batch);
    INFO(reply.remark.value_or(""));
    CHECK(reply.code == code);
    CHECK(reply.remark.value_or("").find(in_remark) != std::string::npos);
  };
  refused(timer_properties({{"TIMER_DELAY_SEC", "-1"}}), 13, "TIMER_DELAY_SEC=\"-1\"");
  refused(timer_properties({{"TIMER_DELAY_MS", "1h"}}), 13, "TIMER_DELAY_MS=\"1h\"");
  refused(timer_properties({{"TIMER_DELIVER_MS", "tomorrow"}}), 13, "TIMER_DELIVER_MS=\"tomorrow\"");
  refused(timer_properties({{"TIMER_DELIVER_MS", "99999999999999999999"}}), 13, "timerMaxDelaySec, which is 600 s");
  refused(timer_properties({{"TIMER_DELAY_SEC", "601"}}), 13, "timerMaxDelaySec");
  refused(timer_properties({{"TIMER_DELIVER_MS", "1"}, {"TIMER_DEL_UNIQKEY", "K1"}}), 13, "whose time is over");
  refused(timer_properties({{"TIMER_DEL_UNIQKEY", "K1"}}), 13, "needs TIMER_DELIVER_MS");
  refused(timer_properties({{"TIMER_DELAY_MS", "100"}}), 13, "a batch cannot be delayed", true);
  REQUIRE(receiver.waits_for(4));
  CHECK(receiver.bodies() == std::vector<std::string>{"now", "ms", "sec", "at"});
  AdminClient admin(admin_config(cluster));
  REQUIRE(eventually([&] {
    auto table = admin.broker_runtime_info(cluster.broker());
    return table && (*table)["timerPending"] == "0";
  }));
  REQUIRE(admin.update_broker_config(cluster.broker(), "timerWheelEnable", "false"));
  refused(timer_properties({{"TIMER_DELAY_MS", "100"}}), 1, "timerWheelEnable is false");
}

TEST_CASE("Timers: what waits outlives restarts, its log files and its database", "[timer][retention]") {
  // Everything that is full has expired, but goes only when asked for.
  const auto hour = std::to_string((wall_ms() / 3'600'000 + 12) % 24);
  Cluster cluster({"--mappedFileSizeCommitLog", "65536", "--fileReservedTime", "0", "--deleteWhen", hour,
                   "--messageDelayLevel", "1s 3s", "--flushDelayOffsetInterval", "100", "--flushCommitLogLeastPages",
                   "0", "--flushIntervalCommitLog", "50"});
  cluster.create_topic(kTopic, 1);
  cluster.create_topic("Filler", 1);
  Producer producer(producer_config(cluster));
  REQUIRE(producer.start());
  AdminClient admin(admin_config(cluster));
  const int64_t due = wall_ms() + 9'000;
  std::vector<std::string> wanted;
  std::optional<SendReceipt> cancelled;
  for (int i = 0; i < 30; ++i) {
    wanted.push_back("timed " + std::to_string(i));
    REQUIRE(producer.send(Message(kTopic, wanted.back()).set_deliver_at(due + i)));
  }
  for (int i = 0; i < 3; ++i) {
    auto far = producer.send(Message(kTopic, "far away").set_deliver_after(24h));
    REQUIRE(far);
    cancelled = *far;
  }
  REQUIRE(producer.send(Message(kTopic, "delayed").set_delay_level(2)));
  const auto log = cluster.directory() / "store/commitlog";
  const auto first_file = log / std::string(20, '0');
  REQUIRE(std::filesystem::exists(first_file));
  for (int i = 0; i < 150; ++i) REQUIRE(producer.send(Message("Filler", std::string(2'000, 'f'))));
  REQUIRE(admin.delete_expired_log_files(cluster.broker()));
  // Not before the delayed message, which waits in it, is delivered; the timers move on.
  REQUIRE(eventually([&] { return !std::filesystem::exists(first_file); }, 60s));
  auto rolled = admin.broker_runtime_info(cluster.broker());
  REQUIRE(rolled);
  CHECK(std::stoi((*rolled)["timerRolledTotal"]) >= 3);
  REQUIRE(producer.cancel_timer(*cancelled));
  SECTION("as it is") {}
  SECTION("after a restart without its database") {
    cluster.stop_broker();
    std::filesystem::remove_all(cluster.directory() / "store/timersdb");
    cluster.start_broker();
  }
  Receiver receiver(cluster);
  REQUIRE(receiver.waits_for(wanted.size() + 1));
  auto bodies = receiver.bodies();
  CHECK(std::count(bodies.begin(), bodies.end(), "delayed") == 1);
  bodies.erase(std::remove(bodies.begin(), bodies.end(), "delayed"), bodies.end());
  CHECK(bodies == wanted);
  CHECK(eventually(
      [&] {
        auto figures = admin.broker_runtime_info(cluster.broker());
        return figures && (*figures)["timerPending"] == "3";  // two messages far away, and the cancellation
      },
      60s));
}

TEST_CASE("Timers: kill -9 while they wait and fire loses none, and repeats few", "[timer][crash]") {
  Cluster cluster;
  cluster.create_topic(kTopic, 1);
  const bool soak = std::getenv("APOGEE_SOAK") != nullptr;
  const int rounds = soak ? 30 : 4;
  std::set<std::string> sent;
  Random random(20'261'121);
  for (int round = 0; round < rounds; ++round) {
    std::atomic<bool> killed{false};
    std::vector<std::thread> senders;
    std::mutex mutex;
    for (int name = 0; name < 3; ++name) {
      senders.emplace_back([&, name, seed = random.below(1'000'000)] {
        Random own(static_cast<uint64_t>(seed));
        RawClient client(cluster.broker_port());
        for (int i = 0; !killed; ++i) {
          const std::string body = std::to_string(round) + "-" + std::to_string(name) + "-" + std::to_string(i);
          const auto properties =
              timer_properties({{"UNIQ_KEY", body}, {"TIMER_DELAY_MS", std::to_string(own.between(1, 3'000))}});
          auto reply = client.call(send_request({kTopic, 0, body, properties}), 60s);
          if (!reply || reply->code != remoting::response_code::kSuccess) return;
          std::lock_guard lock(mutex);
          sent.insert(body);
        }
      });
    }
    pause(std::chrono::milliseconds(random.between(300, 1'800)));
    cluster.kill_broker();
    killed = true;
    for (auto& each : senders) each.join();
    cluster.start_broker();
  }
  Receiver receiver(cluster);
  const bool complete = eventually(
      [&] {
        const auto bodies = receiver.bodies();
        const std::set<std::string> seen(bodies.begin(), bodies.end());
        return std::includes(seen.begin(), seen.end(), sent.begin(), sent.end());
      },
      120s);
  CHECK(complete);
  const auto all = receiver.bodies();
  const auto repeats = all.size() - std::set<std::string>(all.begin(), all.end()).size();
  std::cout << "timers: " << sent.size() << " acknowledged over " << rounds << " kills, " << all.size()
            << " deliveries, " << repeats << " of them repeated\n";
  CHECK(repeats <= static_cast<size_t>(rounds) * 256);  // one batch a kill
}

}  // namespace apogee::test
