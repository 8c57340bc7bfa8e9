#include <atomic>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "apogee/admin_client.h"
#include "apogee/producer.h"
#include "test/support/catch.h"
#include "test/support/cluster.h"
#include "test/support/wait.h"

// Messages are found by key and by unique id, whatever happens to the real broker and its index.

namespace {

using apogee::test::Cluster;
using apogee::test::eventually;

struct Sent {
  std::string id, key;
};

/// Several threads that send until they are told to stop; what was acknowledged is kept here.
class Senders {
 public:
  Senders(const std::string& name_servers, std::string prefix) : prefix_(std::move(prefix)) {
    apogee::ProducerConfig config;
    config.name_servers = name_servers;
    config.group = "keyed";
    config.send_timeout = std::chrono::milliseconds(1'000);
    config.retries = 0;
    producer_ = std::make_unique<apogee::Producer>(config);
    REQUIRE(producer_->start());
    for (int i = 0; i < 3; ++i) threads_.emplace_back([this] { run(); });
  }
  ~Senders() { stop(); }
  size_t count() {
    std::lock_guard lock(mutex_);
    return sent_.size();
  }
  std::vector<Sent> stop() {
    stopping_ = true;
    for (auto& thread : threads_) thread.join();
    threads_.clear();
    std::lock_guard lock(mutex_);
    return sent_;
  }

 private:
  void run() {
    while (!stopping_) {
      const int number = next_++;
      apogee::Message message("Keyed", "body");
      const std::string key = prefix_ + std::to_string(number);
      message.set_keys("shared " + key);
      auto receipt = producer_->send(message);
      if (!receipt || receipt->status != apogee::SendStatus::kOk) continue;
      std::lock_guard lock(mutex_);
      sent_.push_back({receipt->msg_id, key});
    }
  }
  const std::string prefix_;
  std::unique_ptr<apogee::Producer> producer_;
  std::atomic<bool> stopping_{false};
  std::atomic<int> next_{0};
  std::mutex mutex_;
  std::vector<Sent> sent_;  // guarded by mutex_
  std::vector<std::thread> threads_;
};

struct World {
  Cluster cluster;
  apogee::AdminClient admin{[this] {
    apogee::AdminConfig config;
    config.name_servers = cluster.namesrv();
    return config;
  }()};

  World() { cluster.create_topic("Keyed", 2); }
  std::filesystem::path index() {
    for (const auto& entry : std::filesystem::recursive_directory_iterator(cluster.directory()))
      if (entry.path().filename() == "indexdb") return entry.path();
    return {};
  }
  size_t found(const std::string& key, bool unique) {
    apogee::admin::MessageQuery query;
    query.topic = "Keyed";
    query.key = key;
    query.unique_id = unique;
    auto answer = admin.query_messages(query);
    return answer ? answer->messages.size() : 0;
  }
  /// Everything that was acknowledged, by both of its keys, once.
  void check_all(const std::vector<Sent>& sent) {
    // The last one that was sent is the last one to be indexed, nearly.
    REQUIRE(eventually([&] { return found(sent.back().id, true) == 1; }));
    size_t missing = 0;
    for (const auto& each : sent) {
      if (!eventually([&] { return found(each.id, true) == 1 && found(each.key, false) == 1; },
                      std::chrono::seconds(5)))
        ++missing;
      if (missing > 3) break;
    }
    CHECK(missing == 0);
  }
};

}  // namespace

TEST_CASE("a killed broker finds every acknowledged message by key and by unique id", "[integration][index]") {
  World world;
  std::vector<Sent> all;
  for (const char* prefix : {"a", "b"}) {
    Senders senders(world.cluster.namesrv(), prefix);
    REQUIRE(eventually([&] { return senders.count() >= 300; }));
    world.cluster.kill_broker();
    auto sent = senders.stop();
    REQUIRE(sent.size() >= 300);
    world.cluster.start_broker();
    all.insert(all.end(), sent.begin(), sent.end());
    world.check_all(all);
  }
  // The index goes; the log does not.
  world.cluster.stop_broker();
  const auto index = world.index();
  REQUIRE_FALSE(index.empty());
  SECTION("deleted") { std::filesystem::remove_all(index); }
  SECTION("damaged") {
    for (const auto& entry : std::filesystem::directory_iterator(index))
      if (entry.path().filename() != "LOCK") std::ofstream(entry.path(), std::ios::trunc) << "not an index";
  }
  world.cluster.start_broker();
  world.check_all(all);
  auto first = world.admin.find_message("Keyed", all.front().id);
  REQUIRE(first);
  CHECK(first->msg_id() == all.front().id);
  CHECK(world.admin.find_message("Keyed", first->offset_msg_id())->msg_id() == all.front().id);
  auto none = world.admin.find_message("Keyed", "nothing");
  REQUIRE_FALSE(none);
  CHECK(none.error().code == apogee::Errc::kNotFound);
}

TEST_CASE("without an index queries are refused and everything else works", "[integration][index]") {
  Cluster cluster({"--messageIndexEnable", "false"});
  cluster.create_topic("Keyed", 1);
  apogee::AdminConfig config;
  config.name_servers = cluster.namesrv();
  apogee::AdminClient admin(config);
  auto receipt = admin.send(apogee::Message("Keyed", "body").set_keys("k"));
  REQUIRE(receipt);
  apogee::admin::MessageQuery query;
  query.topic = "Keyed";
  query.key = "k";
  auto answer = admin.query_messages(query);
  REQUIRE_FALSE(answer);
  CHECK(answer.error().message.find("messageIndexEnable is false") != std::string::npos);
  auto found = admin.find_message("Keyed", receipt->msg_id);
  CHECK_FALSE(found);
  CHECK(admin.message_by_id(receipt->offset_msg_id));
}
