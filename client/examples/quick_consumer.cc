// Prints messages as a member of a group, until Enter is pressed.
// usage: quick_consumer [TOPIC [TAGS]]   (NAMESRV_ADDR=host:port)
#include <iostream>
#include <string>
#include <vector>

#include "apogee/push_consumer.h"

int main(int argc, char** argv) {
  apogee::PushConsumerConfig config;
  config.group = "quick_consumer";
  config.consume_from = apogee::ConsumeFrom::kFirst;
  config.consume_threads = 1;  // so that lines do not mix
  apogee::PushConsumer consumer(config);
  consumer.set_concurrent_listener(
      [](const std::vector<apogee::ReceivedMessage>& messages, apogee::ConcurrentContext&) {
        for (const auto& message : messages) {
          std::cout << message.msg_id() << " queue " << message.queue().queue_id << " offset " << message.queue_offset()
                    << " [" << message.tags() << "] " << message.body() << std::endl;
        }
        return apogee::ConsumeResult::kSuccess;
      });
  auto subscribed = consumer.subscribe(argc > 1 ? argv[1] : "Hello", argc > 2 ? argv[2] : "*");
  auto started = subscribed ? consumer.start() : std::move(subscribed);
  if (!started) {
    std::cerr << started.error().message << "\n";
    return 1;
  }
  std::string line;
  std::getline(std::cin, line);
  return consumer.shutdown() ? 0 : 1;
}
