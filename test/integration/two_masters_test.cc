// Several NameServers and masters, really run: what clients and mqadmin make of them.
#include <atomic>
#include <nlohmann/json.hpp>

#include "test/integration/sdk_bench.h"
#include "test/support/run_program.h"

namespace apogee::test {

using namespace std::chrono_literals;
using nlohmann::json;

namespace {

json mqadmin(const Cluster& cluster, std::vector<std::string> arguments) {
  arguments.insert(arguments.end(), {"-n", cluster.namesrv(), "--json"});
  auto ran = run_program("tools/mqadmin", arguments, {"TZ=UTC"});
  INFO(arguments[0] << ": " << ran.err);
  REQUIRE(ran.exit_code == 0);
  auto value = json::parse(ran.out, nullptr, false);
  REQUIRE_FALSE(value.is_discarded());
  return value;
}

/// The broker names in the rows of a table.
std::multiset<std::string> brokers_in(const json& rows, const char* column = "brokerName") {
  std::multiset<std::string> names;
  for (const auto& row : rows) names.insert(row.at(column).get<std::string>());
  return names;
}

/// What stays on a terminal, without colours.
std::vector<std::string> shown_lines(const std::string& printed) {
  std::vector<std::string> lines(1);
  for (size_t i = 0; i < printed.size(); ++i) {
    if (printed[i] == '\n') {
      lines.emplace_back();
    } else if (printed.compare(i, 4, "\r\x1b[K") == 0) {
      lines.back().clear();
      i += 3;
    } else if (printed.compare(i, 2, "\x1b[") == 0) {
      i = printed.find('m', i);
    } else if (printed[i] != '\r') {
      lines.back() += printed[i];
    }
  }
  return lines;
}

void create_topic(const Cluster& cluster, const std::string& topic, int queues) {
  AdminClient admin(admin_config(cluster));
  admin::TopicConfig config;
  config.topic = topic;
  config.read_queues = config.write_queues = queues;
  std::vector<size_t> told;
  auto created = admin.create_topic_in_cluster("DefaultCluster", config,
                                               [&](const std::string&, size_t done, size_t) { told.push_back(done); });
  if (!created) FAIL(created.error().message);
  CHECK(told == std::vector<size_t>{1, 2});
}

size_t queues_on(const std::vector<MessageQueue>& queues, const std::string& broker) {
  return static_cast<size_t>(
      std::count_if(queues.begin(), queues.end(), [&](const auto& queue) { return queue.broker_name == broker; }));
}

}  // namespace

TEST_CASE("two masters: a topic is on both, senders spread, a group of two shares, mqadmin shows both",
          "[integration][cluster]") {
  Cluster cluster({.name_servers = 2, .brokers = 2});
  create_topic(cluster, "Spread", 4);
  Producer producer(producer_config(cluster));
  REQUIRE(producer.start());
  auto queues = producer.queues("Spread");
  if (!queues) FAIL(queues.error().message);
  CHECK(queues->size() == 8);
  CHECK(queues_on(*queues, "broker-a") == 4);
  std::map<std::string, int> sent;
  for (int i = 0; i < 80; ++i) {
    auto receipt = producer.send(Message("Spread", std::to_string(i)));
    if (!receipt) FAIL(receipt.error().message);
    ++sent[receipt->queue.broker_name];
  }
  CHECK(sent == std::map<std::string, int>{{"broker-a", 40}, {"broker-b", 40}});

  Seen seen;
  auto first = listen(consumer_config<PushConsumerConfig>(cluster, "spread_group", "first"), "Spread", "*", seen);
  auto second = listen(consumer_config<PushConsumerConfig>(cluster, "spread_group", "second"), "Spread", "*", seen);
  CHECK(eventually([&] { return first->assignment().size() == 4 && second->assignment().size() == 4; }));
  CHECK(eventually([&] { return seen.distinct().size() == 80; }));

  auto brokers = mqadmin(cluster, {"clusterList"});
  CHECK(brokers_in(brokers) == std::multiset<std::string>{"broker-a", "broker-b"});
  for (const auto& row : brokers) CHECK(row.at("cluster") == "DefaultCluster");
  auto status = mqadmin(cluster, {"topicStatus", "-t", "Spread"});
  auto names = brokers_in(status);
  CHECK(names.count("broker-a") == 4);
  CHECK(names.count("broker-b") == 4);
  int64_t stored = 0;
  for (const auto& row : status) stored += row.at("maxOffset").get<int64_t>();
  CHECK(stored == 80);
  REQUIRE(eventually([&] {
    return mqadmin(cluster, {"consumerProgress", "-g", "spread_group", "-t", "Spread"}).at("diffTotal") == 0;
  }));
  auto progress = mqadmin(cluster, {"consumerProgress", "-g", "spread_group", "-t", "Spread"});
  names = brokers_in(progress.at("queues"));
  CHECK(names.count("broker-a") == 4);
  CHECK(names.count("broker-b") == 4);

  // On a terminal: no line is wider than it, titles are bold, progress leaves nothing behind.
  const std::vector<std::string> environment{"TZ=UTC", "TERM=xterm", "NAMESRV_ADDR=" + cluster.namesrv()};
  for (unsigned short columns : {60, 120}) {
    for (const std::vector<std::string>& arguments :
         {std::vector<std::string>{"clusterList"}, {"topicStatus", "-t", "Spread"}, {"consumerProgress"}}) {
      auto ran = run_on_terminal("tools/mqadmin", arguments, environment, columns);
      INFO(ran.out);
      REQUIRE(ran.exit_code == 0);
      CHECK(ran.out.find("\x1b[1m#") != std::string::npos);
      for (const auto& line : shown_lines(ran.out)) CHECK(line.size() <= columns);
    }
  }

  // A NameServer less changes nothing, for those who run and for those who start.
  cluster.kill_namesrv(0);
  Producer late(producer_config(cluster));
  REQUIRE(late.start());
  for (int i = 80; i < 96; ++i) {
    REQUIRE(producer.send(Message("Spread", std::to_string(i))));
    REQUIRE(late.send(Message("Spread", "late " + std::to_string(i))));
  }
  CHECK(eventually([&] { return seen.distinct().size() == 112; }));
}

TEST_CASE("two masters: sends go to the other while one is killed, and nothing acknowledged is lost",
          "[integration][cluster]") {
  Cluster cluster({.name_servers = 1, .brokers = 2});
  create_topic(cluster, "Survives", 2);
  Seen seen;
  auto first = listen(consumer_config<PushConsumerConfig>(cluster, "survivors", "first"), "Survives", "*", seen);
  auto second = listen(consumer_config<PushConsumerConfig>(cluster, "survivors", "second"), "Survives", "*", seen);
  Producer producer(producer_config(cluster));
  REQUIRE(producer.start());
  REQUIRE(producer.queues("Survives"));

  std::mutex mutex;
  std::set<std::string> acknowledged;
  std::map<std::string, int> by_broker;
  std::vector<std::string> failures;
  int answers = 0;
  auto note = [&](const std::string& body, const Result<SendReceipt>& receipt) {
    std::lock_guard lock(mutex);
    ++answers;
    if (!receipt) return failures.push_back(body + ": " + receipt.error().message);
    acknowledged.insert(body);
    ++by_broker[receipt->queue.broker_name];
  };
  int sent = 0;
  auto send_some = [&](const std::string& when) {
    for (int i = 0; i < 40; ++i, sent += 2) {
      const std::string body = when + " " + std::to_string(i);
      producer.send_async(Message("Survives", "async " + body),
                          [&note, body](const Result<SendReceipt>& receipt) { note("async " + body, receipt); });
      note("sync " + body, producer.send(Message("Survives", "sync " + body)));
      if (when == "during" && i == 10) cluster.kill_broker(1);
    }
    CHECK(eventually([&] {
      std::lock_guard lock(mutex);
      return answers == sent;
    }));
    std::lock_guard lock(mutex);
    for (const auto& failure : failures) UNSCOPED_INFO(failure);
    CHECK(failures.empty());
    return std::exchange(by_broker, {});
  };
  auto spread = send_some("before");
  CHECK(spread["broker-a"] == 40);
  CHECK(spread["broker-b"] == 40);
  spread = send_some("during");
  CHECK(spread["broker-a"] > spread["broker-b"]);
  spread = send_some("without");
  CHECK(spread["broker-b"] == 0);
  CHECK(brokers_in(mqadmin(cluster, {"clusterList"})).count("broker-b") == 0);

  cluster.start_broker(1);
  REQUIRE(eventually([&] {
    auto receipt = producer.send(Message("Survives", "probe " + std::to_string(sent)));
    REQUIRE(receipt);
    note("probe " + std::to_string(sent++), receipt);
    return receipt->queue.broker_name == "broker-b";
  }));
  send_some("after");
  CHECK(eventually(
      [&] {
        const auto got = seen.distinct();
        std::lock_guard lock(mutex);
        return std::includes(got.begin(), got.end(), acknowledged.begin(), acknowledged.end());
      },
      60s));
  CHECK(eventually([&] { return first->assignment().size() == 2 && second->assignment().size() == 2; }));
}

}  // namespace apogee::test
