// Thousands of topics: made, written, restarted and listed, and deleted under load.
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <sstream>
#include <thread>
#include <vector>

#include "common/remoting/bodies/topic_bodies.h"
#include "test/support/catch.h"
#include "test/support/cluster.h"
#include "test/support/random.h"
#include "test/support/raw_requests.h"
#include "test/support/wait.h"

namespace apogee::test {
namespace {

using remoting::Command;
using remoting::RequestCode;
namespace rc = remoting::response_code;
namespace fs = std::filesystem;

class Stopwatch {
 public:
  [[nodiscard]] int64_t ms() const {
    return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - begin_).count();
  }

 private:
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
};

std::string topic_name(int number) { return "Topic" + std::to_string(number); }

/// Sends requests 0 to count - 1 over a few connections, some at a time on each; returns the answers' codes.
template <typename Make>
std::multiset<int32_t> call_all(uint16_t port, int count, const Make& make,
                                const std::function<void(const Command&)>& look = nullptr) {
  constexpr int kConnections = 4, kAtOnce = 32;
  std::mutex mutex;
  std::multiset<int32_t> codes;
  std::vector<std::thread> threads;
  for (int t = 0; t < kConnections; ++t) {
    threads.emplace_back([&, t] {
      RawClient client(port);
      int outstanding = 0;
      auto take = [&] {
        auto reply = client.receive(std::chrono::seconds(60));
        --outstanding;
        std::lock_guard lock(mutex);
        if (reply && look) look(*reply);
        codes.insert(reply ? reply->code : -1);
      };
      for (int i = t; i < count; i += kConnections) {
        auto request = make(i);
        request.opaque = i;
        client.send(request);
        if (++outstanding == kAtOnce) take();
      }
      while (outstanding > 0) take();
    });
  }
  for (auto& thread : threads) thread.join();
  return codes;
}

std::multiset<int32_t> all_good(int count) {
  std::multiset<int32_t> codes;
  for (int i = 0; i < count; ++i) codes.insert(rc::kSuccess);
  return codes;
}

/// User and system time of a process so far.
int64_t cpu_ms(pid_t pid) {
  std::ifstream in("/proc/" + std::to_string(pid) + "/stat");
  std::string text((std::istreambuf_iterator<char>(in)), {});
  std::istringstream rest(text.substr(text.rfind(')') + 1));
  std::string skipped;
  for (int i = 0; i < 11; ++i) rest >> skipped;
  int64_t user = 0, system = 0;
  rest >> user >> system;
  return (user + system) * 1'000 / ::sysconf(_SC_CLK_TCK);
}

size_t descriptors(pid_t pid) {
  auto all = fs::directory_iterator("/proc/" + std::to_string(pid) + "/fd");
  return static_cast<size_t>(std::distance(fs::begin(all), fs::end(all)));
}

size_t listed_topics(uint16_t port) {
  auto reply = RawClient(port).call(Command::request(RequestCode::kGetAllTopicConfig), std::chrono::seconds(60));
  if (!reply || reply->code != rc::kSuccess) return 0;
  auto wrapper = remoting::decode_topic_config_serialize_wrapper(reply->body.bytes);
  if (!wrapper) return 0;
  size_t count = 0;
  for (const auto& [name, config] : wrapper->topic_config_table)
    if (name.starts_with("Topic")) ++count;
  return count;
}

}  // namespace

