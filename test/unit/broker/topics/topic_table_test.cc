#include "broker/topics/topic_table.h"

#include <atomic>
#include <fstream>
#include <thread>

#include "common/config/properties_file.h"
#include "test/unit/broker/support/handler_bench.h"

using namespace apogee;
using namespace apogee::broker;
using namespace apogee::broker::test;

namespace {

TopicConfig topic(const std::string& name, int32_t queues = 4) {
  TopicConfig config;
  config.topic_name = name;
  config.read_queue_nums = config.write_queue_nums = queues;
  return config;
}

}  // namespace

TEST_CASE("the built-in topics are there", "[broker][topics]") {
  Logger quiet;
  TopicTable::Options options;
  options.cluster_name = "C";
  options.broker_name = "B";
  options.trace_topic = "RMQ_SYS_TRACE_TOPIC";
  TopicTable table(options, quiet);
  CHECK(table.find("TBW102")->perm == 7);
  CHECK(table.find("TBW102")->write_queue_nums == 8);
  CHECK(table.find("C")->write_queue_nums == 16);
  CHECK(table.find("B")->perm == 7);
  CHECK(table.find("SCHEDULE_TOPIC_XXXX")->write_queue_nums == 18);
  CHECK(table.find("BenchmarkTest")->write_queue_nums == 1024);
  CHECK(table.find("C_REPLY_TOPIC") != nullptr);
  CHECK(table.find("RMQ_SYS_TRACE_TOPIC") != nullptr);
  CHECK(table.find("Nothing") == nullptr);
  CHECK(table.is_system_topic("rmq_sys_anything"));
  CHECK(table.is_system_topic("C"));
  CHECK_FALSE(table.is_system_topic("Mine"));

  options.auto_create = false;
  TopicTable closed(options, quiet);
  CHECK(closed.find("TBW102") == nullptr);
}

TEST_CASE("topics are kept in the file, with a version", "[broker][topics]") {
  TempDir dir;
  Logger quiet;
  TopicTable::Options options;
  options.file = dir.file("config/topics.json");
  remoting::DataVersion version;
  {
    TopicTable table(options, quiet);
    REQUIRE(table.load());
    REQUIRE(table.put(topic("A")));
    REQUIRE(table.put(topic("B")));
    REQUIRE(table.remove("A"));
    CHECK(table.remove("A").error().code == Errc::kNotFound);
    CHECK(table.remove("TBW102").error().code == Errc::kPermission);
    version = table.data_version();
    CHECK(version.counter == 3);
  }
  TopicTable again(options, quiet);
  REQUIRE(again.load());
  CHECK(again.find("A") == nullptr);
  CHECK(again.find("B") != nullptr);
  CHECK(again.find("SELF_TEST_TOPIC") != nullptr);
  CHECK(again.data_version() == version);
}

TEST_CASE("a damaged file is replaced by its copy, and never taken for an empty one", "[broker][topics]") {
  TempDir dir;
  Logger quiet;
  TopicTable::Options options;
  options.file = dir.file("topics.json");
  {
    TopicTable table(options, quiet);
    REQUIRE(table.put(topic("A")));
    REQUIRE(table.put(topic("B")));
  }
  std::ofstream(options.file) << "{\"topicConfigTable\":{";
  TopicTable from_copy(options, quiet);
  REQUIRE(from_copy.load());
  CHECK(from_copy.find("A") != nullptr);
  std::ofstream(options.file + ".bak") << "nonsense";
  TopicTable broken(options, quiet);
  auto status = broken.load();
  REQUIRE_FALSE(status);
  CHECK(status.error().code == Errc::kCorrupt);
  CHECK(status.error().message.find("topics.json") != std::string::npos);
}

TEST_CASE("topics that cannot be are refused", "[broker][topics]") {
  Logger quiet;
  TopicTable table({}, quiet);
  CHECK(table.put(topic("a b")).error().code == Errc::kInvalidArgument);
  CHECK(table.put(topic("T", -1)).error().message.find("readQueueNums") != std::string::npos);
  auto config = topic("T");
  config.perm = 99;
  CHECK(table.put(config).error().message.find("perm") != std::string::npos);
  CHECK(table.data_version().counter == 0);
}

