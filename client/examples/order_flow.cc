// The program behind tools/quickstart.sh: sends order messages through the SDK while a group of two orderly consumers
// receives them, and checks that every message came exactly as it was sent, once, and in the order of its order id.
#include <fmt/core.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "apogee/producer.h"
#include "apogee/push_consumer.h"

namespace {

using Clock = std::chrono::steady_clock;

struct Options {
  std::string namesrv;
  std::string topic = "Orders";
  std::string group = "order_flow";
  uint64_t messages = 100'000;
  size_t body_bytes = 256;
  uint64_t orders = 1'000;
  int timeout_s = 300;
  int in_flight = 256;
};

int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now().time_since_epoch()).count();
}

/// What a body begins with; bytes that follow from run and number fill it up to the wanted size.
struct Head {
  uint64_t run;
  uint64_t number;
  int64_t sent_ns;
};

uint64_t mix(uint64_t value) {
  value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9ULL;
  value = (value ^ (value >> 27)) * 0x94D049BB133111EBULL;
  return value ^ (value >> 31);
}

std::string make_body(const Head& head, size_t bytes) {
  std::string body(std::max(bytes, sizeof head), '\0');
  std::memcpy(body.data(), &head, sizeof head);
  uint64_t state = mix(head.run + head.number * 0x9E3779B97F4A7C15ULL);
  for (size_t i = sizeof head; i < body.size(); i += sizeof state) {
    state = mix(state + 0x9E3779B97F4A7C15ULL);
    std::memcpy(body.data() + i, &state, std::min(sizeof state, body.size() - i));
  }
  return body;
}

uint64_t hash_of(std::string_view bytes) {
  uint64_t hash = 0xCBF29CE484222325ULL;
  for (const unsigned char byte : bytes) hash = (hash ^ byte) * 0x100000001B3ULL;
  return hash;
}

std::string key_of(uint64_t order, uint64_t step) { return fmt::format("order-{}-{}", order, step); }
const char* tag_of(uint64_t step) {
  static constexpr const char* kTags[] = {"created", "paid", "packed", "shipped"};
  return kTags[step % 4];
}

/// Everything that is sent and received, and what was wrong with it.
class Ledger {
 public:
  Ledger(const Options& options, uint64_t run)
      : options_(options), run_(run), next_step_(options.orders), latency_ns_(options.messages, -1) {}

  apogee::Message message(uint64_t number) {
    const uint64_t order = number % options_.orders;
    const uint64_t step = number / options_.orders;
    auto body = make_body({run_, number, now_ns()}, options_.body_bytes);
    sent_hash_ += hash_of(body);
    return apogee::Message(options_.topic, std::move(body)).set_keys(key_of(order, step)).set_tags(tag_of(step));
  }
  static std::string sharding_key(uint64_t order) { return std::to_string(order); }

  void receive(const apogee::ReceivedMessage& message) {
    Head head{};
    if (message.body().size() < sizeof head) return;
    std::memcpy(&head, message.body().data(), sizeof head);
    if (head.run != run_) return;  // of an earlier run on the same topic
    if (head.number >= options_.messages) return fail("a message that was never sent arrived");
    if (message.body() != make_body(head, options_.body_bytes)) return fail("a body was changed");
    const uint64_t order = head.number % options_.orders;
    const uint64_t step = head.number / options_.orders;
    if (message.keys() != key_of(order, step) || message.tags() != tag_of(step) ||
        message.property("__SHARDINGKEY").value_or("") != sharding_key(order)) {
      return fail("keys, tag or sharding key were changed");
    }
    const uint64_t expected = next_step_[order].load();
    if (step < expected) return fail(fmt::format("order {}: step {} arrived twice", order, step));
    if (step > expected) return fail(fmt::format("order {}: step {} instead of {}", order, step, expected));
    next_step_[order] = step + 1;
    latency_ns_[head.number] = now_ns() - head.sent_ns;
    received_hash_ += hash_of(message.body());
    if (++received_ == options_.messages) {
      std::lock_guard lock(mutex_);
      all_received_.notify_all();
    }
  }

  void fail(const std::string& what) {
    std::lock_guard lock(mutex_);
    if (problems_.size() < 10) problems_.push_back(what);
    ++problem_count_;
    all_received_.notify_all();
  }

  bool wait_for(std::chrono::milliseconds time) {
    std::unique_lock lock(mutex_);
    return all_received_.wait_for(lock, time, [this] { return received_ >= options_.messages || problem_count_ > 0; });
  }

