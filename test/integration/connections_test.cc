// Many connections at work, and what remains of them afterwards.
#include <sys/resource.h>

#include <atomic>
#include <cstdlib>
#include <fstream>
#include <mutex>
#include <set>
#include <thread>

#include "test/support/catch.h"
#include "test/support/cluster.h"
#include "test/support/sanitizers.h"
#include "test/support/wait.h"

namespace apogee::test {
namespace {

using remoting::Command;
using remoting::RequestCode;

/// Memory that is the process's own: mapped files do not count.
int64_t anonymous_kib(pid_t pid) {
  std::ifstream in("/proc/" + std::to_string(pid) + "/status");
  for (std::string line; std::getline(in, line);)
    if (line.starts_with("RssAnon:")) return std::stoll(line.substr(8));
  return -1;
}

Command send_to(int queue) {
  auto request = Command::request(RequestCode::kSendMessageV2);
  for (auto [name, value] :
       {std::pair{"a", "g"}, {"b", "Crowd"}, {"c", "TBW102"}, {"d", "4"}, {"f", "0"}, {"g", "1"}, {"h", "0"}})
    request.ext.set(name, value);
  request.ext.set("e", queue);
  request.body = SharedBytes::from(std::string(200, 'c'));
  return request;
}

Command pull_from(int queue, int64_t offset) {
  auto request = Command::request(RequestCode::kPullMessage);
  for (auto [name, value] : {std::pair{"consumerGroup", "crowd"},
                             {"topic", "Crowd"},
                             {"maxMsgNums", "8"},
                             {"sysFlag", "4"},
                             {"commitOffset", "0"},
                             {"suspendTimeoutMillis", "0"},
                             {"subscription", "*"},
                             {"subVersion", "0"}})
    request.ext.set(name, value);
  request.ext.set("queueId", queue);
  request.ext.set("queueOffset", offset);
  return request;
}

}  // namespace

TEST_CASE("Connections: a thousand send and pull, and their memory comes back", "[integration][connections]") {
#ifdef APOGEE_UNDER_SANITIZER
  const size_t connections = 100;
  auto lasting = std::chrono::seconds(3);
#else
  const size_t connections = 1'000;
  auto lasting = std::getenv("APOGEE_SOAK") ? std::chrono::seconds(60) : std::chrono::seconds(10);
#endif
  rlimit files{};
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
  Cluster cluster;
  cluster.create_topic("Crowd", 8);
  {
    RawClient warm(cluster.broker_port());
    REQUIRE(warm.call(send_to(0)));
    REQUIRE(warm.call(pull_from(0, 0)));
  }
  const int64_t before = anonymous_kib(cluster.broker_process().pid());
  std::atomic<int64_t> sent{0}, pulled{0}, failed{0};
  std::mutex failures_mutex;
  std::set<std::string> failures;
  constexpr size_t kThreads = 8;
  std::vector<std::thread> threads;
  auto end = std::chrono::steady_clock::now() + lasting;
  for (size_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      std::vector<std::unique_ptr<RawClient>> clients;
      for (size_t i = t; i < connections; i += kThreads)
        clients.push_back(std::make_unique<RawClient>(cluster.broker_port()));
      // Goes on where the last answer said, as consumers do: queues are built behind the log, so an offset that
      // is sure to be in the log may still be out of range for its queue.
      int64_t next = 0;
      auto fail = [&](const char* what, const Result<Command>& answer) {
        ++failed;
        std::lock_guard lock(failures_mutex);
        failures.insert(
            std::string(what) + ": " +
            (answer ? std::to_string(answer->code) + " " + answer->remark.value_or("") : answer.error().message));
      };
      while (std::chrono::steady_clock::now() < end) {
        for (auto& client : clients) {
          auto stored = client->call(send_to(static_cast<int>(t)));
          stored && stored->code == 0 ? (void)++sent : fail("send", stored);
          auto got = client->call(pull_from(static_cast<int>(t), next));
          if (!got || (got->code != 0 && got->code != remoting::response_code::kPullNotFound)) {
            fail("pull", got);
            continue;
          }
          ++pulled;
          if (auto begin = got->ext.get_int<int64_t>("nextBeginOffset")) next = *begin;
        }
      }
    });
  }
  for (auto& thread : threads) thread.join();
  for (const auto& failure : failures) UNSCOPED_INFO(failure);
  CHECK(failed == 0);
  CHECK(sent >= static_cast<int64_t>(connections));
  CHECK(pulled == sent);
  RawClient after(cluster.broker_port());
  CHECK(eventually([&] { return after.call(send_to(0)).has_value(); }));
  const int64_t left = anonymous_kib(cluster.broker_process().pid());
  WARN(connections << " connections: " << sent << " sends and pulls; broker's anonymous memory " << before
                   << " KiB before, " << left << " KiB afterwards");
#ifndef APOGEE_UNDER_SANITIZER
  CHECK(left <= before + 32 * 1024);
#endif
}

}  // namespace apogee::test
