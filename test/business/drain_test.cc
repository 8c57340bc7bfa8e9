#include <fmt/format.h>

#include <csignal>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "apogee/admin_client.h"
#include "apogee/producer.h"
#include "apogee/pull_consumer.h"
#include "test/support/catch.h"
#include "test/support/cluster.h"
#include "test/support/mqadmin.h"
#include "test/support/process.h"
#include "test/support/wait.h"

// mqadmin drainTopic against real processes.

namespace {

using apogee::test::Admin;
using apogee::test::contains;
using apogee::test::eventually;
using apogee::test::Process;

constexpr auto kLimit = std::chrono::seconds(60);
constexpr int kKeys = 20;

/// A topic with a backlog of some numbered messages for each key, and a wider one that is empty.
struct Backlog {
  apogee::test::Cluster cluster;
  Admin admin{cluster.namesrv()};
  apogee::AdminClient client{config_of(cluster)};
  int each;

  explicit Backlog(int messages_of_each_key) : each(messages_of_each_key) {
    cluster.create_topic("Narrow", 3);
    cluster.create_topic("Wide", 12);
    (void)admin.text({"updateSubGroup", "-c", "DefaultCluster", "-g", "billing"});
    apogee::ProducerConfig config;
    config.name_servers = cluster.namesrv();
    config.group = "shop";
    apogee::Producer producer(config);
    REQUIRE(producer.start());
    for (int number = 0; number < each; ++number) {
      for (int key = 0; key < kKeys; ++key) {
        const std::string name = "order-" + std::to_string(key);
        apogee::Message message("Narrow", name + "/" + std::to_string(number));
        message.set_keys(name).set_tags("tag" + std::to_string(key % 3)).set_property("amount", "7").set_flag(5);
        // One big body is stored compressed.
        if (number == 0 && key == 0) message.set_body(message.body() + std::string(10'000, 'x'));
        REQUIRE(producer.send(message, apogee::SendOptions::by_key(name)));
      }
    }
    for (const auto& queue : queues_of("Narrow")) REQUIRE(client.update_consumer_offset("billing", queue, 0));
  }
  static apogee::AdminConfig config_of(const apogee::test::Cluster& cluster) {
    apogee::AdminConfig config;
    config.name_servers = cluster.namesrv();
    return config;
  }
  [[nodiscard]] int64_t total() const { return static_cast<int64_t>(each) * kKeys; }

  static std::vector<std::string> drain_call(const char* rate) {
    return {"drainTopic", "-t", "Narrow", "-g", "billing", "-d", "Wide", "-r", rate};
  }
  std::unique_ptr<Process> start_drain(const char* rate, int number) {
    auto call = drain_call(rate);
    call.insert(call.end(), {"-n", admin.namesrv});
    return std::make_unique<Process>("tools/mqadmin", call,
                                     (cluster.directory() / fmt::format("drain-{}.out", number)).string());
  }
  std::vector<apogee::MessageQueue> queues_of(const std::string& topic) {
    auto queues = client.queues_of_topic(topic);
    REQUIRE(queues);
    return std::move(*queues);
  }
  int64_t stored_in(const std::string& topic) {
    auto stats = client.topic_stats(topic);
    if (!stats) return 0;  // a broker that was killed is not back yet
    int64_t sum = 0;
    for (const auto& entry : *stats) sum += entry.second.max_offset;
    return sum;
  }
  int64_t lag() {
    auto progress = client.group_progress("billing", "Narrow");
    REQUIRE(progress);
    int64_t sum = 0;
    for (const auto& entry : progress->queues) sum += entry.second.lag();
    return sum;
  }
  /// Every message of the wider topic, queue by queue.
  std::vector<apogee::ReceivedMessage> copies() {
    std::vector<apogee::ReceivedMessage> all;
    for (const auto& queue : queues_of("Wide")) {
      apogee::admin::PullRequest request;
      request.queue = queue;
      const int64_t end = *client.max_offset(queue);
      while (request.offset < end) {
        auto pulled = client.pull(request);
        REQUIRE(pulled);
        all.insert(all.end(), pulled->messages.begin(), pulled->messages.end());
        REQUIRE(pulled->next_offset > request.offset);
        request.offset = pulled->next_offset;
      }
    }
    return all;
  }
  /// Each key is in one queue, with all its numbers in order. Answers with how many copies there are twice; those may
  /// only follow each other.
  int64_t check_copies() {
    std::map<std::string, int> next;
    std::map<std::string, int32_t> home;
    int64_t twice = 0;
    for (const auto& copy : copies()) {
      const std::string key(copy.keys());
      const std::string body(copy.body().substr(0, copy.body().find('x')));
      const int number = std::stoi(body.substr(body.rfind('/') + 1));
      INFO(key << " number " << number << " in queue " << copy.queue().queue_id);
      CHECK(home.emplace(key, copy.queue().queue_id).first->second == copy.queue().queue_id);
      if (number == next[key] - 1) {
        ++twice;
        continue;
      }
      CHECK(number == next[key]);
      next[key] = number + 1;
    }
    CHECK(next.size() == kKeys);
    for (const auto& [key, count] : next) {
      INFO(key);
      CHECK(count == each);
    }
    return twice;
  }
  bool has_marks() { return client.groups(cluster.broker())->count("DRAIN_billing_Narrow") != 0; }
};

}  // namespace

TEST_CASE("drain: a backlog goes into a wider topic as it is", "[drain]") {
  Backlog backlog(6);
  const Admin& admin = backlog.admin;

  // Looking changes nothing.
  auto call = Backlog::drain_call("0");
  auto dry = call;
  dry.emplace_back("--dry-run");
  auto plan = admin.parsed(dry);
  CHECK(plan["messages"] == backlog.total());
  CHECK(plan["targetQueues"] == 12);
  CHECK(plan["queues"].size() == 3);
  CHECK(plan["dryRun"] == true);
  CHECK(contains(admin.text(dry), "Nothing was copied"));
  CHECK(backlog.stored_in("Wide") == 0);
  CHECK_FALSE(backlog.has_marks());

  auto result = admin.parsed(call);
  CHECK(result["copied"] == backlog.total());
  CHECK(result["complete"] == true);
  CHECK(backlog.check_copies() == 0);
  CHECK(backlog.stored_in("Wide") == backlog.total());
  CHECK(backlog.lag() == 0);
  CHECK_FALSE(backlog.has_marks());

  std::map<std::string, apogee::ReceivedMessage> originals;
  for (const auto& queue : backlog.queues_of("Narrow")) {
    apogee::admin::PullRequest request;
    request.queue = queue;
    request.messages_max = 1'000;
    const int64_t end = *backlog.client.max_offset(queue);
    while (request.offset < end) {
      auto pulled = backlog.client.pull(request);
      REQUIRE(pulled);
      for (const auto& message : pulled->messages) originals.emplace(message.msg_id(), message);
      request.offset = pulled->next_offset;
    }
  }
  REQUIRE(originals.size() == static_cast<size_t>(backlog.total()));
  for (const auto& copy : backlog.copies()) {
    REQUIRE(originals.count(copy.msg_id()) == 1);
    const auto& original = originals.at(copy.msg_id());
    CHECK(copy.body() == original.body());
    CHECK(copy.keys() == original.keys());
    CHECK(copy.tags() == original.tags());
    CHECK(copy.property("amount") == original.property("amount"));
    CHECK(copy.property("__SHARDINGKEY") == original.property("__SHARDINGKEY"));
    CHECK(copy.flag() == 5);
    CHECK(copy.born_time_ms() == original.born_time_ms());
    CHECK(contains(std::string(copy.property("DRAIN_FROM").value_or("")), "Narrow/broker-a/"));
  }

  // There is nothing left to do, and that is no error.
  CHECK(admin.parsed(call)["copied"] == 0);
  CHECK(contains(admin.text(call), "Done: 0 messages copied"));
}

TEST_CASE("drain: what cannot be drained is said clearly", "[drain]") {
  Backlog backlog(1);
  const Admin& admin = backlog.admin;
  auto fails = [&](std::vector<std::string> arguments, int code = 1) {
    arguments.insert(arguments.begin(), "drainTopic");
    return admin.failure(arguments, code);
  };
  CHECK(contains(admin.text({"drainTopic", "--help"}), "Example:\n  mqadmin drainTopic -t Orders"));
  CHECK(contains(fails({"-t", "Narrow", "-g", "billing"}, 2), "-d (targetTopic) is missing"));
  CHECK(contains(fails({"-t", "Narrow", "-g", "billing", "-d", "Narrow"}), "into itself"));
  CHECK(contains(fails({"-t", "Narrow", "-g", "nobody", "-d", "Wide"}), "has no offsets"));
  CHECK(contains(fails({"-t", "None", "-g", "billing", "-d", "Wide"}), "None"));
  CHECK(contains(fails({"-t", "Narrow", "-g", "billing", "-d", "None"}), "None"));
  CHECK(contains(fails({"-t", "Narrow", "-g", "billing", "-d", "Wide", "-r", "-1"}), "-r must be a whole number"));

  // Members would consume what is copied.
  apogee::PullConsumerConfig config;
  config.name_servers = backlog.cluster.namesrv();
  config.group = "billing";
  apogee::PullConsumer consumer(config);
  REQUIRE(consumer.subscribe("Narrow"));
  REQUIRE(consumer.start());
  REQUIRE(eventually([&] { return backlog.client.group_clients("billing").has_value(); }, kLimit));
  CHECK(contains(fails({"-t", "Narrow", "-g", "billing", "-d", "Wide"}), "stop them first"));
  CHECK(backlog.stored_in("Wide") == 0);
  REQUIRE(consumer.shutdown());
}

TEST_CASE("drain: a group whose offsets were reset is drained from there", "[drain]") {
  Backlog backlog(2);
  const Admin& admin = backlog.admin;
  (void)admin.parsed({"resetOffsetByTime", "-g", "billing", "-t", "Narrow", "-s", "0"});
  CHECK(admin.parsed(Backlog::drain_call("0"))["copied"] == backlog.total());
  CHECK(backlog.lag() == 0);
  CHECK(admin.parsed(Backlog::drain_call("0"))["copied"] == 0);
}

TEST_CASE("drain: Ctrl-C stops it cleanly, and the same call goes on", "[drain]") {
  Backlog backlog(20);
  auto drain = backlog.start_drain("100", 0);
  REQUIRE(eventually([&] { return backlog.stored_in("Wide") >= 40; }, kLimit));
  drain->signal(SIGINT);
  CHECK(drain->wait(kLimit) == 1);
  const auto output = drain->output();
  INFO(output);
  CHECK(
      contains(output, "the same call goes on where this one ended: mqadmin drainTopic -t Narrow -g billing -d Wide"));
  const int64_t copied = backlog.stored_in("Wide");
  CHECK(copied < backlog.total());
  // Where it ended is known, without the process that knew it.
  auto dry = Backlog::drain_call("0");
  dry.emplace_back("--dry-run");
  auto plan = backlog.admin.parsed(dry);
  CHECK(backlog.total() - plan["messages"].get<int64_t>() + plan["copiedBefore"].get<int64_t>() == copied);

  auto result = backlog.admin.parsed(Backlog::drain_call("0"));
  CHECK(result["complete"] == true);
  CHECK(result["copied"].get<int64_t>() == backlog.total() - copied);
  CHECK(backlog.check_copies() == 0);
  CHECK(backlog.lag() == 0);
}

TEST_CASE("drain: kill -9 of mqadmin in the middle, again and again: no key's order is broken, nothing is lost",
          "[drain][crash]") {
  Backlog backlog(60);
  int kills = 0;
  for (int64_t wanted = 100; wanted < backlog.total(); wanted += 250) {
    auto drain = backlog.start_drain("600", kills);
    REQUIRE(eventually([&] { return backlog.stored_in("Wide") >= wanted || !drain->running(); }, kLimit));
    if (!drain->running()) break;
    drain->kill();
    ++kills;
  }
  CHECK(kills >= 3);
  CHECK(backlog.admin.parsed(Backlog::drain_call("0"))["complete"] == true);
  // A send that was under way when its process was killed may have been stored without being seen; nothing else is
  // twice.
  CHECK(backlog.check_copies() == 0);
  CHECK(backlog.lag() == 0);
  CHECK_FALSE(backlog.has_marks());
}

TEST_CASE("drain: kill -9 of the broker in the middle: the drain waits and goes on", "[drain][crash]") {
  Backlog backlog(60);
  auto drain = backlog.start_drain("400", 0);
  for (int kills = 0; kills < 2; ++kills) {
    const int64_t wanted = 200 + 400 * kills;
    REQUIRE(eventually([&] { return backlog.stored_in("Wide") >= wanted || !drain->running(); }, kLimit));
    backlog.cluster.kill_broker();
    backlog.cluster.start_broker();
  }
  // A broker that is slow to come back ends the drain; then the same call goes on.
  for (int calls = 1; drain->wait(kLimit) != 0; ++calls) {
    INFO(drain->output());
    REQUIRE(calls < 5);
    drain = backlog.start_drain("0", calls);
  }
  (void)backlog.check_copies();
  CHECK(backlog.lag() == 0);
  CHECK_FALSE(backlog.has_marks());
}
