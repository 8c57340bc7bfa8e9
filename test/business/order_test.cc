// Orderly consumers while members join, leave and are killed: no message is handled by two members at once, and those
// of a queue are handled in their order.
#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <deque>
#include <fstream>
#include <sstream>
#include <thread>

#include "test/integration/sdk_bench.h"
#include "test/support/random.h"

namespace apogee::test {

using namespace std::chrono_literals;

namespace {

constexpr int kQueues = 4;
constexpr auto kLockLife = 4'000ms;
constexpr auto kPauseMax = 1'000ms;

/// What all members, in whatever process, have done, in the order of time: lines that are appended in one write each.
class Journal {
 public:
  explicit Journal(const std::string& path)
      : fd_(::open(path.c_str(), O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC, 0600)) {
    REQUIRE(fd_ >= 0);
  }
  ~Journal() { ::close(fd_); }
  Journal(const Journal&) = delete;
  Journal& operator=(const Journal&) = delete;
  void line(const std::string& text) const {
    const std::string whole = text + "\n";
    if (::write(fd_, whole.data(), whole.size()) != static_cast<ssize_t>(whole.size())) std::abort();
  }

 private:
  int fd_;
};

/// Notes when this process stood still for longer than a lock may be relied upon: then nothing is promised.
class Watchdog {
 public:
  explicit Watchdog(const Journal& journal) {
    thread_ = std::thread([this, &journal] {
      auto last = std::chrono::steady_clock::now();
      while (!stopped_) {
        pause(20ms);
        const auto now = std::chrono::steady_clock::now();
        if (now - last > kPauseMax) journal.line("P");
        last = now;
      }
    });
  }
  ~Watchdog() {
    stopped_ = true;
    thread_.join();
  }

