// Dead letters by mqadmin: listed, exported, resent.
#include <fstream>
#include <nlohmann/json.hpp>

#include "common/message/property_names.h"
#include "test/integration/sdk_bench.h"
#include "test/support/run_program.h"

namespace apogee::test {

using namespace std::chrono_literals;
using nlohmann::json;

namespace {

/// A group whose messages all die at once, until it is cured; and mqadmin.
struct Ward {
  Cluster cluster;
  std::atomic<bool> cured{false};
  std::mutex mutex;
  std::vector<ReceivedMessage> consumed;
  PushConsumer consumer;
  Producer producer;

  explicit Ward(int messages)
      : consumer(consumer_config<PushConsumerConfig>(cluster, "ward", "one")), producer(producer_config(cluster)) {
    cluster.create_topic("Ward", 2);
    consumer.set_concurrent_listener([this](const std::vector<ReceivedMessage>& messages, ConcurrentContext& context) {
      context.delay_level_when_later = -1;
      if (!cured) return ConsumeResult::kLater;
      std::lock_guard lock(mutex);
      consumed.insert(consumed.end(), messages.begin(), messages.end());
      return ConsumeResult::kSuccess;
    });
    REQUIRE(consumer.subscribe("Ward"));
    REQUIRE(consumer.start());
    REQUIRE(producer.start());
    for (int i = 0; i < messages; ++i)
      REQUIRE(producer.send(Message("Ward", i == 1 ? std::string(9'000, 'z') : "body " + std::to_string(i))
                                .set_keys("order-" + std::to_string(i) + " all")
                                .set_tags("Tag")
                                .set_property("user", "v" + std::to_string(i))));
    CHECK(eventually([&] { return rows({"queryDlq", "-g", "ward"}).size() == static_cast<size_t>(messages); }, 60s));
    cured = true;
  }
  [[nodiscard]] Ran run(const std::vector<std::string>& arguments) const {
    return run_program("tools/mqadmin", arguments, {"TZ=UTC", "NAMESRV_ADDR=" + cluster.namesrv()});
  }
  [[nodiscard]] json rows(std::vector<std::string> arguments) const {
    arguments.emplace_back("--json");
    const auto ran = run(arguments);
    auto parsed = json::parse(ran.out, nullptr, false);
    return ran.exit_code == 0 && parsed.is_array() ? parsed : json::array();
  }
  size_t count() {
    std::lock_guard lock(mutex);
    return consumed.size();
  }
};

std::vector<json> lines_of(const std::string& text) {
  std::vector<json> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) {
    lines.push_back(json::parse(line, nullptr, false));
    CHECK_FALSE(lines.back().is_discarded());
  }
  return lines;
}

TEST_CASE("dead letters are listed, exported and resent", "[dlq]") {
  constexpr int kLetters = 5;
  Ward ward(kLetters);

  const auto listed = ward.run({"queryDlq", "-g", "ward"});
  CHECK(listed.exit_code == 0);
  CHECK(listed.out.find("order-3 all") != std::string::npos);
  const auto by_key = ward.rows({"queryDlq", "-g", "ward", "-k", "order-3"});
  REQUIRE(by_key.size() == 1);
  CHECK(by_key[0]["originTopic"] == "Ward");
  CHECK(by_key[0]["reconsumeTimes"] == 1);
  CHECK(ward.rows({"queryDlq", "-g", "ward", "-k", "order"}).empty());  // whole words
  CHECK(ward.rows({"queryDlq", "-g", "ward", "-k", "all", "-m", "2"}).size() == 2);
  const auto died = by_key[0]["storeTimestamp"].get<int64_t>();
  CHECK(ward.rows({"queryDlq", "-g", "ward", "-b", std::to_string(died + 3'600'000)}).empty());
  CHECK(ward.rows({"queryDlq", "-g", "ward", "-e", std::to_string(died - 3'600'000)}).empty());
  CHECK(ward.rows({"queryDlq", "-g", "ward", "-b", std::to_string(died - 3'600'000), "-e",
                   std::to_string(died + 3'600'000)})
            .size() == kLetters);

  const auto exported = ward.run({"exportDlq", "-g", "ward"});
  CHECK(exported.exit_code == 0);
  const auto lines = lines_of(exported.out);
  REQUIRE(lines.size() == kLetters);
  for (const auto& line : lines) {
    CHECK(line["topic"] == "%DLQ%ward");
    CHECK(line["properties"]["RETRY_TOPIC"] == "Ward");
    CHECK(line["body"].get<std::string>().size() >= 6);
  }
  const auto path = (ward.cluster.directory() / "dead.jsonl").string();
  CHECK(ward.run({"exportDlq", "-g", "ward", "-k", "order-2", "-f", path}).out.find("1 dead letters of ward are in") ==
        0);
  std::ifstream file(path);
  std::stringstream content;
  content << file.rdbuf();
  REQUIRE(lines_of(content.str()).size() == 1);
  CHECK(lines_of(content.str())[0]["body"] == "body 2");

  // A dry run sends nothing: were it otherwise, the group would see them before the one that is sent next.
  const auto dry = ward.rows({"resendDlq", "-g", "ward", "--dry-run"});
  REQUIRE(dry.size() == kLetters);
  CHECK(dry[0]["sendResult"] == "DRY RUN");
  const auto one = ward.rows({"resendDlq", "-g", "ward", "-k", "order-1"});
  REQUIRE(one.size() == 1);
  CHECK(one[0]["sendResult"] == "SEND_OK");
  CHECK(eventually([&] { return ward.count() == 1; }, 60s));
  {
    std::lock_guard lock(ward.mutex);
    const auto& message = ward.consumed.front();
    const bool same = message.body() == std::string(9'000, 'z');  // printed only as that
    CHECK(same);                                                  // was compressed, and is again
    CHECK(message.topic() == "Ward");
    CHECK(message.tags() == "Tag");
    CHECK(message.keys() == "order-1 all");
    CHECK(message.property("user") == "v1");
    CHECK(message.msg_id() == one[0]["msgId"].get<std::string>());
    CHECK(message.reconsume_times() == 0);
    CHECK_FALSE(message.property(message::property::kDelayLevel));
  }
  const auto all = ward.run({"resendDlq", "-g", "ward", "-b", std::to_string(died - 3'600'000)});
  CHECK(all.exit_code == 0);
  CHECK(all.out.find("5 dead letters of ward were sent") != std::string::npos);
  CHECK(eventually([&] { return ward.count() == 1 + kLetters; }, 60s));
  CHECK(ward.rows({"queryDlq", "-g", "ward"}).size() == kLetters);  // they stay

  // To another topic, as ordinary messages.
  ward.cluster.create_topic("Elsewhere", 1);
  Seen seen;
  auto other = listen(consumer_config<PushConsumerConfig>(ward.cluster, "elsewhere", "two"), "Elsewhere", "*", seen);
  CHECK(eventually(
      [&] {
        return ward.rows({"resendDlq", "-g", "ward", "-k", "order-0", "-t", "Elsewhere"}).size() == 1;
      },
      60s));
  CHECK(eventually([&] { return seen.distinct() == std::set<std::string>{"body 0"}; }, 60s));
}

TEST_CASE("dead letters: bad calls, and a bar on a terminal", "[dlq]") {
  Ward ward(3);
  const auto nobody = ward.run({"queryDlq", "-g", "nobody"});
  CHECK(nobody.exit_code == 1);
  CHECK(nobody.err.find("the group nobody has no dead letters") != std::string::npos);
  CHECK(ward.run({"resendDlq", "-g", "nobody"}).exit_code == 1);
  CHECK(ward.run({"resendDlq"}).exit_code == 2);
  CHECK(ward.run({"resendDlq", "-g", "ward", "-b", "yesterday"}).exit_code != 0);
  const auto topic = ward.run({"resendDlq", "-g", "ward", "-t", "bad topic!"});
  CHECK(topic.exit_code == 1);
  CHECK(topic.err.find("0 dead letters were sent before") != std::string::npos);
  CHECK(ward.run({"exportDlq", "-g", "ward", "-f", "/no/such/folder/x"}).exit_code == 1);
  const auto bar = run_on_terminal("tools/mqadmin", {"resendDlq", "-g", "ward", "--dry-run"},
                                   {"TZ=UTC", "NAMESRV_ADDR=" + ward.cluster.namesrv()}, 120);
  CHECK(bar.exit_code == 0);
  CHECK(bar.out.find("dead letters read 0/3") != std::string::npos);
  CHECK(bar.out.find("3 dead letters of ward would be sent; nothing was") != std::string::npos);
}

}  // namespace
}  // namespace apogee::test