TEST_CASE("Topics: ten thousand with eight queues each are made, written, restarted and listed",
          "[integration][topics]") {
  const int topics = is_soak() ? 10'000 : 500;  // the whole takes minutes where others use the processors too
  constexpr int kQueues = 8;
  Cluster cluster({"--mappedFileSizeCommitLog", "67108864"});
  const uint16_t port = cluster.broker_port();
  Stopwatch making;
  REQUIRE(call_all(port, topics, [](int i) { return create_topic_request(topic_name(i), kQueues); }) ==
          all_good(topics));
  const int64_t made_ms = making.ms();
  Stopwatch writing;
  REQUIRE(call_all(port, topics * kQueues, [](int i) {
            return send_request({topic_name(i / kQueues), i % kQueues, "body"});
          }) == all_good(topics * kQueues));
  const int64_t written_ms = writing.ms();
  WARN(topics << " topics x " << kQueues << " made in " << made_ms << " ms, each queue written once in " << written_ms
              << " ms");
  for (const char* how : {"a stop", "kill -9"}) {
    if (how == std::string("a stop")) {
      cluster.stop_broker();
    } else {
      cluster.kill_broker();
    }
    Stopwatch starting;
    cluster.start_broker();
    RawClient reader(port);
    auto pulled = reader.call(pull_request("readers", topic_name(topics - 1), kQueues - 1, 0));
    REQUIRE(pulled);
    REQUIRE(pulled->code == rc::kSuccess);
    const int64_t serving_ms = starting.ms();
    const pid_t pid = cluster.broker_process().pid();
    const int64_t cpu = cpu_ms(pid);
    Stopwatch listing;
    REQUIRE(listed_topics(port) == static_cast<size_t>(topics));
    WARN("after " << how << ": serves after " << serving_ms << " ms (" << cpu << " ms of processor), all listed in "
                  << listing.ms() << " ms; " << cluster.broker_process().resident_kib() / 1024 << " MiB resident, "
                  << descriptors(pid) << " descriptors");
    CHECK(descriptors(pid) < 2'000);  // whatever the number of queues
    std::atomic<int> right{0};
    REQUIRE(call_all(
                port, topics * kQueues,
                [](int i) { return queue_request(RequestCode::kGetMaxOffset, topic_name(i / kQueues), i % kQueues); },
                [&](const Command& reply) { right += reply.ext.get_int<int64_t>("offset") == 1 ? 1 : 0; }) ==
            all_good(topics * kQueues));
    CHECK(right == topics * kQueues);
  }
}

TEST_CASE("Topics: a thousand are deleted while they are written and read", "[integration][topics]") {
  constexpr int kTopics = 1'000, kQueues = 2;
  Cluster cluster({"--autoCreateTopicEnable", "false", "--mappedFileSizeCommitLog", "1048576"});
  cluster.create_topic("Healthy", 1);
  const uint16_t port = cluster.broker_port();
  REQUIRE(call_all(port, kTopics, [](int i) { return create_topic_request(topic_name(i), kQueues); }) ==
          all_good(kTopics));
  // Each has files before the first one goes.
  REQUIRE(call_all(port, kTopics * kQueues, [](int i) {
            return send_request({topic_name(i / kQueues), i % kQueues, "first"});
          }) == all_good(kTopics * kQueues));

  std::atomic<bool> stopping{false};
  std::mutex mutex;
  std::map<std::string, int> answers;  // guarded by mutex
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      const bool writes = t % 2 == 0;
      Random random(static_cast<uint64_t>(t));
      RawClient client(port);
      std::map<std::string, int> own;
      while (!stopping) {
        const auto topic = topic_name(static_cast<int>(random.below(kTopics)));
        const auto queue = static_cast<int32_t>(random.below(kQueues));
        auto reply = client.call(writes ? send_request({topic, queue, "body"})
                                        : pull_request("readers", topic, queue, random.below(3)));
        ++own[(writes ? "send " : "pull ") + (reply ? std::to_string(reply->code) : reply.error().message)];
        if (!reply) break;
      }
      std::lock_guard lock(mutex);
      for (auto& [answer, count] : own) answers[answer] += count;
    });
  }
  Stopwatch deleting;
  auto codes = call_all(port, kTopics, [](int i) {
    auto request = Command::request(RequestCode::kDeleteTopicInBroker);
    request.ext.set("topic", topic_name(i));
    return request;
  });
  const int64_t deleted_ms = deleting.ms();
  stopping = true;
  for (auto& thread : threads) thread.join();
  CHECK(codes == all_good(kTopics));
  std::string seen;
  for (auto& [answer, count] : answers) seen += "; " + answer + ": " + std::to_string(count);
  WARN(kTopics << " topics deleted in " << deleted_ms << " ms" << seen);
  // Success, topic does not exist; for pulls also: nothing there yet, or an offset of a queue that is gone.
  const std::set<std::string> allowed{"send 0", "send 17", "pull 0", "pull 17", "pull 19", "pull 21"};
  for (auto& [answer, count] : answers) CHECK(allowed.count(answer) == 1);
  CHECK(answers["send 17"] > 0);
  CHECK(answers["pull 17"] > 0);

  // Pulls of what went are told as events in a topic of the broker's.
  auto stays = [](const std::string& path) {
    return path.find("/Healthy/") != std::string::npos || path.find("/OFFSET_MOVED_EVENT/") != std::string::npos;
  };
  auto files_left = [&] {
    std::set<std::string> left;
    for (const char* place : {"store/consumequeue", "store/consumequeue.removed"}) {
      std::error_code gone_meanwhile;
      for (const auto& entry : fs::recursive_directory_iterator(cluster.directory() / place, gone_meanwhile))
        if (entry.is_regular_file() && !stays(entry.path().string()) && left.size() < 10)
          left.insert(entry.path().string());
    }
    return left;
  };
  const std::set<std::string> none;
  if (!eventually([&] { return files_left() == none; }, std::chrono::seconds(2))) {
    // A send may have passed the check of its topic just before that went, and be stored right afterwards.
    auto cleaned = RawClient(port).call(Command::request(RequestCode::kCleanUnusedTopic));
    REQUIRE(cleaned);
    CHECK(cleaned->code == rc::kSuccess);
    CHECK(files_left() == none);
  }
  CHECK(listed_topics(port) == 0);
  for (bool restarted : {false, true}) {
    INFO("restarted: " << restarted);
    RawClient client(port);
    auto sent = client.call(send_request({"Healthy", 0, "still here"}));
    REQUIRE(sent);
    CHECK(sent->code == rc::kSuccess);
    CHECK(client.call(send_request({topic_name(1), 0, "body"}))->code == rc::kTopicNotExist);
    REQUIRE(eventually([&] {
      auto got = client.call(pull_request("readers", "Healthy", 0, restarted ? 1 : 0));
      return got && got->code == rc::kSuccess;
    }));
    if (restarted) break;
    cluster.stop_broker();
    cluster.start_broker();
    CHECK(files_left() == none);
    CHECK(listed_topics(port) == 0);
  }
}

}  // namespace apogee::test