  [[nodiscard]] uint64_t received() const { return received_; }
  [[nodiscard]] bool hashes_agree() const { return sent_hash_ == received_hash_; }
  [[nodiscard]] uint64_t hash() const { return received_hash_; }
  [[nodiscard]] uint64_t problem_count() {
    std::lock_guard lock(mutex_);
    return problem_count_;
  }
  [[nodiscard]] std::vector<std::string> problems() {
    std::lock_guard lock(mutex_);
    return problems_;
  }
  [[nodiscard]] const std::vector<int64_t>& latency_ns() const { return latency_ns_; }

 private:
  const Options options_;
  const uint64_t run_;
  std::vector<std::atomic<uint64_t>> next_step_;
  std::vector<int64_t> latency_ns_;
  std::atomic<uint64_t> sent_hash_{0};
  std::atomic<uint64_t> received_hash_{0};
  std::atomic<uint64_t> received_{0};
  std::mutex mutex_;
  std::condition_variable all_received_;
  std::vector<std::string> problems_;  // guarded by mutex_
  uint64_t problem_count_ = 0;         // guarded by mutex_
};

/// One line that is drawn again on a terminal, a line for each tenth elsewhere.
class Progress {
 public:
  explicit Progress(uint64_t total) : total_(total), terminal_(isatty(STDOUT_FILENO) != 0) {}
  void show(uint64_t sent, uint64_t received, bool last = false) {
    const uint64_t percent = received * 100 / total_;
    if (terminal_) {
      const auto filled = static_cast<size_t>(percent * 40 / 100);
      fmt::print("\r[{:<40}] {:3}%  sent {}  received {}{}", std::string(filled, '#'), percent, sent, received,
                 last ? "\n" : "");
    } else if (percent / 10 != shown_ / 10 || last) {
      if (last && shown_ == 100) return;
      fmt::print("{:3}%  sent {}  received {}\n", percent, sent, received);
      shown_ = percent;
    }
    std::fflush(stdout);
  }

 private:
  const uint64_t total_;
  const bool terminal_;
  uint64_t shown_ = 0;
};

std::unique_ptr<apogee::PushConsumer> make_consumer(const Options& options, Ledger& ledger) {
  apogee::PushConsumerConfig config;
  config.group = options.group;
  config.name_servers = options.namesrv;
  config.consume_from = apogee::ConsumeFrom::kFirst;
  config.consume_threads = 4;
  config.consume_batch_max = 16;
  config.route_refresh_interval = std::chrono::seconds(1);
  auto consumer = std::make_unique<apogee::PushConsumer>(config);
  consumer->set_orderly_listener(
      [&ledger](const std::vector<apogee::ReceivedMessage>& messages, apogee::OrderlyContext&) {
        for (const auto& message : messages) ledger.receive(message);
        return apogee::OrderlyResult::kSuccess;
      });
  return consumer;
}

int fail(const std::string& what) {
  fmt::print(stderr, "order_flow: {}\n", what);
  return 1;
}

/// The group is complete when its members have all queues of the topic, and both have some.
bool wait_for_members(apogee::Producer& producer, const std::string& topic,
                      const std::vector<std::unique_ptr<apogee::PushConsumer>>& consumers, Clock::time_point deadline) {
  for (; Clock::now() < deadline; std::this_thread::sleep_for(std::chrono::milliseconds(20))) {
    auto queues = producer.queues(topic);
    if (!queues) continue;
    size_t assigned = 0;
    bool idle = false;
    for (const auto& consumer : consumers) {
      const size_t share = consumer->assignment().size();
      assigned += share;
      idle = idle || share == 0;
    }
    if (assigned == queues->size() && (!idle || queues->size() < consumers.size())) return true;
  }
  return false;
}

