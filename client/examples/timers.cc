// Messages for later: by level, after a time, at an instant; and one that is taken back.
// usage: timers [TOPIC]   (NAMESRV_ADDR=host:port)
#include <chrono>
#include <cstdint>
#include <iostream>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "apogee/producer.h"
#include "apogee/push_consumer.h"

int main(int argc, char** argv) {
  using namespace std::chrono_literals;
  const std::string topic = argc > 1 ? argv[1] : "Reminders";
  const auto now_ms = [] { return std::chrono::system_clock::now().time_since_epoch() / 1ms; };
  const std::string run = std::to_string(now_ms());  // reminders of earlier runs may still come

  std::mutex mutex;
  std::map<std::string, int64_t> came_ms;
  apogee::PushConsumerConfig consumer_config;
  consumer_config.group = "reminded";
  apogee::PushConsumer consumer(consumer_config);
  consumer.set_concurrent_listener(
      [&](const std::vector<apogee::ReceivedMessage>& messages, apogee::ConcurrentContext&) {
        std::lock_guard lock(mutex);
        for (const auto& message : messages) {
          if (message.keys() == run) came_ms.emplace(message.body(), now_ms());
        }
        return apogee::ConsumeResult::kSuccess;
      });
  apogee::ProducerConfig producer_config;
  producer_config.group = "reminders";
  apogee::Producer producer(producer_config);
  if (auto status = producer.start(); !status) return std::cerr << status.error().message << "\n", 1;
  if (auto status = consumer.subscribe(topic); !status) return std::cerr << status.error().message << "\n", 1;
  if (auto status = consumer.start(); !status) return std::cerr << status.error().message << "\n", 1;

  const int64_t begin_ms = now_ms();
  const auto reminder = [&](const char* body) { return apogee::Message(topic, body).set_keys(run); };
  auto level = producer.send(reminder("by level").set_delay_level(1));  // 1 s, as the broker is configured
  auto after = producer.send(reminder("after 1500 ms").set_deliver_after(1500ms));
  auto at = producer.send(reminder("at an instant").set_deliver_at(begin_ms + 2'500));
  auto never = producer.send(reminder("taken back").set_deliver_after(2s));
  for (const auto* receipt : {&level, &after, &at, &never}) {
    if (!*receipt) return std::cerr << receipt->error().message << "\n", 1;
  }
  // The receipt names the timer. Until it is due it can be taken back, by any producer.
  if (auto status = producer.cancel_timer(*never); !status) return std::cerr << status.error().message << "\n", 1;

  for (int i = 0; i < 600; ++i) {
    std::this_thread::sleep_for(100ms);
    std::lock_guard lock(mutex);
    if (came_ms.size() >= 3) break;
  }
  // What was taken back was due before the last one, which is there: it does not come any more.
  std::lock_guard lock(mutex);
  for (const auto& [body, ms] : came_ms) std::cout << body << ": came after " << ms - begin_ms << " ms\n";
  return came_ms.size() == 3 && came_ms.count("taken back") == 0 ? 0 : 1;
}
