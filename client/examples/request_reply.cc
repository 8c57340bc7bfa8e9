// Asks for prices and waits for the answers, which another client gives.
// usage: request_reply [TOPIC]   (NAMESRV_ADDR=host:port)
#include <chrono>
#include <iostream>
#include <string>
#include <vector>

#include "apogee/producer.h"
#include "apogee/push_consumer.h"

int main(int argc, char** argv) {
  const std::string topic = argc > 1 ? argv[1] : "PriceRequests";
  apogee::ProducerConfig config;
  config.group = "price_desk";
  apogee::Producer replies(config);
  config.group = "price_asker";
  apogee::Producer requests(config);

  // The side that answers: an ordinary consumer, and a producer for the replies.
  apogee::PushConsumerConfig consumer_config;
  consumer_config.group = "price_desk";
  apogee::PushConsumer desk(consumer_config);
  desk.set_concurrent_listener([&](const std::vector<apogee::ReceivedMessage>& messages, apogee::ConcurrentContext&) {
    for (const auto& message : messages) {
      auto reply = apogee::reply_to(message, std::to_string(message.body().size() * 10));
      if (!reply) continue;  // an ordinary message: nobody waits
      // When this fails the asker has gone, or its time is over: asking again is the asker's matter.
      if (auto sent = replies.send(*reply); !sent) std::cerr << "reply: " + sent.error().message + "\n";
    }
    return apogee::ConsumeResult::kSuccess;
  });
  if (auto status = replies.start(); !status) return std::cerr << status.error().message << "\n", 1;
  if (auto status = requests.start(); !status) return std::cerr << status.error().message << "\n", 1;
  if (auto status = desk.subscribe(topic); !status) return std::cerr << status.error().message << "\n", 1;
  if (auto status = desk.start(); !status) return std::cerr << status.error().message << "\n", 1;

  // One time for both ways. The first request may have to wait until the desk has found its queues.
  apogee::SendOptions options;
  options.timeout = std::chrono::seconds(60);
  auto price = requests.request(apogee::Message(topic, "tea"), options);
  if (!price) return std::cerr << price.error().message << "\n", 1;
  std::cout << "tea costs " << price->body() << "\n";

  // Many at a time: the answers come in any order, each to its own request.
  auto coffee = requests.request_future(apogee::Message(topic, "coffee"), options);
  auto sugar = requests.request_future(apogee::Message(topic, "sugar"), options);
  const auto first = coffee.get();
  const auto second = sugar.get();
  if (!first || !second) return std::cerr << (first ? second : first).error().message << "\n", 1;
  std::cout << "coffee costs " << first->body() << ", sugar " << second->body() << "\n";
  return price->body() == "30" && first->body() == "60" && second->body() == "50" ? 0 : 1;
}
