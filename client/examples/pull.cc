// Reads a topic from its beginning, without a group of members: chosen queues, own commits.
// usage: pull [TOPIC]   (NAMESRV_ADDR=host:port)
#include <chrono>
#include <iostream>
#include <string>

#include "apogee/pull_consumer.h"

int main(int argc, char** argv) {
  apogee::PullConsumerConfig config;
  config.group = "pull_example";
  config.auto_commit = false;
  apogee::PullConsumer consumer(config);
  if (auto status = consumer.start(); !status) return std::cerr << status.error().message << "\n", 1;
  auto queues = consumer.queues(argc > 1 ? argv[1] : "Hello");
  if (!queues) return std::cerr << queues.error().message << "\n", 1;
  if (auto status = consumer.assign(*queues); !status) return std::cerr << status.error().message << "\n", 1;
  while (consumer.assignment().size() < queues->size()) {
    consumer.poll(std::chrono::milliseconds(10)).ignore("only waits until the queues are there");
  }
  for (const auto& queue : *queues) {
    if (auto status = consumer.seek_to_begin(queue); !status) return std::cerr << status.error().message << "\n", 1;
  }
  for (;;) {
    auto messages = consumer.poll(std::chrono::seconds(2));
    if (!messages) return std::cerr << messages.error().message << "\n", 1;
    if (messages->empty()) break;
    for (const auto& message : *messages) std::cout << message.queue_offset() << " " << message.body() << "\n";
    if (auto status = consumer.commit(); !status) return std::cerr << status.error().message << "\n", 1;
  }
  return 0;
}