int run(const Options& options) {
  Ledger ledger(options, (static_cast<uint64_t>(std::random_device()()) << 32) | std::random_device()());
  const auto deadline = Clock::now() + std::chrono::seconds(options.timeout_s);

  apogee::ProducerConfig producer_config;
  producer_config.group = "order_flow_producer";
  producer_config.name_servers = options.namesrv;
  producer_config.send_timeout = std::chrono::seconds(10);
  apogee::Producer producer(producer_config);
  if (auto status = producer.start(); !status) return fail(status.error().message);
  std::vector<std::unique_ptr<apogee::PushConsumer>> consumers;
  for (int i = 0; i < 2; ++i) {
    consumers.push_back(make_consumer(options, ledger));
    if (auto status = consumers.back()->subscribe(options.topic); !status) return fail(status.error().message);
    if (auto status = consumers.back()->start(); !status) return fail(status.error().message);
  }

  // The first message makes the topic where the broker creates topics by itself.
  const auto begin = Clock::now();
  auto first = producer.send(ledger.message(0), apogee::SendOptions::by_key(Ledger::sharding_key(0)));
  if (!first) return fail(first.error().message);
  if (!wait_for_members(producer, options.topic, consumers, std::min(deadline, begin + std::chrono::seconds(30)))) {
    return fail("the two members of the group did not get all queues in 30 s");
  }

  std::mutex mutex;
  std::condition_variable room;
  int in_flight = 0;
  std::atomic<uint64_t> sent{1};
  Progress progress(options.messages);
  fmt::print("{} messages of {} orders, {} bytes each, to topic {}; two members in group {}\n", options.messages,
             options.orders, std::max(options.body_bytes, sizeof(Head)), options.topic, options.group);
  const auto sending = Clock::now();
  // One connection a broker keeps the order of calls, so that many sends may be under way.
  std::thread sender([&] {
    for (uint64_t number = 1; number < options.messages; ++number) {
      {
        std::unique_lock lock(mutex);
        room.wait(lock, [&] { return in_flight < options.in_flight; });
        ++in_flight;
      }
      if (Clock::now() > deadline || ledger.problem_count() > 0) {
        std::lock_guard lock(mutex);
        --in_flight;
        break;
      }
      producer.send_async(
          ledger.message(number),
          [&](const apogee::Result<apogee::SendReceipt>& receipt) {
            if (!receipt) ledger.fail("send: " + receipt.error().message);
            if (receipt && receipt->status != apogee::SendStatus::kOk) {
              ledger.fail(std::string("send: ") + apogee::to_string(receipt->status));
            }
            ++sent;
            std::lock_guard lock(mutex);
            --in_flight;
            room.notify_all();
          },
          apogee::SendOptions::by_key(Ledger::sharding_key(number % options.orders)));
    }
    std::unique_lock lock(mutex);
    room.wait(lock, [&] { return in_flight == 0; });
  });
  while (!ledger.wait_for(std::chrono::milliseconds(100)) && Clock::now() < deadline) {
    progress.show(sent, ledger.received());
  }
  const auto end = Clock::now();
  sender.join();
  progress.show(sent, ledger.received());

  for (auto& consumer : consumers) {
    if (auto status = consumer->shutdown(); !status) ledger.fail("shutdown: " + status.error().message);
  }
  if (auto status = producer.shutdown(); !status) ledger.fail("shutdown: " + status.error().message);

  for (const auto& problem : ledger.problems()) fmt::print(stderr, "order_flow: {}\n", problem);
  if (ledger.received() != options.messages) {
    return fail(fmt::format("{} of {} messages arrived", ledger.received(), options.messages));
  }
  if (!ledger.hashes_agree()) return fail("the hash of what arrived is not that of what was sent");
  if (ledger.problem_count() > 0) return fail(fmt::format("{} mismatches", ledger.problem_count()));

  const double seconds = std::chrono::duration<double>(end - sending).count();
  auto latency = ledger.latency_ns();
  latency.erase(latency.begin());  // the first one waited for the group
  std::sort(latency.begin(), latency.end());
  auto percentile = [&](double share) {
    if (latency.empty()) return 0.0;
    const auto index = static_cast<size_t>(share * static_cast<double>(latency.size() - 1));
    return static_cast<double>(latency[index]) / 1e6;
  };
  fmt::print("verified: {} messages, each once, unchanged (hash {:016x}) and in the order of its order id\n",
             options.messages, ledger.hash());
  fmt::print("throughput: {:.0f} messages/s, {:.1f} MB/s in {:.2f} s\n",
             static_cast<double>(options.messages) / seconds,
             static_cast<double>(options.messages * options.body_bytes) / seconds / 1e6, seconds);
  fmt::print("end-to-end latency, ms: p50 {:.2f}  p90 {:.2f}  p99 {:.2f}  p99.9 {:.2f}  max {:.2f}\n", percentile(0.5),
             percentile(0.9), percentile(0.99), percentile(0.999), percentile(1));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app("Sends order messages and checks that a group of two receives them complete and in order");
  app.option_defaults()->always_capture_default();
  app.add_option("--namesrv,-n", options.namesrv, "NameServers, host:port;host:port (default: NAMESRV_ADDR)");
  app.add_option("--topic,-t", options.topic, "topic");
  app.add_option("--group,-g", options.group, "consumer group");
  app.add_option("--messages", options.messages, "how many")->check(CLI::Range(1UL, 100'000'000UL));
  app.add_option("--body-bytes", options.body_bytes, "size of a body")->check(CLI::Range(24UL, 4'000'000UL));
  app.add_option("--orders", options.orders, "number of order ids")->check(CLI::Range(1UL, 10'000'000UL));
  app.add_option("--timeout", options.timeout_s, "give up after so many seconds")->check(CLI::Range(1, 86'400));
  app.add_option("--in-flight", options.in_flight, "sends under way at a time")->check(CLI::Range(1, 100'000));
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  return run(options);
}