 private:
  std::atomic<bool> stopped_{false};
  std::thread thread_;
};

std::unique_ptr<PushConsumer> join(PushConsumerConfig config, const Journal& journal) {
  const std::string name = config.instance_name;
  config.lock_interval = 500ms;
  config.lock_valid = kLockLife / 2;
  config.lock_retry_delay = 50ms;
  config.consume_threads = 4;
  auto member = std::make_unique<PushConsumer>(std::move(config));
  member->set_orderly_listener([name, &journal](const std::vector<ReceivedMessage>& messages, OrderlyContext&) {
    for (const auto& message : messages) {
      const std::string what =
          name + " " + std::to_string(message.queue().queue_id) + " " + std::to_string(message.queue_offset());
      journal.line("B " + what);
      if (message.queue_offset() % 16 == 0) pause(2ms);
      journal.line("E " + what);
    }
    return OrderlyResult::kSuccess;
  });
  REQUIRE(member->subscribe("Ordered"));
  REQUIRE(member->start());
  return member;
}

struct Findings {
  std::vector<int64_t> next = std::vector<int64_t>(kQueues, 0);  ///< of each queue: everything in front was handled
  int64_t handled = 0, repeated = 0;
  bool paused = false;
  std::string wrong;
};

Findings read_journal(const std::string& path) {
  Findings found;
  std::vector<std::string> busy_with(kQueues);
  std::ifstream file(path);
  std::deque<std::string> before;
  int number = 0;
  for (std::string text; std::getline(file, text); ++number) {
    before.push_back(text);
    if (before.size() > 24) before.pop_front();
    std::istringstream line(text);
    std::string kind, member;
    int queue = 0;
    int64_t offset = 0;
    line >> kind >> member;
    found.paused = found.paused || kind == "P";
    if (kind == "K")
      for (auto& busy : busy_with)
        if (busy == member) busy.clear();
    if (kind != "B" && kind != "E") continue;
    line >> queue >> offset;
    auto& busy = busy_with.at(static_cast<size_t>(queue));
    auto& next = found.next.at(static_cast<size_t>(queue));
    auto tell = [&](const std::string& what) {
      if (!found.wrong.empty()) return;
      found.wrong = "line " + std::to_string(number) + ": " + what + "; ";
      for (const auto& each : before) found.wrong += each + ", ";
    };
    if (kind == "E") {
      busy.clear();
      continue;
    }
    if (!busy.empty()) tell("the queue is being worked on by " + busy);
    busy = member;
    ++found.handled;
    if (offset > next) tell("but " + std::to_string(next) + " has not been handled");
    if (offset < next) ++found.repeated;
    next = std::max(next, offset + 1);
  }
  return found;
}

}  // namespace

// Started by the test below, as a process that can be killed.
TEST_CASE("Order: a member", "[.][order-member]") {
  const char* name = std::getenv("APOGEE_MEMBER");
  const char* names = std::getenv("APOGEE_NAMESRV");
  const char* path = std::getenv("APOGEE_JOURNAL");
  REQUIRE((name != nullptr && names != nullptr && path != nullptr));
  Journal journal(path);
  Watchdog watchdog(journal);
  PushConsumerConfig config;
  config.group = "orderly";
  config.name_servers = names;
  config.instance_name = name;
  config.consume_from = ConsumeFrom::kFirst;
  config.rebalance_interval = 1s;
  config.heartbeat_interval = 1s;
  config.offset_persist_interval = 200ms;
  auto member = join(config, journal);
  std::printf("joined\n");
  std::fflush(stdout);
  pause(180s);
}

TEST_CASE("Order: holds while members join, leave and are killed", "[business][order]") {
  const int changes_wanted = is_soak() ? 500 : 50;
  Random random(run_seed("order"));
  Cluster cluster({"--rebalanceLockMaxLiveTime", std::to_string(kLockLife.count())});
  cluster.create_topic("Ordered", kQueues);
  const std::string path = (cluster.directory() / "journal").string();
  Journal journal(path);
  Watchdog watchdog(journal);

  std::atomic<bool> enough{false};
  std::vector<int64_t> sent(kQueues, 0);
  std::string send_error;
  std::thread sender([&] {
    Producer producer(producer_config(cluster));
    if (auto started = producer.start(); !started) {
      send_error = started.error().message;
      return;
    }
    for (int64_t i = 0; !enough && send_error.empty(); ++i) {
      const int queue = static_cast<int>(i % kQueues);
      auto receipt = producer.send(Message("Ordered", std::to_string(i)),
                                   SendOptions::by([queue](const std::vector<MessageQueue>& queues, const Message&) {
                                     return static_cast<size_t>(queue) % queues.size();
                                   }));
      if (!receipt) send_error = receipt.error().message;
      if (receipt) ++sent[static_cast<size_t>(receipt->queue.queue_id)];
      if (i % 8 == 0) pause(1ms);
    }
  });

  std::deque<std::unique_ptr<PushConsumer>> members;
  std::deque<std::pair<std::string, std::unique_ptr<Process>>> processes;
  int changes = 0, kills = 0, joined = 0;
  auto join_one = [&] {
    const auto name = "member" + std::to_string(joined++);
    members.push_back(join(consumer_config<PushConsumerConfig>(cluster, "orderly", name), journal));
  };
  auto start_process = [&] {
    const auto name = "process" + std::to_string(joined++);
    auto process = std::make_unique<Process>(
        "test/business", std::vector<std::string>{"Order: a member"}, (cluster.directory() / name).string(),
        std::vector<std::string>{"APOGEE_MEMBER=" + name, "APOGEE_NAMESRV=" + cluster.namesrv(),
                                 "APOGEE_JOURNAL=" + path});
    REQUIRE(process->wait_for_output("joined"));
    processes.emplace_back(name, std::move(process));
  };
  auto kill_one = [&] {
    processes.front().second->kill();
    journal.line("K " + processes.front().first);
    processes.pop_front();
    ++kills;
  };
  join_one();
  for (; changes < changes_wanted; ++changes) {
    if (changes % 12 == 3) {
      start_process();
    } else if (changes % 12 == 9) {
      kill_one();
    } else if (members.size() < 2 || (members.size() < 5 && random.chance(0.5))) {
      join_one();
    } else {
      CHECK(members.front()->shutdown());
      members.pop_front();
    }
    pause(std::chrono::milliseconds(random.between(10, 200)));
  }
  while (!processes.empty()) kill_one();
  enough = true;
  sender.join();
  REQUIRE(send_error.empty());
  auto found = read_journal(path);
  REQUIRE(eventually(
      [&] {
        found = read_journal(path);
        return found.next == sent || (!found.wrong.empty() && !found.paused);
      },
      60s));
  members.clear();
  found = read_journal(path);
  WARN("order: " << changes << " changes of members, " << kills << " of them killed; " << found.handled
                 << " messages handled, " << found.repeated << " of them again");
  if (found.paused) {
    WARN("a process stood still for longer than a lock lives: " << found.wrong);
  } else {
    CHECK(found.wrong == "");
  }
  CHECK(found.next == sent);
}

TEST_CASE("Order: a topic of one queue is in order as a whole", "[business][order]") {
  Cluster cluster;
  cluster.create_topic("Global", 1);
  Producer producer(producer_config(cluster));
  REQUIRE(producer.start());
  constexpr int kMessages = 300;
  for (int i = 0; i < kMessages; ++i) REQUIRE(producer.send(Message("Global", std::to_string(i))));
  Seen seen;
  std::vector<std::unique_ptr<PushConsumer>> members;
  for (const char* name : {"one", "two", "three"}) {
    auto config = consumer_config<PushConsumerConfig>(cluster, "global", name);
    members.push_back(std::make_unique<PushConsumer>(config));
    members.back()->set_orderly_listener([&seen, name](const std::vector<ReceivedMessage>& messages, OrderlyContext&) {
      seen.add(name, messages);
      return OrderlyResult::kSuccess;
    });
    REQUIRE(members.back()->subscribe("Global"));
    REQUIRE(members.back()->start());
  }
  REQUIRE(eventually([&] { return seen.count() >= kMessages; }, 30s));
  members.clear();
  std::vector<std::string> wanted;
  for (int i = 0; i < kMessages; ++i) wanted.push_back(std::to_string(i));
  CHECK(seen.bodies == wanted);
}

}  // namespace apogee::test