TEST_CASE("nothing changes when the file cannot be written", "[broker][topics]") {
  TempDir dir;
  Logger quiet;
  std::ofstream(dir.file("in-the-way")) << "x";
  TopicTable::Options options;
  options.file = dir.file("in-the-way/topics.json");
  TopicTable table(options, quiet);
  CHECK_FALSE(table.put(topic("A")));
  CHECK(table.find("A") == nullptr);
  CHECK(table.data_version().counter == 0);
}

TEST_CASE("concurrent changes are all kept and share writes", "[broker][topics]") {
  TempDir dir;
  Logger quiet;
  TopicTable::Options options;
  options.file = dir.file("topics.json");
  TopicTable table(options, quiet);
  std::vector<std::thread> threads;
  std::atomic<int> failed{0};
  for (int t = 0; t < 8; ++t)
    threads.emplace_back([&table, &failed, t] {
      for (int i = 0; i < 5; ++i)
        if (!table.put(topic("T" + std::to_string(t) + "-" + std::to_string(i)))) ++failed;
    });
  for (auto& thread : threads) thread.join();
  CHECK(failed == 0);
  CHECK(table.data_version().counter <= 40);
  TopicTable again(options, quiet);
  REQUIRE(again.load());
  for (int t = 0; t < 8; ++t)
    for (int i = 0; i < 5; ++i) CHECK(again.find("T" + std::to_string(t) + "-" + std::to_string(i)) != nullptr);
}

TEST_CASE("a change waits for the listener only when it is to", "[broker][topics]") {
  Logger quiet;
  TopicTable table({}, quiet);
  std::vector<std::string> told;
  std::function<void()> finish;
  std::mutex mutex;
  std::condition_variable changed;
  table.set_change_listener([&](const std::vector<std::string>& names, std::function<void()> finished) {
    std::lock_guard<std::mutex> lock(mutex);
    told = names;
    finish = std::move(finished);
    changed.notify_all();
  });
  REQUIRE(table.put(topic("Saved"), TopicTable::Until::kSaved));
  {
    std::unique_lock<std::mutex> lock(mutex);
    REQUIRE(changed.wait_for(lock, std::chrono::seconds(10), [&] { return finish != nullptr; }));
    CHECK(told == std::vector<std::string>{"Saved"});
    finish = nullptr;
  }
  std::atomic<bool> done{false};
  table.put_async(topic("Told"), TopicTable::Until::kRegistered,
                  [&](const Status& status) { done = status.has_value(); });
  std::unique_lock<std::mutex> lock(mutex);
  REQUIRE(changed.wait_for(lock, std::chrono::seconds(10), [&] { return finish != nullptr; }));
  CHECK(table.find("Told") != nullptr);
  CHECK_FALSE(done);
  finish();
  CHECK(done);
}

TEST_CASE("a listener is told of what is asked for after it is set, not of what is just being saved",
          "[broker][topics]") {
  for (int i = 0; i < 50; ++i) {
    Logger quiet;
    std::mutex mutex;
    std::condition_variable changed;
    std::vector<std::string> told;
    TopicTable table({}, quiet);
    REQUIRE(table.put(topic("Before"), TopicTable::Until::kSaved));
    // The writer has answered, and is not through with the change.
    table.set_change_listener([&](const std::vector<std::string>& names, const std::function<void()>& finished) {
      {
        std::lock_guard<std::mutex> lock(mutex);
        told.insert(told.end(), names.begin(), names.end());
        changed.notify_all();
      }
      finished();
    });
    REQUIRE(table.put(topic("After"), TopicTable::Until::kSaved));
    std::unique_lock<std::mutex> lock(mutex);
    REQUIRE(changed.wait_for(lock, std::chrono::seconds(10), [&] { return !told.empty(); }));
    CHECK(told == std::vector<std::string>{"After"});
  }
}
