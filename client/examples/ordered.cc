// Steps of orders, sent with the order's number as sharding key and received in order.
// usage: ordered [TOPIC]   (NAMESRV_ADDR=host:port)
#include <atomic>
#include <chrono>
#include <iostream>
#include <string>
#include <thread>
#include <vector>

#include "apogee/producer.h"
#include "apogee/push_consumer.h"

int main(int argc, char** argv) {
  const std::string topic = argc > 1 ? argv[1] : "Orders";
  apogee::ProducerConfig producer_config;
  producer_config.group = "ordered_producer";
  apogee::Producer producer(producer_config);

  std::atomic<int> received{0};
  apogee::PushConsumerConfig consumer_config;
  consumer_config.group = "ordered_consumer";
  apogee::PushConsumer consumer(consumer_config);
  consumer.set_orderly_listener([&](const std::vector<apogee::ReceivedMessage>& messages, apogee::OrderlyContext&) {
    for (const auto& message : messages) {
      std::cout << "queue " + std::to_string(message.queue().queue_id) + ": " + std::string(message.body()) + "\n";
      ++received;
    }
    return apogee::OrderlyResult::kSuccess;
  });

  if (auto status = producer.start(); !status) return std::cerr << status.error().message << "\n", 1;
  if (auto status = consumer.subscribe(topic); !status) return std::cerr << status.error().message << "\n", 1;
  if (auto status = consumer.start(); !status) return std::cerr << status.error().message << "\n", 1;

  int sent = 0;
  for (const char* step : {"created", "paid", "shipped"}) {
    for (int order = 1; order <= 5; ++order) {
      const std::string id = std::to_string(order);
      auto receipt = producer.send(apogee::Message(topic, "order " + id + " " + step).set_tags(step),
                                   apogee::SendOptions::by_key(id));
      if (!receipt) return std::cerr << receipt.error().message << "\n", 1;
      ++sent;
    }
  }
  for (int i = 0; i < 300 && received < sent; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(100));
  return received >= sent ? 0 : 1;
}
