// Sends ten messages: one by one, without waiting, and as a batch.
// usage: quick_producer [TOPIC]   (NAMESRV_ADDR=host:port)
#include <future>
#include <iostream>
#include <string>
#include <vector>

#include "apogee/producer.h"

int main(int argc, char** argv) {
  const std::string topic = argc > 1 ? argv[1] : "Hello";
  apogee::ProducerConfig config;
  config.group = "quick_producer";
  apogee::Producer producer(config);
  if (auto started = producer.start(); !started) {
    std::cerr << started.error().message << "\n";
    return 1;
  }

  for (int i = 0; i < 4; ++i) {
    auto message = apogee::Message(topic, "number " + std::to_string(i)).set_tags("single").set_keys("key-0");
    auto receipt = producer.send(message);
    if (!receipt) {
      std::cerr << apogee::to_string(receipt.error().code) << ": " << receipt.error().message << "\n";
      return 1;
    }
    std::cout << to_string(receipt->status) << " " << receipt->msg_id << " queue " << receipt->queue.queue_id
              << " offset " << receipt->queue_offset << "\n";
  }

  std::vector<std::future<apogee::Result<apogee::SendReceipt>>> results;
  for (int i = 4; i < 8; ++i) results.push_back(producer.send_future({topic, "number " + std::to_string(i)}));
  for (auto& result : results) {
    if (auto receipt = result.get(); !receipt) std::cerr << receipt.error().message << "\n";
  }

  auto batch = producer.send_batch({apogee::Message(topic, "number 8"), apogee::Message(topic, "number 9")});
  if (!batch) std::cerr << batch.error().message << "\n";
  return batch ? 0 : 1;
}
